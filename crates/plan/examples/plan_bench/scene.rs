//! A cluster of three nodes with many Services, for measurements: one address each, three endpoints each, a quarter of
//! them with policy `Local`; all of them say already what `node-1` would write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use vip_model::config::{
    Advertise, ClassRule, Config, Election, EndpointSource, InterfaceChoice, Layer2, LeaseTimings, LinkDown,
    OnDemand, PrefixRule, Scope, ServiceElection, ServiceLabels, ServiceSecurity, ServiceUpdates, Services,
    UnsetClass,
};
use vip_model::kernel::{Actual, Address, Dad, Lifetime, Link, LinkKind, LinkState};
use vip_model::service::{
    Condition, Endpoint, EndpointState, FamilyPolicy, Ingress, ObjectLife, Protocol, Service, ServiceKind,
    ServiceName, ServicePort, TrafficPolicy,
};
use vip_model::store::{NodeFacts, Snapshot, Version};
use vip_model::{InstanceName, Instant, Known, LeaseName, LinkAddr, LinkIndex, NodeName};

/// The link of the nodes' network.
pub(crate) const ETH0: LinkIndex = LinkIndex(2);
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// How holders are elected.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// One election for all Services; `node-1` holds it.
    Global,
    /// One for each Service, a third of them held by each node.
    Each,
}

/// A moment.
pub(crate) fn at(secs: u64) -> Instant {
    Instant::from_millis(secs * 1000)
}

/// The address of a Service.
pub(crate) fn addr(index: usize) -> IpAddr {
    let index = u32::try_from(index).expect("fewer than four thousand million");
    IpAddr::V4(Ipv4Addr::from(0x0a00_1000 + index))
}

/// A Service.
pub(crate) fn service(index: usize) -> (ServiceName, Arc<Service>) {
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
    let of = |pod: usize| Endpoint {
        addr: IpAddr::V4(Ipv4Addr::from(0x0af0_0000 + u32::try_from(index * 3 + pod).expect("small"))),
        node: Some(NodeName::new(NODES[pod])),
        host: None,
        state: EndpointState::Ready,
    };
    (0..3).map(of).collect()
}

/// What `node-1` is told.
pub(crate) fn config(mode: Mode) -> Config {
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
        preferred: Vec::new(),
        control_plane: None,
        services: Some(services),
    }
}

/// An address in the kernel of `node-1`.
pub(crate) fn address(tag: u8, net: &str) -> Address {
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

/// The Lease that decides about a Service, and who holds it.
pub(crate) fn lease(mode: Mode, index: usize) -> (LeaseName, &'static str) {
    match mode {
        Mode::Global => (LeaseName::new("kube-system", "plndr-svcs-lock"), NODES[0]),
        Mode::Each => {
            let (name, _) = service(index);
            let lease = LeaseName::new(name.namespace(), format!("kubevip-{}", name.name()));
            (lease, NODES[index % NODES.len()])
        }
    }
}

/// The kernel of `node-1` without any address of ours.
pub(crate) fn empty_kernel() -> Actual {
    let link = Link {
        index: ETH0,
        name: "eth0".to_owned(),
        addr: Some(LinkAddr::Ethernet([2, 0, 0, 0, 0, 1])),
        broadcast: None,
        state: LinkState::Up,
        kind: LinkKind::Broadcast,
    };
    Actual {
        links: BTreeMap::from([(ETH0, link)]),
        addresses: vec![address(0, "10.0.0.11/16")],
        ..Actual::default()
    }
}

/// What the cluster says.
pub(crate) fn snapshot(count: usize) -> Snapshot {
    let ready = NodeFacts { addresses: BTreeSet::new(), ready: true, ..NodeFacts::default() };
    let nodes = NODES.map(|name| (NodeName::new(name), ready.clone()));
    let endpoints = (0..count).map(|index| (service(index).0, endpoints(index))).collect();
    Snapshot {
        nodes: Known::Known(Arc::new(nodes.into())),
        services: Known::Known(Arc::new((0..count).map(service).collect())),
        endpoints: Known::Known(Arc::new(endpoints)),
        ..Snapshot::default()
    }
}
