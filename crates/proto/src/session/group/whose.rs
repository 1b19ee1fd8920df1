//! Whose a group is: by its claim as the store shows it, followed along the sessions that ended; before the store has shown it,
//! by what a former life of the agent had.

use vip_model::session::{CLAIM, CLAIM_FROM, SessionId};

use super::{Group, Whose, session_in};
use crate::session::Ownership;
use crate::session::lineage::Heir;

impl Ownership {
    /// Whose a group is.
    pub(in crate::session) fn whose(&self, group: &Group) -> Whose {
        let Some(own) = &self.own else { return Whose::Unknown };
        let own = own.record.id;
        let Some(seen) = &group.seen else {
            return self.whose_by_memory(own, group);
        };
        let Some(record) = &seen.record else { return Whose::Free };
        let Some(holder) = &record.holder else { return Whose::Free };
        let Some(session) = session_in(record, CLAIM) else {
            let is_ours = *holder == *self.id.node.as_str();
            let span = record.duration.unwrap_or(self.want.settings.timings.duration);
            if is_ours {
                return Whose::Free;
            }
            return Whose::Leased { node: holder.clone(), until: seen.at + span };
        };
        let from = session_in(record, CLAIM_FROM);
        match self.lineage.follow(session) {
            Heir::Lives(id) if id == own => Whose::Mine { from: from.filter(|from| *from != own) },
            Heir::Lives(session) => Whose::Theirs { session, from_us: from == Some(own) },
            // Handed over by us to a session that ended: we serve it on, and it counts as handed over until it is back.
            Heir::Ended(session) if from == Some(own) && (group.is_served() || !group.hand.is_over()) => {
                Whose::Theirs { session, from_us: true }
            }
            Heir::Ended(_) => Whose::Free,
        }
    }

    /// Whose a group is that the store has not shown since the agent began.
    fn whose_by_memory(&self, own: SessionId, group: &Group) -> Whose {
        let former = self.recall.as_ref().and_then(|recall| recall.memory.as_ref());
        let Some(former) = former.filter(|_| group.remembered) else { return Whose::Unknown };
        match self.lineage.follow(former.record.id) {
            // Somebody else followed meanwhile, and has what was ours.
            Heir::Lives(session) if session != own && session != former.record.id => {
                Whose::Theirs { session, from_us: false }
            }
            Heir::Lives(_) | Heir::Ended(_) if self.lives_by_memory() => Whose::Mine { from: None },
            Heir::Lives(_) | Heir::Ended(_) => Whose::Unknown,
        }
    }

    /// Whether what a former life held counts: its session goes on, and the store, which knows better, does not answer.
    fn lives_by_memory(&self) -> bool {
        let former = self.recall.as_ref().and_then(|recall| recall.memory.as_ref());
        let own = self.own.as_ref().filter(|own| own.proven.is_none());
        former.zip(own).is_some_and(|(former, own)| former.record.id == own.record.id)
    }
}
