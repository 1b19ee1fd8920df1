//! Election in mode `lease`: one renewed `coordination.k8s.io/v1` Lease, compatible with client-go's leader election.
//!
//! Fed with what is wanted (`ElectionWant`), with sights of the Lease and with answers of the store; gives back
//! questions, and a `Role` that the plan reads.
//!
//! ```text
//!              somebody else holds it             take answered
//!  Undecided ─────────────────────────► Follower ───────────────► Holder ──┐ renewals
//!      │                                   ▲  ▲                    │  │ ▲  │ answered
//!      └── take answered ──► Holder        │  └── deadline passed, ┘  │ └──┘
//!                                          │      other holder seen   │ yield, leave
//!                                          └──── released ◄─── Leaving┘
//! ```
//!
//! Three clocks keep two holders apart, all of them local and monotonic. A holder counts from the moment at which it
//! *asked* for the renewal that was answered: it acts until `renew_deadline` and its addresses may stay until
//! `LeaseTimings::fence`. A contender counts from the moment at which it *saw* the last change, and respects the
//! holder for the duration that the Lease states. Every write is a compare-and-swap on the version seen, so a renewal
//! that the contender missed makes its take fail.

mod answer;
mod ask;
mod claims;
mod heard;
#[cfg(any(test, feature = "rig"))]
pub mod laws;
mod sight;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use ask::Ventures;
pub use claims::Owners;
use vip_model::config::LeaseTimings;
use vip_model::members::{ElectionState, Found, History, Pulse, Role, Vacancy};
use vip_model::plan::{ElectionWant, Footprint, Standing};
use vip_model::store::{Answer, Ask, Failure, FailureClass, LeaseSeen, RETIRED, Revision, Sight, Version};
use vip_model::{Instant, LeaseName, NodeName, Random};

use crate::Machine;
use crate::lease::ask::{Asked, Claim, Intent};
use crate::lease::sight::LastSight;

/// The shortest pause between two yields of a holder whose health gate is closed. Doubles while nobody takes over.
const YIELD_PAUSE: Duration = Duration::from_mins(1);
/// The longest such pause.
const YIELD_PAUSE_MAX: Duration = Duration::from_hours(1);
/// First pause after a failed question; doubles with every further failure, with jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest pause of a contender whose store does not answer: an API that returns is noticed within half a second.
const BACKOFF_CONTENDER: Duration = Duration::from_millis(400);
/// How long a refused write proves that the store has something newer: whatever refused it, it was not that for longer.
const OUTDATED: Duration = Duration::from_mins(1);
/// How much longer than its timeout a question may stay unanswered before the machine asks again on its own: the
/// gateway promises an answer by the timeout, so this only guards against a gateway that broke its word.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// One thing that happened to an election.
#[derive(Clone, Debug)]
pub enum LeaseInput {
    /// The Lease was seen: by a watch or by a list.
    Seen(LeaseSeen),
    /// The answer to the question in flight. Whoever routes answers checks the question's id.
    Answer(Answer),
}

/// A question of the machine, with how long its answer is worth waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseQuestion {
    /// What is asked.
    pub ask: Ask,
    /// The timeout.
    pub timeout: Duration,
}

/// The election machine of one Lease.
#[derive(Clone, Debug)]
pub struct LeaseElection {
    me: NodeName,
    lease: LeaseName,
    want: ElectionWant,
    phase: Phase,
    last: Option<LastSight>,
    history: History,
    asked: Option<Asked>,
    /// The last move that was written at once, so that a store that keeps no annotations is not written for ever.
    told: Option<Revision>,
    /// The Lease must be read before anything else is asked: a premise failed.
    must_look: bool,
    /// The sight (by its time) that was already checked for a dead watch.
    looked_at: Option<Instant>,
    /// The sight (by its time) that a read confirmed, and when that was asked for.
    confirmed: Option<(Instant, Instant)>,
    /// How far this node has acted on the Services, as of now.
    acted: Option<Revision>,
    /// Since when we stand for the Lease, if we do.
    stood_at: Instant,
    ventures: Ventures,
    /// Nothing is asked before this instant.
    not_before: Instant,
    /// Failures in a row.
    failures: u32,
    /// Conflicts in a row.
    conflicts: u32,
    trouble: Option<Failure>,
    vacancy: Vacancy,
    pulse: Pulse,
    yields: Yields,
    /// From when on the claim of the mode `session` that it is now is free, as far as is known.
    claim_free_at: Option<Instant>,
    random: Random,
}

/// Where the machine stands; each phase owns what is true only then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Undecided,
    Follower,
    Holder(Tenure),
    Leaving(Tenure, Released),
}

/// Whether the store was asked to take the Lease back. Once it was, the write may still land at any time: only a
/// fresh take, which excludes it by compare-and-swap, makes a holder again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Released {
    NotAsked,
    Asked,
}

/// What a holder knows of its own right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tenure {
    since: Instant,
    /// When the last answered renewal (or take) was asked.
    proven: Instant,
    /// When the last renewal was asked, answered or not.
    last_try: Instant,
    /// What counts from `proven`. A shorter want counts at once, a longer one from the renewal that tells it to the
    /// others: they respect what the Lease says and not what we want by now.
    limits: LeaseTimings,
    /// How it was found.
    found: Found,
}

/// When a holder with a closed health gate last gave way, and how long it waits until it does so again.
#[derive(Clone, Copy, Debug)]
struct Yields {
    last: Option<Instant>,
    pause: Duration,
}

impl LeaseElection {
    /// A machine that has not seen the Lease yet. `random` feeds the jitter of its retries.
    pub fn new(now: Instant, me: NodeName, lease: LeaseName, want: ElectionWant, random: Random) -> Self {
        Self {
            me,
            lease,
            want,
            phase: Phase::Undecided,
            last: None,
            history: History::Unknown,
            asked: None,
            told: None,
            must_look: false,
            looked_at: None,
            confirmed: None,
            acted: None,
            stood_at: now,
            ventures: Ventures::Allowed,
            not_before: now,
            failures: 0,
            conflicts: 0,
            trouble: None,
            vacancy: Vacancy::Passing,
            pulse: Pulse::Beating,
            yields: Yields { last: None, pause: YIELD_PAUSE },
            claim_free_at: None,
            random,
        }
    }

    /// What the plan and the view read.
    pub fn state(&self) -> ElectionState {
        ElectionState {
            role: self.role(),
            holder: self.last.as_ref().and_then(|last| last.holder().map(str::to_owned)),
            history: self.history,
            trouble: self.trouble.clone(),
            vacancy: self.vacancy,
            said: self.said(),
            pulse: self.pulse,
            found: match self.phase {
                Phase::Holder(tenure) => tenure.found,
                Phase::Undecided | Phase::Follower | Phase::Leaving(..) => self.finds(),
            },
            ..ElectionState::default()
        }
    }

    /// Whether exactly this is wanted already: to want it again would change nothing.
    pub fn is_wanted(&self, want: &ElectionWant) -> bool {
        self.want == *want
    }

    /// Since when the Lease can be taken, as far as was seen.
    pub fn takeable_since(&self) -> Option<Instant> {
        self.last.as_ref().map(|last| self.free_at(last))
    }

    /// Whether the Lease, as last seen, still names this node.
    pub fn names_us(&self) -> bool {
        self.last.as_ref().and_then(LastSight::holder) == Some(self.me.as_str())
    }

    /// Whether it has asked for a Lease that nobody ever held although others come first.
    pub fn is_venturing(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.claim == Claim::Venture)
    }

    /// Whether it would do that now.
    pub fn would_venture(&self, now: Instant) -> bool {
        let next = self.next();
        next.is_some_and(|(due, intent)| intent == Intent::Take && now >= due)
            && self.claim() == Claim::Venture
    }

    /// Says whether it may do that from now on.
    pub fn allow(&mut self, ventures: Ventures) {
        self.ventures = ventures;
    }

    /// Wants to leave: the election is no longer planned.
    /// `at` is the version of the Services that says so.
    pub fn leave(&mut self, now: Instant, footprint: Footprint, at: &Version) {
        self.want(now, self.want.clone().retired(footprint, at));
    }

    /// Whether nothing is left to do for a node that stops: the Lease does not name us, and no write that could make
    /// it name us is under way.
    pub fn is_finished(&self) -> bool {
        let is_writing = self.asked.as_ref().is_some_and(|asked| asked.intent != Intent::Read);
        !is_writing && !self.names_us() && matches!(self.phase, Phase::Undecided | Phase::Follower)
    }

    /// Whether it waits for the answer to a question.
    pub fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    fn role(&self) -> Role {
        match self.phase {
            Phase::Undecided => Role::Undecided,
            Phase::Follower => Role::Follower,
            Phase::Leaving(..) => Role::Leaving,
            Phase::Holder(tenure) => Role::Holder {
                since: tenure.since,
                fence_until: tenure.proven + tenure.limits.fence(),
                serve_until: tenure.serve_until(),
            },
        }
    }

    /// Steps down where time or the want says so. No input or output is needed for it.
    fn advance(&mut self, now: Instant) {
        if let Some(asked) = &self.asked
            && now >= asked.at + asked.timeout + ANSWER_GRACE
        {
            self.asked = None;
            let text = "the gateway gave no answer in time".to_owned();
            self.failed(now, Failure { class: FailureClass::Timeout, text });
        }
        if let Some(last) =
            self.last.as_mut().filter(|last| last.outdated.is_some_and(|at| now >= at + OUTDATED))
        {
            last.outdated = None;
        }
        let is_vacant = self.vacant_from().is_some_and(|from| self.is_confirmed(from));
        self.vacancy = if is_vacant { Vacancy::Lasting } else { Vacancy::Passing };
        let has_lapsed = self.lapses_at().is_some_and(|at| self.is_confirmed(at));
        self.pulse = if has_lapsed { Pulse::Lapsed } else { Pulse::Beating };
        match self.phase {
            Phase::Holder(tenure) | Phase::Leaving(tenure, _) if now >= tenure.serve_until() => {
                self.phase = Phase::Follower;
            }
            Phase::Holder(tenure) => match self.want.standing {
                Standing::Leave | Standing::HandOver => {
                    self.phase = Phase::Leaving(tenure, Released::NotAsked);
                }
                Standing::Reluctant if self.yields.may(now) => {
                    self.yields.begin(now);
                    self.phase = Phase::Leaving(tenure, Released::NotAsked);
                }
                Standing::Reluctant | Standing::Contend => {}
            },
            // The reason to leave went away.
            Phase::Leaving(tenure, released) if self.want.standing == Standing::Contend => match released {
                Released::NotAsked => self.phase = Phase::Holder(tenure),
                Released::Asked if self.asked.is_none() => self.phase = Phase::Follower,
                Released::Asked => {}
            },
            Phase::Undecided | Phase::Follower | Phase::Leaving(..) => {}
        }
    }

    /// The Lease as it is now, however we learned it.
    fn note(&mut self, now: Instant, sight: Sight) {
        let own_duration = self.want.timings.duration;
        match LastSight::succeed(self.last.as_ref(), sight, now, (&self.me, own_duration)) {
            Some(news) => self.last = Some(news),
            None => return,
        }
        let Some(last) = &self.last else { return };
        if last.names_other(&self.me) || (self.history == History::Unknown && last.was_held(&self.me)) {
            self.history = History::Held;
        } else if self.history == History::Unknown {
            self.history = History::New;
        }
        if last.names_other(&self.me) {
            if self.want.standing == Standing::Reluctant {
                self.yields.pause = YIELD_PAUSE; // somebody took over: giving way was of use
            }
            self.phase = Phase::Follower;
        } else if !self.names_us() && matches!(self.phase, Phase::Leaving(..)) {
            self.phase = Phase::Follower; // released, by us or by hand
        }
    }
}

impl Tenure {
    fn serve_until(self) -> Instant {
        self.proven + self.limits.renew_deadline
    }
}

/// The shorter of each.
fn shorter(one: LeaseTimings, other: LeaseTimings) -> LeaseTimings {
    LeaseTimings {
        duration: one.duration.min(other.duration),
        renew_deadline: one.renew_deadline.min(other.renew_deadline),
        retry_period: one.retry_period.min(other.retry_period),
    }
}

impl Yields {
    fn may(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now >= last + self.pause)
    }

    fn begin(&mut self, now: Instant) {
        if self.last.is_some() {
            self.pause = (self.pause * 2).min(YIELD_PAUSE_MAX);
        }
        self.last = Some(now);
    }
}

impl Machine for LeaseElection {
    type Want = ElectionWant;
    type Input = LeaseInput;
    type Output = LeaseQuestion;

    fn want(&mut self, now: Instant, want: ElectionWant) {
        // Nobody can be named as successor in a Lease of this kind.
        let standing = match want.standing {
            Standing::HandOver => Standing::Leave,
            standing @ (Standing::Contend | Standing::Reluctant | Standing::Leave) => standing,
        };
        let want = ElectionWant { standing, ..want };
        if self.want.standing == Standing::Leave && want.standing != Standing::Leave {
            self.stood_at = now;
        }
        if let Phase::Holder(tenure) | Phase::Leaving(tenure, _) = &mut self.phase {
            tenure.limits = shorter(tenure.limits, want.timings);
        }
        self.want = want;
        self.advance(now);
    }

    fn handle(&mut self, now: Instant, input: LeaseInput) {
        match input {
            LeaseInput::Seen(seen) => {
                // The store speaks: whatever made us pause is over.
                if self.asked.is_none() && self.trouble.is_some() {
                    self.failures = 0;
                    self.not_before = now;
                }
                self.note(now, seen.sight);
            }
            LeaseInput::Answer(answer) => self.answered(now, answer),
        }
        self.advance(now);
    }

    fn poll(&mut self, now: Instant) -> Option<LeaseQuestion> {
        self.advance(now);
        let (due, intent) = self.next()?;
        (now >= due).then(|| self.ask(now, intent))
    }

    fn deadline(&self) -> Option<Instant> {
        let next = self.next().map(|(due, _)| due);
        let unanswered = self.asked.as_ref().map(|asked| asked.at + asked.timeout + ANSWER_GRACE);
        let (lapse, may_yield) = match self.phase {
            Phase::Holder(tenure) => (Some(tenure.serve_until()), self.next_yield()),
            Phase::Leaving(tenure, _) => (Some(tenure.serve_until()), None),
            Phase::Undecided | Phase::Follower => (None, None),
        };
        let outdated = self.last.as_ref().and_then(|last| last.outdated).map(|at| at + OUTDATED);
        [next, unanswered, lapse, may_yield, outdated].into_iter().flatten().min()
    }
}

impl LeaseElection {
    fn next_yield(&self) -> Option<Instant> {
        let last = self.yields.last.filter(|_| self.want.standing == Standing::Reluctant)?;
        Some(last + self.yields.pause)
    }

    /// When a Lease that we do not want counts as one that nobody can take: who can has tried for as long as a dead holder
    /// would have been waited for.
    fn vacant_from(&self) -> Option<Instant> {
        let last = self.last.as_ref().filter(|last| last.holder() != Some(self.me.as_str()))?;
        (self.want.standing == Standing::Leave)
            .then(|| last.free_at.max(last.at) + self.want.timings.duration)
    }

    /// When the other holder of a Lease that we do not want for ourselves is dead, unless it renews.
    fn lapses_at(&self) -> Option<Instant> {
        let last = self.last.as_ref().filter(|last| last.names_other(&self.me))?;
        let is_watched = self.want.standing == Standing::Leave || self.want.annotations.contains_key(RETIRED);
        is_watched.then_some(last.free_at)
    }

    /// Whether what was last seen still stood at that time: a watch may have stopped to tell, so a read says.
    fn is_confirmed(&self, at: Instant) -> bool {
        let last = self.last.as_ref().map(|last| last.at);
        self.confirmed.is_some_and(|(sight, asked)| Some(sight) == last && asked >= at)
    }

    /// When a read is due for that.
    fn confirms_at(&self) -> Option<Instant> {
        let silences = [self.lapses_at(), self.vacant_from()];
        silences.into_iter().flatten().filter(|at| !self.is_confirmed(*at)).min()
    }

    /// Whether everything that depends on the election has left the kernel.
    fn is_clear(&self) -> bool {
        self.want.footprint == Footprint::Clear
    }
}
