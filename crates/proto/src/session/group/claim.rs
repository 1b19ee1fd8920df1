//! Questions about a group's claim: read, taken, rewritten, handed over, released; what the store shows and answers.

use std::time::Duration;

use vip_model::drill::DRILL;
use vip_model::members::History;
use vip_model::session::{CLAIM, CLAIM_DURATION, CLAIM_FROM, HAND_OVER_TO};
use vip_model::store::{Acquired, Answer, Ask, FailureClass, LeaseSeen, LeaseWrite, Purpose, Sight};
use vip_model::{Instant, LeaseName};

use super::{Asking, BACKOFF_FIRST, BACKOFF_MAX, CONFLICT_MAX, Seen, TIMEOUT_MAX, TIMEOUT_MIN, Writing};
use crate::session::hand::Hand;
use crate::session::step::ANSWER_GRACE;
use crate::session::{Asked, Ownership};

/// For how long a claim that is as it was when a write of it was refused is taken for the picture of a server that lags. After
/// that it may have been removed again, or something else than its version was the reason.
const REFUSED_COUNTS: Duration = Duration::from_secs(3);

/// How often the pause after a write that nobody waits for doubles.
const SELDOM: u32 = 2;

impl Ownership {
    pub(in crate::session) fn saw_claim(&mut self, now: Instant, seen: LeaseSeen) {
        self.note_claim(now, &seen.lease, seen.sight);
    }

    pub(in crate::session) fn note_claim(&mut self, now: Instant, claim: &LeaseName, sight: Sight) {
        let me = self.id.node.clone();
        let Some(group) = self.groups.get_mut(claim) else { return };
        let (version, record) = match sight {
            Sight::Absent(version) => (version, None),
            Sight::Present { version, record } => (Some(version), Some(record)),
        };
        if let (Some(seen), Some(version)) = (&group.seen, &version)
            && seen.version.as_ref().is_some_and(|old| version.is_older_than(old) || version == old)
        {
            return;
        }
        // A server that lags finds nothing first, and then what was long ago.
        if let Some(version) = &version {
            if group.newest.as_ref().is_some_and(|newest| version.is_older_than(newest)) {
                return;
            }
            group.newest = Some(version.clone());
        }
        let names_other = record
            .as_ref()
            .and_then(|record| record.holder.as_deref())
            .is_some_and(|holder| holder != me.as_str());
        // Whoever begins to look while it has a holder, and be it this node, cannot know who held it before.
        let has_holder = record.as_ref().is_some_and(|record| record.holder.is_some());
        let was_held = record.as_ref().is_some_and(|record| record.transitions > 0);
        if names_other || was_held || (group.history == History::Unknown && has_holder) {
            group.history = History::Held;
        } else if group.history == History::Unknown {
            group.history = History::New;
        }
        // Deleted by hand: counts as its last known session's, and its owner makes it again.
        let record = match (&group.seen, record) {
            (Some(former), None) if former.record.as_ref().is_some_and(|record| record.holder.is_some()) => {
                group.seen = Some(Seen { version, record: former.record.clone(), at: now });
                group.must_read = false;
                group.seen.as_mut().expect("set just now").version = None;
                self.mark(now, claim);
                return;
            }
            (_, record) => record,
        };
        group.remembered = false;
        group.is_outdated = false;
        if let Hand::Given { takes_back, .. } = &mut group.hand {
            *takes_back = false; // what was asked expects another version
        }
        let is_first = group.seen.is_none();
        group.seen = Some(Seen { version, record, at: now });
        let expect = group.expect();
        if group.refused.take_if(|(refused, _)| *refused != expect).is_some() {
            // Who waited for a server that lags waits no longer.
            group.must_read = false;
            group.not_before = group.not_before.min(now);
        }
        if is_first {
            self.note_stale_drill(claim);
        }
        self.saw_drill(now, claim);
        self.mark(now, claim);
        self.remember_soon(now);
    }

    pub(in crate::session) fn ask_claim(&mut self, now: Instant, claim: &LeaseName, what: Writing) {
        let timeout = self.want.settings.timings.retry_period.clamp(TIMEOUT_MIN, TIMEOUT_MAX);
        let ask = match what {
            Writing::Read => Ask::ReadLease(claim.clone()),
            _ => match self.claim_write(claim, what) {
                Some(write) => Ask::WriteLease(write),
                None => return self.ventures.end(claim),
            },
        };
        let ticket = self.ask(Asked::Claim(claim.clone()), ask, timeout);
        if let Some(group) = self.groups.get_mut(claim) {
            group.asking = Some(Asking { ticket, at: now, what });
            group.expected = group.expect();
        }
    }

    pub(in crate::session) fn claim_write(&self, claim: &LeaseName, what: Writing) -> Option<LeaseWrite> {
        let group = self.groups.get(claim)?;
        let own = self.own_id()?;
        let expect = group.expect();
        let transitions = group.record().map_or(0, |record| record.transitions);
        let (purpose, to, from) = match what {
            Writing::Read => return None,
            Writing::Take => (Purpose::Take, Some(own), None),
            Writing::Rewrite | Writing::TakeBack => (Purpose::Renew, Some(own), None),
            Writing::Release => (Purpose::Release, None, None),
            Writing::HandOver(to) => (Purpose::HandOver, Some(to), Some(own)),
            Writing::GiveBack(to) => (Purpose::HandOver, Some(to), None),
        };
        let holder = match to {
            Some(to) => Some(self.lineage.node(to)?.clone()),
            None => None,
        };
        let mut annotations = group.want.annotations.clone();
        annotations.insert(HAND_OVER_TO.to_owned(), String::new());
        annotations.insert(CLAIM.to_owned(), to.map(|id| id.to_string()).unwrap_or_default());
        annotations.insert(CLAIM_FROM.to_owned(), from.map(|id| id.to_string()).unwrap_or_default());
        if let Some(drill) = &group.drill {
            annotations.insert(DRILL.to_owned(), drill.to_string());
        }
        let moves = matches!(what, Writing::Take | Writing::HandOver(_) | Writing::GiveBack(_));
        Some(LeaseWrite {
            lease: claim.clone(),
            expect,
            purpose,
            duration: if holder.is_some() { CLAIM_DURATION } else { Duration::from_secs(1) },
            holder,
            acquired: Acquired::Now,
            transitions: transitions.saturating_add(u32::from(moves && group.record().is_some())),
            annotations,
        })
    }

    pub(in crate::session) fn claim_answered(&mut self, now: Instant, claim: &LeaseName, answer: Answer) {
        let jitter = 0.75 + self.random.unit() / 4.0;
        let Some(group) = self.groups.get_mut(claim) else { return };
        let Some(asking) = group.asking.take() else { return };
        self.ventures.end(claim);
        if !matches!(answer, Answer::Lease(_)) {
            group.drill = None; // asked for again, or over
        }
        match answer {
            Answer::Lease(seen) => {
                group.failures = 0;
                group.trouble = None;
                group.must_read = false;
                if asking.what != Writing::Read {
                    group.conflicts = 0;
                    group.refused = None;
                }
                let is_given = matches!(asking.what, Writing::HandOver(_));
                if let Writing::HandOver(to) = asking.what
                    && group.is_served()
                {
                    group.hand = Hand::Given { to, since: now, takes_back: false };
                }
                self.note_claim(now, claim, seen.sight);
                if is_given {
                    self.speak_soon(now); // its new owner waits for our word
                }
                if asking.what == Writing::Read {
                    self.wait_for_laggard(now, claim, jitter);
                } else {
                    self.drill_written(now, claim);
                }
            }
            Answer::Conflict => {
                // What the watch has shown since the question may be what refused it.
                if asking.what != Writing::Read && group.expected == group.expect() {
                    group.is_outdated = true;
                    group.refused = Some((group.expected.clone(), now));
                }
                group.must_read = true;
                group.failures = group.failures.saturating_add(1);
                group.conflicts = group.conflicts.saturating_add(1);
                let pause = match group.conflicts {
                    1 => Duration::ZERO,
                    more => (BACKOFF_FIRST * 2u32.saturating_pow(more.min(8) - 2)).min(CONFLICT_MAX),
                };
                group.not_before = now + pause.mul_f64(jitter);
            }
            Answer::Failed(failure) => {
                let pause = (BACKOFF_FIRST * 2u32.saturating_pow(group.failures.min(8))).min(BACKOFF_MAX);
                let retry = self.want.settings.timings.retry_period;
                // Nobody waits for a claim that is only to be tidied: it keeps the budget for the session.
                let is_urgent = failure.class.is_transient()
                    && failure.class != FailureClass::Throttled
                    && asking.what != Writing::Rewrite;
                let seldom = retry * 2u32.saturating_pow(group.failures.min(SELDOM));
                let pause = if is_urgent { pause } else { seldom };
                group.failures = group.failures.saturating_add(1);
                group.not_before = now + pause.mul_f64(jitter);
                group.trouble = Some(failure);
            }
            Answer::Done | Answer::Session(..) => group.must_read = true,
        }
        self.mark(now, claim);
    }

    /// A server that still shows what was refused lags behind: the same write again would be refused, too.
    fn wait_for_laggard(&mut self, now: Instant, claim: &LeaseName, jitter: f64) {
        let Some(group) = self.groups.get_mut(claim) else { return };
        let Some((refused, at)) = &group.refused else { return };
        if *refused != group.expect() {
            return;
        }
        if now < *at + REFUSED_COUNTS {
            group.must_read = true;
            group.not_before = now + CONFLICT_MAX.mul_f64(jitter);
        } else {
            group.is_outdated = false; // what we know is what the store has
        }
    }

    /// An answer that never came.
    pub(in crate::session) fn give_up_waiting(&mut self, now: Instant, claim: &LeaseName) {
        let limit = TIMEOUT_MAX + ANSWER_GRACE;
        let Some(group) = self.groups.get_mut(claim) else { return };
        if let Some(asking) = group.asking.take_if(|asking| now >= asking.at + limit) {
            self.asked.remove(&asking.ticket);
            self.ventures.end(claim);
            group.drill = None;
            group.must_read = true;
        }
    }
}
