//! The node that serves Services.

use vip_model::config::{
    ClassRule, EndpointSource, OnDemand, PrefixRule, ServiceElection, ServiceLabels, ServiceSecurity,
    ServiceUpdates, Services, UnsetClass,
};
use vip_model::service::{
    Endpoint, EndpointState, FamilyPolicy, ObjectLife, Protocol, Service, ServiceKind, ServicePort,
    TrafficPolicy,
};
use vip_model::store::{NodeFacts, Revision};
use vip_model::view::Readiness;

use super::*;

/// A configuration for Services alone, with an election each.
fn services_alone() -> Config {
    let timings = LeaseTimings::default();
    let services = Services {
        namespace: None,
        class: ClassRule { name: String::new(), unset: UnsetClass::Ours },
        interface: InterfaceChoice::Auto,
        link_down: LinkDown::Yield,
        prefix_v4: PrefixRule::Fixed(32),
        prefix_v6: PrefixRule::Fixed(128),
        election: ServiceElection::PerService(timings),
        on_demand: OnDemand::Off,
        endpoints: EndpointSource::Slices,
        updates: ServiceUpdates::On,
        security: ServiceSecurity::Off,
        node_labels: ServiceLabels::Off,
        ipam: None,
    };
    Config { control_plane: None, services: Some(services), ..config() }
}

fn web() -> Service {
    Service {
        uid: "1".to_owned(),
        version: Version("1".to_owned()),
        created: "2026-01-01T00:00:00Z".to_owned(),
        kind: ServiceKind::LoadBalancer,
        class: None,
        families: Vec::new(),
        family_policy: FamilyPolicy::SingleStack,
        traffic: TrafficPolicy::Cluster,
        ports: vec![ServicePort { protocol: Protocol::Tcp, port: 80 }],
        spec_ip: None,
        ingress: Vec::new(),
        annotations: BTreeMap::from([("kube-vip.io/loadbalancerIPs".to_owned(), "10.0.0.50".to_owned())]),
        labels: BTreeMap::new(),
        conditions: BTreeMap::new(),
        life: ObjectLife::Alive,
    }
}

fn snapshot(service: Service, node: NodeFacts) -> Snapshot {
    let name = ServiceName::new("default", "web");
    let endpoint = Endpoint {
        addr: "10.244.0.1".parse().unwrap(),
        node: Some(NodeName::new("n1")),
        host: None,
        state: EndpointState::Ready,
    };
    Snapshot {
        nodes: Known::Known(Arc::new(BTreeMap::from([(NodeName::new("n1"), node)]))),
        services: Known::Known(Arc::new(BTreeMap::from([(name.clone(), Arc::new(service))]))),
        endpoints: Known::Known(Arc::new(BTreeMap::from([(name, vec![endpoint])]))),
        ..Snapshot::default()
    }
}

impl Desk {
    fn with_services() -> Self {
        let mut desk = Self::new();
        let mut config = services_alone();
        let ControlPlane { interface, election, .. } = super::config().control_plane.unwrap();
        let services = config.services.as_mut().unwrap();
        (services.interface, services.election) = (interface, ServiceElection::Global(election));
        desk.agent.want(desk.now, config);
        desk.drain();
        desk
    }

    fn sees(&mut self, service: Service, node: NodeFacts) {
        self.feed(Input::Snapshot(snapshot(service, node)));
    }

    fn writes(&self) -> usize {
        self.log.iter().filter(|line| *line == "service").count()
    }
}

#[test]
fn an_agent_for_services_is_ready_when_they_are_listed_also_when_there_is_none() {
    let mut desk = Desk::new();
    desk.agent.want(desk.now, services_alone());
    desk.drain();
    desk.run_for(500);
    assert_eq!(desk.agent.view().readiness, Readiness::Starting);
    desk.snapshot.services = Known::Known(Arc::default());
    desk.show();
    desk.run_for(50);
    assert_eq!(desk.agent.view().readiness, Readiness::Starting, "the endpoints are not listed");
    desk.snapshot.endpoints = Known::Known(Arc::default());
    desk.show();
    desk.run_for(50);
    assert_eq!(desk.agent.view().readiness, Readiness::Ready);
}

#[test]
fn a_plan_that_is_older_than_what_is_known_writes_nothing() {
    let mut desk = Desk::with_services();
    let facts = |label: &str| NodeFacts {
        labels: BTreeMap::from([("kube-vip.io/test".to_owned(), label.to_owned())]),
        ready: true,
        ..NodeFacts::default()
    };
    desk.sees(web(), facts("1"));
    desk.run_for(60);
    assert_eq!(desk.writes(), 1, "the annotation is written: {:?}", desk.log);
    // Planned again, because something else is news; the status waits until the annotation is seen.
    desk.sees(web(), facts("2"));
    // Within the pause between two plans the Service is seen to be ours no more.
    let mut ignored = web();
    ignored.annotations.insert("kube-vip.io/ignore".to_owned(), "true".to_owned());
    ignored.version = Version("2".to_owned());
    desk.sees(ignored, facts("2"));
    desk.run_for(3000);
    assert_eq!(desk.writes(), 1, "{:?}", desk.log);
}

#[test]
fn the_view_shows_the_addresses_that_a_service_has_now() {
    let mut desk = Desk::with_services();
    let excluded = NodeFacts { excluded: Some("drain".to_owned()), ..NodeFacts::default() };
    desk.sees(web(), excluded.clone());
    desk.run_for(60);
    let before = desk.agent.view().services[0].clone();
    let mut moved = web();
    moved.annotations.insert("kube-vip.io/loadbalancerIPs".to_owned(), "10.0.0.51".to_owned());
    moved.version = Version("2".to_owned());
    desk.sees(moved, excluded);
    desk.run_for(60);
    let after = desk.agent.view().services[0].clone();
    assert_eq!(before.verdict, after.verdict);
    assert_eq!(after.addrs, ["10.0.0.51".parse::<IpAddr>().unwrap()]);
}

#[test]
fn thousands_of_services_are_planned_in_breaths_and_few_at_once() {
    let mut desk = Desk::with_services();
    desk.run_for(500);
    let of = |count: usize| {
        let ours = Arc::new(Service { kind: ServiceKind::Other, ..web() });
        let named = |number| (ServiceName::new("default", format!("web-{number}")), Arc::clone(&ours));
        let services = Known::Known(Arc::new((0..count).map(named).collect()));
        Snapshot { services, ..snapshot(web(), NodeFacts::default()) }
    };
    for (count, least, most) in [(5000, 50, 52), (50, 0, 3)] {
        desk.feed(Input::Snapshot(of(count)));
        desk.run_for(200);
        // The first change of a burst is planned at once, the second after the pause.
        desk.feed(Input::Snapshot(of(count + 1)));
        desk.feed(Input::Snapshot(of(count + 2)));
        let due = desk.agent.settle_due.expect("something changed").since(desk.now).as_millis();
        assert!((least..=most).contains(&due), "{count} Services: {due} ms");
        desk.run_for(200);
        assert_eq!(desk.agent.settle_due, None);
    }
}

#[test]
fn what_was_known_of_the_services_is_not_forgotten_when_a_server_that_lags_shows_less() {
    let mut desk = Desk::with_services();
    let shown = |at: &str| {
        let known = snapshot(web(), NodeFacts::default());
        Input::Snapshot(Snapshot { services_at: Version(at.to_owned()), ..known })
    };
    for (at, furthest) in [("40", 40), ("37", 40), ("41", 41)] {
        desk.feed(shown(at));
        let trails = desk.agent.observed.trails.as_ref().expect("Services are served");
        assert_eq!(trails.furthest, Some(Revision(furthest)), "shown {at}");
    }
}
