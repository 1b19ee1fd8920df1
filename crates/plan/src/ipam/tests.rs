//! The allocator inside the plan: who allocates, from which facts, and what each Service is written.

use std::sync::Arc;
use std::time::Duration;

use vip_model::config::{
    Advertise, ClassRule, Config, Election, EndpointSource, InterfaceChoice, Ipam, Layer2, LeaseTimings,
    LinkDown, OnDemand, PrefixRule, ServiceElection, ServiceLabels, ServiceSecurity, ServiceUpdates,
    Services, UnsetClass,
};
use vip_model::kernel::Actual;
use vip_model::members::{ElectionState, Members, Role};
use vip_model::observed::Observed;
use vip_model::plan::{Footprint, NodePlan, Standing};
use vip_model::service::{
    Condition, FamilyPolicy, Ingress, ObjectLife, Protocol, ServiceKind, ServicePort, TrafficPolicy,
};
use vip_model::store::{Ask, NodeFacts, Snapshot, Version};
use vip_model::verdict::{Subject, Verdict};
use vip_model::{InstanceName, Instant, Known, LeaseName, NodeName};

use super::*;
use crate::world::{KernelWork, Life, World};
use crate::{diff, ipam};

const CONDITION: &str = "kube-vip.io/AddressAssigned";

/// A world in which this node holds the allocator's Lease.
struct Scene {
    config: Config,
    life: Life,
    nodes: BTreeMap<NodeName, NodeFacts>,
    services: BTreeMap<ServiceName, Service>,
    pools: BTreeMap<String, String>,
    role: Role,
    observed: Observed,
    /// Which facts are not known yet.
    unknown: &'static str,
}

fn lease() -> LeaseName {
    LeaseName::new("kube-system", "kube-vip-ipam")
}

fn services_config() -> Services {
    let election =
        Election { lease: lease(), annotations: BTreeMap::new(), timings: LeaseTimings::default() };
    Services {
        namespace: None,
        class: ClassRule { name: "kube-vip.io/kube-vip-class".to_owned(), unset: UnsetClass::Ours },
        interface: InterfaceChoice::Auto,
        link_down: LinkDown::Yield,
        prefix_v4: PrefixRule::Fixed(32),
        prefix_v6: PrefixRule::Fixed(128),
        election: ServiceElection::PerService(LeaseTimings::default()),
        on_demand: OnDemand::Off,
        endpoints: EndpointSource::Slices,
        updates: ServiceUpdates::On,
        security: ServiceSecurity::Off,
        node_labels: ServiceLabels::Off,
        ipam: Some(Ipam { namespace: "kube-system".to_owned(), config_map: "kubevip".to_owned(), election }),
    }
}

fn service() -> Service {
    Service {
        uid: "u1".to_owned(),
        version: Version("7".to_owned()),
        created: "2026-01-01T00:00:00Z".to_owned(),
        kind: ServiceKind::LoadBalancer,
        class: None,
        families: vec![Family::V4],
        family_policy: FamilyPolicy::SingleStack,
        traffic: TrafficPolicy::Cluster,
        ports: vec![ServicePort { protocol: Protocol::Tcp, port: 80 }],
        spec_ip: None,
        ingress: Vec::new(),
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        conditions: BTreeMap::new(),
        life: ObjectLife::Alive,
    }
}

fn web() -> ServiceName {
    ServiceName::new("default", "web")
}

impl Scene {
    /// One Service without an address, one pool.
    fn new() -> Self {
        let layer2 = Layer2 { announce_interval: Duration::from_secs(3), skip_conflict_probe: false };
        let end = Instant::from_millis(10_000);
        Self {
            config: Config {
                node: NodeName::new("n1"),
                instance: InstanceName::new("services"),
                advertise: Advertise::Arp(layer2),
                election_mode: vip_model::config::ElectionMode::Lease,
                preferred: Vec::new(),
                control_plane: None,
                services: Some(services_config()),
            },
            life: Life::Running,
            nodes: BTreeMap::from([(NodeName::new("n1"), NodeFacts::default())]),
            services: BTreeMap::from([(web(), service())]),
            pools: BTreeMap::from([("cidr-global".to_owned(), "10.0.0.8/29,fd00::8/125".to_owned())]),
            role: Role::Holder { since: Instant::ZERO, fence_until: end, serve_until: end },
            observed: Observed::default(),
            unknown: "",
        }
    }

    fn with(change: impl FnOnce(&mut Service)) -> Self {
        let mut scene = Self::new();
        change(scene.service());
        scene
    }

    fn service(&mut self) -> &mut Service {
        self.services.get_mut(&web()).unwrap()
    }

    fn snapshot(&self) -> Snapshot {
        let all = self.services.iter().map(|(name, service)| (name.clone(), Arc::new(service.clone())));
        let mut snapshot = Snapshot {
            nodes: Known::Known(Arc::new(self.nodes.clone())),
            services: Known::Known(Arc::new(all.collect())),
            pools: Known::Known(Arc::new(self.pools.clone())),
            ..Snapshot::default()
        };
        match self.unknown {
            "nodes" => snapshot.nodes = Known::Unknown,
            "services" => snapshot.services = Known::Unknown,
            "pools" => snapshot.pools = Known::Unknown,
            _ => {}
        }
        snapshot
    }

    /// The allocator's part of the plan, on top of what is planned already.
    fn plan_on(&self, mut plan: NodePlan) -> NodePlan {
        let state = ElectionState { role: self.role, ..ElectionState::default() };
        let actual = if self.unknown == "actual" { Known::Unknown } else { Known::Known(Actual::default()) };
        let world = World {
            config: &self.config,
            life: self.life,
            snapshot: &self.snapshot(),
            members: &Members { elections: BTreeMap::from([(lease(), state)]) },
            observed: &self.observed,
            actual: &actual,
            kernel_work: KernelWork::Settled,
            former: None,
            adopt_until: vip_model::kernel::Lifetime::Forever,
        };
        ipam::plan(&world, self.config.services.as_ref().unwrap(), &mut plan);
        plan
    }

    fn plan(&self) -> NodePlan {
        self.plan_on(NodePlan::default())
    }

    fn asks(&self) -> Vec<Ask> {
        diff::services(&self.plan(), &self.snapshot(), &BTreeSet::new())
    }

    fn addresses(&self) -> Option<String> {
        let plan = self.plan();
        plan.services.get(&web())?.annotations.get(ANNOTATION_ADDRESSES).cloned().flatten()
    }

    /// Does to the cluster what the agent would ask for, until nothing is left to ask. How many writes that took.
    fn settle(&mut self) -> usize {
        for round in 0..10 {
            let asks = self.asks();
            if asks.is_empty() {
                return round;
            }
            self.observed.promised = self.plan().promised;
            for ask in asks {
                self.carry_out(ask);
            }
        }
        panic!("it never settles: {:?}", self.asks());
    }

    fn carry_out(&mut self, ask: Ask) {
        match ask {
            Ask::WriteService(write) => {
                let service = self.services.get_mut(&write.service).unwrap();
                merge(&mut service.annotations, write.annotations);
                merge(&mut service.labels, write.labels);
                service.spec_ip = write.spec_ip.or(service.spec_ip.take());
            }
            Ask::WriteServiceStatus(write) => {
                let service = self.services.get_mut(&write.service).unwrap();
                service.ingress = write.ingress;
                merge(&mut service.conditions, write.conditions);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn merge<T>(into: &mut BTreeMap<String, T>, changes: BTreeMap<String, Option<T>>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(into.insert(key, value)),
            None => drop(into.remove(&key)),
        }
    }
}

fn condition(status: &str, reason: &str, message: &str) -> Condition {
    Condition { status: status.to_owned(), reason: reason.to_owned(), message: message.to_owned() }
}

#[test]
fn only_the_holder_allocates_and_everybody_stands_for_it() {
    for role in [Role::Undecided, Role::Follower, Role::Leaving] {
        let mut scene = Scene::new();
        scene.role = role;
        let plan = scene.plan();
        assert_eq!(plan.elections[&lease()].standing, Standing::Contend, "{role:?}");
        assert_eq!(plan.elections[&lease()].footprint, Footprint::Clear, "{role:?}");
        assert!(plan.services.is_empty() && plan.pools.is_none() && plan.promised.is_empty(), "{role:?}");
    }
    assert_eq!(Scene::new().addresses(), Some("10.0.0.8".to_owned()));
}

#[test]
fn a_stopping_or_excluded_node_leaves_the_election() {
    let mut stopping = Scene::new();
    stopping.life = Life::Stopping;
    assert_eq!(stopping.plan().elections[&lease()].standing, Standing::Leave);
    assert!(stopping.plan().services.is_empty(), "and writes nothing more");
    let mut excluded = Scene::new();
    excluded.nodes.get_mut(&NodeName::new("n1")).unwrap().excluded = Some("drained".to_owned());
    assert_eq!(excluded.plan().elections[&lease()].standing, Standing::Leave);
}

#[test]
fn without_ipam_or_without_service_updates_nothing_is_planned() {
    let mut off = Scene::new();
    off.config.services.as_mut().unwrap().ipam = None;
    assert_eq!(off.plan(), NodePlan::default());
    let mut mute = Scene::new();
    mute.config.services.as_mut().unwrap().updates = ServiceUpdates::Off;
    assert_eq!(mute.plan(), NodePlan::default());
}

#[test]
fn nothing_is_given_before_everything_is_known_that_could_be_in_use() {
    for unknown in ["nodes", "services", "pools", "actual"] {
        let mut scene = Scene::new();
        scene.unknown = unknown;
        let plan = scene.plan();
        assert!(plan.services.is_empty() && plan.pools.is_none(), "{unknown}");
    }
}

#[test]
fn a_new_service_gets_annotations_label_and_spec_in_one_write_and_then_its_condition() {
    let mut scene =
        Scene::with(|service| drop(service.labels.insert("ipam-address".to_owned(), String::new())));
    scene.pools.insert("interface-default".to_owned(), "eth3".to_owned());
    let [Ask::WriteService(write)] = &scene.asks()[..] else { panic!("{:?}", scene.asks()) };
    let annotations = [
        ("kube-vip.io/allocatedIPs", "10.0.0.8"),
        ("kube-vip.io/loadbalancerIPs", "10.0.0.8"),
        ("kube-vip.io/serviceInterface", "eth3"),
    ];
    assert_eq!(
        write.annotations,
        annotations.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))).into_iter().collect()
    );
    let labels =
        [("implementation".to_owned(), Some("kube-vip".to_owned())), ("ipam-address".to_owned(), None)];
    assert_eq!(write.labels, labels.into_iter().collect());
    assert_eq!((write.spec_ip.as_deref(), write.expect.0.as_str()), (Some("10.0.0.8"), "7"));
    assert_eq!(scene.settle(), 2);
    assert_eq!(scene.service().conditions[CONDITION], condition("True", "Allocated", "10.0.0.8"));
    assert!(scene.plan().promised.is_empty(), "what is seen is no promise any more");
    assert!(scene.plan().services.is_empty(), "a Service that is as it should be is not mentioned");
}

#[test]
fn a_second_address_that_is_missing_is_told() {
    let mut scene = Scene::with(|service| {
        service.family_policy = FamilyPolicy::PreferDualStack;
        service.families = vec![Family::V4, Family::V6];
    });
    scene.pools.insert("cidr-default".to_owned(), "10.0.0.8/29".to_owned());
    scene.settle();
    let message = &scene.service().conditions[CONDITION].message;
    assert_eq!(message, "10.0.0.8; no address of the other family was left");
}

#[test]
fn an_interface_that_the_user_chose_stays() {
    let mut scene = Scene::with(|service| {
        service.annotations.insert("kube-vip.io/serviceInterface".to_owned(), "bond0".to_owned());
    });
    scene.pools.insert("interface-global".to_owned(), "eth3".to_owned());
    scene.settle();
    assert_eq!(scene.service().annotations["kube-vip.io/serviceInterface"], "bond0");
}

#[test]
fn addresses_set_by_hand_get_the_label_and_no_condition() {
    let mut scene = Scene::with(|service| {
        service.annotations.insert(ANNOTATION_ADDRESSES.to_owned(), "10.0.0.99".to_owned());
    });
    assert_eq!(scene.settle(), 1);
    let service = scene.service();
    assert_eq!(service.labels["implementation"], "kube-vip");
    assert_eq!((&service.spec_ip, service.conditions.len()), (&None, 0));
}

#[test]
fn a_legacy_address_is_copied_and_the_spec_left_alone() {
    let mut scene = Scene::with(|service| service.spec_ip = Some("10.9.9.9".to_owned()));
    assert_eq!(scene.settle(), 1);
    let service = scene.service();
    assert_eq!(service.annotations[ANNOTATION_ADDRESSES], "10.9.9.9");
    assert_eq!(service.spec_ip, Some("10.9.9.9".to_owned()));
    assert!(!service.annotations.contains_key(ANNOTATION_ALLOCATED));
}

#[test]
fn a_refusal_is_a_condition_and_a_verdict_and_ends_when_there_is_room() {
    let mut scene = Scene::new();
    scene.pools.insert("cidr-global".to_owned(), "10.0.0.0/32".to_owned());
    let mut before = NodePlan::default();
    before.verdicts.insert(Subject::Service(web()), Verdict::Skip(Reason::NoAddress));
    let verdict = scene.plan_on(before).verdicts[&Subject::Service(web())].clone();
    let text = "pool cidr-global has no free IPv4 address left";
    assert_eq!(verdict, Verdict::Skip(Reason::PoolExhausted(text.to_owned())));
    assert_eq!(scene.settle(), 1);
    assert_eq!(scene.service().conditions[CONDITION], condition("False", "PoolExhausted", text));
    scene.pools.insert("cidr-global".to_owned(), "10.0.0.1/32".to_owned());
    assert_eq!(scene.settle(), 2);
    assert_eq!(scene.service().conditions[CONDITION], condition("True", "Allocated", "10.0.0.1"));
    scene.service().annotations.insert(ANNOTATION_ADDRESSES.to_owned(), "10.0.0.2".to_owned());
    assert_eq!(scene.settle(), 1);
    assert_eq!(scene.service().conditions[CONDITION], condition("True", "SetByUser", "10.0.0.2"));
}

#[test]
fn another_verdict_is_not_painted_over() {
    let mut scene = Scene::new();
    scene.pools.clear();
    let mut before = NodePlan::default();
    let other = Verdict::Skip(Reason::Stopping);
    before.verdicts.insert(Subject::Service(web()), other.clone());
    assert_eq!(scene.plan_on(before).verdicts[&Subject::Service(web())], other);
}

#[test]
fn what_others_planned_for_a_service_stays() {
    let scene = Scene::new();
    let first = scene.plan();
    let mut before = NodePlan::default();
    let mut planned = first.services[&web()].clone();
    planned.annotations = BTreeMap::from([("kube-vip.io/vipHost".to_owned(), Some("n1".to_owned()))]);
    planned.conditions = BTreeMap::from([("kube-vip.io/Other".to_owned(), None)]);
    planned.ingress = Some(Vec::new());
    before.services.insert(web(), planned);
    let both = scene.plan_on(before).services[&web()].clone();
    assert_eq!(both.annotations["kube-vip.io/vipHost"], Some("n1".to_owned()));
    assert_eq!(both.annotations[ANNOTATION_ADDRESSES], Some("10.0.0.8".to_owned()));
    assert!(both.conditions.contains_key("kube-vip.io/Other") && both.ingress == Some(Vec::new()));
}

#[test]
fn services_of_others_are_never_planned_and_their_addresses_are_in_use() {
    type Change = fn(&mut Service);
    let rows: [(&str, Change); 4] = [
        ("class", |service| service.class = Some("somebody.else/class".to_owned())),
        ("ignored", |service| {
            drop(service.annotations.insert("kube-vip.io/ignore".to_owned(), "true".to_owned()));
        }),
        ("deleting", |service| service.life = ObjectLife::Deleting),
        ("type", |service| service.kind = ServiceKind::Other),
    ];
    for (what, change) in rows {
        let mut scene = Scene::with(|service| {
            service.ingress = vec![Ingress {
                ip: Some("10.0.0.8".parse().unwrap()),
                hostname: None,
                mode: None,
                ports: Vec::new(),
            }];
            change(service);
        });
        let mine = ServiceName::new("default", "mine");
        scene.services.insert(mine.clone(), Service { uid: "u2".to_owned(), ..service() });
        let plan = scene.plan();
        assert!(!plan.services.contains_key(&web()), "{what}");
        // Only a load balancer answers for what its status says.
        let wanted = if what == "type" { "10.0.0.8" } else { "10.0.0.9" };
        assert_eq!(plan.services[&mine].annotations[ANNOTATION_ADDRESSES], Some(wanted.to_owned()), "{what}");
    }
}

#[test]
fn the_class_rule_and_the_namespace_decide_what_is_ours() {
    let ours = |class: Option<&str>, unset, namespace: Option<&str>| {
        let mut scene = Scene::with(|service| service.class = class.map(str::to_owned));
        let config = scene.config.services.as_mut().unwrap();
        config.class.unset = unset;
        config.namespace = namespace.map(str::to_owned);
        scene.addresses().is_some()
    };
    assert!(ours(None, UnsetClass::Ours, None));
    assert!(!ours(None, UnsetClass::NotOurs, None));
    assert!(ours(Some("kube-vip.io/kube-vip-class"), UnsetClass::NotOurs, Some("default")));
    assert!(!ours(None, UnsetClass::Ours, Some("other")));
}

#[test]
fn node_addresses_and_the_control_planes_vips_are_never_given() {
    let mut scene = Scene::with(|service| service.family_policy = FamilyPolicy::RequireDualStack);
    let node = scene.nodes.get_mut(&NodeName::new("n1")).unwrap();
    node.addresses.insert("10.0.0.8".parse().unwrap());
    // As the holder's Node is labelled: IPv6 in 32 digits.
    let label = "10.0.0.9_fd000000000000000000000000000008".to_owned();
    node.labels.insert("kube-vip.io/has-ip".to_owned(), label);
    assert_eq!(scene.addresses(), Some("10.0.0.10,fd00::9".to_owned()));
}

#[test]
fn the_view_is_told_of_pools_and_of_what_is_wrong_in_them() {
    let mut scene = Scene::new();
    scene.pools.insert("cidr-broken".to_owned(), "nonsense".to_owned());
    scene.settle();
    let pools = scene.plan().pools.unwrap();
    let figures = |at: usize| (pools.usage[at].size, pools.usage[at].used, pools.usage[at].free);
    assert_eq!((figures(0), figures(1)), ((8, 1, 7), (8, 0, 8)));
    assert_eq!(pools.problems.len(), 1);
}

#[test]
fn an_address_of_a_family_that_the_pool_lost_is_kept_when_the_other_one_clashes() {
    let allocated = |service: &mut Service, addrs: &str| {
        for key in ["kube-vip.io/allocatedIPs", "kube-vip.io/loadbalancerIPs"] {
            service.annotations.insert(key.to_owned(), addrs.to_owned());
        }
    };
    let mut scene = Scene::with(|service| {
        service.families = vec![Family::V4, Family::V6];
        service.family_policy = FamilyPolicy::PreferDualStack;
        allocated(service, "10.0.0.9,fd00::9");
    });
    scene.pools = BTreeMap::from([("cidr-global".to_owned(), "10.0.0.8/29".to_owned())]);
    let mut older = Service { uid: "u0".to_owned(), created: "2025-01-01T00:00:00Z".to_owned(), ..service() };
    allocated(&mut older, "10.0.0.9");
    scene.services.insert(ServiceName::new("default", "older"), older);
    scene.settle();
    let kept = scene.service().annotations["kube-vip.io/loadbalancerIPs"].clone();
    let (v4, v6) = kept.split_once(',').expect("both families");
    assert!(v4 != "10.0.0.9" && v6 == "fd00::9", "{kept}");
}
