//! What a plan of many Services costs: `cargo run --release -p vip-plan --example plan_bench [SERVICES [WORLD]]`. Prints, for
//! some worlds, the least, the median and the largest time of one plan, of its differences, and of both with the
//! freeing of it all. The least says what it costs on a machine that does nothing else.
#![allow(clippy::disallowed_types, reason = "a measurement needs a clock; nothing of it is in the crate")]
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use vip_model::config::{
    Advertise, ClassRule, Config, Election, EndpointSource, InterfaceChoice, Layer2, LeaseTimings, LinkDown,
    OnDemand, PrefixRule, Scope, ServiceElection, ServiceLabels, ServiceSecurity, ServiceUpdates, Services,
    UnsetClass,
};
use vip_model::kernel::{Actual, Address, Dad, Lifetime, Link, LinkKind, LinkState};
use vip_model::members::{ElectionState, History, Members, Role};
use vip_model::observed::Observed;
use vip_model::service::{
    Condition, Endpoint, EndpointState, FamilyPolicy, Ingress, ObjectLife, Protocol, Service, ServiceKind,
    ServiceName, ServicePort, TrafficPolicy,
};
use vip_model::store::{NodeFacts, Snapshot, Version};
use vip_model::{InstanceName, Instant, Known, LeaseName, LinkAddr, LinkIndex, NodeName, ScopedAddr};
use vip_plan::diff::{self, Applied};
use vip_plan::{KernelWork, Life, World};

const ROUNDS: usize = 60;
const ETH0: LinkIndex = LinkIndex(2);

struct Bench {
    config: Config,
    snapshot: Snapshot,
    members: Members,
    actual: Known<Actual>,
    applied: Applied,
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5000);
    let only = std::env::args().nth(2);
    println!("{count} Services x 3 endpoints, 3 nodes; plan + differences, {ROUNDS} rounds");
    for (name, election, installed) in [
        ("one election, all served here", Mode::Global, true),
        ("one election, all to be installed", Mode::Global, false),
        ("an election each, a third served here", Mode::Each, true),
        ("an election each, a third to be installed", Mode::Each, false),
    ] {
        if only.as_ref().is_none_or(|only| name.starts_with(only)) {
            Bench::new(count, election, installed.into()).run(name);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Global,
    Each,
}

#[derive(Clone, Copy, PartialEq)]
enum Kernel {
    Filled,
    Empty,
}

impl From<bool> for Kernel {
    fn from(installed: bool) -> Self {
        if installed { Self::Filled } else { Self::Empty }
    }
}

fn at(secs: u64) -> Instant {
    Instant::from_millis(secs * 1000)
}

fn addr(index: usize) -> IpAddr {
    let index = u32::try_from(index).expect("fewer than four thousand million");
    IpAddr::V4(Ipv4Addr::from(0x0a00_1000 + index))
}

fn service(index: usize) -> (ServiceName, Arc<Service>) {
    let addr = addr(index);
    let ports = vec![ServicePort { protocol: Protocol::Tcp, port: 80 }];
    let mode = Some("VIP".to_owned());
    let announced = Condition {
        status: "True".to_owned(),
        reason: "Announced".to_owned(),
        message: "a node answers for the addresses".to_owned(),
    };
    let service = Service {
        uid: format!("00000000-0000-0000-0000-{index:012}"),
        version: Version(index.to_string()),
        created: format!("2026-01-01T{:02}:{:02}:{:02}Z", index / 3600 % 24, index / 60 % 60, index % 60),
        kind: ServiceKind::LoadBalancer,
        class: None,
        families: vec![vip_model::Family::V4],
        family_policy: FamilyPolicy::SingleStack,
        traffic: if index.is_multiple_of(4) { TrafficPolicy::Local } else { TrafficPolicy::Cluster },
        ports: ports.clone(),
        spec_ip: None,
        ingress: vec![Ingress { ip: Some(addr), hostname: None, mode, ports }],
        annotations: BTreeMap::from([
            ("kube-vip.io/loadbalancerIPs".to_owned(), addr.to_string()),
            ("kube-vip.io/vipHost".to_owned(), "node-1".to_owned()),
        ]),
        labels: BTreeMap::new(),
        conditions: BTreeMap::from([("kube-vip.io/Announced".to_owned(), announced)]),
        life: ObjectLife::Alive,
    };
    (ServiceName::new(format!("team-{:03}", index % 200), format!("service-{index:05}")), Arc::new(service))
}

fn endpoints(index: usize) -> Vec<Endpoint> {
    let nodes = ["node-1", "node-2", "node-3"];
    let of = |pod: usize| Endpoint {
        addr: IpAddr::V4(Ipv4Addr::from(0x0af0_0000 + u32::try_from(index * 3 + pod).expect("small"))),
        node: Some(NodeName::new(nodes[pod])),
        host: None,
        state: EndpointState::Ready,
    };
    (0..3).map(of).collect()
}

fn state(node: &str) -> ElectionState {
    let role = if node == "node-1" {
        Role::Holder { since: at(1), fence_until: at(15), serve_until: at(11) }
    } else {
        Role::Follower
    };
    ElectionState { role, holder: Some(node.to_owned()), history: History::Held, ..ElectionState::default() }
}

fn config(mode: Mode) -> Config {
    let timings = LeaseTimings::default();
    let lease = LeaseName::new("kube-system", "plndr-svcs-lock");
    let services = Services {
        namespace: None,
        class: ClassRule { name: "kube-vip.io/kube-vip-class".to_owned(), unset: UnsetClass::Ours },
        interface: InterfaceChoice::Auto,
        link_down: LinkDown::Yield,
        prefix_v4: PrefixRule::Fixed(32),
        prefix_v6: PrefixRule::Fixed(128),
        election: match mode {
            Mode::Global => {
                ServiceElection::Global(Election { lease, annotations: BTreeMap::new(), timings })
            }
            Mode::Each => ServiceElection::PerService(timings),
        },
        on_demand: OnDemand::Off,
        endpoints: EndpointSource::Slices,
        updates: ServiceUpdates::On,
        security: ServiceSecurity::On,
        node_labels: ServiceLabels::Off,
        ipam: None,
    };
    let layer2 = Layer2 { announce_interval: Duration::from_secs(3), skip_conflict_probe: false };
    Config {
        node: NodeName::new("node-1"),
        instance: InstanceName::new("services"),
        advertise: Advertise::Arp(layer2),
        election_mode: vip_model::config::ElectionMode::Lease,
        control_plane: None,
        services: Some(services),
    }
}

fn address(tag: u8, net: &str) -> Address {
    Address {
        link: ETH0,
        net: net.parse().expect("an address with a length"),
        scope: Scope::Global,
        tag,
        valid: Lifetime::Until(at(15)),
        dad: Dad::Ready,
        secondary: false,
    }
}

impl Bench {
    fn new(count: usize, mode: Mode, kernel: Kernel) -> Self {
        let config = config(mode);
        let tag = config.instance.address_tag();
        let holder = |index: usize| ["node-1", "node-2", "node-3"][index % 3];
        let is_ours = |index: &usize| mode == Mode::Global || index.is_multiple_of(3);
        let mut elections =
            BTreeMap::from([(LeaseName::new("kube-system", "plndr-svcs-lock"), state("node-1"))]);
        if mode == Mode::Each {
            elections = (0..count)
                .map(|index| {
                    let (name, _) = service(index);
                    (
                        LeaseName::new(name.namespace(), format!("kubevip-{}", name.name())),
                        state(holder(index)),
                    )
                })
                .collect();
        }
        let mac = Some(LinkAddr::Ethernet([2, 0, 0, 0, 0, 1]));
        let kind = LinkKind::Broadcast;
        let link = Link {
            index: ETH0,
            name: "eth0".to_owned(),
            addr: mac,
            broadcast: None,
            state: LinkState::Up,
            kind,
        };
        let mut actual = Actual {
            links: BTreeMap::from([(ETH0, link)]),
            addresses: vec![address(0, "10.0.0.11/16")],
            ..Actual::default()
        };
        if kernel == Kernel::Filled {
            let ours = (0..count).filter(is_ours).map(|index| address(tag, &format!("{}/32", addr(index))));
            actual.addresses.extend(ours);
        }
        let ours = actual.addresses.iter().filter(|address| address.tag == tag);
        let applied =
            ours.map(|address| (ScopedAddr { addr: address.addr(), link: ETH0 }, address.valid)).collect();
        let ready = NodeFacts { addresses: BTreeSet::new(), ready: true, ..NodeFacts::default() };
        let nodes = ["node-1", "node-2", "node-3"].map(|name| (NodeName::new(name), ready.clone()));
        let snapshot = Snapshot {
            nodes: Known::Known(Arc::new(nodes.into())),
            services: Known::Known(Arc::new((0..count).map(service).collect())),
            endpoints: Known::Known(Arc::new(
                (0..count).map(|index| (service(index).0, endpoints(index))).collect(),
            )),
            ..Snapshot::default()
        };
        Self { config, snapshot, members: Members { elections }, actual: Known::Known(actual), applied }
    }

    fn run(&self, name: &str) {
        let observed = Observed::default();
        let world = World {
            config: &self.config,
            life: Life::Running,
            snapshot: &self.snapshot,
            members: &self.members,
            observed: &observed,
            actual: &self.actual,
            kernel_work: KernelWork::Settled,
            adopt_until: Lifetime::Forever,
        };
        let actual = self.actual.get().expect("the bench has a kernel");
        let tag = self.config.instance.address_tag();
        let (mut plans, mut diffs, mut totals) = (Vec::new(), Vec::new(), Vec::new());
        let mut changes = 0;
        for _ in 0..ROUNDS {
            let start = std::time::Instant::now();
            let plan = vip_plan::plan(black_box(&world));
            plans.push(start.elapsed());
            let addresses = diff::addresses(&plan.addresses, actual, &self.applied, tag);
            let writes = diff::services(&plan, &self.snapshot, &BTreeSet::new());
            diffs.push(start.elapsed().saturating_sub(plans[plans.len() - 1]));
            changes = addresses.len();
            drop(black_box((plan, addresses, writes)));
            totals.push(start.elapsed());
        }
        let line = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            format!(
                "{:5.2} {:5.2} {:5.2} ms",
                millis(times[0]),
                millis(times[ROUNDS / 2]),
                millis(times[ROUNDS - 1])
            )
        };
        let (plan, diff, total) = (line(&mut plans), line(&mut diffs), line(&mut totals));
        println!("{name}: plan {plan}, differences {diff}, with freeing {total} ({changes} address changes)");
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
