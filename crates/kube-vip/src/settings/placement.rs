//! Where addresses shall be: nodes with labels, each with a weight. Read in every mode.

use vip_model::config::Preference;

use super::refusal::Refusal;
use super::source::Values;
use super::{key, parse};

/// What a wish looks like.
const ACCEPTED: &str = "give label[=value][:weight] with a weight from 1 to 100, several with commas, such as \
                        topology.kubernetes.io/zone=a:100,disktype:10";

/// The wishes, in the order in which they were given.
pub(super) fn preferred(values: &Values) -> Result<Vec<Preference>, Refusal> {
    let wishes = parse::list(values.text(key::PREFERRED_NODES)).into_iter().map(wish);
    wishes.collect::<Option<_>>().ok_or_else(|| values.refuse(key::PREFERRED_NODES, ACCEPTED))
}

fn wish(text: &str) -> Option<Preference> {
    let (term, weight) = match text.rsplit_once(':') {
        Some((term, weight)) => (term, weight.parse().ok().filter(|weight| (1..=100).contains(weight))?),
        None => (text, 1),
    };
    let (label, value) = match term.split_once('=') {
        Some((label, value)) => (label, Some(value)),
        None => (term, None),
    };
    let is_legal = is_label_key(label) && value.is_none_or(|value| value.is_empty() || is_label_name(value));
    is_legal.then(|| Preference { label: label.to_owned(), value: value.map(str::to_owned), weight })
}

/// Whether `text` can be the key of a label: a name, maybe after a DNS name and a slash.
fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => parse::is_object_name(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}

/// Whether `text` can be the name in a key of a label, or the value of one.
fn is_label_name(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(is_end)
        && text.ends_with(is_end)
        && text.chars().all(|c| is_end(c) || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_a_label_with_a_value_or_a_weight_or_both() {
        let read = |text: &str| {
            wish(text).map(|wish| (wish.label, wish.value.unwrap_or_else(|| "any".to_owned()), wish.weight))
        };
        let expected = |label: &str, value: &str, weight| Some((label.to_owned(), value.to_owned(), weight));
        assert_eq!(
            read("topology.kubernetes.io/zone=a:100"),
            expected("topology.kubernetes.io/zone", "a", 100)
        );
        assert_eq!(read("disktype:10"), expected("disktype", "any", 10));
        assert_eq!(read("node-role.kubernetes.io/edge="), expected("node-role.kubernetes.io/edge", "", 1));
        for bad in
            ["", "=a", "a/", "/a", "zone=a:0", "zone=a:101", "zone=a:x", "zone:", "zone=a b", "a/b/c", "-a"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
