//! What a world is made of before anything goes wrong: nodes, clocks, timings, VIPs, agents. Drawn from a seed, or
//! written by a person in a seed file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use vip_model::config::{
    Advertise, Config, ControlPlane, Election, ElectionMode, HealthCheck, InterfaceChoice, Layer2,
    LeaseTimings, LinkDown, NodeLabel, OnLoss, Preference, Scope,
};
use vip_model::{InstanceName, LeaseName, NodeName, Random, VipNet};

use crate::clock::Drift;

mod past;
mod services;
mod session;

pub use past::session_leases;
pub use services::{
    CLASS, CommonLease, Election as ServicesElection, EventRights, ServicesSetup, Switch, Writes,
};
pub use session::{MemorySetup, ModeSetup, PEERS_PORT, SessionSetup};

/// At most this many nodes in a world.
pub const MAX_NODES: usize = 50;

/// A world before anything goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Feeds every die of this world.
    pub seed: u64,
    /// How fast each node's clock runs; one per node.
    pub drifts: Vec<Drift>,
    /// Timings of the Leases, the same on all nodes.
    pub timings: LeaseTimings,
    /// The agents on every node: each with its instance name, its VIPs and whether it looks after Services.
    pub agents: Vec<AgentSetup>,
    /// Whether the health gate is configured.
    pub gate: GateSetup,
    /// Which link is configured.
    pub interface: InterfaceChoice,
    /// `vip_allow_interface_not_up`.
    pub link_down: LinkDown,
    /// `vip_preserve_on_leadership_loss`.
    pub on_loss: OnLoss,
    /// Whether Nodes are labelled.
    pub node_label: NodeLabel,
    /// Whether conflicts are probed for.
    pub probing: Probing,
    /// Which API servers a node can use.
    pub endpoints: Endpoints,
    /// What the kernel does with secondary addresses when their primary goes.
    pub secondaries: Secondaries,
    /// What the mode `session` needs; none in worlds of the mode `lease`.
    pub session: Option<SessionSetup>,
    /// Nodes that are preferred, one bit each.
    pub preferred: u64,
}

/// One agent, the same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSetup {
    /// Instance and Lease name.
    pub name: String,
    /// Its control-plane VIPs; none when it looks after Services alone.
    pub vips: Vec<VipNet>,
    /// How it looks after Services, if it does. At most one agent of a node does.
    pub services: Option<ServicesSetup>,
}

impl AgentSetup {
    /// An agent that holds control-plane VIPs and nothing else.
    pub fn control_plane(name: &str, vips: Vec<VipNet>) -> Self {
        Self { name: name.to_owned(), vips, services: None }
    }
}

/// Whether the health gate is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateSetup {
    /// No health check.
    Off,
    /// Every 2 s, 1 s timeout, 2 failures.
    On,
}

/// Whether an agent looks for somebody else who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// It does.
    On,
    /// `vip_skipdad`.
    Skipped,
}

/// Which API servers a node can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// The one of its own.
    Own,
    /// Its own, and the others when that one refuses.
    All,
}

/// `net.ipv4.conf.*.promote_secondaries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secondaries {
    /// They go with their primary.
    Go,
    /// The first of them becomes the primary.
    Promoted,
}

/// Timings that are drawn from: seconds ×1000 of duration, renew deadline, retry period.
const TIMINGS: &[(u64, u64, u64)] =
    &[(5000, 3000, 1000), (5000, 3000, 1000), (15_000, 10_000, 2000), (4000, 3000, 1000), (3000, 2000, 500)];

/// Timings in milliseconds.
pub(crate) fn timings(duration: u64, deadline: u64, retry: u64) -> LeaseTimings {
    LeaseTimings {
        duration: Duration::from_millis(duration),
        renew_deadline: Duration::from_millis(deadline),
        retry_period: Duration::from_millis(retry),
    }
}

impl Setup {
    /// Three nodes, 5/3/1 s, one agent with one IPv4 VIP, exact clocks: what a person starts from.
    pub fn plain(seed: u64) -> Self {
        Self {
            seed,
            drifts: vec![Drift(0); 3],
            timings: timings(5000, 3000, 1000),
            agents: vec![AgentSetup::control_plane("control-plane", vec![v4_vip(0, 32)])],
            gate: GateSetup::Off,
            interface: InterfaceChoice::Named(VIP_LINK.to_owned()),
            link_down: LinkDown::Yield,
            on_loss: OnLoss::Remove,
            node_label: NodeLabel::HasIp,
            probing: Probing::On,
            endpoints: Endpoints::Own,
            secondaries: Secondaries::Promoted,
            session: None,
            preferred: 0,
        }
    }

    /// A world drawn from `seed`.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Random::new(seed ^ 0x5e7_0b5e_7000);
        let count = [1, 2, 3, 3, 3, 3, 3, 3, 4, 5][pick(&mut dice, 10)];
        let drifts = (0..count).map(|_| draw_drift(&mut dice)).collect();
        let (duration, deadline, retry) = TIMINGS[pick(&mut dice, TIMINGS.len())];
        let mut agents = vec![AgentSetup::control_plane("control-plane", draw_vips(&mut dice))];
        if dice.chance(0.15) {
            agents.push(AgentSetup::control_plane("second", vec![v4_vip(7, 32)]));
        }
        draw_services(seed, &mut agents);
        Self {
            seed,
            drifts,
            timings: timings(duration, deadline, retry),
            agents,
            gate: if dice.chance(0.4) { GateSetup::On } else { GateSetup::Off },
            interface: match dice.below(20) {
                0 => InterfaceChoice::Named("lo".to_owned()),
                1..=4 => InterfaceChoice::Auto,
                _ => InterfaceChoice::Named(VIP_LINK.to_owned()),
            },
            link_down: if dice.chance(0.1) { LinkDown::Ignore } else { LinkDown::Yield },
            on_loss: if count == 1 && dice.chance(0.2) { OnLoss::Preserve } else { OnLoss::Remove },
            node_label: if dice.chance(0.5) { NodeLabel::HasIp } else { NodeLabel::Off },
            probing: if dice.chance(0.2) { Probing::Skipped } else { Probing::On },
            endpoints: if dice.chance(0.5) { Endpoints::All } else { Endpoints::Own },
            secondaries: if dice.chance(0.2) { Secondaries::Go } else { Secondaries::Promoted },
            session: None,
            preferred: 0,
        }
    }

    /// Whether VIPs are on a link that is announced on and probed on.
    pub fn announces(&self) -> bool {
        self.interface != InterfaceChoice::Named("lo".to_owned())
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.drifts.len()
    }

    /// All VIPs with the number of the agent that they belong to, in a fixed order.
    pub fn vips(&self) -> Vec<(usize, VipNet)> {
        let of = |(number, agent): (usize, &AgentSetup)| {
            agent.vips.iter().map(|vip| (number, *vip)).collect::<Vec<_>>()
        };
        self.agents.iter().enumerate().flat_map(of).collect()
    }

    /// The configuration of agent number `agent` on node number `node`.
    pub fn config(&self, node: usize, agent: usize) -> Config {
        let health = (self.gate == GateSetup::On).then(|| HealthCheck {
            url: "https://127.0.0.1:6443/readyz".to_owned(),
            period: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            failure_threshold: 2,
            ca_path: None,
        });
        Config {
            node: node_name(node),
            instance: InstanceName::new(self.agents[agent].name.clone()),
            advertise: Advertise::Arp(Layer2 {
                announce_interval: Duration::from_secs(3),
                skip_conflict_probe: self.probing == Probing::Skipped,
            }),
            services: self.agents[agent].services.as_ref().map(|services| services.config(self, agent)),
            election_mode: self.election_mode(node),
            preferred: self.preferred(),
            control_plane: self.agents[agent].vips.first().map(|_| ControlPlane {
                vips: self.agents[agent].vips.clone(),
                port: API_PORT,
                interface: self.interface.clone(),
                link_down: self.link_down,
                loopback_scope: Scope::Host,
                election: self.election(self.lease(agent)),
                on_loss: self.on_loss,
                health,
                // Two agents of one node would fight about one label.
                node_label: if agent == 0 { self.node_label } else { NodeLabel::Off },
            }),
        }
    }

    /// Nodes are told apart by a label with their name.
    fn preferred(&self) -> Vec<Preference> {
        let is_preferred = |node: &usize| self.preferred & (1 << node) != 0;
        let wish = |node| Preference {
            label: NAME_LABEL.to_owned(),
            value: Some(node_name(node).to_string()),
            weight: 10,
        };
        (0..self.nodes()).filter(is_preferred).map(wish).collect()
    }

    fn election_mode(&self, node: usize) -> ElectionMode {
        let Some(session) = &self.session else { return ElectionMode::Lease };
        session.election_mode(session.mode_of(node), self.timings)
    }

    fn election(&self, lease: LeaseName) -> Election {
        Election { lease, annotations: BTreeMap::new(), timings: self.timings }
    }

    /// The agent that looks after Services, with how it does.
    pub fn services(&self) -> Option<(usize, &ServicesSetup)> {
        let with = |(number, agent): (usize, &'_ AgentSetup)| agent.services.as_ref().map(|_| number);
        let number = self.agents.iter().enumerate().find_map(with)?;
        Some((number, self.agents[number].services.as_ref()?))
    }

    /// The control plane's Lease of agent number `agent`.
    pub fn lease(&self, agent: usize) -> LeaseName {
        LeaseName::new("kube-system", self.agents[agent].name.clone())
    }
}

/// The port of the API server.
pub const API_PORT: u16 = 6443;

/// The label by which nodes are told apart.
pub const NAME_LABEL: &str = "name";
/// The link that carries VIPs.
pub const VIP_LINK: &str = "eth0";

/// The name of node number `node`.
pub fn node_name(node: usize) -> NodeName {
    NodeName::new(&format!("n{}", node + 1))
}

/// The number of the node with this name.
pub fn node_number(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse::<usize>().ok()?.checked_sub(1)
}

/// The own addresses of node number `node`.
pub fn own_addresses(node: usize) -> [IpNet; 2] {
    let number = u8::try_from(node + 1).expect("few nodes");
    let v4 = IpNet::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)), 24).expect("a prefix length of IPv4");
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number));
    [v4, IpNet::new(IpAddr::V6(v6), 64).expect("a prefix length of IPv6")]
}

/// The IPv4 VIP number `number` inside the nodes' network.
pub fn v4_vip(number: u8, prefix: u8) -> VipNet {
    let addr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 200 + number));
    VipNet(IpNet::new(addr, prefix).expect("a prefix length of IPv4"))
}

/// The IPv6 VIP number `number` inside the nodes' network.
pub fn v6_vip(number: u16, prefix: u8) -> VipNet {
    let addr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x200 + number));
    VipNet(IpNet::new(addr, prefix).expect("a prefix length of IPv6"))
}

/// In most worlds an agent looks after Services: one beside the control plane's, the same one, or one alone.
fn draw_services(seed: u64, agents: &mut Vec<AgentSetup>) {
    let mut dice = Random::new(seed ^ 0x5e12_71ce5);
    let beside = |dice: &mut Random| AgentSetup {
        name: "services".to_owned(),
        vips: Vec::new(),
        services: Some(ServicesSetup::draw(dice, services::Shares::No)),
    };
    match dice.below(20) {
        0..=6 => {
            agents.truncate(1);
            agents.push(beside(&mut dice));
        }
        7..=9 => agents[0].services = Some(ServicesSetup::draw(&mut dice, services::Shares::Yes)),
        10 | 11 => *agents = vec![beside(&mut dice)],
        _ => {}
    }
}

/// The IPv4 address number `number` of the pools.
pub fn pool_address(number: u16) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 110 + u8::try_from(number).expect("few")))
}

/// The IPv4 address number `number` for Services: the first 80 inside the nodes' network.
pub fn service_address(number: u16) -> IpAddr {
    let [high, low] = number.saturating_sub(80).to_be_bytes();
    let addr = match u8::try_from(number) {
        Ok(number @ 0..80) => Ipv4Addr::new(10, 0, 0, 10 + number),
        _ => Ipv4Addr::new(10, 0, 2 + high, low),
    };
    IpAddr::V4(addr)
}

/// The IPv6 address number `number` for Services, inside the nodes' network.
pub fn service_address_v6(number: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, number))
}

fn draw_vips(dice: &mut Random) -> Vec<VipNet> {
    let v4 = v4_vip(0, if dice.chance(0.15) { 24 } else { 32 });
    let v6 = v6_vip(0, if dice.chance(0.15) { 64 } else { 128 });
    match dice.below(10) {
        0..=4 => vec![v4],
        5 | 6 => vec![v6],
        _ => vec![v4, v6],
    }
}

fn draw_drift(dice: &mut Random) -> Drift {
    const LIMIT: i32 = 10_000; // One per cent: beyond that nothing is promised.
    match dice.below(4) {
        0 => Drift(-LIMIT),
        1 => Drift(LIMIT),
        _ => Drift(i32::try_from(dice.below(20_001)).expect("small") - LIMIT),
    }
}

/// A number in `0..bound`.
pub(crate) fn pick(dice: &mut Random, bound: usize) -> usize {
    usize::try_from(dice.below(bound as u64)).expect("smaller than bound")
}
