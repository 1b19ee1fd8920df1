//! The tables of scenarios: name, timeline, what is measured, its bound, and what kube-vip 1.2.3 reaches on such a bench.
//! Pure data; `play` executes it. All faults hit the *victim*, the node that holds the VIP when the run begins. `lease` and
//! `session` have the rows of the two election modes, `keepalived` those that its daemons play.

pub mod keepalived;
pub mod lease;
pub mod session;

use std::time::Duration;

use nix::sys::signal::Signal;
use vip_model::drill::DrillKind;

use crate::bench::Networks;

/// Variables of the agents' manifest, as somebody who edits it would set them.
pub type Variables = &'static [(&'static str, &'static str)];

/// An election mode, or the daemons of keepalived: whose rows these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// `election_mode=lease`.
    Lease,
    /// `election_mode=session`, which an agent has that is told nothing.
    #[default]
    Session,
}

impl Mode {
    /// Its rows.
    pub const fn rows(self) -> &'static [Row] {
        match self {
            Self::Lease => lease::ROWS,
            Self::Session => session::ROWS,
        }
    }

    /// What selects it in a manifest.
    pub const fn variables(self) -> Variables {
        match self {
            Self::Lease => lease::MODE,
            Self::Session => session::MODE,
        }
    }
}

/// What the control plane of one node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Serving,
    /// Its process is dead: connections are refused, open ones reset.
    Refusing,
    /// It accepts and never answers.
    Hanging,
    /// It refuses every request with 403.
    Forbidding,
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
    /// The agent of the node with this number gets SIGTERM, ends, and is started with these variables on top.
    RestartWith(u8, Variables),
    /// The victim's agent gets SIGTERM, ends, and is started again.
    RestartVictim,
    /// The victim loses its power.
    PowerOff,
    /// Another node, which does not hold the VIP, loses its power.
    PowerOffOther,
    /// The victim's cable is pulled at the switch.
    PullCable,
    /// The victim's port goes silent, its carrier stays.
    Cut,
    /// The victim's ports forward again, and its etcd member has the others again.
    Uncut,
    /// The victim's port on the network of clients goes silent; the network for nodes is fine.
    CutFromClients,
    /// The victim's port on the network for nodes goes silent; the network of clients is fine.
    CutFromNodes,
    /// No heartbeat comes from or to the victim.
    BlockBeatsOfVictim,
    /// No heartbeat goes anywhere.
    BlockBeats,
    /// What was filtered passes again.
    Unfilter,
    /// The API servers of all nodes change.
    Api(Health),
    /// The API server of the victim changes.
    VictimApi(Health),
    /// The victim can reach no API server, neither its own nor others; everything else works.
    CutFromApi,
    /// Somebody deletes the VIP, in both families, from the victim.
    RemoveVip,
    /// The victim's kernel keeps the IPv6 VIP for six seconds from now on, whatever it was told before: longer than the other.
    ProlongVip6,
    /// Forged and replayed heartbeats are sent to the victim, or to another node, for at most so long.
    Flood(Flooded, Duration),
    /// That ends; what it cost is said.
    FloodEnds,
    /// An operator moves the VIP with the program's own commands.
    Operate(Deed),
}

/// Whom a flood is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flooded {
    /// The victim, which holds the VIP.
    Victim,
    /// A juror of it.
    Another,
}

/// What an operator does; the commands run on another node than the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// `kube-vip drain` of the victim.
    Drain,
    /// `kube-vip handover control-plane`.
    HandOver,
    /// `kube-vip drill control-plane`, of this kind; both others must have seen what it cost.
    Drill(DrillKind),
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
    /// Nobody but the victim answers between two moments.
    Stays(Mark, Mark),
}

/// Does the agent watch the health of its local API server?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// `control_plane_health_check_*` are not set.
    #[default]
    Off,
    /// They are: every second, two failures.
    On,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, for people.
    pub title: &'static str,
    /// With or without the health gate.
    pub gate: Gate,
    /// On which networks.
    pub networks: Networks,
    /// Variables of the agents beside those of the mode.
    pub set: Variables,
    /// What is done.
    pub steps: &'static [Step],
    /// What is measured; the first is the headline.
    pub measures: &'static [Measure],
    /// What kube-vip 1.2.3 reaches (see `figures::SOURCE`).
    pub upstream: &'static str,
}

/// What rows say when they say nothing else.
const ROW: Row = Row {
    name: "",
    title: "",
    gate: Gate::Off,
    networks: Networks::One,
    set: &[],
    steps: &[],
    measures: &[],
    upstream: "-",
};

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
/// How long the slowest take-over is waited for.
const LIMIT: Duration = s(20);
/// No bound: the figure is for comparison.
pub const UNBOUND: Duration = Duration::MAX;

/// The row of this name in mode `lease`.
pub fn row(name: &str) -> Option<&'static Row> {
    Mode::Lease.row(name)
}

/// How agents are set up for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// With or without the health gate.
    pub gate: Gate,
    /// Variables beside those of the manifest.
    pub set: Variables,
}

impl Row {
    /// How its agents are set up.
    pub const fn setup(&self) -> Setup {
        Setup { gate: self.gate, set: self.set }
    }
}

impl Mode {
    /// The row of this name.
    pub fn row(self, name: &str) -> Option<&'static Row> {
        self.rows().iter().find(|row| row.name == name)
    }
}

/// The faults of the demo, in order.
pub const DEMO: [&str; 5] = ["sigterm", "power-off", "silent-cut", "api-away", "vip-removed"];

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Row> {
        [lease::ROWS, session::ROWS, keepalived::ROWS].into_iter().flatten()
    }

    #[test]
    fn every_row_has_one_fault_and_marks_what_it_measures() {
        for row in all() {
            let faults = row.steps.iter().filter(|step| matches!(step, Step::Fault(_))).count();
            let heals = row.steps.iter().filter(|step| matches!(step, Step::Heal(_))).count();
            assert_eq!(faults, 1, "{}", row.name);
            let asks_heal = row.measures.iter().any(|measure| match measure {
                Measure::Gap(from, until, _)
                | Measure::Overlap(from, until, _)
                | Measure::Stays(from, until) => [from, until].contains(&&Mark::Heal),
                Measure::Moved(from, _) | Measure::Up(from, _) | Measure::Gone(from, ..) => {
                    *from == Mark::Heal
                }
            });
            assert!(!asks_heal || heals == 1, "{}", row.name);
        }
    }

    #[test]
    fn names_are_unique_in_each_mode_and_the_demo_shows_rows() {
        for rows in [lease::ROWS, session::ROWS, keepalived::ROWS] {
            for row in rows {
                assert_eq!(rows.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
            }
        }
        for name in DEMO {
            assert!(Mode::default().row(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_filtered_or_cut_from_one_network_needs_the_rows_network() {
        let needs_two = |step: &&Step| {
            let (Step::Fault(action) | Step::Heal(action) | Step::Do(action)) = step else { return false };
            matches!(action, Action::CutFromClients | Action::CutFromNodes)
        };
        for row in all() {
            assert_eq!(
                row.steps.iter().any(|step| needs_two(&step)),
                row.networks == Networks::Two,
                "{}",
                row.name
            );
        }
    }
}
