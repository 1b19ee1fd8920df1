//! Who was sent a heartbeat, and when: in an order that shows whose turn is next without a look at all members. With many
//! nodes most steps concern one of them.

use std::collections::{BTreeMap, BTreeSet};

use vip_model::{Instant, NodeName};

/// When members were sent heartbeats.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Every member that was heard, and when it was last sent one.
    heard: BTreeMap<NodeName, Option<Instant>>,
    /// The same, those that wait longest first.
    order: BTreeSet<(Option<Instant>, NodeName)>,
    /// Those of them that must be told something.
    news: BTreeSet<NodeName>,
    /// Every member by the store's word that was never heard, and when it was last sent one.
    unheard: BTreeMap<NodeName, Option<Instant>>,
}

impl Calls {
    /// The store shows a session of a member. One that was never heard is greeted again: it may be reached elsewhere.
    pub(super) fn listed(&mut self, node: &NodeName) {
        if !self.heard.contains_key(node) {
            self.unheard.insert(node.clone(), None);
        }
    }

    /// A member was heard.
    pub(super) fn heard(&mut self, node: &NodeName) {
        if !self.heard.contains_key(node) {
            self.unheard.remove(node);
            self.heard.insert(node.clone(), None);
            self.order.insert((None, node.clone()));
        }
    }

    /// A member must be told something, if it was ever heard.
    pub(super) fn tell(&mut self, node: &NodeName) {
        if self.heard.contains_key(node) {
            self.news.insert(node.clone());
        }
    }

    /// Everybody must be told something.
    pub(super) fn tell_all(&mut self) {
        self.news.extend(self.heard.keys().cloned());
    }

    /// A member that was heard was told all.
    pub(super) fn told(&mut self, node: &NodeName) {
        self.news.remove(node);
    }

    /// Whether a member must be told something.
    pub(super) fn owe_news(&self, node: &NodeName) -> bool {
        self.news.contains(node)
    }

    /// A member was sent a heartbeat that counts as one of its own.
    pub(super) fn sent(&mut self, now: Instant, node: &NodeName) {
        if let Some(place) = self.heard.get_mut(node) {
            let former = place.replace(now);
            // The name that is kept is used again.
            if let Some((_, node)) = self.order.take(&(former, node.clone())) {
                self.order.insert((Some(now), node));
            }
        } else if let Some(place) = self.unheard.get_mut(node) {
            *place = Some(now);
        }
    }

    /// When a member that was heard was last sent one.
    pub(super) fn last(&self, node: &NodeName) -> Option<Instant> {
        *self.heard.get(node)?
    }

    /// Whether a member was heard.
    pub(super) fn have_heard(&self, node: &NodeName) -> bool {
        self.heard.contains_key(node)
    }

    /// Members that were heard, those that wait longest first, with when they were last sent one.
    pub(super) fn longest(&self) -> impl Iterator<Item = (&NodeName, Option<Instant>)> {
        self.order.iter().map(|(sent, node)| (node, *sent))
    }

    /// Members that must be told something, by name.
    pub(super) fn with_news(&self) -> impl Iterator<Item = &NodeName> {
        self.news.iter()
    }

    /// Members that were never heard, by name, with when they were last sent one.
    pub(super) fn unheard(&self) -> impl Iterator<Item = (&NodeName, Option<Instant>)> {
        self.unheard.iter().map(|(node, sent)| (node, *sent))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_waits_longest_is_first_and_who_was_never_sent_one_before_all() {
        let at = |second| Instant::ZERO + Duration::from_secs(second);
        let [a, b, c] = ["a", "b", "c"].map(NodeName::new);
        let mut calls = Calls::default();
        calls.listed(&c);
        for node in [&a, &b, &c] {
            calls.heard(node);
        }
        calls.sent(at(1), &a);
        calls.sent(at(2), &b);
        calls.sent(at(3), &a);
        let order: Vec<_> = calls.longest().map(|(node, sent)| (node.as_str(), sent)).collect();
        assert_eq!(order, [("c", None), ("b", Some(at(2))), ("a", Some(at(3)))]);
        assert_eq!(calls.unheard().count(), 0, "c was heard meanwhile");
    }

    #[test]
    fn a_member_that_was_never_heard_is_greeted_again_when_the_store_shows_it_anew_and_owes_no_news() {
        let node = NodeName::new("a");
        let mut calls = Calls::default();
        calls.listed(&node);
        calls.sent(Instant::ZERO, &node);
        calls.tell(&node);
        calls.tell_all();
        assert_eq!(calls.unheard().collect::<Vec<_>>(), [(&node, Some(Instant::ZERO))]);
        assert_eq!(calls.with_news().count(), 0);
        calls.listed(&node);
        assert_eq!(calls.unheard().collect::<Vec<_>>(), [(&node, None)]);
        calls.heard(&node);
        calls.listed(&node);
        assert_eq!(calls.unheard().count(), 0);
    }
}
