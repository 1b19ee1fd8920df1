//! The rows that keepalived plays, and kube-vip beside it at the same intervals. Nothing is promised here: the figures are
//! for comparison, on one bench in one run.

use super::{Action, Event, Mark, Measure, ROW, Row, Step, UNBOUND, Variables, ms, s};

use Action::{Cut, PowerOff, Uncut};
use Event::{Answered, Moved};
use Mark::{End, Fault as AtFault, Heal as AtHeal};
use Measure::{Gap, Overlap};
use Step::{Await, Fault, Heal, Pass};

/// How long a take-over is waited for.
const LIMIT: std::time::Duration = s(12);

/// An interval between two signs of life: of VRRP adverts, and of heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// What the table calls it.
    pub name: &'static str,
    /// `advert_int` of keepalived, in seconds.
    pub advert: &'static str,
    /// Variables of kube-vip.
    pub set: Variables,
    /// How long a newly started trio needs until everybody knows everybody.
    pub settled: std::time::Duration,
}

/// All intervals, the longest first.
pub const INTERVALS: [Interval; 3] = [
    Interval {
        name: "1 s",
        advert: "1",
        set: &[("election_mode", "session"), ("peers_interval", "1s")],
        settled: s(5),
    },
    Interval {
        name: "100 ms",
        advert: "0.1",
        set: &[("election_mode", "session"), ("peers_interval", "100ms")],
        settled: s(2),
    },
    Interval {
        name: "10 ms",
        advert: "0.01",
        set: &[("election_mode", "session"), ("peers_interval", "10ms")],
        settled: ms(1500),
    },
];

/// What is played at each interval.
pub const ROWS: &[Row] = &[
    Row {
        name: "power-off",
        title: "power-off of the node",
        steps: &[Fault(PowerOff), Await(Moved, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, UNBOUND), Overlap(AtFault, End, UNBOUND)],
        ..ROW
    },
    Row {
        name: "silent-cut",
        title: "silent cut, healed after 6 s",
        steps: &[
            Fault(Cut),
            Await(Moved, LIMIT),
            Pass(s(6)),
            Heal(Uncut),
            Pass(s(5)),
            Await(Answered, LIMIT),
            Pass(ms(500)),
        ],
        measures: &[
            Gap(AtFault, AtHeal, UNBOUND),
            Gap(AtHeal, End, UNBOUND),
            Overlap(AtFault, AtHeal, UNBOUND),
            Overlap(AtHeal, End, UNBOUND),
        ],
        ..ROW
    },
];
