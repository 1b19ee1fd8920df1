//! Explanations: one row for each stage at which a Service can stop, and one that is served.

use vip_model::config::OnDemand;
use vip_model::explanation::{Finding, Outcome, Stage};
use vip_model::service::{EndpointState, TrafficPolicy};

use super::scene::{GLOBAL, Scene, endpoint, ready};

const WEB: &str = "shop/web";
const LEASE: &str = "shop/kubevip-web";

fn web(scene: Scene) -> Scene {
    scene.service(WEB, "10.0.0.50")
}

/// The first finding that does not pass.
fn obstacle(findings: &[Finding]) -> Option<(Stage, Outcome, &str)> {
    let first = findings.iter().find(|finding| finding.outcome != Outcome::Passes)?;
    Some((first.stage, first.outcome, &first.text))
}

#[test]
fn a_service_that_is_served_passes_every_stage() {
    let findings = web(Scene::per_service()).holding(LEASE).run().explain(WEB);
    let stages: Vec<_> = findings.iter().map(|finding| finding.stage).collect();
    let all = [
        Stage::Selection,
        Stage::Addresses,
        Stage::Endpoints,
        Stage::Sharing,
        Stage::Election,
        Stage::Kernel,
        Stage::Writing,
    ];
    assert_eq!(stages, all);
    let passing = findings.iter().filter(|finding| finding.stage != Stage::Writing);
    assert!(passing.clone().all(|finding| finding.outcome == Outcome::Passes), "{findings:#?}");
    let texts: Vec<_> = passing.map(|finding| finding.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "a load balancer with no class: it is ours",
            "10.0.0.50 from annotation kube-vip.io/loadbalancerIPs",
            "1 of 1 endpoints take traffic, 1 on this node; policy Cluster",
            "no other Service moves with it",
            "shop/kubevip-web: this node holds it; this node stands for it",
            "10.0.0.50 is on eth1 and announced",
        ]
    );
}

#[test]
fn each_stage_can_stop_it_and_says_why() {
    let held = || web(Scene::new().holding(GLOBAL));
    let local = |scene: Scene| scene.edit(WEB, |service| service.traffic = TrafficPolicy::Local);
    let rows = vec![
        (held().annotate(WEB, "ignore", "true"), Stage::Selection, "kube-vip.io/ignore"),
        (held().annotate(WEB, "loadbalancerIPs", "10.0.0.300"), Stage::Addresses, "10.0.0.300"),
        (Scene::new().holding(GLOBAL).service(WEB, ""), Stage::Addresses, "no address yet"),
        (held().endpoints(WEB, &[]), Stage::Endpoints, "0 of 0 endpoints"),
        (
            held().endpoints(WEB, &[endpoint("n1", EndpointState::NotReady)]),
            Stage::Endpoints,
            "0 of 1 endpoints",
        ),
        (
            local(held().endpoints(WEB, &[ready("n2")])),
            Stage::Endpoints,
            "1 of 1 endpoints take traffic, 0 on this",
        ),
        (
            held()
                .service("shop/early", "10.0.0.50")
                .edit("shop/early", |early| early.created = "2020".into()),
            Stage::Sharing,
            "shop/early",
        ),
        (web(Scene::new()).held_by(GLOBAL, "n2"), Stage::Election, "n2 holds it"),
        (
            web(Scene::per_service()).annotate(WEB, "leaseName", "Not/A/Lease").free(LEASE),
            Stage::Election,
            "names no Lease",
        ),
    ];
    for (scene, stage, part) in rows {
        let findings = scene.run().explain(WEB);
        let (found, outcome, text) =
            obstacle(&findings).unwrap_or_else(|| panic!("{stage:?}: {findings:#?}"));
        assert_eq!((found, outcome), (stage, Outcome::Stops), "{text}");
        assert!(text.contains(part), "{stage:?}: {text}");
    }
}

#[test]
fn what_is_on_its_way_waits() {
    let scene = web(Scene::per_service()).free(LEASE);
    let findings = scene.explain(WEB);
    let (stage, outcome, text) = obstacle(&findings).expect("nobody holds it yet");
    assert_eq!((stage, outcome), (Stage::Election, Outcome::Waits));
    assert!(text.contains("nobody holds it"), "{text}");
    let unlisted = web(Scene::new().holding(GLOBAL)).with(|scene| scene.endpoints_listed = false);
    assert_eq!(
        obstacle(&unlisted.explain(WEB)).map(|(stage, outcome, _)| (stage, outcome)),
        Some((Stage::Endpoints, Outcome::Waits))
    );
}

#[test]
fn a_service_that_was_never_seen_is_not_explained() {
    let scene = Scene::new().set(|services| services.on_demand = OnDemand::Off);
    assert!(scene.explain("shop/nobody").is_empty());
}
