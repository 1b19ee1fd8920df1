//! The rows of mode `lease`.
//!
//! Lease timings are 5/3/1 s everywhere, so most bounds follow from them: a lease runs out 5 s after its last renewal, an
//! address 3 s after it (the fence), so a dead agent costs at most 2 s plus reaction, a dead node at most 5 s plus reaction.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    Action, Event, Gate, Health, LIMIT, Mark, Measure, NOTHING, ONE_TURN, ROW, Row, Step, Variables, ms, s,
};

/// What makes a manifest one of this mode.
pub const MODE: Variables = &[("election_mode", "lease")];

/// A fenced address is gone 3 s after the last renewal, the lease 5 s after it, and a take-over takes 300 ms.
const FENCED: Duration = ms(2300);
/// A dead node's lease runs out after 5 s, and a take-over takes 300 ms.
const EXPIRED: Duration = ms(5300);
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
        steps: &[Do(StopAll), Pass(ms(500)), Fault(StartAll), Await(Answered, LIMIT), Pass(s(2))],
        measures: &[Up(AtFault, ms(300)), Overlap(AtFault, End, NOTHING)],
        ..ROW
    },
    Row {
        name: "sigterm",
        title: "SIGTERM of the agent",
        steps: &[Fault(Send(Signal::SIGTERM)), Do(Ended(s(1))), Await(Moved, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, ms(100)), Overlap(AtFault, End, NOTHING)],
        upstream: "70 / 548 / 910",
        ..ROW
    },
    Row {
        name: "sigterm-no-api",
        title: "SIGTERM while the API is down",
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
        ..ROW
    },
    Row {
        name: "sigkill-back",
        title: "SIGKILL, back within 1 s",
        steps: &[Fault(Send(Signal::SIGKILL)), Pass(ms(500)), Heal(StartVictim), Pass(s(6))],
        measures: &[Gap(AtFault, End, NOTHING), Overlap(AtFault, End, NOTHING)],
        upstream: "0",
        ..ROW
    },
    Row {
        name: "sigkill",
        title: "SIGKILL for good",
        steps: &[Fault(Send(Signal::SIGKILL)), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, FENCED), Overlap(AtFault, End, NOTHING)],
        upstream: "0, both answer for good",
        ..ROW
    },
    Row {
        name: "sigstop",
        title: "SIGSTOP for 20 s, and on",
        steps: &[Fault(Send(Signal::SIGSTOP)), Pass(s(20)), Heal(Send(Signal::SIGCONT)), Pass(s(3))],
        measures: &[
            Gap(AtFault, AtHeal, FENCED),
            Overlap(AtFault, AtHeal, NOTHING),
            Gap(AtHeal, End, NOTHING),
            Overlap(AtHeal, End, ONE_TURN),
        ],
        upstream: "0, both answer for 11 s",
        ..ROW
    },
    Row {
        name: "power-off",
        title: "power-off of the node",
        steps: &[Fault(PowerOff), Await(Moved, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, EXPIRED), Overlap(AtFault, End, NOTHING)],
        upstream: "5142 / 5640 / 6262",
        ..ROW
    },
    Row {
        name: "link-down",
        title: "link down, switch side",
        steps: &[Fault(PullCable), Await(Moved, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, EXPIRED), Overlap(AtFault, End, NOTHING)],
        upstream: "5700 / 5878 / 7470",
        ..ROW
    },
    Row {
        name: "silent-cut",
        title: "silent cut, healed after 6 s",
        steps: &[Fault(Cut), Await(Moved, LIMIT), Pass(s(6)), Heal(Uncut), Pass(s(3))],
        measures: &[Gap(AtFault, AtHeal, EXPIRED), Gap(AtHeal, End, ms(20)), Overlap(AtFault, End, NOTHING)],
        upstream: "4756 / 5473 / 11876",
        ..ROW
    },
    Row {
        name: "api-refused",
        title: "API refused for 60 s",
        steps: api_outage!(Refusing, s(60)),
        measures: API_OUTAGE,
        upstream: "VIP away 53-55 s",
        ..ROW
    },
    Row {
        name: "api-hanging",
        title: "API hanging for 60 s",
        steps: api_outage!(Hanging, s(60)),
        measures: API_OUTAGE,
        upstream: "VIP away 53-55 s",
        ..ROW
    },
    Row {
        name: "api-of-holder",
        title: "API server of the holder dead",
        gate: Gate::On,
        steps: &[Fault(VictimApi(Refusing)), Await(Moved, LIMIT), Pass(s(2))],
        // Two failures, one a second, and 300 ms.
        measures: &[UntilMoved(AtFault, ms(2300)), Overlap(AtFault, End, NOTHING)],
        upstream: "2046 / 3473 / 9052",
        ..ROW
    },
    Row {
        name: "cut-from-api",
        title: "holder cut from the API only",
        steps: &[Fault(CutFromApi), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, FENCED), Overlap(AtFault, End, NOTHING)],
        upstream: "6 / 4384 / 8632, or both",
        ..ROW
    },
    Row {
        name: "vip-removed",
        title: "VIP removed by hand",
        steps: &[Fault(RemoveVip), Await(Answered, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, ms(50)), Overlap(AtFault, End, NOTHING)],
        upstream: "152 / 665 / 796",
        ..ROW
    },
    Row {
        name: "rolling-restart",
        title: "rolling restart of all nodes",
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
        ..ROW
    },
];
