//! F-SVC-1, F-SVC-2, F-SVC-3, F-SVC-15.

use vip_model::config::UnsetClass;
use vip_model::service::{ObjectLife, Service, ServiceKind};
use vip_model::verdict::{Reason, Verdict};

use super::scene::{GLOBAL, Scene};

type Change = fn(&mut Service);

fn served() -> Scene {
    Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50").run()
}

#[test]
fn the_holder_installs_and_announces_a_service_of_ours() {
    let scene = served();
    assert_eq!(scene.ours(), ["10.0.0.50/32 3"]);
    assert_eq!(scene.verdict("default/web"), Verdict::Announce);
    assert_eq!(scene.plan().claims.len(), 1);
}

#[test]
fn a_class_is_ours_when_it_is_named_and_no_class_when_the_rule_says_so() {
    let own = "kube-vip.io/kube-vip-class";
    let rows = [
        (None, UnsetClass::Ours, true),
        (None, UnsetClass::NotOurs, false),
        (Some(own), UnsetClass::Ours, true),
        (Some(own), UnsetClass::NotOurs, true),
        (Some("other"), UnsetClass::Ours, false),
        (Some("other"), UnsetClass::NotOurs, false),
    ];
    for (class, unset, is_ours) in rows {
        let scene = Scene::new().set(|services| services.class.unset = unset).service_with(
            "default/web",
            "10.0.0.50",
            |service| service.class = class.map(str::to_owned),
        );
        assert_eq!(scene.selects("default/web").is_ok(), is_ours, "{class:?} {unset:?}");
        assert_eq!(scene.plan().services.len(), usize::from(is_ours), "{class:?} {unset:?}");
    }
}

#[test]
fn what_stops_being_ours_loses_its_address_and_is_not_written_to() {
    let changes: [(Change, Reason); 4] = [
        (|service| service.kind = ServiceKind::Other, Reason::NotALoadBalancer),
        (|service| service.life = ObjectLife::Deleting, Reason::Deleting),
        (|service| service.class = Some("other".into()), Reason::OtherClass(Some("other".into()))),
        (
            |service| drop(service.annotations.insert("kube-vip.io/ignore".into(), "true".into())),
            Reason::Ignored,
        ),
    ];
    for (change, reason) in changes {
        let scene = served().edit("default/web", change);
        assert_eq!(scene.reason("default/web"), reason);
        assert!(scene.plan().services.is_empty(), "{reason:?}");
        assert!(scene.plan().claims.is_empty(), "{reason:?}");
        assert!(scene.run().ours().is_empty(), "{reason:?}");
    }
}

#[test]
fn only_exactly_true_ignores_a_service() {
    for text in ["True", "yes", "false", ""] {
        assert_eq!(served().annotate("default/web", "ignore", text).selects("default/web"), Ok(()), "{text}");
    }
}

#[test]
fn only_services_of_the_configured_namespace_are_ours() {
    let scene = Scene::new()
        .set(|services| services.namespace = Some("shop".to_owned()))
        .service("shop/web", "10.0.0.50")
        .service("default/web", "10.0.0.51");
    assert_eq!(scene.selects("shop/web"), Ok(()));
    assert_eq!(scene.reason("default/web"), Reason::OtherNamespace("shop".to_owned()));
}

#[test]
fn a_deleted_service_leaves_nothing_and_one_of_the_same_name_starts_anew() {
    let mut scene = served();
    let service = scene.services.remove(&super::scene::name("default/web")).unwrap();
    let mut scene = scene.run();
    assert!(scene.ours().is_empty());
    scene.services.insert(super::scene::name("default/web"), service);
    assert_eq!(scene.run().ours(), ["10.0.0.50/32 3"]);
}

#[test]
fn a_node_that_stops_takes_everything_away_and_stands_for_nothing() {
    let scene = served().with(|scene| scene.life = crate::world::Life::Stopping);
    assert_eq!(scene.reason("default/web"), Reason::Stopping);
    assert_eq!(scene.standing(GLOBAL), vip_model::plan::Standing::Leave);
    assert!(scene.run().ours().is_empty());
}
