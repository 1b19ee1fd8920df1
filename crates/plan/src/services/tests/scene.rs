//! A world that a test changes where it needs to: node `n1` of three, links `lo`, `eth0` (`192.168.1.11/24`, default
//! route) and `eth1` (`10.0.0.11/24`, `fd00::11/64`), Services in one election unless a test says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vip_model::config::{
    Advertise, ClassRule, Config, ControlPlane, Election, EndpointSource, InterfaceChoice, Layer2,
    LeaseTimings, LinkDown, NodeLabel, OnDemand, OnLoss, PrefixRule, Scope, ServiceElection, ServiceLabels,
    ServiceSecurity, ServiceUpdates, Services, UnsetClass,
};
use vip_model::explanation::Finding;
use vip_model::kernel::{Actual, Address, Change, Dad, DefaultRoute, Lifetime, Link, LinkKind, LinkState};
use vip_model::members::{ElectionState, History, Members, Role};
use vip_model::observed::{Observed, ProbeState};
use vip_model::plan::{ElectionWant, NodePlan, ServicePlan, Standing};
use vip_model::service::{
    Endpoint, EndpointState, FamilyPolicy, Ingress, ObjectLife, Protocol, Service, ServiceKind, ServiceName,
    ServicePort, TrafficPolicy,
};
use vip_model::store::{NodeFacts, Snapshot, Version};
use vip_model::verdict::{Reason, Subject, Verdict};
use vip_model::{
    Family, InstanceName, Instant, Known, LeaseName, LinkAddr, LinkIndex, NodeName, ScopedAddr, VipNet,
};

use crate::world::{KernelWork, Life, World};
use crate::{diff, services};

pub(crate) const ETH0: LinkIndex = LinkIndex(2);
pub(crate) const ETH1: LinkIndex = LinkIndex(3);

#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) config: Config,
    pub(crate) services: BTreeMap<ServiceName, Service>,
    pub(crate) services_at: Version,
    pub(crate) endpoints: BTreeMap<ServiceName, Vec<Endpoint>>,
    pub(crate) nodes: BTreeMap<NodeName, NodeFacts>,
    pub(crate) listed: bool,
    pub(crate) endpoints_listed: bool,
    pub(crate) members: Members,
    pub(crate) observed: Observed,
    pub(crate) actual: Known<Actual>,
    pub(crate) life: Life,
    pub(crate) kernel_work: KernelWork,
    pub(crate) former: Option<NodePlan>,
}

pub(crate) fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn name(text: &str) -> ServiceName {
    text.to_owned().try_into().unwrap()
}

pub(crate) fn lease(text: &str) -> LeaseName {
    text.to_owned().try_into().unwrap()
}

pub(crate) fn mac(last: u8) -> LinkAddr {
    LinkAddr::Ethernet([2, 0, 0, 0, 0, last])
}

pub(crate) fn tcp(port: u16) -> ServicePort {
    ServicePort { protocol: Protocol::Tcp, port }
}

/// An endpoint on a node; an empty name is none.
pub(crate) fn endpoint(node: &str, state: EndpointState) -> Endpoint {
    let node = (!node.is_empty()).then(|| NodeName::new(node));
    Endpoint { addr: ip("10.244.0.9"), node, host: None, state }
}

pub(crate) fn ready(node: &str) -> Endpoint {
    endpoint(node, EndpointState::Ready)
}

pub(crate) fn shown(addr: &str) -> Ingress {
    Ingress { ip: Some(ip(addr)), hostname: None, mode: None, ports: Vec::new() }
}

pub(crate) const GLOBAL: &str = "kube-system/plndr-svcs-lock";

fn election(text: &str) -> Election {
    Election { lease: lease(text), annotations: BTreeMap::new(), timings: LeaseTimings::default() }
}

fn services_config() -> Services {
    Services {
        namespace: None,
        class: ClassRule { name: "kube-vip.io/kube-vip-class".to_owned(), unset: UnsetClass::Ours },
        interface: InterfaceChoice::Auto,
        link_down: LinkDown::Yield,
        prefix_v4: PrefixRule::Fixed(32),
        prefix_v6: PrefixRule::Fixed(128),
        election: ServiceElection::Global(election(GLOBAL)),
        on_demand: OnDemand::Off,
        endpoints: EndpointSource::Slices,
        updates: ServiceUpdates::On,
        security: ServiceSecurity::Off,
        node_labels: ServiceLabels::Off,
        ipam: None,
    }
}

fn kernel() -> Actual {
    let link = |index, name: &str, kind| {
        let addr = Some(mac(u8::try_from(index).unwrap()));
        let index = LinkIndex(index);
        (index, Link { index, name: name.to_owned(), addr, broadcast: None, state: LinkState::Up, kind })
    };
    Actual {
        links: BTreeMap::from([
            link(1, "lo", LinkKind::Loopback),
            link(2, "eth0", LinkKind::Broadcast),
            link(3, "eth1", LinkKind::Broadcast),
        ]),
        addresses: vec![
            address(ETH0, "192.168.1.11/24", 0),
            address(ETH1, "10.0.0.11/24", 0),
            address(ETH1, "fd00::11/64", 0),
        ],
        default_routes: vec![DefaultRoute { family: Family::V4, link: ETH0, metric: 0 }],
        ..Actual::default()
    }
}

pub(crate) fn address(link: LinkIndex, net: &str, tag: u8) -> Address {
    let net = net.parse().unwrap();
    let valid = Lifetime::Until(at(14_700));
    Address { link, net, scope: Scope::Global, tag, valid, dad: Dad::Ready, secondary: false }
}

fn node(addr: &str) -> NodeFacts {
    NodeFacts { addresses: BTreeSet::from([ip(addr)]), ready: true, ..NodeFacts::default() }
}

pub(crate) fn holder() -> Role {
    Role::Holder { since: at(1000), fence_until: at(14_700), serve_until: at(11_000) }
}

impl Scene {
    /// No Service yet; nobody holds the global election.
    pub(crate) fn new() -> Self {
        let layer2 = Layer2 { announce_interval: Duration::from_secs(3), skip_conflict_probe: false };
        let config = Config {
            node: NodeName::new("n1"),
            instance: InstanceName::new("services"),
            advertise: Advertise::Arp(layer2),
            services: Some(services_config()),
            election_mode: vip_model::config::ElectionMode::Lease,
            preferred: Vec::new(),
            control_plane: None,
        };
        let scene = Self {
            config,
            services: BTreeMap::new(),
            services_at: Version::default(),
            endpoints: BTreeMap::new(),
            nodes: [("n1", "192.168.1.11"), ("n2", "192.168.1.12"), ("n3", "192.168.1.13")]
                .map(|(name, addr)| (NodeName::new(name), node(addr)))
                .into(),
            listed: true,
            endpoints_listed: true,
            members: Members::default(),
            observed: Observed::default(),
            actual: Known::Known(kernel()),
            life: Life::Running,
            kernel_work: KernelWork::Settled,
            former: None,
        };
        scene.free(GLOBAL)
    }

    /// Elections of their own.
    pub(crate) fn per_service() -> Self {
        Self::new().set(|services| services.election = ServiceElection::PerService(LeaseTimings::default()))
    }

    /// A control plane with the VIP 10.0.0.100 in its own election, held by nobody.
    pub(crate) fn with_control_plane(mut self, lease_name: &str) -> Self {
        self.config.control_plane = Some(ControlPlane {
            vips: vec![VipNet("10.0.0.100/32".parse().unwrap())],
            port: 6443,
            interface: InterfaceChoice::Auto,
            link_down: LinkDown::Yield,
            loopback_scope: Scope::Host,
            election: election(lease_name),
            on_loss: OnLoss::Remove,
            health: None,
            node_label: NodeLabel::Off,
        });
        self.free(lease_name)
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn set(mut self, change: impl FnOnce(&mut Services)) -> Self {
        change(self.config.services.as_mut().unwrap());
        self
    }

    /// A Service on TCP port 80 with one ready endpoint, on n1.
    pub(crate) fn service(self, service: &str, addrs: &str) -> Self {
        self.service_with(service, addrs, |_| {})
    }

    pub(crate) fn service_with(
        mut self,
        service: &str,
        addrs: &str,
        change: impl FnOnce(&mut Service),
    ) -> Self {
        let mut new = Service {
            uid: format!("uid-{service}"),
            version: Version("1".to_owned()),
            created: format!("2026-01-01T00:00:{:02}Z", self.services.len()),
            kind: ServiceKind::LoadBalancer,
            class: None,
            families: Vec::new(),
            family_policy: FamilyPolicy::SingleStack,
            traffic: TrafficPolicy::Cluster,
            ports: vec![tcp(80)],
            spec_ip: None,
            ingress: Vec::new(),
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            conditions: BTreeMap::new(),
            life: ObjectLife::Alive,
        };
        if !addrs.is_empty() {
            new.annotations.insert("kube-vip.io/loadbalancerIPs".to_owned(), addrs.to_owned());
        }
        change(&mut new);
        self.services.insert(name(service), new);
        self.endpoints.insert(name(service), vec![ready("n1")]);
        self
    }

    pub(crate) fn endpoints(mut self, service: &str, endpoints: &[Endpoint]) -> Self {
        self.endpoints.insert(name(service), endpoints.to_vec());
        self
    }

    pub(crate) fn edit(mut self, service: &str, change: impl FnOnce(&mut Service)) -> Self {
        change(self.services.get_mut(&name(service)).unwrap());
        self
    }

    pub(crate) fn annotate(self, service: &str, key: &str, value: &str) -> Self {
        self.edit(service, |service| {
            service.annotations.insert(format!("kube-vip.io/{key}"), value.to_owned());
        })
    }

    fn election(mut self, lease_name: &str, role: Role, holder: Option<&str>) -> Self {
        let state = ElectionState {
            role,
            holder: holder.map(str::to_owned),
            history: History::Held,
            ..ElectionState::default()
        };
        self.members.elections.insert(lease(lease_name), state);
        self
    }

    /// All tenures began then.
    pub(crate) fn tenure(&mut self, begun: Instant) {
        for state in self.members.elections.values_mut() {
            if let Role::Holder { since, .. } = &mut state.role {
                *since = begun;
            }
        }
    }

    pub(crate) fn holding(self, lease: &str) -> Self {
        self.election(lease, holder(), Some("n1"))
    }

    pub(crate) fn held_by(self, lease: &str, node: &str) -> Self {
        self.election(lease, Role::Follower, Some(node))
    }

    pub(crate) fn free(self, lease: &str) -> Self {
        self.election(lease, Role::Follower, None)
    }

    pub(crate) fn undecided(self, lease: &str) -> Self {
        self.election(lease, Role::Undecided, None)
    }

    pub(crate) fn kernel(&mut self) -> &mut Actual {
        match &mut self.actual {
            Known::Known(actual) => actual,
            Known::Unknown => panic!("the scene has a kernel"),
        }
    }

    pub(crate) fn tag(&self) -> u8 {
        self.config.instance.address_tag()
    }

    /// An address in the kernel by our hand.
    pub(crate) fn installed(mut self, net: &str) -> Self {
        let tag = self.tag();
        self.kernel().addresses.push(address(ETH1, net, tag));
        self
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let services = self.services.iter().map(|(name, service)| (name.clone(), Arc::new(service.clone())));
        Snapshot {
            nodes: Known::Known(Arc::new(self.nodes.clone())),
            services: if self.listed { Known::Known(Arc::new(services.collect())) } else { Known::Unknown },
            endpoints: if self.endpoints_listed {
                Known::Known(Arc::new(self.endpoints.clone()))
            } else {
                Known::Unknown
            },
            services_at: self.services_at.clone(),
            ..Snapshot::default()
        }
    }

    /// Looks at the world of the scene.
    fn look<T>(&self, look: impl FnOnce(&World<'_>) -> T) -> T {
        let snapshot = self.snapshot();
        let world = World {
            config: &self.config,
            life: self.life,
            snapshot: &snapshot,
            members: &self.members,
            observed: &self.observed,
            actual: &self.actual,
            kernel_work: self.kernel_work,
            former: self.former.as_ref(),
            adopt_until: Lifetime::Until(at(13_700)),
        };
        look(&world)
    }

    pub(crate) fn plan(&self) -> NodePlan {
        self.look(crate::plan)
    }

    /// The findings about a Service; none when it was never seen.
    pub(crate) fn explain(&self, service: &str) -> Vec<Finding> {
        self.look(|world| crate::explain(world, &name(service)))
            .map(|(findings, _)| findings)
            .unwrap_or_default()
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        let actual = self.actual.get().unwrap();
        let applied = actual.addresses.iter().filter(|address| address.tag == self.tag());
        let applied = applied.map(|it| (ScopedAddr { addr: it.addr(), link: it.link }, it.valid)).collect();
        diff::addresses(&self.plan().addresses, actual, &applied, self.tag())
    }

    /// Probes stay unanswered and the kernel does what is planned, until nothing is left to do.
    pub(crate) fn run(mut self) -> Self {
        for _ in 0..4 {
            let probes = self.plan().probes;
            self.observed.probes = probes.into_iter().map(|at| (at, ProbeState::Silent)).collect();
            for change in self.changes() {
                self.apply(change);
            }
        }
        assert_eq!(self.changes(), [], "it comes to rest");
        self
    }

    fn apply(&mut self, change: Change) {
        let kernel = self.kernel();
        match change {
            Change::SetAddress(set) => {
                kernel.addresses.retain(|it| (it.link, it.net) != (set.link, set.net.0));
                let mut address = address(set.link, &set.net.to_string(), set.tag);
                (address.valid, address.scope) = (set.valid, set.scope);
                kernel.addresses.push(address);
            }
            Change::DelAddress { link, net } => {
                kernel.addresses.retain(|it| (it.link, it.net) != (link, net));
            }
            Change::SetFilter { .. } => {}
        }
    }

    /// The addresses that the kernel has by our hand, as text.
    pub(crate) fn ours(&self) -> Vec<String> {
        let actual = self.actual.get().unwrap();
        let ours = actual.addresses.iter().filter(|address| address.tag == self.tag());
        let mut ours: Vec<_> = ours.map(|address| format!("{} {}", address.net, address.link.0)).collect();
        ours.sort();
        ours
    }

    pub(crate) fn verdict(&self, service: &str) -> Verdict {
        self.plan().verdicts[&Subject::Service(name(service))].clone()
    }

    pub(crate) fn reason(&self, service: &str) -> Reason {
        match self.verdict(service) {
            Verdict::Skip(reason) => reason,
            Verdict::Announce => panic!("{service} is announced"),
        }
    }

    /// The sentence behind a Service's reason.
    pub(crate) fn sentence(&self, service: &str) -> String {
        self.reason(service).to_string()
    }

    pub(crate) fn written(&self, service: &str) -> ServicePlan {
        self.plan().services[&name(service)].clone()
    }

    pub(crate) fn want(&self, lease_name: &str) -> ElectionWant {
        self.plan()
            .elections
            .get(&lease(lease_name))
            .unwrap_or_else(|| panic!("{lease_name} is wanted"))
            .clone()
    }

    pub(crate) fn standing(&self, lease_name: &str) -> Standing {
        self.want(lease_name).standing
    }

    pub(crate) fn selects(&self, service: &str) -> Result<(), Reason> {
        services::select(
            self.config.services.as_ref().unwrap(),
            &name(service),
            &self.services[&name(service)],
        )
    }
}
