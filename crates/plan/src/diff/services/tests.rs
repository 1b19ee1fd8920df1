//! What is written to Services, one rule per test.

use std::sync::Arc;

use vip_model::Known;
use vip_model::plan::Serving;
use vip_model::service::{Condition, FamilyPolicy, Ingress, ObjectLife, ServiceKind, TrafficPolicy};
use vip_model::store::Version;

use super::*;

fn named(name: &str) -> ServiceName {
    ServiceName::new("default", name)
}

fn service(created: &str) -> Service {
    Service {
        uid: "u1".to_owned(),
        version: Version("7".to_owned()),
        created: created.to_owned(),
        kind: ServiceKind::LoadBalancer,
        class: None,
        families: Vec::new(),
        family_policy: FamilyPolicy::SingleStack,
        traffic: TrafficPolicy::Cluster,
        ports: Vec::new(),
        spec_ip: None,
        ingress: Vec::new(),
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        conditions: BTreeMap::new(),
        life: ObjectLife::Alive,
    }
}

fn planned() -> ServicePlan {
    ServicePlan {
        uid: "u1".to_owned(),
        addrs: Vec::new(),
        lease: None,
        endpoints: vip_model::service::EndpointCount::NONE,
        serving: Serving::Here,
        annotations: BTreeMap::from([("kube-vip.io/vipHost".to_owned(), Some("n1".to_owned()))]),
        labels: BTreeMap::from([("ipam-address".to_owned(), None)]),
        spec_ip: Some("10.0.0.1".to_owned()),
        ingress: Some(vec![ingress()]),
        conditions: BTreeMap::from([("kube-vip.io/AddressAssigned".to_owned(), Some(condition()))]),
    }
}

fn ingress() -> Ingress {
    Ingress { ip: "10.0.0.1".parse().ok(), hostname: None, mode: Some("VIP".to_owned()), ports: Vec::new() }
}

fn condition() -> Condition {
    Condition { status: "True".to_owned(), reason: "Allocated".to_owned(), message: "10.0.0.1".to_owned() }
}

fn plan(name: &str, planned: ServicePlan) -> NodePlan {
    NodePlan { services: BTreeMap::from([(named(name), planned)]), ..NodePlan::default() }
}

fn snapshot(found: Vec<(&str, Service)>) -> Snapshot {
    let found = found.into_iter().map(|(name, service)| (named(name), Arc::new(service)));
    Snapshot { services: Known::Known(Arc::new(found.collect())), ..Snapshot::default() }
}

fn asks(planned: ServicePlan, found: Service) -> Vec<Ask> {
    services(&plan("web", planned), &snapshot(vec![("web", found)]), &BTreeSet::new())
}

#[test]
fn metadata_is_written_first_and_only_what_differs() {
    let mut found = service("1");
    let [Ask::WriteService(write)] = &asks(planned(), found.clone())[..] else { panic!("one write") };
    assert_eq!(write.expect, Version("7".to_owned()));
    assert_eq!(write.annotations, planned().annotations);
    assert_eq!(write.labels, BTreeMap::new(), "what shall be absent is absent");
    assert_eq!(write.spec_ip.as_deref(), Some("10.0.0.1"));
    found.annotations.insert("kube-vip.io/vipHost".to_owned(), "n1".to_owned());
    found.annotations.insert("kube-vip.io/other".to_owned(), "stays".to_owned());
    found.labels.insert("ipam-address".to_owned(), "x".to_owned());
    found.spec_ip = Some("10.0.0.1".to_owned());
    let [Ask::WriteService(write)] = &asks(planned(), found)[..] else { panic!("one write") };
    assert_eq!(write.annotations, BTreeMap::new());
    assert_eq!(write.labels, planned().labels);
    assert_eq!(write.spec_ip, None);
}

#[test]
fn the_status_follows_when_the_metadata_is_seen() {
    let mut found = service("1");
    found.annotations.insert("kube-vip.io/vipHost".to_owned(), "n1".to_owned());
    found.spec_ip = Some("10.0.0.1".to_owned());
    let [Ask::WriteServiceStatus(write)] = &asks(planned(), found.clone())[..] else { panic!("one write") };
    assert_eq!((&write.ingress, &write.conditions), (&vec![ingress()], &planned().conditions));
    // A condition alone keeps the ingress that is there.
    let other = Ingress { ip: "10.0.0.2".parse().ok(), ..ingress() };
    found.ingress = vec![other.clone()];
    let silent = ServicePlan { ingress: None, ..planned() };
    let [Ask::WriteServiceStatus(write)] = &asks(silent, found.clone())[..] else { panic!("one write") };
    assert_eq!(write.ingress, [other]);
    found.ingress = vec![ingress()];
    found.conditions.insert("kube-vip.io/AddressAssigned".to_owned(), condition());
    assert_eq!(asks(planned(), found), [], "and then nothing");
}

#[test]
fn a_condition_that_shall_not_be_there_is_removed() {
    let mut gone = planned();
    gone.annotations.clear();
    (gone.spec_ip, gone.ingress) = (None, None);
    gone.conditions = BTreeMap::from([("kube-vip.io/Clash".to_owned(), None)]);
    let mut found = service("1");
    assert_eq!(asks(gone.clone(), found.clone()), []);
    found.conditions.insert("kube-vip.io/Clash".to_owned(), condition());
    let [Ask::WriteServiceStatus(write)] = &asks(gone.clone(), found)[..] else { panic!("one write") };
    assert_eq!(write.conditions, gone.conditions);
}

#[test]
fn another_life_an_unplanned_service_and_one_in_flight_are_left_alone() {
    let other_life = Service { uid: "u2".to_owned(), ..service("1") };
    assert_eq!(asks(planned(), other_life), []);
    let found = snapshot(vec![("web", service("1"))]);
    assert_eq!(services(&plan("gone", planned()), &found, &BTreeSet::new()), []);
    assert_eq!(services(&NodePlan::default(), &found, &BTreeSet::new()), []);
    assert_eq!(services(&plan("web", planned()), &found, &BTreeSet::from([named("web")])), []);
    assert_eq!(services(&plan("web", planned()), &Snapshot::default(), &BTreeSet::new()), [], "unknown");
}

#[test]
fn the_oldest_service_comes_first() {
    let found =
        snapshot(vec![("a", service("3")), ("b", service("1")), ("c", service("1")), ("d", service("2"))]);
    let planned = ["a", "b", "c", "d"].map(|name| (named(name), planned()));
    let plan = NodePlan { services: planned.into_iter().collect(), ..NodePlan::default() };
    let order: Vec<_> = services(&plan, &found, &BTreeSet::new())
        .into_iter()
        .map(|ask| match ask {
            Ask::WriteService(write) => write.service.name().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, ["b", "c", "d", "a"]);
}
