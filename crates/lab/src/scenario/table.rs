//! The table of scenarios: name, timeline, what is measured, its bound, and what kube-vip 1.2.3 reaches on such a bench.
//! Pure data; `play` executes it. All faults hit the *victim*, the node that holds the VIP when the run begins.
//!
//! Lease timings are 5/3/1 s everywhere, so most bounds follow from them: a lease runs out 5 s after its last renewal, an
//! address 3 s after it (the fence), so a dead agent costs at most 2 s plus reaction, a dead node at most 5 s plus reaction.

use std::time::Duration;

use nix::sys::signal::Signal;

/// What the control plane of one node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Serving,
    /// Its process is dead: connections are refused, open ones reset.
    Refusing,
    /// It accepts and never answers.
    Hanging,
    /// Its etcd member has lost the others: requests hang until the API server's own timeout, watches are silent.
    Alone,
}

/// One thing that is done. Where it says "the victim": the node that held the VIP when the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A signal to the victim's agent.
    Signal(Signal),
    /// The victim's agent must have ended with code 0 within this time.
    Ended(Duration),
    /// The victim's agent is started again.
    StartVictim,
    /// All agents get SIGTERM and end.
    StopAll,
    /// All agents are started, together.
    StartAll,
    /// The agent of the node with this number gets SIGTERM, ends, and is started again.
    Restart(u8),
    /// The victim loses its power.
    PowerOff,
    /// The victim's cable is pulled at the switch.
    PullCable,
    /// The victim's port goes silent, its carrier stays.
    Cut,
    /// The victim's port forwards again, and its etcd member has the others again.
    Uncut,
    /// The API servers of all nodes change.
    Api(Health),
    /// The API server of the victim changes.
    VictimApi(Health),
    /// The victim can reach no API server, neither its own nor others; everything else works.
    CutFromApi,
    /// Somebody deletes the VIP, in both families, from the victim.
    RemoveVip,
}

/// Something that a client sees, in both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another node than the victim answers.
    Moved,
    /// Any node answers.
    Answered,
}

/// One step of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The fault; its moment is `Mark::Fault`.
    Fault(Action),
    /// The end of the fault; its moment is `Mark::Heal`.
    Heal(Action),
    /// Something in between.
    Do(Action),
    /// Time passes.
    Pass(Duration),
    /// Wait for what a client sees, at most so long; when it doesn't come the measures will tell.
    Await(Event, Duration),
}

/// A moment of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The fault.
    Fault,
    /// The end of the fault.
    Heal,
    /// The end of the run.
    End,
}

/// What is measured, for both families, and its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The longest time without an answer between two moments.
    Gap(Mark, Mark, Duration),
    /// From a moment to the first answer of another node than the victim.
    Moved(Mark, Duration),
    /// From a moment to the first answer after it.
    Up(Mark, Duration),
    /// From a moment to the last answer before the silence: not sooner than the first bound, not later than the second.
    Gone(Mark, Duration, Duration),
    /// The longest time between two moments in which two nodes answer.
    Overlap(Mark, Mark, Duration),
}

/// Does the agent watch the health of its local API server?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `control_plane_health_check_*` are not set.
    Off,
    /// They are: every second, two failures.
    On,
}

/// Where a row is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// In tests and `lab run all`.
    Suite,
    /// In the demo only.
    Demo,
    /// In both.
    Both,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, for people.
    pub title: &'static str,
    /// Where it is used.
    pub part: Part,
    /// With or without the health gate.
    pub gate: Gate,
    /// What is done.
    pub steps: &'static [Step],
    /// What is measured; the first is the headline.
    pub measures: &'static [Measure],
    /// What kube-vip 1.2.3 reaches (see `figures::SOURCE`).
    pub upstream: &'static str,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Nothing may be lost.
const NOTHING: Duration = Duration::ZERO;
/// "At most one turn" of the agent's loop, seen with the detector's grain of 5 ms.
const ONE_TURN: Duration = ms(10);
/// A fenced address is gone 3 s after the last renewal, the lease 5 s after it, and a take-over takes 300 ms.
const FENCED: Duration = ms(2300);
/// A dead node's lease runs out after 5 s, and a take-over takes 300 ms.
const EXPIRED: Duration = ms(5300);
/// How long the slowest take-over is waited for.
const LIMIT: Duration = s(20);

use Action::{
    Api, Cut, CutFromApi, Ended, PowerOff, PullCable, RemoveVip, Restart, Signal as Send, StartAll,
    StartVictim, StopAll, Uncut, VictimApi,
};
use Event::{Answered, Moved};
use Health::{Hanging, Refusing, Serving};
use Mark::{End, Fault as AtFault, Heal as AtHeal};
use Measure::{Gap, Gone, Moved as UntilMoved, Overlap, Up};
use Step::{Await, Do, Fault, Heal, Pass};

/// An API outage of this length; the VIP goes at the renew deadline, which is what lease mode promises.
macro_rules! api_outage {
    ($how:expr, $length:expr) => {
        &[Fault(Api($how)), Pass($length), Heal(Api(Serving)), Await(Answered, LIMIT), Pass(s(2))]
    };
}

/// The measures of an API outage: gone at the renew deadline of 3 s (counted from the last renewal, which is up to
/// one retry period old, so not sooner than 1.5 s after the fault), and back soon after the API is.
const API_OUTAGE: &[Measure] =
    &[Up(AtHeal, ms(500)), Gone(AtFault, ms(1500), ms(3300)), Overlap(AtFault, End, NOTHING)];

/// All scenarios.
pub const ROWS: &[Row] = &[
    Row {
        name: "first-up",
        title: "first VIP up, lease free",
        part: Part::Suite,
        gate: Gate::Off,
        steps: &[Do(StopAll), Pass(ms(500)), Fault(StartAll), Await(Answered, LIMIT), Pass(s(2))],
        measures: &[Up(AtFault, ms(300)), Overlap(AtFault, End, NOTHING)],
        upstream: "-",
    },
    Row {
        name: "sigterm",
        title: "SIGTERM of the agent",
        part: Part::Both,
        gate: Gate::Off,
        steps: &[Fault(Send(Signal::SIGTERM)), Do(Ended(s(1))), Await(Moved, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, ms(100)), Overlap(AtFault, End, NOTHING)],
        upstream: "70 / 548 / 910",
    },
    Row {
        name: "sigterm-no-api",
        title: "SIGTERM while the API is down",
        part: Part::Suite,
        gate: Gate::Off,
        steps: &[
            Do(Api(Refusing)),
            Pass(ms(500)),
            Fault(Send(Signal::SIGTERM)),
            Do(Ended(s(3))),
            Heal(Api(Serving)),
            Await(Moved, LIMIT),
            Pass(s(1)),
        ],
        measures: &[Gap(AtFault, End, EXPIRED), Overlap(AtFault, End, NOTHING)],
        upstream: "-",
    },
    Row {
        name: "sigkill-back",
        title: "SIGKILL, back within 1 s",
        part: Part::Suite,
        gate: Gate::Off,
        steps: &[Fault(Send(Signal::SIGKILL)), Pass(ms(500)), Heal(StartVictim), Pass(s(6))],
        measures: &[Gap(AtFault, End, NOTHING), Overlap(AtFault, End, NOTHING)],
        upstream: "0",
    },
    Row {
        name: "sigkill",
        title: "SIGKILL for good",
        part: Part::Suite,
        gate: Gate::Off,
        steps: &[Fault(Send(Signal::SIGKILL)), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, FENCED), Overlap(AtFault, End, NOTHING)],
        upstream: "0, both answer for good",
    },
    Row {
        name: "sigstop",
        title: "SIGSTOP for 20 s, and on",
        part: Part::Suite,
        gate: Gate::Off,
        steps: &[Fault(Send(Signal::SIGSTOP)), Pass(s(20)), Heal(Send(Signal::SIGCONT)), Pass(s(3))],
        measures: &[
            Gap(AtFault, AtHeal, FENCED),
            Overlap(AtFault, AtHeal, NOTHING),
            Gap(AtHeal, End, NOTHING),
            Overlap(AtHeal, End, ONE_TURN),
        ],
        upstream: "0, both answer for 11 s",
    },
    Row {
        name: "power-off",
        title: "power-off of the node",
        part: Part::Both,
        gate: Gate::Off,
        steps: &[Fault(PowerOff), Await(Moved, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, EXPIRED), Overlap(AtFault, End, NOTHING)],
        upstream: "5142 / 5640 / 6262",
    },
    Row {
        name: "link-down",
        title: "link down, switch side",
        part: Part::Suite,
        gate: Gate::Off,
        steps: &[Fault(PullCable), Await(Moved, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, EXPIRED), Overlap(AtFault, End, NOTHING)],
        upstream: "5700 / 5878 / 7470",
    },
    Row {
        name: "silent-cut",
        title: "silent cut, healed after 6 s",
        part: Part::Both,
        gate: Gate::Off,
        steps: &[Fault(Cut), Await(Moved, LIMIT), Pass(s(6)), Heal(Uncut), Pass(s(3))],
        measures: &[Gap(AtFault, AtHeal, EXPIRED), Gap(AtHeal, End, ms(20)), Overlap(AtFault, End, NOTHING)],
        upstream: "4756 / 5473 / 11876",
    },
    Row {
        name: "api-refused",
        title: "API refused for 60 s",
        part: Part::Suite,
        gate: Gate::Off,
        steps: api_outage!(Refusing, s(60)),
        measures: API_OUTAGE,
        upstream: "VIP away 53-55 s",
    },
    Row {
        name: "api-hanging",
        title: "API hanging for 60 s",
        part: Part::Suite,
        gate: Gate::Off,
        steps: api_outage!(Hanging, s(60)),
        measures: API_OUTAGE,
        upstream: "VIP away 53-55 s",
    },
    Row {
        name: "api-down",
        title: "API down for 7 s: back after it",
        part: Part::Demo,
        gate: Gate::Off,
        steps: api_outage!(Refusing, s(7)),
        measures: API_OUTAGE,
        upstream: "away 53-55 of 60 s",
    },
    Row {
        name: "api-of-holder",
        title: "API server of the holder dead",
        part: Part::Suite,
        gate: Gate::On,
        steps: &[Fault(VictimApi(Refusing)), Await(Moved, LIMIT), Pass(s(2))],
        // Two failures, one a second, and 300 ms.
        measures: &[UntilMoved(AtFault, ms(2300)), Overlap(AtFault, End, NOTHING)],
        upstream: "2046 / 3473 / 9052",
    },
    Row {
        name: "cut-from-api",
        title: "holder cut from the API only",
        part: Part::Suite,
        gate: Gate::Off,
        steps: &[Fault(CutFromApi), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, FENCED), Overlap(AtFault, End, NOTHING)],
        upstream: "6 / 4384 / 8632, or both",
    },
    Row {
        name: "vip-removed",
        title: "VIP removed by hand",
        part: Part::Both,
        gate: Gate::Off,
        steps: &[Fault(RemoveVip), Await(Answered, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, ms(50)), Overlap(AtFault, End, NOTHING)],
        upstream: "152 / 665 / 796",
    },
    Row {
        name: "rolling-restart",
        title: "rolling restart of all nodes",
        part: Part::Suite,
        gate: Gate::Off,
        steps: &[
            Fault(Restart(1)),
            Pass(s(3)),
            Do(Restart(2)),
            Pass(s(3)),
            Do(Restart(3)),
            Await(Answered, LIMIT),
            Pass(s(1)),
        ],
        measures: &[Gap(AtFault, End, ms(100)), Overlap(AtFault, End, NOTHING)],
        upstream: "-",
    },
];

/// The row of this name.
pub fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// The rows of the suite, in order.
pub fn suite() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| row.part != Part::Demo)
}

/// The rows of the demo, in order.
pub fn demo() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| row.part != Part::Suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_one_fault_and_marks_what_it_measures() {
        for row in ROWS {
            let faults = row.steps.iter().filter(|step| matches!(step, Fault(_))).count();
            let heals = row.steps.iter().filter(|step| matches!(step, Heal(_))).count();
            assert_eq!(faults, 1, "{}", row.name);
            let asks_heal = row.measures.iter().any(|measure| match measure {
                Gap(from, until, _) | Overlap(from, until, _) => [from, until].contains(&&AtHeal),
                UntilMoved(from, _) | Up(from, _) | Gone(from, ..) => *from == AtHeal,
            });
            assert!(!asks_heal || heals == 1, "{}", row.name);
        }
    }

    #[test]
    fn names_are_unique_and_the_demo_shows_five_faults() {
        for row in ROWS {
            assert_eq!(ROWS.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
        }
        assert_eq!(demo().count(), 5);
    }
}
