//! What is remembered of addresses, and when a stop is noticed.

use std::collections::BTreeMap;

use vip_model::plan::Serving;
use vip_model::service::EndpointCount;

use super::*;

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn addr() -> IpAddr {
    "10.0.0.10".parse().unwrap()
}

fn lease(name: &str) -> LeaseName {
    LeaseName::new("default", name)
}

fn left(name: &str, revision: u64) -> Former {
    Former { lease: lease(name), at: Some(Revision(revision)) }
}

/// A plan in which each of these Services has the address under this Lease.
fn plan(services: &[(&str, &str)]) -> NodePlan {
    let of = |(name, decides): &(&str, &str)| {
        let planned = ServicePlan {
            uid: "1".to_owned(),
            addrs: vec![addr()],
            lease: Some(lease(decides)),
            endpoints: EndpointCount::NONE,
            serving: Serving::NotHere,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            spec_ip: None,
            ingress: None,
            conditions: BTreeMap::new(),
        };
        (ServiceName::new("default", name), planned)
    };
    NodePlan { services: services.iter().map(of).collect(), ..NodePlan::default() }
}

/// What is remembered after these plans, one each second.
fn after(plans: &[&[(&str, &str)]]) -> Trails {
    let mut trails = Trails::default();
    let mut former = NodePlan::default();
    for (second, services) in (1..).zip(plans) {
        let plan = plan(services);
        note((at(second * 1000), Some(Revision(second))), &mut trails, (&former, &plan));
        former = plan;
    }
    trails
}

#[test]
fn an_address_is_known_under_its_lease_since_it_was_first_seen_there() {
    let trails = after(&[&[("web", "a")], &[("web", "a")], &[("web", "a"), ("api", "a")], &[("api", "a")]]);
    let expected = Trail { lease: lease("a"), since: at(1000), before: Vec::new(), gone: None };
    assert_eq!(trails.addrs[&addr()], expected);
    assert!(trails.moved.is_empty());
}

#[test]
fn every_lease_that_it_came_from_is_remembered_for_a_minute() {
    let mut trails = after(&[&[("web", "a")], &[("web", "b")], &[("web", "c")], &[("web", "b")]]);
    let trail = &trails.addrs[&addr()];
    assert_eq!((trail.since, &trail.before), (at(4000), &vec![left("a", 2), left("c", 4)]));
    forget(at(63_999), &mut trails);
    assert!(trails.moved.contains(&addr()));
    forget(at(64_000), &mut trails);
    assert!(trails.moved.is_empty());
    assert_eq!(trails.addrs[&addr()].before, Vec::new());
}

#[test]
fn an_address_that_goes_from_one_service_to_another_is_moved_also_with_a_pause_between() {
    // It left its Lease when nobody asked for it any more, in both cases.
    for plans in [&[&[("web", "a")][..], &[("api", "b")]][..], &[&[("web", "a")], &[], &[("api", "b")]]] {
        let trails = after(plans);
        let trail = &trails.addrs[&addr()];
        assert_eq!((&trail.lease, &trail.before, trail.gone), (&lease("b"), &vec![left("a", 2)], None));
    }
}

#[test]
fn who_comes_back_to_its_lease_is_known_there_anew() {
    let trails = after(&[&[("web", "a")], &[], &[("web", "a")]]);
    let expected = Trail { lease: lease("a"), since: at(3000), before: Vec::new(), gone: None };
    assert_eq!(trails.addrs[&addr()], expected);
}

#[test]
fn a_stop_is_noticed_and_a_quiet_node_is_none() {
    let mut watchman = Watchman::new(at(0));
    let mut trails = Trails::default();
    for second in 1..100 {
        assert_eq!(watchman.deadline(), at(second * 1000));
        watchman.runs(at(second * 1000), &mut trails);
    }
    assert_eq!(trails.woke, None);
    watchman.runs(at(99_000 + 1501), &mut trails);
    assert_eq!(trails.woke, Some(at(100_501)));
}
