//! Where addresses come from, and where they go: F-SVC-4, F-SVC-5, F-SVC-16, F-SVC-17.

use std::net::IpAddr;

use vip_model::Family;
use vip_model::config::{InterfaceChoice, PrefixRule, Scope};
use vip_model::kernel::LinkState;
use vip_model::observed::ProbeState;
use vip_model::plan::Footprint;
use vip_model::service::{FamilyPolicy, Ingress, Service};
use vip_model::verdict::{Reason, Verdict};
use vip_model::{NodeName, ScopedAddr};

use super::scene::{ETH0, ETH1, GLOBAL, Scene, address, ip, mac, shown};
use crate::services::notes::Notes;
use crate::services::request::{self, Request, Source};

fn service(change: impl FnOnce(&mut Service)) -> Service {
    let mut scene = Scene::new().service_with("default/web", "", change);
    scene.services.pop_first().unwrap().1
}

fn request(service: &Service) -> Result<Request, Reason> {
    request::request(service, &Notes::of(service))
}

fn annotated(text: &str) -> Service {
    service(|service| drop(service.annotations.insert("kube-vip.io/loadbalancerIPs".into(), text.into())))
}

fn addrs(service: &Service) -> Result<Vec<String>, String> {
    let found = request(service).map_err(|reason| reason.to_string())?;
    Ok(found.addrs.iter().map(IpAddr::to_string).collect())
}

#[test]
fn the_annotation_goes_before_everything_else() {
    let all = service(|service| {
        service.annotations.insert("kube-vip.io/loadbalancerIPs".into(), "10.0.0.1".into());
        service.spec_ip = Some("10.0.0.2".into());
        service.ingress = vec![shown("10.0.0.3")];
    });
    let found = request(&all).unwrap();
    assert_eq!((found.addrs, found.source), (vec![ip("10.0.0.1")], Source::Annotation));
}

#[test]
fn the_spec_goes_before_a_status_with_another_address_of_its_family() {
    let changed = service(|service| {
        service.spec_ip = Some("10.0.0.2".into());
        service.ingress = vec![shown("10.0.0.3")];
    });
    assert_eq!(request(&changed).unwrap().source, Source::Spec);
    let other_family = service(|service| {
        service.spec_ip = Some("10.0.0.2".into());
        service.ingress = vec![shown("fd00::3")];
    });
    assert_eq!(addrs(&other_family).unwrap(), ["fd00::3"]);
    let same = service(|service| {
        service.spec_ip = Some("10.0.0.2".into());
        service.ingress = vec![shown("10.0.0.2"), shown("fd00::2")];
    });
    assert_eq!(addrs(&same).unwrap(), ["10.0.0.2", "fd00::2"]);
    let only = service(|service| service.spec_ip = Some("10.0.0.2".into()));
    assert_eq!(addrs(&only).unwrap(), ["10.0.0.2"]);
}

#[test]
fn a_service_without_any_address_waits_for_one() {
    assert_eq!(request(&service(|_| {})), Err(Reason::NoAddress));
    for empty in ["", "  ", ",", " , "] {
        assert_eq!(request(&annotated(empty)), Err(Reason::NoAddress), "{empty:?}");
    }
}

#[test]
fn lists_are_trimmed_and_name_each_address_once() {
    assert_eq!(addrs(&annotated(" 10.0.0.1 ,fd00::1,, 10.0.0.1")).unwrap(), ["10.0.0.1", "fd00::1"]);
    assert_eq!(addrs(&annotated("::ffff:10.0.0.1")).unwrap(), ["10.0.0.1"]);
}

#[test]
fn what_is_not_built_yet_says_so() {
    for text in ["0.0.0.0", "::", "10.0.0.1,0.0.0.0", "vip.example.org", "10.0.0.1,vip"] {
        assert!(matches!(request(&annotated(text)), Err(Reason::NotSupported(_))), "{text}");
    }
    let name = service(|service| {
        let hostname = Some("lb.example.org".into());
        service.ingress = vec![Ingress { ip: None, hostname, mode: None, ports: Vec::new() }];
    });
    assert!(matches!(request(&name), Err(Reason::NotSupported(_))));
    let vlan = service(|service| {
        service.annotations.insert("kube-vip.io/serviceVLAN".into(), "eth0.5".into());
        service.spec_ip = Some("10.0.0.2".into());
    });
    assert!(matches!(request(&vlan), Err(Reason::NotSupported(text)) if text.contains("serviceVLAN")));
}

#[test]
fn what_can_be_no_address_is_invalid_and_the_sentence_names_it() {
    for text in [
        "10.0.0.300",
        "10.0.0.1/24",
        "10.0.0.1;10.0.0.2",
        "127.0.0.1",
        "224.0.0.5",
        "fe80::1",
        "169.254.20.10",
    ] {
        let reason = request(&annotated(text)).unwrap_err();
        assert!(matches!(&reason, Reason::Invalid(sentence) if sentence.contains(text)), "{text}: {reason}");
    }
    let many: Vec<_> = (1..=17).map(|last| format!("10.0.0.{last}")).collect();
    assert!(matches!(request(&annotated(&many.join(","))), Err(Reason::Invalid(_))));
}

#[test]
fn addresses_follow_the_families_and_their_order() {
    let of = |families: &[Family], policy, text: &str| {
        let mut service = annotated(text);
        (service.families, service.family_policy) = (families.to_vec(), policy);
        addrs(&service)
    };
    let (v4, v6) = (Family::V4, Family::V6);
    let dual = "10.0.0.1,fd00::1";
    assert_eq!(of(&[v6, v4], FamilyPolicy::RequireDualStack, dual).unwrap(), ["fd00::1", "10.0.0.1"]);
    assert_eq!(of(&[v4], FamilyPolicy::PreferDualStack, dual).unwrap(), ["10.0.0.1"]);
    assert_eq!(of(&[v4], FamilyPolicy::SingleStack, "10.0.0.1,10.0.0.2").unwrap(), ["10.0.0.1", "10.0.0.2"]);
    assert!(of(&[v6], FamilyPolicy::SingleStack, "10.0.0.1").unwrap_err().contains("IPv6"));
    assert!(
        of(&[v4, v6], FamilyPolicy::RequireDualStack, "10.0.0.1").unwrap_err().contains("RequireDualStack")
    );
}

#[test]
fn a_dual_stack_service_has_both_addresses() {
    let scene = Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50,fd00::50").run();
    assert_eq!(scene.ours(), ["10.0.0.50/32 3", "fd00::50/128 3"]);
    assert_eq!(scene.verdict("default/web"), Verdict::Announce);
}

#[test]
fn when_the_address_changes_the_old_one_goes_and_the_new_one_comes() {
    let scene = Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50").run();
    let scene = scene.annotate("default/web", "loadbalancerIPs", "10.0.0.51").run();
    assert_eq!(scene.ours(), ["10.0.0.51/32 3"]);
}

#[test]
fn the_interface_is_the_services_own_word_then_the_configured_one_then_the_network() {
    let link = |scene: Scene| scene.plan().places.values().next().copied();
    let scene = || Scene::new().service("default/web", "10.0.0.50");
    assert_eq!(link(scene()), Some(ETH1));
    let named = || scene().set(|services| services.interface = InterfaceChoice::Named("eth0".into()));
    assert_eq!(link(named()), Some(ETH0));
    assert_eq!(link(named().annotate("default/web", "serviceInterface", "eth1")), Some(ETH1));
    assert_eq!(link(named().annotate("default/web", "serviceInterface", "auto")), Some(ETH1));
    assert_eq!(link(Scene::new().service("default/web", "172.16.0.1")), Some(ETH0), "the default route's");
    let missing = scene().annotate("default/web", "serviceInterface", "eth9");
    assert_eq!((missing.reason("default/web"), link(missing)), (Reason::LinkMissing("eth9".into()), None));
}

#[test]
fn prefixes_are_fixed_or_those_of_the_links_network() {
    let scene = |v4, v6| {
        let scene = Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50,fd00::50");
        scene.set(|services| (services.prefix_v4, services.prefix_v6) = (v4, v6)).run().ours()
    };
    let fixed = scene(PrefixRule::Fixed(24), PrefixRule::Fixed(64));
    assert_eq!(fixed, ["10.0.0.50/24 3", "fd00::50/64 3"]);
    assert_eq!(scene(PrefixRule::OfLink, PrefixRule::OfLink), fixed);
    let nowhere = Scene::new().holding(GLOBAL).service("default/web", "172.16.0.1");
    let nowhere = nowhere.set(|services| services.prefix_v4 = PrefixRule::OfLink).run();
    assert_eq!(nowhere.ours(), ["172.16.0.1/32 2"]);
}

#[test]
fn on_loopback_the_scope_is_that_of_the_host() {
    let scene = Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50");
    let plan = scene.annotate("default/web", "serviceInterface", "lo").plan();
    assert!(plan.addresses.set.values().all(|planned| planned.scope == Scope::Host));
    assert_eq!(plan.addresses.set.len(), 1);
}

#[test]
fn a_link_that_is_down_is_a_reason_and_takes_the_address_away() {
    let scene = Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50").run();
    let scene = scene.with(|scene| scene.kernel().links.get_mut(&ETH1).unwrap().state = LinkState::Down);
    assert_eq!(scene.reason("default/web"), Reason::LinkDown("eth1".into()));
    assert!(scene.run().ours().is_empty());
}

#[test]
fn the_address_of_a_node_is_refused_unless_it_was_served_before() {
    let scene = || Scene::new().holding(GLOBAL).service("default/web", "192.168.1.12");
    assert_eq!(scene().reason("default/web"), Reason::NodeAddress("n2".into()));
    assert!(scene().plan().addresses.set.is_empty());
    let served = scene().edit("default/web", |service| service.ingress = vec![shown("192.168.1.12")]);
    assert_eq!(served.reason("default/web"), Reason::Installing);
    // Some load balancers write the nodes' own addresses into the status.
    let leftover = served.edit("default/web", |service| service.annotations.clear());
    assert_eq!(leftover.reason("default/web"), Reason::NodeAddress("n2".into()));
}

#[test]
fn an_address_that_this_host_has_for_itself_or_that_another_agent_put_there_is_refused() {
    let own = Scene::new().holding(GLOBAL).service("default/web", "10.0.0.11");
    assert_eq!(own.reason("default/web"), Reason::NodeAddress("n1".into()));
    let foreign = Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50");
    let foreign = foreign.with(|scene| scene.kernel().addresses.push(address(ETH1, "10.0.0.50/32", 77)));
    assert_eq!(foreign.reason("default/web"), Reason::NodeAddress("n1".into()));
    assert!(foreign.changes().is_empty());
}

#[test]
fn what_we_serve_stays_when_a_kubelet_takes_it_for_its_own() {
    let scene = Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50").run();
    let scene = scene.with(|scene| {
        scene.nodes.get_mut(&NodeName::new("n1")).unwrap().addresses.insert(ip("10.0.0.50"));
    });
    assert_eq!(scene.verdict("default/web"), Verdict::Announce);
}

#[test]
fn an_untagged_leftover_is_adopted_by_the_holder_and_removed_by_others_but_only_on_its_link() {
    let lost = |scene: &mut Scene, link| scene.kernel().addresses.push(address(link, "10.0.0.50/32", 0));
    let scene = || Scene::new().service("default/web", "10.0.0.50");
    let adopted = scene().holding(GLOBAL).with(|scene| lost(scene, ETH1)).run();
    assert_eq!(adopted.ours(), ["10.0.0.50/32 3"]);
    let follower = scene().held_by(GLOBAL, "n2").with(|scene| lost(scene, ETH1));
    assert_eq!(follower.changes().len(), 1);
    // kube-proxy in mode ipvs keeps Service addresses on a link of its own.
    let proxy = scene().held_by(GLOBAL, "n2").with(|scene| lost(scene, ETH0));
    assert_eq!(proxy.changes(), []);
    assert_eq!(proxy.want(GLOBAL).footprint, Footprint::Clear, "it does not hold our Lease back");
}

#[test]
fn a_nodes_address_that_somebody_put_here_is_not_adopted_before_a_lease_is_seen() {
    let scene = Scene::new().service("default/web", "192.168.1.12").undecided(GLOBAL);
    let planted = scene.with(|scene| scene.kernel().addresses.push(address(ETH1, "192.168.1.12/32", 0)));
    assert_eq!(planted.reason("default/web"), Reason::NodeAddress("n2".into()));
    assert_eq!(planted.changes(), []);
}

#[test]
fn an_address_that_no_status_shows_is_probed_first_and_an_answer_is_a_conflict() {
    let key = ScopedAddr { addr: ip("10.0.0.50"), link: ETH1 };
    let scene = || Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50");
    assert_eq!(scene().reason("default/web"), Reason::Probing);
    assert!(scene().plan().probes.contains(&key));
    let answered = scene().with(|scene| scene.observed.probes.extend([(key, ProbeState::Answered(mac(9)))]));
    assert_eq!(answered.reason("default/web"), Reason::Conflict(mac(9)));
    assert_eq!(answered.changes(), []);
    let served = scene().edit("default/web", |service| service.ingress = vec![shown("10.0.0.50")]);
    assert_eq!((served.reason("default/web"), served.plan().probes.len()), (Reason::Installing, 0));
    let followed = scene().held_by(GLOBAL, "n2");
    assert!(followed.plan().probes.is_empty(), "the holder would answer");
}

#[test]
fn a_new_address_that_the_last_plan_wanted_is_not_asked_for_again() {
    let key = ScopedAddr { addr: ip("10.0.0.50"), link: ETH1 };
    let asked = Scene::new().holding(GLOBAL).service("default/web", "10.0.0.50");
    let found = asked.clone().with(|scene| scene.observed.probes.extend([(key, ProbeState::Silent)]));
    let former = found.plan();
    assert!(former.addresses.set.contains_key(&key));
    // The kernel does not show it yet, or an outsider removed it.
    let next = Scene { former: Some(former), ..asked };
    assert_eq!((next.reason("default/web"), next.plan().probes.len()), (Reason::Installing, 0));
    assert!(next.plan().addresses.set.contains_key(&key));
}
