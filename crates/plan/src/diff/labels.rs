//! Labels of our own Node: what must be written so that they are as planned.

use std::collections::BTreeMap;

use vip_model::store::NodeFacts;

/// The labels to write: only those that differ. From an unknown Node nothing follows.
pub fn node_labels(
    plan: &BTreeMap<String, Option<String>>,
    node: Option<&NodeFacts>,
) -> BTreeMap<String, Option<String>> {
    let Some(node) = node else { return BTreeMap::new() };
    plan.iter()
        .filter(|(key, value)| node.labels.get(*key) != value.as_ref())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_nothing_while_the_node_is_unknown() {
        let plan = BTreeMap::from([("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)]);
        assert!(node_labels(&plan, None).is_empty());
        let mut node = NodeFacts::default();
        assert_eq!(node_labels(&plan, Some(&node)), BTreeMap::from([("a".to_owned(), Some("1".to_owned()))]));
        node.labels.insert("a".to_owned(), "1".to_owned());
        assert!(node_labels(&plan, Some(&node)).is_empty());
        node.labels.insert("b".to_owned(), "old".to_owned());
        assert_eq!(node_labels(&plan, Some(&node)), BTreeMap::from([("b".to_owned(), None)]));
    }
}
