//! Leaving everything to one member by heartbeat, when the store can't be told or does not answer: the own session ends with an
//! heir, who hears so at once. The agent stays for a moment after that, because its heir may have no other juror.

use std::time::Duration;

use vip_model::peers::Stage;
use vip_model::session::{SessionId, Succession};
use vip_model::{Instant, LeaseName};

use super::group::Writing;
use super::hand::STOPS_WAITING;
use super::{Life, Ownership};

/// A node that stops waits so long for the answer to the write that hands a group over. Most stores answer within a tenth of
/// it; one that hangs would let the time for stopping pass.
const UNANSWERED: Duration = Duration::from_millis(300);

/// To whom everything was left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bequest {
    heir: SessionId,
    at: Instant,
}

impl Ownership {
    /// Leaves everything to one member.
    pub(super) fn bequeath(&mut self, now: Instant, heir: SessionId) {
        let Some(own) = self.own_id() else { return };
        self.lineage.ended(Succession { id: own, heir: Some(heir) });
        self.bequest = Some(Bequest { heir, at: now });
        self.remember_soon(now);
        self.speak_soon(now);
        self.mark_all(now);
    }

    /// A group is being handed over and the store has not answered yet. A node that stops leaves everything to the heir that
    /// the write names, so that it is the heir wherever the write is taken, and whenever. Where several are named, one of them
    /// could get what another one has by the store.
    pub(super) fn step_unanswered(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let asking = self.groups.get(claim)?.asking.as_ref()?;
        let Writing::HandOver(heir) = asking.what else { return None };
        if self.want.life != Life::Stops || self.own_id().is_none_or(|own| self.lineage.has_ended(own)) {
            return None;
        }
        let until = asking.at + UNANSWERED;
        if now < until {
            return Some(until);
        }
        let others = self.groups.values().filter_map(|group| group.asking.as_ref());
        let is_one = others.map(|asking| asking.what).all(|what| match what {
            Writing::HandOver(other) => other == heir,
            _ => true,
        });
        if is_one {
            self.bequeath(now, heir);
        }
        None
    }

    /// Whether the heir of everything may still need this agent, which may be its only juror: until it says that it announces.
    pub(super) fn awaits_heir(&self) -> bool {
        let Some(Bequest { heir, at }) = self.bequest else { return false };
        let node = self.lineage.node(heir);
        let peer = node.and_then(|node| self.peers.get(node)).filter(|peer| peer.session == heir);
        let words = peer.map(|peer| peer.groups.words()).unwrap_or_default();
        let serves = !words.is_empty() && words.iter().all(|word| word.stage == Stage::Announced);
        !serves && self.stepped < at + STOPS_WAITING
    }
}
