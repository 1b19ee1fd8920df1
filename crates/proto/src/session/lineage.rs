//! Lineage: which session follows which, and at which node each is. Fed from session Leases, heartbeats and own deeds;
//! what is known never becomes untrue, so it only grows, up to a limit.

use std::collections::{BTreeMap, VecDeque};

use vip_model::NodeName;
use vip_model::session::{SessionId, Succession};

/// How many ended sessions are remembered: far more than end while a claim still names one of them.
const MOST: usize = 1024;

/// How far a chain of heirs is followed.
const LONGEST: usize = 64;

/// What is known of sessions that ended, and of where sessions are.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    heirs: BTreeMap<SessionId, Option<SessionId>>,
    order: VecDeque<SessionId>,
    nodes: BTreeMap<SessionId, NodeName>,
}

/// Where a session's rights are by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heir {
    /// With this session, which is the one asked for or its heir's heir.
    Lives(SessionId),
    /// Nowhere: this session ended without an heir.
    Ended(SessionId),
}

impl Lineage {
    /// A session is at a node.
    pub(super) fn lives_at(&mut self, id: SessionId, node: &NodeName) {
        if self.nodes.get(&id) != Some(node) {
            self.nodes.insert(id, node.clone());
        }
    }

    pub(super) fn node(&self, id: SessionId) -> Option<&NodeName> {
        self.nodes.get(&id)
    }

    /// A session ended. An heir is never forgotten for "none". Whether that is news.
    pub(super) fn ended(&mut self, succession: Succession) -> bool {
        let Succession { id, heir } = succession;
        if heir == Some(id) {
            return false; // nobody follows itself
        }
        match self.heirs.get(&id) {
            Some(Some(_)) => false,
            Some(None) if heir.is_none() => false,
            Some(None) => {
                self.heirs.insert(id, heir);
                true
            }
            None => {
                self.heirs.insert(id, heir);
                self.order.push_back(id);
                if self.order.len() > MOST
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.heirs.remove(&oldest);
                    self.nodes.remove(&oldest);
                }
                true
            }
        }
    }

    /// The store names the heir of a session: that is final, whatever was known or won by votes. Whether it is another one.
    pub(super) fn corrected(&mut self, Succession { id, heir }: Succession) -> bool {
        let known = self.heirs.get_mut(&id).filter(|_| heir.is_some() && heir != Some(id));
        known.is_some_and(|known| std::mem::replace(known, heir) != heir)
    }

    /// Whether a session ended.
    pub(super) fn has_ended(&self, id: SessionId) -> bool {
        self.heirs.contains_key(&id)
    }

    /// Where the rights of a session are.
    pub(super) fn follow(&self, id: SessionId) -> Heir {
        let mut at = id;
        for _ in 0..LONGEST {
            match self.heirs.get(&at) {
                None => return Heir::Lives(at),
                Some(None) => return Heir::Ended(at),
                Some(Some(heir)) => at = *heir,
            }
        }
        Heir::Ended(at) // a ring, which no honest member makes
    }

    /// All that is known, the newest last.
    pub(super) fn successions(&self) -> impl DoubleEndedIterator<Item = Succession> {
        self.order.iter().filter_map(|id| Some(Succession { id: *id, heir: *self.heirs.get(id)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_corrects_an_heir_by_votes_and_nothing_else_does() {
        let [dead, voted, written] = [1, 2, 3].map(SessionId);
        let by = |heir| Succession { id: dead, heir };
        let mut lineage = Lineage::default();
        assert!(!lineage.corrected(by(Some(written))), "what is not known is news, and no correction");
        assert!(lineage.ended(by(Some(voted))));
        assert!(!lineage.ended(by(Some(written))), "one word is as good as another");
        assert_eq!(lineage.follow(dead), Heir::Lives(voted));
        assert!(!lineage.corrected(by(None)), "that it was released later says nothing of its heir");
        assert!(lineage.corrected(by(Some(written))));
        assert!(!lineage.corrected(by(Some(written))), "once");
        assert_eq!(lineage.follow(dead), Heir::Lives(written));
    }
}
