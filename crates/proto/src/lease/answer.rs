//! What an answer of the store changes: where we stand, or how long the next question waits.

use vip_model::Instant;
use vip_model::store::{Answer, Failure, FailureClass};

use super::ask::{Asked, Intent};
use super::{BACKOFF_CONTENDER, BACKOFF_FIRST, LeaseElection, Phase, Tenure, shorter};

impl LeaseElection {
    pub(super) fn answered(&mut self, now: Instant, answer: Answer) {
        let Some(asked) = self.asked.take() else { return };
        match answer {
            Answer::Failed(failure) => self.failed(now, failure),
            Answer::Conflict => self.premise_gone(now, &asked),
            Answer::Lease(seen) => {
                self.succeeded();
                self.must_look = false;
                self.note(now, seen.sight);
                self.wrote(now, &asked);
            }
            // A Lease question is never answered with a bare "done"; reading again is always safe.
            Answer::Done | Answer::Session(..) => self.must_look = true,
        }
    }

    /// An answered write changes where we stand, if its time has not passed meanwhile.
    fn wrote(&mut self, now: Instant, asked: &Asked) {
        match asked.intent {
            Intent::Read => self.confirmed = self.last.as_ref().map(|last| (last.at, asked.at)),
            Intent::Release => {
                if !self.names_us() && matches!(self.phase, Phase::Leaving(..)) {
                    self.phase = Phase::Follower;
                }
            }
            Intent::Take | Intent::Renew => {
                self.conflicts = 0;
                let limits = shorter(asked.timings, self.want.timings);
                let found = asked.found;
                let fresh = Tenure { since: now, proven: asked.at, last_try: asked.at, limits, found };
                if !self.names_us() || now >= fresh.serve_until() {
                    return;
                }
                self.phase = match self.phase {
                    Phase::Holder(Tenure { since, found, .. }) => {
                        Phase::Holder(Tenure { since, found, ..fresh })
                    }
                    Phase::Leaving(Tenure { since, found, .. }, released) => {
                        Phase::Leaving(Tenure { since, found, ..fresh }, released)
                    }
                    Phase::Undecided | Phase::Follower => Phase::Holder(fresh),
                };
            }
        }
    }

    /// A write found another version than it expected: look again, at once the first time, then with growing pauses
    /// (a server that lags behind would otherwise be asked in a tight loop).
    ///
    /// It is also proof that somebody wrote what we have not seen yet, and who wrote may hold: a contender respects that
    /// as if it had seen a holder, until a newer sight says more. A sight that came while the write was under way has said
    /// so already: a former write of ours that a server carried out late is no reason to wait.
    fn premise_gone(&mut self, now: Instant, asked: &Asked) {
        self.told = None;
        self.succeeded();
        self.must_look = true;
        if let Some(last) = self.last.as_mut().filter(|last| last.at <= asked.at) {
            last.outdated = Some(now);
            if let Phase::Undecided | Phase::Follower = self.phase {
                last.free_at = last.free_at.max(now + self.want.timings.duration);
            }
        }
        if self.conflicts > 0 {
            self.not_before =
                now + (BACKOFF_FIRST * 2u32.pow(self.conflicts.min(3))).mul_f64(self.random.unit());
        }
        self.conflicts = self.conflicts.saturating_add(1);
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.trouble = None;
    }

    /// Pauses before the next question: short and growing for what may pass soon, a retry period for what may not.
    pub(super) fn failed(&mut self, now: Instant, failure: Failure) {
        let timings = self.want.timings;
        let cap = match self.phase {
            _ if !failure.class.is_transient() || failure.class == FailureClass::Throttled => {
                timings.retry_period
            }
            Phase::Holder(_) | Phase::Leaving(..) => (timings.retry_period / 2).min(BACKOFF_CONTENDER),
            Phase::Undecided | Phase::Follower => BACKOFF_CONTENDER,
        };
        let pause = (BACKOFF_FIRST * 2u32.saturating_pow(self.failures.min(8))).min(cap);
        let pause = if failure.class.is_transient() { pause } else { cap };
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + pause.mul_f64(0.75 + self.random.unit() / 4.0);
        self.trouble = Some(failure);
    }
}
