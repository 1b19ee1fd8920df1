//! The laws of an election on random walks, for tests and fuzzing (feature `rig`). A walk drives one machine against a
//! store that is honest more often than not, checks after each step what must never happen, and gives back the script
//! that it played, for the rig. Fed with dice only: a seed's or a fuzzer's bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::config::LeaseTimings;
use vip_model::members::Role;
use vip_model::plan::{ElectionWant, Footprint, Standing};
use vip_model::store::{
    Answer, Ask, Expect, Failure, FailureClass, LeaseRecord, LeaseSeen, LeaseWrite, Purpose, Sight, Version,
};
use vip_model::{Instant, LeaseName, NodeName, Random};

use super::{ANSWER_GRACE, LeaseElection, LeaseInput, LeaseQuestion, shorter};
use crate::Machine;
use crate::rig::{Bounds, Script, Step};

/// When a walk begins.
pub const FROM: Instant = Instant::from_millis(1_000_000);
/// A turn asks at most one question; the shortest timings of a walk allow some turns per second.
pub const BOUNDS: Bounds = Bounds { outputs_per_turn: 1, turns_per_wait: 2_000 };

/// Gives a number below its argument.
pub type Dice<'a> = &'a mut dyn FnMut(u64) -> u64;

/// The machine of every walk, fresh.
pub fn election() -> LeaseElection {
    let want = ElectionWant {
        timings: TIMINGS[0],
        annotations: BTreeMap::new(),
        standing: Standing::Contend,
        rank: 0,
        footprint: Footprint::Clear,
        heard: None,
        group: None,
    };
    LeaseElection::new(FROM, NodeName::new(ME), lease(), want, Random::new(1))
}

/// Walks `steps` steps and returns them as a script.
///
/// # Panics
/// When the election breaks a law.
pub fn walk(dice: Dice<'_>, steps: usize) -> Script<LeaseElection> {
    let election = election();
    let mut walk = Walk {
        now: FROM,
        want: election.want.clone(),
        role: election.state().role,
        election,
        store: Store { version: 100, record: None, former: Vec::new() },
        open: None,
        proven: None,
        release_asked: false,
        dice,
    };
    let mut script = Vec::with_capacity(steps);
    walk.turn();
    for _ in 0..steps {
        let step = walk.next_step();
        walk.take(&step);
        script.push(step);
    }
    script
}

const ME: &str = "a";

const TIMINGS: [LeaseTimings; 3] = [timings(5, 3, 1), timings(15, 10, 2), timings(3, 2, 1)];

const fn timings(duration: u64, renew_deadline: u64, retry_period: u64) -> LeaseTimings {
    LeaseTimings {
        duration: Duration::from_secs(duration),
        renew_deadline: Duration::from_secs(renew_deadline),
        retry_period: Duration::from_secs(retry_period),
    }
}

fn lease() -> LeaseName {
    LeaseName::new("kube-system", "plndr-cp-lock")
}

/// The Lease as it is, and sights of it that a lagging server may still show.
struct Store {
    version: u64,
    record: Option<LeaseRecord>,
    former: Vec<Sight>,
}

/// The question in flight.
#[derive(Clone)]
struct Open {
    question: LeaseQuestion,
    at: Instant,
    timings: LeaseTimings,
}

/// The newest write that proved our right: when it was asked, and what counts from then.
#[derive(Clone, Copy)]
struct Proven {
    at: Instant,
    timings: LeaseTimings,
}

struct Walk<'a> {
    election: LeaseElection,
    now: Instant,
    want: ElectionWant,
    role: Role,
    store: Store,
    open: Option<Open>,
    proven: Option<Proven>,
    /// Whether a release was asked since the last answered claim.
    release_asked: bool,
    dice: Dice<'a>,
}

impl Store {
    fn sight(&self) -> Sight {
        let version = Version(self.version.to_string());
        match &self.record {
            Some(record) => Sight::Present { version, record: record.clone() },
            None => Sight::Absent(Some(version)),
        }
    }

    fn put(&mut self, record: Option<LeaseRecord>) {
        self.former.push(self.sight());
        self.version += 1;
        self.record = record;
    }

    /// Carries out a write if its premise holds.
    fn write(&mut self, write: &LeaseWrite) -> Answer {
        let holds = match &write.expect {
            Expect::Absent => self.record.is_none(),
            Expect::Version(version) => self.record.is_some() && version.0 == self.version.to_string(),
        };
        if !holds {
            return Answer::Conflict;
        }
        self.put(Some(LeaseRecord {
            holder: write.holder.as_ref().map(NodeName::to_string),
            duration: Some(write.duration),
            transitions: write.transitions,
            acquired: Some("2026-01-02T03:04:05.000006Z".to_owned()),
            renewed: None,
            annotations: write.annotations.clone(),
        }));
        Answer::Lease(LeaseSeen { lease: lease(), sight: self.sight() })
    }
}

impl Walk<'_> {
    fn roll(&mut self, below: u64) -> u64 {
        (self.dice)(below)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let at = usize::try_from(self.roll(of.len() as u64)).expect("below the length of a slice");
        of[at].clone()
    }

    fn next_step(&mut self) -> Step<ElectionWant, LeaseInput> {
        match self.roll(16) {
            0..2 => Step::Want(self.any_want()),
            2..6 => Step::Input(LeaseInput::Answer(self.any_answer())),
            6..8 => Step::Input(LeaseInput::Seen(self.any_sight())),
            8 => Step::Wait(Duration::from_millis(self.roll(20_000))),
            9..12 => Step::Wait(Duration::from_millis(self.roll(300))),
            // Most often: as far as the machine wants to sleep.
            _ => Step::Wait(self.election.deadline().map_or(Duration::from_secs(1), |due| due - self.now)),
        }
    }

    fn any_want(&mut self) -> ElectionWant {
        ElectionWant {
            timings: self.pick(&TIMINGS),
            annotations: BTreeMap::new(),
            standing: self.pick(&[
                Standing::Contend,
                Standing::Contend,
                Standing::Reluctant,
                Standing::HandOver,
                Standing::Leave,
            ]),
            rank: self.pick(&[0, 0, 1, 2]),
            footprint: self.pick(&[Footprint::Clear, Footprint::Present]),
            heard: None,
            group: None,
        }
    }

    fn any_answer(&mut self) -> Answer {
        if let Some(open) = self.open.clone()
            && self.roll(4) > 0
        {
            return match &open.question.ask {
                Ask::WriteLease(write) => self.store.write(write),
                _ => Answer::Lease(LeaseSeen { lease: lease(), sight: self.store.sight() }),
            };
        }
        match self.roll(4) {
            0 => Answer::Conflict,
            1 => Answer::Done,
            2 => Answer::Lease(self.any_sight()),
            _ => {
                let class = self.pick(&FailureClass::ALL);
                Answer::Failed(Failure { class, text: "no".to_owned() })
            }
        }
    }

    /// What a watch or a list shows: an outsider's edit, the Lease as it is, or as it was.
    fn any_sight(&mut self) -> LeaseSeen {
        let sight = match self.roll(8) {
            0..3 => self.store.sight(),
            3 => Sight::Absent(None),
            4 => {
                let former = self.store.former.clone();
                if former.is_empty() { self.store.sight() } else { self.pick(&former) }
            }
            5 => {
                self.store.put(None);
                self.store.sight()
            }
            _ => {
                let record = self.any_record();
                self.store.put(Some(record));
                self.store.sight()
            }
        };
        LeaseSeen { lease: lease(), sight }
    }

    fn any_record(&mut self) -> LeaseRecord {
        let seconds = self.pick(&[None, Some(1), Some(3), Some(15)]);
        LeaseRecord {
            holder: self.pick(&[None, Some(ME), Some("b"), Some("c")]).map(str::to_owned),
            duration: seconds.map(Duration::from_secs),
            transitions: self.pick(&[0, 7, u32::MAX]),
            acquired: None,
            renewed: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Takes one step and checks the laws after it.
    fn take(&mut self, step: &Step<ElectionWant, LeaseInput>) {
        let mut answered = None;
        match step {
            Step::Want(want) => {
                self.want = want.clone();
                if let Some(proven) = &mut self.proven {
                    proven.timings = shorter(proven.timings, want.timings);
                }
                self.election.want(self.now, want.clone());
            }
            Step::Input(input) => {
                // An answer that came after the machine gave up on it is one that nobody asked for.
                let is_awaited = self.election.asked.is_some();
                self.election.handle(self.now, input.clone());
                match input {
                    LeaseInput::Answer(answer) if is_awaited => {
                        answered = self.open.take();
                        self.note_proof(answered.as_ref(), answer);
                    }
                    LeaseInput::Answer(_) => {}
                    LeaseInput::Seen(seen) => self.check_sight(&seen.sight),
                }
            }
            Step::Wait(span) => self.now = self.now + *span,
        }
        // A machine that was not polled yet has stepped down only if something was told to it.
        if matches!(step, Step::Wait(_)) {
            self.turn();
            self.check_role(None);
        } else {
            self.check_role(answered.as_ref());
            self.turn();
            self.check_role(None);
        }
    }

    /// Remembers an answered write that says that the Lease is ours.
    fn note_proof(&mut self, answered: Option<&Open>, answer: &Answer) {
        let (Some(open), Answer::Lease(_)) = (answered, answer) else { return };
        let is_claim =
            matches!(&open.question.ask, Ask::WriteLease(write) if write.purpose != Purpose::Release);
        // What the Lease promises to others and what is wanted since: the shorter of both.
        let timings = shorter(open.timings, self.want.timings);
        if is_claim && self.election.names_us() && self.now < open.at + timings.renew_deadline {
            self.proven = Some(Proven { at: open.at, timings });
            self.release_asked = false;
        }
    }

    fn turn(&mut self) {
        if let Some(question) = self.election.poll(self.now) {
            self.check_question(&question);
            assert!(self.election.poll(self.now).is_none(), "two questions at once");
            self.open = Some(Open { question, at: self.now, timings: self.want.timings });
        }
    }

    fn check_question(&mut self, question: &LeaseQuestion) {
        if let Some(open) = &self.open {
            let given_up = open.at + open.question.timeout + ANSWER_GRACE;
            assert!(self.now >= given_up, "a second question while one is in flight");
        }
        assert!(!question.timeout.is_zero(), "a question that cannot be answered");
        let Ask::WriteLease(write) = &question.ask else { return };
        match write.purpose {
            Purpose::Release => {
                assert_eq!(self.want.footprint, Footprint::Clear, "released with something in the kernel");
                assert!(!matches!(self.election.state().role, Role::Holder { .. }), "a holder releases");
                assert_eq!(write.holder, None);
                self.release_asked = true;
            }
            Purpose::Take => {
                let stands = matches!(self.want.standing, Standing::Contend | Standing::Reluctant);
                assert!(stands, "taken by who cannot serve");
                let free = self.election.takeable_since().is_some_and(|since| since <= self.now);
                assert!(free, "taken from a living holder");
            }
            Purpose::Depose | Purpose::HandOver => unreachable!("this mode names no successor"),
            Purpose::Renew => {
                assert!(
                    matches!(self.election.state().role, Role::Holder { .. }),
                    "renewed by who holds nothing"
                );
            }
        }
    }

    /// The newest state of the Lease, if it names another, ends our tenure.
    fn check_sight(&self, sight: &Sight) {
        let Sight::Present { version, record } = sight else { return };
        let names_other = record.holder.as_deref().is_some_and(|holder| holder != ME);
        if names_other && version.0 == self.store.version.to_string() {
            let role = self.election.state().role;
            assert!(matches!(role, Role::Follower), "{role:?} although another is named");
        }
    }

    fn check_role(&mut self, answered: Option<&Open>) {
        let role = self.election.state().role;
        if let Role::Holder { fence_until, serve_until, .. } = role {
            let proven = self.proven.expect("a holder whose right no answer ever proved");
            assert!(self.now < serve_until, "a holder past its deadline");
            assert_eq!(serve_until, proven.at + proven.timings.renew_deadline, "counted from another moment");
            assert_eq!(fence_until, proven.at + proven.timings.fence(), "a fence from another moment");
            assert_ne!(self.want.standing, Standing::Leave, "holding without being able to serve");
            match self.role {
                Role::Holder { .. } => {}
                Role::Leaving => assert!(!self.release_asked, "a holder again after a release was asked"),
                Role::Undecided | Role::Follower => {
                    let asked = answered.expect("a tenure that begins without an answer");
                    assert_eq!(asked.at, proven.at, "a tenure that begins with another answer");
                }
            }
        }
        self.role = role;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::check_laws;

    #[test]
    fn the_laws_hold_on_random_walks_and_their_replays() {
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let script = walk(&mut |below| random.below(below), 200);
            check_laws(election, FROM, &script, BOUNDS);
        }
    }

    #[test]
    fn random_walks_reach_every_role_and_every_question() {
        let (mut roles, mut purposes) = ([0; 4], [0; 3]);
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let script = walk(&mut |below| random.below(below), 200);
            let mut machine = election();
            let mut now = FROM;
            for step in &script {
                match step {
                    Step::Want(want) => machine.want(now, want.clone()),
                    Step::Input(input) => machine.handle(now, input.clone()),
                    Step::Wait(span) => now = now + *span,
                }
                if let Some(LeaseQuestion { ask: Ask::WriteLease(write), .. }) = machine.poll(now) {
                    purposes[write.purpose as usize] += 1;
                }
                let role = match machine.state().role {
                    Role::Undecided => 0,
                    Role::Follower => 1,
                    Role::Holder { .. } => 2,
                    Role::Leaving => 3,
                };
                roles[role] += 1;
            }
        }
        let least = |counts: &[i32]| counts.iter().copied().min();
        assert!(least(&roles) > Some(100) && least(&purposes) > Some(50), "{roles:?} {purposes:?}");
    }
}
