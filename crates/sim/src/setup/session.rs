//! What a world of the mode `session` is made of beside the rest: heartbeats, lifetimes, policies, who starts in which
//! mode, and whether agents find again what they left. Drawn from a seed or written by a person.

use std::time::Duration;

use vip_model::Random;
use vip_model::config::{ApiLoss, ElectionMode, Failback, LeaseTimings, OnStop, PeerMode, SessionSettings};

use super::{
    AgentSetup, Endpoints, GateSetup, NodeLabel, Probing, Setup, draw_drift, draw_vips, past, pick, timings,
    v4_vip,
};

/// Timings that are drawn from, in milliseconds.
const TIMINGS: [(u64, u64, u64); 3] = [(5000, 3000, 1000), (5000, 3000, 1000), (15_000, 10_000, 2000)];

/// The UDP port for heartbeats.
pub const PEERS_PORT: u16 = 7412;

/// A world of the mode `session`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSetup {
    /// Time between two heartbeats; none when they are off.
    pub interval: Option<Duration>,
    /// Lifetime of control-plane addresses.
    pub control_plane_lifetime: Duration,
    /// Lifetime of Service addresses.
    pub service_lifetime: Duration,
    /// `api_loss`.
    pub api_loss: ApiLoss,
    /// `failback`.
    pub failback: Failback,
    /// `on_stop`.
    pub on_stop: OnStop,
    /// Nodes that begin in mode `lease`, one bit each.
    pub in_lease_mode: u64,
    /// Whether agents find again what they left.
    pub memory: MemorySetup,
    /// How many sessions each node has ended before this world begins.
    pub ended_sessions: usize,
}

/// Whether agents find again what they left under /run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemorySetup {
    /// They do, until the node boots.
    Kept,
    /// It can never be read.
    Unreadable,
}

/// In which mode an agent is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeSetup {
    /// `lease`.
    Lease,
    /// `session`.
    Session,
}

impl SessionSetup {
    /// Default timers: heartbeats every 50 ms, addresses that live 3 s and 8 s.
    pub fn plain() -> Self {
        Self {
            interval: Some(Duration::from_millis(50)),
            control_plane_lifetime: Duration::from_secs(3),
            service_lifetime: Duration::from_secs(8),
            api_loss: ApiLoss::HoldIfPeersAgree,
            failback: Failback::Never,
            on_stop: OnStop::HandOver,
            in_lease_mode: 0,
            memory: MemorySetup::Kept,
            ended_sessions: 0,
        }
    }

    /// The heartbeat interval; that of the default timers when there are none.
    pub fn beat(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_millis(50))
    }

    /// The mode in which the agents of a node begin.
    pub fn mode_of(&self, node: usize) -> ModeSetup {
        if self.in_lease_mode & (1 << node) == 0 { ModeSetup::Session } else { ModeSetup::Lease }
    }

    /// What an agent is configured with.
    pub fn election_mode(&self, mode: ModeSetup, timings: LeaseTimings) -> ElectionMode {
        if mode == ModeSetup::Lease {
            return ElectionMode::Lease;
        }
        ElectionMode::Session(SessionSettings {
            namespace: "kube-system".to_owned(),
            timings,
            peers: match self.interval {
                None => PeerMode::Off,
                Some(interval) => PeerMode::On { port: PEERS_PORT, interval },
            },
            control_plane_lifetime: self.control_plane_lifetime,
            service_lifetime: self.service_lifetime,
            api_loss: self.api_loss,
            failback: self.failback,
            move_pause: Duration::from_millis(500),
            on_stop: self.on_stop,
        })
    }
}

impl Setup {
    /// A world of the mode `session` drawn from `seed`, with so many nodes; drawn, too, when none are given.
    pub fn draw_session(seed: u64, nodes: Option<usize>) -> Self {
        let mut dice = Random::new(seed ^ 0x5e55_1011);
        let count = nodes.unwrap_or_else(|| [2, 2, 3, 3, 3, 3, 3, 5, 5, 1][pick(&mut dice, 10)]);
        let drifts = (0..count).map(|_| draw_drift(&mut dice)).collect();
        let (duration, deadline, retry) = TIMINGS[pick(&mut dice, TIMINGS.len())];
        let mut setup = Self { drifts, timings: timings(duration, deadline, retry), ..Self::plain(seed) };
        setup.agents[0].vips = draw_vips(&mut dice);
        if dice.chance(0.08) {
            setup.agents.push(AgentSetup::control_plane("second", vec![v4_vip(7, 32)]));
        }
        setup.gate = if dice.chance(0.3) { GateSetup::On } else { GateSetup::Off };
        setup.node_label = if dice.chance(0.3) { NodeLabel::HasIp } else { NodeLabel::Off };
        setup.probing = if dice.chance(0.15) { Probing::Skipped } else { Probing::On };
        setup.endpoints = if dice.chance(0.75) { Endpoints::All } else { Endpoints::Own };
        let mut session = SessionSetup::plain();
        session.interval = match dice.below(40) {
            0 => None,
            1..=6 => Some(Duration::from_millis(10)),
            7..=10 => Some(Duration::from_millis(100)),
            _ => Some(Duration::from_millis(50)),
        };
        session.api_loss = if dice.chance(0.08) { ApiLoss::Release } else { ApiLoss::HoldIfPeersAgree };
        session.on_stop = if dice.chance(0.25) { OnStop::Stay } else { OnStop::HandOver };
        session.memory = if dice.chance(0.1) { MemorySetup::Unreadable } else { MemorySetup::Kept };
        session.ended_sessions = past::draw(seed);
        setup.session = Some(session);
        setup
    }
}
