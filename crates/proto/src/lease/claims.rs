//! Claims of the mode `session`, as an agent in mode `lease` meets them in a rolling update. A claim is not renewed and
//! states a duration of 68 years: while one session lives, its agents look after all claims. When every one has ended or
//! was not renewed for its duration, nobody does, and their claims are as free as an expired Lease. Fed with the
//! sessions as a watch shows them; gives back from when on a claim is free. Who takes one looks before it serves
//! (`Found::Orphaned`): its owner may only have lost the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use vip_model::session::{CLAIM, CLAIM_FROM, HAND_OVER_TO, SessionId, SessionSeen, Sessions};
use vip_model::store::LeaseRecord;
use vip_model::{Instant, LeaseName};

use super::{LastSight, LeaseElection};

/// All sessions that are seen.
#[derive(Debug, Default)]
pub struct Owners {
    seen: BTreeMap<LeaseName, (Arc<SessionSeen>, Instant)>,
}

impl Owners {
    /// The sessions in the store, as a whole.
    pub fn saw(&mut self, now: Instant, sessions: &Sessions) {
        self.seen.retain(|lease, _| sessions.contains_key(lease));
        for (lease, session) in sessions {
            let former = self.seen.get(lease);
            let is_news = former.is_none_or(|(former, _)| {
                former.version != session.version && !session.version.is_older_than(&former.version)
            });
            if is_news {
                self.seen.insert(lease.clone(), (Arc::clone(session), now));
            }
        }
    }

    /// From when on a claim of a session is free. None for a session that nobody speaks of: its Lease may lie somewhere else.
    pub fn free_at(&self, claim: SessionId) -> Option<Instant> {
        let mut is_known = false;
        let mut free_at = Instant::ZERO;
        for (session, changed) in self.seen.values() {
            let record = &session.record;
            is_known |= record.id == claim || record.former.iter().any(|former| former.id == claim);
            free_at = free_at.max(match record.end {
                Some(_) => *changed,
                None => *changed + session.duration,
            });
        }
        is_known.then_some(free_at)
    }
}

impl LeaseElection {
    /// The session of another node that the Lease, as last seen, is a claim of.
    pub fn claim_of(&self) -> Option<SessionId> {
        let last = self.last.as_ref().filter(|last| last.names_other(&self.me))?;
        last.record()?.annotations.get(CLAIM).filter(|text| !text.is_empty())?.parse().ok()
    }

    /// Says from when on that claim is free; none while that is not known.
    pub fn claim_is_free(&mut self, at: Option<Instant>) {
        self.claim_free_at = at;
    }

    /// From when on the Lease may be taken.
    pub(super) fn free_at(&self, last: &LastSight) -> Instant {
        match (self.claim_of(), self.claim_free_at) {
            (Some(_), Some(free_at)) => last.free_at.min(free_at.max(last.at)),
            _ => last.free_at,
        }
    }
}

/// What a claim says beside its holder; all of it goes when it becomes a Lease of the mode `lease`.
pub(super) fn words_of(record: &LeaseRecord) -> impl Iterator<Item = &'static str> + '_ {
    let says = |key: &&str| record.annotations.get(*key).is_some_and(|text| !text.is_empty());
    [CLAIM, CLAIM_FROM, HAND_OVER_TO].into_iter().filter(says)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vip_model::NodeName;
    use vip_model::session::{BootId, End, Jury, SessionRecord, Succession};
    use vip_model::store::Version;

    use super::*;

    fn session(id: u64, version: u32, end: Option<End>) -> SessionSeen {
        let record = SessionRecord {
            id: SessionId(id),
            node: NodeName::new(&format!("n{id}")),
            boot: BootId::default(),
            doors: Vec::new(),
            sites: Vec::new(),
            jury: Jury::default(),
            former: vec![Succession { id: SessionId(id + 100), heir: None }],
            end,
            keys: Vec::new(),
            was_heard: false,
            drill: None,
        };
        SessionSeen {
            version: Version(version.to_string()),
            renewed: None,
            duration: Duration::from_secs(15),
            record,
        }
    }

    fn all(sessions: impl IntoIterator<Item = SessionSeen>) -> Sessions {
        let lease = |seen: &SessionSeen| LeaseName::new("kube-system", format!("s-{}", seen.record.node));
        sessions.into_iter().map(|seen| (lease(&seen), Arc::new(seen))).collect()
    }

    #[test]
    fn a_claim_is_free_when_the_last_session_has_expired() {
        let mut owners = Owners::default();
        let at = Instant::from_millis;
        assert_eq!(owners.free_at(SessionId(1)), None);
        owners.saw(at(1_000), &all([session(1, 1, None), session(2, 2, Some(End::Released))]));
        assert_eq!(owners.free_at(SessionId(1)), Some(at(16_000)));
        assert_eq!(owners.free_at(SessionId(101)), Some(at(16_000)), "a former session of a node");
        assert_eq!(owners.free_at(SessionId(9)), None, "nobody speaks of it");
        // Another one lives: it looks after all claims.
        owners.saw(at(9_000), &all([session(1, 1, None), session(2, 3, None)]));
        assert_eq!(owners.free_at(SessionId(1)), Some(at(24_000)));
        // The same again, or an older one, is no sign of life.
        owners.saw(at(20_000), &all([session(1, 1, None), session(2, 2, None)]));
        assert_eq!(owners.free_at(SessionId(1)), Some(at(24_000)));
        owners.saw(at(21_000), &all([session(1, 4, None)]));
        assert_eq!(owners.free_at(SessionId(1)), Some(at(36_000)));
        assert_eq!(owners.free_at(SessionId(2)), None, "its Lease was deleted");
    }
}
