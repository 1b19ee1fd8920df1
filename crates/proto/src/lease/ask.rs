//! What an election asks next, and when.

use std::time::Duration;

use vip_model::Instant;
use vip_model::config::LeaseTimings;
use vip_model::members::{Found, History};
use vip_model::plan::Standing;
use vip_model::store::{Acquired, Ask, Expect, LeaseRecord, LeaseWrite, Purpose, RETIRED, Sight};

use super::{LeaseElection, LeaseQuestion, Phase, Released};

/// Shortest and longest time that one answer is worth waiting for.
const TIMEOUT_MIN: Duration = Duration::from_millis(500);
const TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// How long each better-placed contender is waited for, from the moment when the Lease is free and we stand.
const RANK_STEP: Duration = Duration::from_millis(30);
/// The longest wait is this many steps: nodes that run no agent count among the better-placed, too.
const RANK_MAX: u32 = 3;

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Read,
    Take,
    Renew,
    Release,
}

/// The question in flight.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) intent: Intent,
    pub(super) at: Instant,
    pub(super) timeout: Duration,
    /// The wanted timings when it was asked: what a write promises to the others.
    pub(super) timings: LeaseTimings,
    /// Whether others should have come first.
    pub(super) claim: Claim,
    /// How the Lease was found.
    pub(super) found: Found,
}

/// How good a contender's claim to a Lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Its own: it comes first, or the Lease had a holder, for whom time is running.
    Own,
    /// Others come first, and nobody ever held the Lease.
    Venture,
}

/// Whether an election may venture: take a Lease that nobody ever held although others come first.
///
/// When hundreds of Services are created at once, one node hears of them before the others and would get them all. So an
/// agent lets only a few of its elections venture at a time, and each makes room for the next with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ventures {
    /// It may.
    Allowed,
    /// Not now.
    HeldBack,
}

impl LeaseElection {
    /// The next question and when it is due. None while one is in flight, or when there is nothing to ask.
    pub(super) fn next(&self) -> Option<(Instant, Intent)> {
        if self.asked.is_some() {
            return None;
        }
        let (due, intent) = match (self.must_look, &self.last, self.phase) {
            (true, _, _) | (_, None, _) => (self.not_before, Intent::Read),
            (false, Some(_), Phase::Undecided | Phase::Follower) => self.next_as_follower()?,
            (false, Some(last), Phase::Holder(tenure)) => {
                // A Lease that does not name its holder (deleted or blanked by hand) is written again at once, and so is
                // one whose word somebody waits for.
                let due = if last.holder().is_some() && !self.is_awaited() {
                    tenure.last_try + tenure.limits.retry_period
                } else {
                    self.not_before
                };
                // In trouble the pause counts, which a sign of life of the store may have ended.
                (if self.trouble.is_some() { self.not_before } else { due }, Intent::Renew)
            }
            (false, Some(_), Phase::Leaving(..)) => {
                if !self.is_clear() {
                    return None;
                }
                (self.not_before, Intent::Release)
            }
        };
        Some((due.max(self.not_before), intent))
    }

    fn next_as_follower(&self) -> Option<(Instant, Intent)> {
        let last = self.last.as_ref()?;
        let timings = self.want.timings;
        let free_at = self.free_at(last);
        let take_at = match self.want.standing {
            // Others need not wait for the expiry of what we can't serve.
            Standing::Leave | Standing::HandOver if self.names_us() && self.is_clear() => {
                return Some((last.at, Intent::Release));
            }
            Standing::Leave | Standing::HandOver => return Some((self.confirms_at()?, Intent::Read)),
            Standing::Contend if self.claim() == Claim::Venture && self.ventures == Ventures::HeldBack => {
                return None;
            }
            Standing::Contend if self.names_us() => free_at,
            Standing::Contend => free_at.max(self.stood_at) + RANK_STEP * self.want.rank.min(RANK_MAX),
            Standing::Reluctant => free_at + timings.retry_period,
        };
        // A living holder writes every retry period. When nothing was seen for long, look whether the watch is dead,
        // so that a release is not missed until the Lease expires.
        let look_at = last.at + (timings.retry_period * 2).max(timings.duration / 2);
        if last.names_other(&self.me) && self.looked_at != Some(last.at) && look_at < take_at {
            return Some((look_at, Intent::Read));
        }
        Some((take_at, Intent::Take))
    }

    pub(super) fn claim(&self) -> Claim {
        if self.want.rank > 0 && self.history == History::New { Claim::Venture } else { Claim::Own }
    }

    pub(super) fn ask(&mut self, now: Instant, intent: Intent) -> LeaseQuestion {
        let mut timeout = self.want.timings.retry_period.clamp(TIMEOUT_MIN, TIMEOUT_MAX);
        if let Phase::Holder(tenure) = &mut self.phase {
            tenure.last_try = now;
        }
        if let (Phase::Leaving(_, released), Intent::Release) = (&mut self.phase, intent) {
            *released = Released::Asked;
        }
        if let Phase::Holder(tenure) = self.phase {
            timeout = timeout.min(tenure.serve_until() - now).max(Duration::from_millis(1));
        }
        if intent == Intent::Read {
            self.looked_at = self.last.as_ref().map(|last| last.at);
        }
        let ask = match intent {
            Intent::Read => Ask::ReadLease(self.lease.clone()),
            Intent::Take => Ask::WriteLease(self.write(Purpose::Take)),
            Intent::Renew => Ask::WriteLease(self.write(Purpose::Renew)),
            Intent::Release => Ask::WriteLease(self.write(Purpose::Release)),
        };
        if matches!(intent, Intent::Take | Intent::Renew) {
            self.tells();
        }
        let claim = if intent == Intent::Take { self.claim() } else { Claim::Own };
        let found = self.finds();
        self.asked = Some(Asked { intent, at: now, timeout, timings: self.want.timings, claim, found });
        LeaseQuestion { ask, timeout }
    }

    /// How the Lease would be found now.
    pub(super) fn finds(&self) -> Found {
        let record = self.last.as_ref().and_then(super::LastSight::record);
        match record.map(LeaseRecord::retired) {
            Some(Some(at)) => Found::Retired(at),
            Some(None) if self.claim_of().is_some() => Found::Orphaned,
            Some(None) | None => record.and_then(LeaseRecord::moved).map_or(Found::Wanted, Found::Moved),
        }
    }

    /// The write as client-go would do it: acquire time and transitions stay while the holder stays.
    fn write(&self, purpose: Purpose) -> LeaseWrite {
        let record = self.last.as_ref().and_then(super::LastSight::record);
        let expect = match self.last.as_ref().map(|last| &last.sight) {
            Some(Sight::Present { version, .. }) => Expect::Version(version.clone()),
            Some(Sight::Absent(_)) | None => Expect::Absent,
        };
        let kept = record.filter(|_| self.names_us());
        let transitions = match (record, kept) {
            (_, Some(kept)) => kept.transitions,
            (Some(former), None) => former.transitions.saturating_add(1),
            (None, None) => 0,
        };
        let (holder, duration, acquired) = match purpose {
            Purpose::Release => (None, Duration::from_secs(1), Acquired::Now),
            Purpose::Take | Purpose::Renew | Purpose::Depose | Purpose::HandOver => (
                Some(self.me.clone()),
                self.want.timings.duration,
                kept.and_then(|kept| kept.acquired.clone()).map_or(Acquired::Now, Acquired::Keep),
            ),
        };
        let mut annotations = self.want.annotations.clone();
        if record.is_some_and(LeaseRecord::says_retired) {
            annotations.entry(RETIRED.to_owned()).or_default(); // an empty one is taken away
        }
        annotations.extend(self.heard_words(purpose, record));
        for word in record.into_iter().flat_map(super::claims::words_of) {
            annotations.entry(word.to_owned()).or_default();
        }
        LeaseWrite {
            lease: self.lease.clone(),
            expect,
            purpose,
            holder,
            duration,
            acquired,
            transitions,
            annotations,
        }
    }
}
