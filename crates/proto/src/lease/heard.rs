//! How far a holder has got with the Services, as its Lease says: others wait for that word before they install an address
//! that left the Lease. Fed with what is wanted to be said and with the Lease as last seen; gives back annotations, and
//! whether they are so urgent that they do not wait for the next renewal.

use vip_model::members::Said;
use vip_model::plan::Heard;
use vip_model::store::{ACTED, LeaseRecord, MOVED, Purpose, Revision};

use super::LeaseElection;

impl LeaseElection {
    /// What the Lease says; nothing while a newer version of it is known to be in the store: somebody may have taken it
    /// who has not got as far.
    pub(super) fn said(&self) -> Said {
        let is_outdated = self.last.as_ref().is_some_and(|last| last.outdated.is_some());
        if is_outdated {
            return Said { is_outdated, ..Said::default() };
        }
        let record = self.last.as_ref().and_then(super::LastSight::record);
        record.map_or_else(Said::default, |record| Said {
            acted: record.acted(),
            moved: record.moved(),
            retired: record.retired(),
            is_outdated,
        })
    }

    /// Whether an address has left the Lease and the kernel, and the Lease does not say so yet.
    pub(super) fn is_awaited(&self) -> bool {
        let Some(Heard { acted, moved: Some(moved) }) = self.want.heard else { return false };
        acted >= moved && self.said().acted < Some(moved) && self.told < Some(moved)
    }

    /// How far this node has acted on the Services. Renewals say it: whoever waits for an address that left the Lease before
    /// this node could know hears that it is not here.
    pub const fn has_acted(&mut self, at: Option<Revision>) {
        self.acted = at;
    }

    /// A write that says what is wanted to be said is asked for.
    pub(super) fn tells(&mut self) {
        let done = self.want.heard.filter(|heard| Some(heard.acted) >= heard.moved);
        self.told = self.told.max(done.and_then(|heard| heard.moved));
    }

    /// The annotations of a write. A new tenure says only what it knows itself: what the holder before it had acted on is
    /// of no use to those who wait. What is said to those who take the Lease stays until this node knows as much.
    pub(super) fn heard_words(
        &self,
        purpose: Purpose,
        record: Option<&LeaseRecord>,
    ) -> Vec<(String, String)> {
        let said = self.said();
        let acted = match (purpose, self.want.heard) {
            (Purpose::Take, Some(heard)) => Some(heard.acted),
            (Purpose::Take, None) => record.and_then(LeaseRecord::acted).map(|_| Revision(0)),
            (_, heard) => {
                let by_now = self.acted.filter(|_| record.is_some_and(|record| record.acted().is_some()));
                by_now.max(heard.map(|heard| heard.acted)).filter(|acted| Some(*acted) > said.acted)
            }
        };
        let moved = match (self.want.heard, said.moved) {
            (Some(Heard { moved: Some(moved), .. }), former) => {
                Some(former.unwrap_or(moved).max(moved).0.to_string())
            }
            (Some(Heard { acted, moved: None }), Some(former)) if acted >= former => Some(String::new()), // is taken away
            _ => None,
        };
        let acted = acted.map(|Revision(acted)| (ACTED.to_owned(), acted.to_string()));
        acted.into_iter().chain(moved.map(|moved| (MOVED.to_owned(), moved))).collect()
    }
}
