//! What is written: status, annotation, conditions, labels, filter (F-SVC-7, F-SVC-8, F-SVC-21, F-SVC-22).

use std::collections::BTreeSet;

use vip_model::NodeName;
use vip_model::config::{ServiceLabels, ServiceSecurity, ServiceUpdates};
use vip_model::kernel::Dad;
use vip_model::members::Role;
use vip_model::observed::ProbeState;
use vip_model::plan::Serving;
use vip_model::service::{Condition, TrafficPolicy};
use vip_model::verdict::Reason;

use super::scene::{GLOBAL, Scene, ip, lease, mac, name, ready, shown, tcp};
use crate::services::write::CONDITION;

const WEB: &str = "default/web";

fn served() -> Scene {
    Scene::new().holding(GLOBAL).service(WEB, "10.0.0.50").run()
}

/// The planned condition as `status reason`; empty when none is.
fn condition(scene: &Scene) -> String {
    let written = scene.written(WEB);
    let condition = written.conditions.get(CONDITION).and_then(Option::as_ref);
    condition.map(|condition| format!("{} {}", condition.status, condition.reason)).unwrap_or_default()
}

#[test]
fn who_serves_writes_status_host_and_condition() {
    let scene = served();
    let written = scene.written(WEB);
    assert_eq!(written.serving, Serving::Here);
    assert_eq!(written.annotations["kube-vip.io/vipHost"].as_deref(), Some("n1"));
    let ingress = written.ingress.clone().unwrap();
    assert_eq!(
        (ingress.len(), ingress[0].ip, ingress[0].mode.as_deref()),
        (1, Some(ip("10.0.0.50")), Some("VIP"))
    );
    assert_eq!(ingress[0].ports, [tcp(80)]);
    assert_eq!(condition(&scene), "True Announced");
}

#[test]
fn nothing_is_written_before_the_kernel_shows_every_address() {
    let scene = Scene::new().holding(GLOBAL).service_with(WEB, "10.0.0.50,fd00::50", |service| {
        service.ingress = vec![shown("10.0.0.50"), shown("fd00::50")];
    });
    let written = |scene: &Scene| {
        let written = scene.written(WEB);
        (written.serving, written.ingress.map(|ingress| ingress.len()), written.annotations.len())
    };
    let half = scene.installed("10.0.0.50/32");
    assert_eq!(written(&half), (Serving::NotHere, None, 0), "the second is on its way");
    let tentative =
        half.installed("fd00::50/128").with(|scene| scene.kernel().addresses[4].dad = Dad::Tentative);
    assert_eq!(written(&tentative), (Serving::NotHere, None, 0));
    let whole = tentative.with(|scene| scene.kernel().addresses[4].dad = Dad::Ready);
    assert_eq!(written(&whole), (Serving::Here, Some(2), 1));
}

#[test]
fn a_lasting_obstacle_to_one_address_does_not_hide_the_other() {
    let scene = Scene::new().holding(GLOBAL).service(WEB, "10.0.0.50,192.168.1.12").run();
    assert_eq!(scene.reason(WEB), Reason::NodeAddress("n2".into()));
    let ingress = scene.written(WEB).ingress.unwrap();
    assert_eq!(ingress.iter().filter_map(|it| it.ip).collect::<Vec<_>>(), [ip("10.0.0.50")]);
}

#[test]
fn who_does_not_serve_writes_nothing() {
    let scene = served().held_by(GLOBAL, "n2");
    let written = scene.written(WEB);
    assert!(written.ingress.is_none() && written.annotations.is_empty() && written.conditions.is_empty());
}

#[test]
fn with_updates_off_nothing_is_written() {
    let scene = served().set(|services| services.updates = ServiceUpdates::Off);
    let written = scene.written(WEB);
    assert_eq!(written.serving, Serving::Here);
    assert!(written.ingress.is_none() && written.annotations.is_empty() && written.conditions.is_empty());
    let invalid = scene.annotate(WEB, "loadbalancerIPs", "nonsense!");
    assert!(invalid.written(WEB).conditions.is_empty());
}

#[test]
fn what_is_wrong_for_every_node_is_written_by_one() {
    let broken = |scene: Scene| scene.service(WEB, "10.0.0.300");
    assert_eq!(condition(&broken(Scene::new().holding(GLOBAL))), "False Invalid");
    assert_eq!(condition(&broken(Scene::new().held_by(GLOBAL, "n2"))), "");
    let unseen = Scene::new().with(|scene| scene.members.elections.clear());
    assert_eq!(condition(&broken(unseen)), "");
    let per_service = |me: &str| Scene::per_service().with(|scene| scene.config.node = NodeName::new(me));
    assert_eq!(condition(&broken(per_service("n1"))), "False Invalid", "the lowest name");
    assert_eq!(condition(&broken(per_service("n2"))), "");
    // n2 surely has an agent, of n1 that is not known.
    let with_agent = |me: &str| broken(per_service(me)).held_by("default/kubevip-db", "n2");
    assert_eq!(
        (condition(&with_agent("n1")), condition(&with_agent("n2"))),
        (String::new(), "False Invalid".to_owned())
    );
    let not_ready = broken(per_service("n2"))
        .with(|scene| scene.nodes.get_mut(&NodeName::new("n1")).unwrap().ready = false);
    assert_eq!(condition(&not_ready), "False Invalid");
}

#[test]
fn a_service_that_nobody_can_serve_any_more_does_not_say_that_it_is_announced() {
    let announced = |scene: Scene| {
        let local = scene.service(WEB, "10.0.0.50").endpoints(WEB, &[ready("n2")]);
        local.edit(WEB, |service| {
            service.traffic = TrafficPolicy::Local;
            let (status, reason) = ("True".to_owned(), "Announced".to_owned());
            let said = Condition { status, reason, message: String::new() };
            service.conditions.insert(CONDITION.to_owned(), said);
        })
    };
    let global = announced(Scene::new().holding(GLOBAL));
    assert_eq!(condition(&global), "False NoLocalEndpoint", "the one that decides has no endpoint");
    assert_eq!(condition(&global.held_by(GLOBAL, "n2")), "");
    let own = announced(Scene::per_service()).free("default/kubevip-web");
    assert_eq!(condition(&own), "", "n2 can take it");
    let deserted = |scene: Scene| {
        scene.with(|scene| {
            let state = scene.members.elections.get_mut(&lease("default/kubevip-web")).unwrap();
            state.vacancy = vip_model::members::Vacancy::Lasting;
            state.pulse = vip_model::members::Pulse::Lapsed;
        })
    };
    let why = "False NoLocalEndpoint";
    assert_eq!(condition(&deserted(own.clone())), why, "n2 could take it, and does not");
    let named = deserted(own.clone().held_by("default/kubevip-web", "n2"));
    assert_eq!(condition(&named), why, "its agent is dead");
    let other = named.with(|scene| scene.config.node = NodeName::new("n3"));
    assert_eq!(condition(&other), "", "one node speaks");
    let unseen = own.clone().endpoints(WEB, &[]).with(|scene| scene.members.elections.clear());
    assert_eq!(condition(&unseen), "", "somebody may hold it");
    let exclude = |scene: &mut Scene, node| {
        scene.nodes.get_mut(&NodeName::new(node)).unwrap().excluded = Some("drain".to_owned());
    };
    let drained = own.clone().with(|scene| exclude(scene, "n2"));
    assert_eq!(condition(&drained), "False NoLocalEndpoint");
    let placeless = own.clone().endpoints(WEB, &[ready("")]);
    assert_eq!(condition(&placeless), "False NoLocalEndpoint");
    let other_clerk = placeless.with(|scene| scene.config.node = NodeName::new("n2"));
    assert_eq!(condition(&other_clerk), "");
    let elsewhere = own.annotate(WEB, "serviceInterface", "eth9").endpoints(WEB, &[ready("n1")]);
    assert_eq!(condition(&elsewhere), "False LinkMissing", "what the Service names is nowhere");
    let bare = announced(Scene::new().holding(GLOBAL)).annotate(WEB, "loadbalancerIPs", "");
    assert_eq!(condition(&bare), "False NoAddress");
}

#[test]
fn while_nobody_holds_the_global_lease_the_lowest_node_writes() {
    let broken = |me: &str| {
        let scene = Scene::new().with(|scene| scene.config.node = NodeName::new(me));
        scene.service(WEB, "10.0.0.300").free(GLOBAL)
    };
    let one = "False Invalid".to_owned();
    assert_eq!((condition(&broken("n1")), condition(&broken("n2"))), (one.clone(), String::new()));
    let released = broken("n1").with(|scene| {
        // Released by an agent that did not take it in this life.
        scene.members.elections.get_mut(&lease(GLOBAL)).unwrap().role = Role::Undecided;
    });
    assert_eq!(condition(&released), one);
}

#[test]
fn each_refusal_has_its_word() {
    let clash = Scene::new().holding(GLOBAL).service("default/db", "10.0.0.50").service(WEB, "10.0.0.50");
    assert_eq!(condition(&clash), "False PortClash");
    let dhcp = Scene::new().holding(GLOBAL).service(WEB, "0.0.0.0");
    assert_eq!(condition(&dhcp), "False NotSupported");
    let conflict = Scene::new().holding(GLOBAL).service(WEB, "10.0.0.50").with(|scene| {
        let at = *scene.plan().probes.first().unwrap();
        scene.observed.probes.insert(at, ProbeState::Answered(mac(9)));
    });
    assert_eq!(condition(&conflict), "False Conflict");
    let said = |reason: &str| {
        let (status, reason) = ("False".to_owned(), reason.to_owned());
        let said = Condition { status, reason, message: "somebody".to_owned() };
        conflict.clone().edit(WEB, |service| {
            service.conditions.insert(CONDITION.to_owned(), said);
        })
    };
    assert_eq!(condition(&said("Conflict")), "", "several may answer in turn");
    assert_eq!(condition(&said("NoEndpoint")), "False Conflict");
    assert_eq!(condition(&conflict.held_by(GLOBAL, "n2")), "");
}

#[test]
fn a_condition_that_is_no_longer_true_is_corrected_and_none_is_written_for_what_may_pass() {
    let starved = served().endpoints(WEB, &[]);
    assert_eq!(condition(&starved), "");
    let announced = starved.edit(WEB, |service| {
        let word = |text: &str| text.to_owned();
        let announced = Condition { status: word("True"), reason: word("Announced"), message: word("") };
        service.conditions.insert(CONDITION.to_owned(), announced);
    });
    assert_eq!(condition(&announced), "False NoEndpoint");
    assert_eq!(condition(&announced.held_by(GLOBAL, "n2")), "");
}

#[test]
fn the_node_is_labelled_for_what_it_serves_and_for_nothing_else() {
    let on = |scene: Scene| scene.set(|services| services.node_labels = ServiceLabels::On);
    let key = |text: &str| format!("service-provided.kube-vip.io/{text}");
    let scene = on(Scene::new().holding(GLOBAL).service(WEB, "10.0.0.50,fd00::50")).run();
    let labels = scene.plan().node_labels;
    assert_eq!(labels[&key("web.default")].as_deref(), Some("10.0.0.50_fd000000000000000000000000000050"));
    let scene = scene.with(|scene| {
        let facts = scene.nodes.get_mut(&NodeName::new("n1")).unwrap();
        for name in ["web.default", "gone.default", "foreign.default", "has.no"] {
            facts.labels.insert(key(name), "x".to_owned());
        }
        facts.labels.insert("kube-vip.io/has-ip".to_owned(), "x".to_owned());
    });
    let scene = scene.service_with("default/foreign", "10.0.0.60", |it| it.class = Some("other".into()));
    let labels = scene.plan().node_labels;
    assert_eq!((labels.get(&key("gone.default")), labels.get(&key("has.no"))), (Some(&None), Some(&None)));
    assert_eq!((labels.get(&key("foreign.default")), labels.get("kube-vip.io/has-ip")), (None, None));
    let lost = scene.held_by(GLOBAL, "n2");
    assert_eq!(lost.plan().node_labels[&key("web.default")], None);
    assert!(lost.with(|scene| scene.listed = false).plan().node_labels.is_empty());
}

#[test]
fn a_name_that_is_no_legal_label_is_left_out() {
    let long = format!("default/{}", "x".repeat(60));
    let scene = Scene::new().holding(GLOBAL).service(&long, "10.0.0.50");
    let scene = scene.set(|services| services.node_labels = ServiceLabels::On).run();
    assert_eq!((scene.ours().len(), scene.plan().node_labels.len()), (1, 0));
}

#[test]
fn the_filter_opens_the_ports_of_those_who_share_an_address_and_one_opt_out_leaves_it_out() {
    let secure = |scene: Scene| scene.set(|services| services.security = ServiceSecurity::On);
    let scene = || {
        let scene = Scene::new().holding(GLOBAL).service(WEB, "10.0.0.50,fd00::50");
        secure(scene.service_with("default/db", "10.0.0.50", |service| service.ports = vec![tcp(5432)])).run()
    };
    let open = scene().plan().filter.unwrap().open;
    assert_eq!(open[&ip("10.0.0.50")], BTreeSet::from([tcp(80), tcp(5432)]));
    assert_eq!(open[&ip("fd00::50")], BTreeSet::from([tcp(80)]));
    let opted = scene().annotate("default/db", "ignore-service-security", "true").plan().filter.unwrap().open;
    assert_eq!(opted.into_keys().collect::<Vec<_>>(), [ip("fd00::50")]);
    assert!(scene().held_by(GLOBAL, "n2").plan().filter.unwrap().open.is_empty());
    assert_eq!(served().plan().filter, None, "off");
}

#[test]
fn the_filter_never_names_the_control_planes_vip_and_is_there_before_the_address() {
    let scene =
        Scene::new().with_control_plane("kube-system/plndr-cp-lock").holding("kube-system/plndr-cp-lock");
    let scene = scene.service(WEB, "10.0.0.100").set(|services| services.security = ServiceSecurity::On);
    let scene = scene.run();
    assert_eq!(scene.ours(), ["10.0.0.100/32 3"]);
    assert!(scene.plan().filter.unwrap().open.is_empty());
    let early = Scene::new().holding(GLOBAL).service_with(WEB, "10.0.0.50", |service| {
        service.ingress = vec![shown("10.0.0.50")];
    });
    let early = early.set(|services| services.security = ServiceSecurity::On);
    assert_eq!((early.ours().len(), early.plan().filter.unwrap().open.len()), (0, 1));
    assert!(early.plan().services.contains_key(&name(WEB)));
}
