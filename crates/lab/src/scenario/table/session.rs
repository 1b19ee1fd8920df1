//! The rows of mode `session`, at its default timers (a heartbeat each 50 ms) unless a row says otherwise.
//!
//! Bounds are what users were promised: a dead node costs a fifth of a second, a dead agent the moment in which its
//! address falls silent, and what is neither costs nothing and moves nothing.

use std::time::Duration;

use nix::sys::signal::Signal;
use vip_model::drill::DrillKind;

use super::{
    Action, Deed, Event, Flooded, Gate, Health, LIMIT, Mark, Measure, NOTHING, ONE_TURN, ROW, Row, Step,
    Variables, ms, s,
};
use crate::bench::Networks;

/// What makes a manifest one of this mode.
pub const MODE: Variables = &[("election_mode", "session")];
/// The fast profile.
const FAST: Variables = &[("peers_interval", "10ms")];

/// A planned move is make before break.
const MOVED: Duration = ms(10);
/// How long both may answer in it.
const HANDED: Duration = ms(30);
/// A dead node: three intervals of silence, two looks at its address, votes.
const DEAD: Duration = ms(200);
/// The same at 10 ms.
const DEAD_FAST: Duration = ms(45);
/// The same without an API server, or without etcd's leader.
const DEAD_WITHOUT_API: Duration = ms(300);
/// An address whose agent is dead falls silent at the end of its lifetime.
const FALLEN_SILENT: Duration = ms(100);
/// What the end of a cut may cost; and of one that is shorter than six intervals.
const HEALED: Duration = ms(20);
const HEALED_EARLY: Duration = ms(160);
/// More than a lease: whoever lives by it alone is expired.
const MORE_THAN_A_LEASE: Duration = s(8);

use Action::{
    Api, BlockBeats, BlockBeatsOfVictim, Cut, CutFromApi, CutFromClients, CutFromNodes, Ended, Flood,
    FloodEnds, Operate, PowerOff, PowerOffOther, ProlongVip6, PullCable, RemoveVip, Restart, RestartVictim,
    RestartWith, Signal as Send, StartAll, StartVictim, StopAll, Uncut, Unfilter, VictimApi,
};
use Event::{Answered, Moved};
use Health::{Forbidding, Hanging, Refusing, Serving};
use Mark::{End, Fault as AtFault, Heal as AtHeal};
use Measure::{Gap, Moved as UntilMoved, Overlap, Stays, Up};
use Step::{Await, Do, Fault, Heal, Pass};

/// Nothing moves, nothing is lost, nobody else answers.
const NOTHING_HAPPENS: &[Measure] =
    &[Gap(AtFault, End, NOTHING), Stays(AtFault, End), Overlap(AtFault, End, NOTHING)];

/// A dead node.
const POWER_OFF: &[Step] = &[Fault(PowerOff), Await(Moved, LIMIT), Pass(s(1))];

/// A silent cut of this length, heard from the port's going silent.
macro_rules! short_cut {
    ($length:expr) => {
        // An action is looked at for 20 ms before the next step.
        &[Fault(Cut), Pass(ms($length - 20)), Heal(Uncut), Pass(s(3))]
    };
}

/// What a cut that is shorter than six intervals costs: in all no more than a dead node, and little when it ends.
const SHORT_CUT: &[Measure] =
    &[Gap(AtHeal, End, HEALED_EARLY), Gap(AtFault, End, DEAD), Overlap(AtFault, End, HANDED)];

/// So long after the API went out of order the agent is told to stop.
macro_rules! stopped_without_api {
    ($health:expr, $after:expr) => {
        [
            Do(Api($health)),
            Pass($after),
            Fault(Send(Signal::SIGTERM)),
            Do(Ended(s(3))),
            Await(Moved, LIMIT),
            Pass(s(2)),
            Heal(Api(Serving)),
            Pass(s(3)),
        ]
    };
}

/// A rolling update of all agents, with these variables on top.
macro_rules! change_over {
    ($first:ident, $set:expr) => {
        [
            $first(RestartWith(1, $set)),
            Pass(s(4)),
            Do(RestartWith(2, $set)),
            Pass(s(4)),
            Do(RestartWith(3, $set)),
            Await(Answered, LIMIT),
            Pass(s(4)),
        ]
    };
}

/// One rolling update after the other.
const fn both(first: [Step; 7], then: [Step; 7]) -> [Step; 14] {
    let mut steps = [Pass(Duration::ZERO); 14];
    let mut at = 0;
    while at < 7 {
        steps[at] = first[at];
        steps[at + 7] = then[at];
        at += 1;
    }
    steps
}

/// The gap bound of mode `lease` at a planned move, which is the weaker of both. Nobody takes from the other mode before its
/// owner is gone; only an agent of mode `session` that hands over to another one is make before break.
const TO_SESSION: &[Measure] = &[Gap(AtFault, End, ms(100)), Overlap(AtFault, End, NOTHING)];
const TO_LEASE: &[Measure] = &[Gap(AtFault, End, ms(100)), Overlap(AtFault, End, HANDED)];
const THERE_AND_BACK: &[Measure] =
    &[Gap(AtFault, End, ms(100)), Overlap(AtFault, AtHeal, NOTHING), Overlap(AtHeal, End, HANDED)];
/// Mode `lease`, on top of this mode's variables.
const LEASE: Variables = super::lease::MODE;

/// All scenarios.
pub const ROWS: &[Row] = &[
    Row {
        name: "first-up",
        title: "first VIP up, nothing in the API",
        steps: &[Do(StopAll), Pass(ms(500)), Fault(StartAll), Await(Answered, LIMIT), Pass(s(2))],
        measures: &[Up(AtFault, ms(300)), Overlap(AtFault, End, NOTHING)],
        ..ROW
    },
    Row {
        name: "sigterm",
        title: "SIGTERM of the agent",
        steps: &[Fault(Send(Signal::SIGTERM)), Do(Ended(s(1))), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, MOVED), Overlap(AtFault, End, HANDED)],
        upstream: "70 / 548 / 910",
        ..ROW
    },
    Row {
        name: "sigterm-no-api",
        title: "SIGTERM while the API is down",
        steps: &stopped_without_api!(Refusing, ms(500)),
        measures: &[Gap(AtFault, End, DEAD), Overlap(AtFault, End, HANDED)],
        ..ROW
    },
    Row {
        name: "sigterm-api-hangs",
        title: "SIGTERM as the API stops answering",
        steps: &stopped_without_api!(Hanging, ms(100)),
        measures: &[Gap(AtFault, End, DEAD), Overlap(AtFault, End, HANDED)],
        ..ROW
    },
    Row {
        name: "drain",
        title: "kube-vip drain of the node",
        steps: &[Fault(Operate(Deed::Drain)), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, MOVED), Overlap(AtFault, End, HANDED)],
        ..ROW
    },
    Row {
        name: "handover",
        title: "kube-vip handover control-plane",
        steps: &[Fault(Operate(Deed::HandOver)), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, MOVED), Overlap(AtFault, End, HANDED)],
        ..ROW
    },
    Row {
        name: "drill",
        title: "kube-vip drill control-plane, planned",
        steps: &[Fault(Operate(Deed::Drill(DrillKind::Planned))), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, MOVED), Overlap(AtFault, End, HANDED)],
        ..ROW
    },
    Row {
        name: "drill-crash",
        title: "kube-vip drill control-plane --kind crash",
        steps: &[Fault(Operate(Deed::Drill(DrillKind::Crash))), Await(Moved, LIMIT), Pass(s(4))],
        measures: &[Gap(AtFault, End, DEAD), Overlap(AtFault, End, NOTHING)],
        ..ROW
    },
    Row {
        name: "stay",
        title: "restart with on_stop=stay",
        set: &[("on_stop", "stay")],
        steps: &[Fault(RestartVictim), Pass(s(6))],
        measures: NOTHING_HAPPENS,
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
            Pass(s(2)),
        ],
        measures: &[Gap(AtFault, End, MOVED), Overlap(AtFault, End, HANDED)],
        ..ROW
    },
    Row {
        name: "sigkill-back",
        title: "SIGKILL, back within 1 s",
        steps: &[Fault(Send(Signal::SIGKILL)), Pass(ms(500)), Heal(StartVictim), Pass(s(6))],
        measures: NOTHING_HAPPENS,
        upstream: "0",
        ..ROW
    },
    Row {
        name: "sigkill",
        title: "SIGKILL for good",
        steps: &[Fault(Send(Signal::SIGKILL)), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, FALLEN_SILENT), Overlap(AtFault, End, NOTHING)],
        upstream: "0, both answer for good",
        ..ROW
    },
    Row {
        name: "sigkill-uneven",
        title: "SIGKILL, families fall apart",
        steps: &[Fault(Send(Signal::SIGKILL)), Do(ProlongVip6), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[Gap(AtFault, End, FALLEN_SILENT), Overlap(AtFault, End, NOTHING)],
        ..ROW
    },
    Row {
        name: "sigstop",
        title: "SIGSTOP for 20 s, and on",
        steps: &[Fault(Send(Signal::SIGSTOP)), Pass(s(20)), Heal(Send(Signal::SIGCONT)), Pass(s(3))],
        measures: &[
            Gap(AtFault, AtHeal, FALLEN_SILENT),
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
        steps: POWER_OFF,
        measures: &[Gap(AtFault, End, DEAD), Overlap(AtFault, End, NOTHING)],
        upstream: "5142 / 5640 / 6262",
        ..ROW
    },
    Row {
        name: "power-off-fast",
        title: "power-off, heartbeats each 10 ms",
        set: FAST,
        steps: POWER_OFF,
        measures: &[Gap(AtFault, End, DEAD_FAST), Overlap(AtFault, End, NOTHING)],
        upstream: "5142 / 5640 / 6262",
        ..ROW
    },
    Row {
        name: "power-off-no-api",
        title: "power-off while the API is down",
        steps: &[
            Do(Api(Refusing)),
            Pass(MORE_THAN_A_LEASE),
            Fault(PowerOff),
            Await(Moved, LIMIT),
            Pass(s(3)),
            Heal(Api(Serving)),
            Pass(s(4)),
        ],
        measures: &[
            Gap(AtFault, AtHeal, DEAD_WITHOUT_API),
            Gap(AtHeal, End, NOTHING),
            Overlap(AtFault, End, NOTHING),
        ],
        upstream: "VIP already gone",
        ..ROW
    },
    Row {
        name: "power-off-etcd",
        title: "power-off that takes etcd's leader along",
        steps: &[
            Do(Api(Hanging)),
            Fault(PowerOff),
            Pass(ms(1300)),
            Heal(Api(Serving)),
            Await(Moved, LIMIT),
            Pass(s(2)),
        ],
        measures: &[Gap(AtFault, End, DEAD_WITHOUT_API), Overlap(AtFault, End, NOTHING)],
        upstream: "etcd's election, then the lease",
        ..ROW
    },
    Row {
        name: "link-down",
        title: "link down, switch side",
        steps: &[Fault(PullCable), Await(Moved, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, DEAD), Overlap(AtFault, End, NOTHING)],
        upstream: "5700 / 5878 / 7470",
        ..ROW
    },
    Row {
        name: "cut-100",
        title: "silent cut of 100 ms",
        steps: short_cut!(100),
        measures: SHORT_CUT,
        ..ROW
    },
    Row {
        name: "cut-200",
        title: "silent cut of 200 ms",
        steps: short_cut!(200),
        measures: SHORT_CUT,
        ..ROW
    },
    Row {
        name: "cut-280",
        title: "silent cut of 280 ms",
        steps: short_cut!(280),
        measures: SHORT_CUT,
        ..ROW
    },
    Row {
        name: "silent-cut",
        title: "silent cut, healed after 8 s",
        steps: &[Fault(Cut), Await(Moved, LIMIT), Pass(MORE_THAN_A_LEASE), Heal(Uncut), Pass(s(3))],
        measures: &[
            Gap(AtFault, AtHeal, DEAD),
            Gap(AtHeal, End, HEALED),
            Overlap(AtFault, AtHeal, NOTHING),
            Overlap(AtHeal, End, HANDED),
        ],
        upstream: "4756 / 5473 / 11876",
        ..ROW
    },
    Row {
        name: "clients-cut",
        title: "the VIP's network cut, node network fine",
        networks: Networks::Two,
        steps: &[Fault(CutFromClients), Await(Moved, LIMIT), Pass(s(3)), Heal(Uncut), Pass(s(3))],
        measures: &[
            Gap(AtFault, AtHeal, s(2)),
            Gap(AtHeal, End, HEALED),
            Overlap(AtFault, AtHeal, NOTHING),
            Overlap(AtHeal, End, HANDED),
        ],
        upstream: "never noticed",
        ..ROW
    },
    Row {
        name: "nodes-cut",
        title: "the node network cut, the VIP's fine, 8 s",
        networks: Networks::Two,
        steps: &[Fault(CutFromNodes), Pass(MORE_THAN_A_LEASE), Heal(Uncut), Pass(s(4))],
        measures: NOTHING_HAPPENS,
        ..ROW
    },
    Row {
        name: "beats-of-holder",
        title: "heartbeats of the holder blocked for 8 s",
        steps: &[Fault(BlockBeatsOfVictim), Pass(MORE_THAN_A_LEASE), Heal(Unfilter), Pass(s(3))],
        measures: NOTHING_HAPPENS,
        ..ROW
    },
    Row {
        name: "beats",
        title: "all heartbeats blocked for 8 s",
        steps: &[Fault(BlockBeats), Pass(MORE_THAN_A_LEASE), Heal(Unfilter), Pass(s(3))],
        measures: NOTHING_HAPPENS,
        ..ROW
    },
    Row {
        name: "flood",
        title: "50,000 forged heartbeats/s at the holder, 10 s",
        steps: &[Fault(Flood(Flooded::Victim, s(10))), Pass(s(10)), Do(FloodEnds), Pass(s(2))],
        measures: NOTHING_HAPPENS,
        ..ROW
    },
    Row {
        name: "flood-power-off",
        title: "the same at a juror, and power-off",
        steps: &[
            Do(Flood(Flooded::Another, s(8))),
            Pass(s(3)),
            Fault(PowerOff),
            Await(Moved, LIMIT),
            Pass(s(2)),
            Do(FloodEnds),
        ],
        measures: &[Gap(AtFault, End, DEAD), Overlap(AtFault, End, NOTHING)],
        ..ROW
    },
    Row {
        name: "cut-from-api",
        title: "holder cut from the API only, 8 s",
        steps: &[Fault(CutFromApi), Pass(MORE_THAN_A_LEASE), Heal(Uncut), Do(Unfilter), Pass(s(4))],
        measures: NOTHING_HAPPENS,
        upstream: "6 / 4384 / 8632, or both",
        ..ROW
    },
    Row {
        name: "api-away",
        title: "API refuses everybody for 8 s, and is back",
        steps: &[Fault(Api(Refusing)), Pass(MORE_THAN_A_LEASE), Heal(Api(Serving)), Pass(s(4))],
        measures: NOTHING_HAPPENS,
        upstream: "VIP away 53-55 of 60 s",
        ..ROW
    },
    Row {
        name: "api-outage",
        title: "API refuses, hangs, answers 403: 60 s",
        steps: &[
            Fault(Api(Refusing)),
            Pass(s(20)),
            Do(Api(Hanging)),
            Pass(s(20)),
            Do(Api(Forbidding)),
            Pass(s(20)),
            Heal(Api(Serving)),
            Pass(s(5)),
        ],
        measures: NOTHING_HAPPENS,
        upstream: "VIP away 53-55 s",
        ..ROW
    },
    Row {
        name: "api-outage-other-dies",
        title: "the same, and a non-holder loses power",
        steps: &[
            Fault(Api(Hanging)),
            Pass(s(20)),
            Do(PowerOffOther),
            Pass(s(5)),
            Do(Api(Refusing)),
            Pass(s(15)),
            Do(Api(Forbidding)),
            Pass(s(20)),
            Heal(Api(Serving)),
            Pass(s(5)),
        ],
        measures: NOTHING_HAPPENS,
        upstream: "VIP away 53-55 s",
        ..ROW
    },
    Row {
        name: "api-of-holder",
        title: "API server of the holder dead",
        gate: Gate::On,
        // Every second, and one failure is enough.
        set: &[("control_plane_health_check_failure_threshold", "1")],
        steps: &[Fault(VictimApi(Refusing)), Await(Moved, LIMIT), Pass(s(2))],
        measures: &[UntilMoved(AtFault, s(1)), Gap(AtFault, End, MOVED), Overlap(AtFault, End, HANDED)],
        upstream: "2046 / 3473 / 9052",
        ..ROW
    },
    Row {
        name: "vip-removed",
        title: "VIP removed by hand",
        steps: &[Fault(RemoveVip), Await(Answered, LIMIT), Pass(s(1))],
        measures: &[Gap(AtFault, End, ms(50)), Stays(AtFault, End), Overlap(AtFault, End, NOTHING)],
        upstream: "152 / 665 / 796",
        ..ROW
    },
    Row {
        name: "lease-to-session",
        title: "rolling update from mode lease",
        set: LEASE,
        steps: &change_over!(Fault, MODE),
        measures: TO_SESSION,
        ..ROW
    },
    Row {
        name: "session-to-lease",
        title: "rolling update to mode lease",
        steps: &change_over!(Fault, LEASE),
        measures: TO_LEASE,
        ..ROW
    },
    Row {
        name: "there-and-back",
        title: "rolling updates from mode lease and back",
        set: LEASE,
        steps: &both(change_over!(Fault, MODE), change_over!(Heal, LEASE)),
        measures: THERE_AND_BACK,
        ..ROW
    },
];
