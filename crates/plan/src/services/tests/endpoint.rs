//! Endpoints: F-SVC-9, F-SVC-10, F-SVC-11.

use vip_model::Family;
use vip_model::plan::Standing;
use vip_model::service::{Endpoint, EndpointState, TrafficPolicy};
use vip_model::verdict::{Reason, Verdict};

use super::scene::{GLOBAL, Scene, endpoint, ip, name, ready};

const WEB: &str = "default/web";

fn holder(traffic: TrafficPolicy, endpoints: &[Endpoint]) -> Scene {
    let scene =
        Scene::new().holding(GLOBAL).service_with(WEB, "10.0.0.50", |service| service.traffic = traffic);
    scene.endpoints(WEB, endpoints).run()
}

fn local(endpoints: &[Endpoint]) -> Verdict {
    holder(TrafficPolicy::Local, endpoints).verdict(WEB)
}

fn cluster(endpoints: &[Endpoint]) -> Verdict {
    holder(TrafficPolicy::Cluster, endpoints).verdict(WEB)
}

#[test]
fn under_cluster_any_endpoint_serves_and_under_local_only_one_of_this_node() {
    assert_eq!(cluster(&[ready("n2")]), Verdict::Announce);
    assert_eq!(local(&[ready("n2")]), Verdict::Skip(Reason::NoLocalEndpoint));
    assert_eq!(local(&[ready("n1"), ready("n2")]), Verdict::Announce);
}

#[test]
fn without_an_endpoint_there_is_no_address_and_with_the_next_one_it_is_back() {
    for traffic in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
        let scene = holder(traffic, &[]);
        assert_eq!(scene.reason(WEB), Reason::NoEndpoint);
        assert!(scene.ours().is_empty());
        assert_eq!(scene.endpoints(WEB, &[ready("n1")]).run().ours(), ["10.0.0.50/32 3"]);
    }
}

#[test]
fn endpoints_that_terminate_count_only_while_none_is_ready() {
    let going = endpoint("n1", EndpointState::ServingTerminating);
    assert_eq!(cluster(std::slice::from_ref(&going)), Verdict::Announce);
    assert_eq!(local(std::slice::from_ref(&going)), Verdict::Announce);
    assert_eq!(local(&[going, ready("n2")]), Verdict::Skip(Reason::NoLocalEndpoint));
    assert_eq!(cluster(&[endpoint("n1", EndpointState::NotReady)]), Verdict::Skip(Reason::NoEndpoint));
}

#[test]
fn a_host_name_stands_in_for_a_missing_node_name_and_for_nothing_else() {
    let hosted = |node: &str, host: &str| Endpoint { host: Some(host.to_owned()), ..ready(node) };
    assert_eq!(local(&[hosted("", "N1")]), Verdict::Announce);
    assert_eq!(local(&[hosted("n2", "n1")]), Verdict::Skip(Reason::NoLocalEndpoint));
}

#[test]
fn an_endpoint_without_a_node_counts_for_cluster_and_under_local_for_no_node() {
    assert_eq!(cluster(&[ready("")]), Verdict::Announce);
    assert_eq!(local(&[ready("")]), Verdict::Skip(Reason::NoLocalEndpoint));
}

#[test]
fn an_endpoint_of_a_family_that_the_service_lacks_is_none() {
    let six = |node: &str| Endpoint { addr: ip("fd00::9"), ..ready(node) };
    let families = [
        (vec![Family::V4], "10.0.0.50", [ready("n2"), six("n1")], (1, 0)),
        (vec![Family::V6], "fd00::50", [ready("n1"), six("n2")], (1, 0)),
        (vec![Family::V4, Family::V6], "10.0.0.50", [ready("n2"), six("n1")], (2, 1)),
        (Vec::new(), "10.0.0.50", [ready("n2"), six("n1")], (2, 1)),
    ];
    for (families, addr, endpoints, (all, here)) in families {
        let scene = Scene::new().holding(GLOBAL).service_with(WEB, addr, |service| {
            service.traffic = TrafficPolicy::Local;
            service.families.clone_from(&families);
        });
        let plan = scene.clone().endpoints(WEB, &endpoints).plan();
        let count = plan.services[&name(WEB)].endpoints;
        assert_eq!((count.all, count.taking, count.here), (all, all, here), "{families:?}");
        let verdict = scene.clone().endpoints(WEB, &endpoints).run().verdict(WEB);
        let elsewhere = Verdict::Skip(Reason::NoLocalEndpoint);
        assert_eq!(verdict, if here == 0 { elsewhere } else { Verdict::Announce }, "{families:?}");
        // With policy Cluster the other family's endpoint alone would be somebody to forward to, and is nobody.
        let cluster = scene.edit(WEB, |service| service.traffic = TrafficPolicy::Cluster);
        let foreign = if families == [Family::V6] { ready("n1") } else { six("n1") };
        let verdict = cluster.endpoints(WEB, &[foreign]).run().verdict(WEB);
        let nobody = Verdict::Skip(Reason::NoEndpoint);
        assert_eq!(verdict, if families.len() == 1 { nobody } else { Verdict::Announce }, "{families:?}");
    }
}

#[test]
fn the_annotation_serves_without_endpoints_but_only_under_cluster() {
    for (text, traffic, expected) in [
        ("true", TrafficPolicy::Cluster, Verdict::Announce),
        ("TRUE", TrafficPolicy::Cluster, Verdict::Announce),
        ("yes", TrafficPolicy::Cluster, Verdict::Skip(Reason::NoEndpoint)),
        ("true", TrafficPolicy::Local, Verdict::Skip(Reason::NoEndpoint)),
    ] {
        let scene = holder(traffic, &[]).annotate(WEB, "allow-reconcile-without-endpoints", text).run();
        assert_eq!(scene.verdict(WEB), expected, "{text} {traffic:?}");
    }
}

#[test]
fn a_flip_of_the_policy_is_followed_at_once() {
    let scene = holder(TrafficPolicy::Cluster, &[ready("n2")]);
    assert_eq!(scene.ours().len(), 1);
    let scene = scene.edit(WEB, |service| service.traffic = TrafficPolicy::Local).run();
    assert!(scene.ours().is_empty());
    let scene = scene.edit(WEB, |service| service.traffic = TrafficPolicy::Cluster).run();
    assert_eq!(scene.ours().len(), 1);
}

#[test]
fn with_an_election_of_its_own_a_service_is_left_when_its_endpoints_leave() {
    const LEASE: &str = "default/kubevip-web";
    let scene = Scene::per_service().holding(LEASE).service_with(WEB, "10.0.0.50", |service| {
        service.traffic = TrafficPolicy::Local;
    });
    let scene = scene.run();
    assert_eq!((scene.standing(LEASE), scene.ours().len()), (Standing::Contend, 1));
    let moved = scene.endpoints(WEB, &[ready("n2")]);
    let want = moved.want(LEASE);
    assert_eq!((want.standing, want.footprint), (Standing::Leave, vip_model::plan::Footprint::Present));
    let moved = moved.run();
    assert_eq!(moved.want(LEASE).footprint, vip_model::plan::Footprint::Clear, "now the Lease may go");
}
