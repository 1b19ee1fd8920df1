//! Which Lease decides, and how a node stands for it: F-LE-3 to F-LE-6, F-LE-8.

use vip_model::NodeName;
use vip_model::config::{InterfaceChoice, LeaseTimings, OnDemand};
use vip_model::kernel::LinkState;
use vip_model::plan::{Footprint, Standing};
use vip_model::service::TrafficPolicy;
use vip_model::verdict::{Reason, Verdict};

use super::scene::{ETH1, GLOBAL, Scene, lease, ready};
use crate::world::KernelWork;

const WEB: &str = "default/web";
const LEASE: &str = "default/kubevip-web";
const CONTROL_PLANE: &str = "kube-system/plndr-cp-lock";

fn exclude(scene: Scene) -> Scene {
    scene.with(|scene| {
        scene.nodes.get_mut(&NodeName::new("n1")).unwrap().excluded = Some("drain".to_owned());
    })
}

fn down(scene: Scene) -> Scene {
    scene.with(|scene| scene.kernel().links.get_mut(&ETH1).unwrap().state = LinkState::Down)
}

#[test]
fn the_global_election_serves_everything_that_can_be_served() {
    let scene = Scene::new().holding(GLOBAL).service(WEB, "10.0.0.50").service("default/db", "10.0.0.51");
    let scene = scene.endpoints("default/db", &[]).run();
    assert_eq!(scene.ours(), ["10.0.0.50/32 3"]);
    assert_eq!(scene.plan().elections.len(), 1);
    assert_eq!(scene.written(WEB).lease, Some(lease(GLOBAL)));
}

#[test]
fn for_the_global_election_a_node_stands_unless_it_is_excluded_or_has_no_link() {
    assert_eq!(Scene::new().standing(GLOBAL), Standing::Contend, "without any Service, too");
    let scene = || Scene::new().service(WEB, "10.0.0.50").endpoints(WEB, &[]);
    assert_eq!(scene().standing(GLOBAL), Standing::Contend, "without endpoints, too");
    assert_eq!(exclude(scene()).standing(GLOBAL), Standing::Leave);
    assert_eq!(exclude(scene()).reason(WEB), Reason::NodeExcluded("drain".into()));
    assert_eq!(down(scene()).standing(GLOBAL), Standing::Leave);
    let named = |name: &str| scene().set(|services| services.interface = InterfaceChoice::Named(name.into()));
    assert_eq!(
        (named("eth0").standing(GLOBAL), named("eth9").standing(GLOBAL)),
        (Standing::Contend, Standing::Leave)
    );
}

#[test]
fn a_global_lease_is_not_released_before_the_last_address_is_gone() {
    let scene = exclude(Scene::new().holding(GLOBAL).service(WEB, "10.0.0.50").installed("10.0.0.50/32"));
    assert_eq!(scene.want(GLOBAL).footprint, Footprint::Present);
    let gone = scene.run();
    assert_eq!(gone.want(GLOBAL).footprint, Footprint::Clear);
    let busy = gone.with(|scene| scene.kernel_work = KernelWork::InFlight);
    assert_eq!(busy.want(GLOBAL).footprint, Footprint::Present);
}

#[test]
fn a_lease_is_not_released_before_an_address_is_gone_that_its_service_had_before() {
    let moved = |scene: Scene| scene.service(WEB, "10.0.0.51").endpoints(WEB, &[ready("n2")]);
    let moved = |scene: Scene| moved(scene).edit(WEB, |service| service.traffic = TrafficPolicy::Local);
    let scene = moved(Scene::per_service().holding(LEASE).installed("10.0.0.50/32"));
    assert_eq!((scene.standing(LEASE), scene.want(LEASE).footprint), (Standing::Leave, Footprint::Present));
    assert_eq!(scene.run().want(LEASE).footprint, Footprint::Clear);
}

#[test]
fn each_service_has_a_lease_of_its_name_in_its_namespace() {
    let scene = Scene::per_service().service(WEB, "10.0.0.50").service("shop/web", "10.0.0.51");
    let scene = scene.holding(LEASE).held_by("shop/kubevip-web", "n2").run();
    assert_eq!(scene.ours(), ["10.0.0.50/32 3"]);
    assert_eq!(scene.reason("shop/web"), Reason::HeldBy("n2".into()));
    let leases: Vec<_> = scene.plan().elections.keys().map(ToString::to_string).collect();
    assert_eq!(leases, [LEASE, "shop/kubevip-web"]);
}

#[test]
fn an_election_of_its_own_is_stood_for_only_where_the_service_can_be_served() {
    let scene = || Scene::per_service().free(LEASE).service(WEB, "10.0.0.50");
    assert_eq!(scene().standing(LEASE), Standing::Contend);
    assert_eq!(exclude(scene()).standing(LEASE), Standing::Leave);
    assert_eq!(down(scene()).standing(LEASE), Standing::Leave);
    assert_eq!(scene().endpoints(WEB, &[]).standing(LEASE), Standing::Leave);
    assert_eq!(scene().edit(WEB, |service| service.annotations.clear()).plan().elections.len(), 0);
}

#[test]
fn services_with_one_lease_are_on_one_node() {
    let scene = Scene::per_service()
        .service(WEB, "10.0.0.50")
        .service("shop/cart", "10.0.0.51")
        .annotate(WEB, "leaseName", "common")
        .annotate("shop/cart", "leaseName", "default/common");
    let holder = scene.clone().holding("default/common").run();
    assert_eq!(holder.ours(), ["10.0.0.50/32 3", "10.0.0.51/32 3"]);
    assert_eq!(holder.plan().elections.len(), 1);
    let sibling_gone = holder.annotate(WEB, "ignore", "true").run();
    assert_eq!(
        (sibling_gone.ours(), sibling_gone.standing("default/common")),
        (vec!["10.0.0.51/32 3".to_owned()], Standing::Contend)
    );
    let other = scene.held_by("default/common", "n2");
    assert_eq!(
        (other.reason(WEB), other.reason("shop/cart")),
        (Reason::HeldBy("n2".into()), Reason::HeldBy("n2".into()))
    );
}

#[test]
fn a_common_lease_is_invalid_with_policy_local_and_under_a_name_that_is_none() {
    let scene = || Scene::per_service().service(WEB, "10.0.0.50");
    let local =
        scene().annotate(WEB, "leaseName", "common").edit(WEB, |it| it.traffic = TrafficPolicy::Local);
    assert!(matches!(local.reason(WEB), Reason::Invalid(text) if text.contains("Local")));
    for text in ["a/b/c", "Upper", "/x", "x/", "-x", "a.b/c", "ns/na me"] {
        let scene = scene().annotate(WEB, "leaseName", text);
        assert!(matches!(scene.reason(WEB), Reason::Invalid(_)), "{text}");
        assert!(scene.plan().elections.is_empty(), "{text}");
    }
    let empty = scene().annotate(WEB, "leaseName", " ");
    assert_eq!(empty.plan().elections.keys().next(), Some(&lease(LEASE)));
}

#[test]
fn an_annotation_cannot_reach_for_the_control_planes_election() {
    let scene = Scene::per_service().with_control_plane(CONTROL_PLANE).service(WEB, "10.0.0.50");
    let scene = scene.annotate(WEB, "leaseName", CONTROL_PLANE).endpoints(WEB, &[]);
    assert_eq!(scene.standing(CONTROL_PLANE), Standing::Contend);
    let holder = scene.endpoints(WEB, &[ready("n2")]).holding(CONTROL_PLANE).run();
    assert_eq!(holder.verdict(WEB), Verdict::Announce);
}

#[test]
fn on_demand_single_services_get_an_election_of_their_own() {
    let scene = Scene::new().service(WEB, "10.0.0.50").service("default/db", "10.0.0.51");
    let scene = scene.annotate(WEB, "forcePerServiceElection", "true").held_by(GLOBAL, "n2").holding(LEASE);
    let ignored = scene.clone();
    assert_eq!(ignored.reason(WEB), Reason::HeldBy("n2".into()), "off: the annotation is not heard");
    let timings = LeaseTimings { retry_period: std::time::Duration::from_secs(1), ..LeaseTimings::default() };
    let honoured = scene.set(|services| services.on_demand = OnDemand::On(timings)).run();
    assert_eq!(honoured.ours(), ["10.0.0.50/32 3"]);
    assert_eq!(
        (honoured.reason("default/db"), honoured.want(LEASE).timings),
        (Reason::HeldBy("n2".into()), timings)
    );
}

#[test]
fn with_the_control_planes_lease_name_there_is_one_election() {
    let scene = |scene: Scene| scene.with_control_plane(GLOBAL).service(WEB, "10.0.0.50");
    let holder = scene(Scene::new()).holding(GLOBAL).run();
    assert_eq!(holder.ours(), ["10.0.0.100/32 3", "10.0.0.50/32 3"]);
    assert_eq!(holder.plan().elections.len(), 1);
    let leftover = scene(Scene::new()).held_by(GLOBAL, "n2").installed("10.0.0.50/32");
    assert_eq!(leftover.want(GLOBAL).footprint, Footprint::Present);
    // kubeadm excludes its control-plane nodes; unlisted Services are no reason to leave the control plane alone.
    assert_eq!(exclude(scene(Scene::new())).standing(GLOBAL), Standing::Contend);
    assert_eq!(scene(Scene::new()).with(|scene| scene.listed = false).standing(GLOBAL), Standing::Contend);
    let no_link =
        scene(Scene::new()).set(|services| services.interface = InterfaceChoice::Named("eth9".into()));
    assert_eq!(no_link.standing(GLOBAL), Standing::Leave, "the stricter of both counts");
}

#[test]
fn an_interface_that_a_service_names_by_mistake_does_not_take_the_control_planes_vip_away() {
    let mistaken = |scene: Scene| scene.service(WEB, "10.0.0.50").annotate(WEB, "serviceInterface", "eth9");
    let shared = mistaken(Scene::new().with_control_plane(GLOBAL));
    assert_eq!(shared.standing(GLOBAL), Standing::Contend);
    assert_eq!(shared.reason(WEB), Reason::LinkMissing("eth9".into()));
    assert_eq!(mistaken(Scene::new()).standing(GLOBAL), Standing::Leave, "another node may have it");
}

#[test]
fn what_is_under_the_control_planes_election_leaves_a_drained_node_with_that_reason() {
    let why = format!("annotation {}", vip_model::store::DRAIN);
    let scene = Scene::new().with_control_plane(GLOBAL).undecided(GLOBAL).service(WEB, "10.0.0.50");
    let drained = scene.with(|scene| {
        scene.nodes.get_mut(&NodeName::new("n1")).unwrap().excluded = Some(why.clone());
    });
    assert_eq!(drained.reason(WEB), Reason::NodeExcluded(why));
}

#[test]
fn nodes_that_are_excluded_or_not_ready_have_no_place_in_the_order() {
    let rank = |scene: Scene, me: &str| {
        let scene = scene.with(|scene| scene.config.node = NodeName::new(me));
        scene.free(LEASE).service(WEB, "10.0.0.50").want(LEASE).rank
    };
    let mut ranks: Vec<_> = ["n1", "n2", "n3"].map(|me| (rank(Scene::per_service(), me), me)).to_vec();
    ranks.sort_unstable();
    assert_eq!(ranks.iter().map(|(rank, _)| *rank).collect::<Vec<_>>(), [0, 1, 2]);
    let (first, second) = (ranks[0].1, ranks[1].1);
    let without = |change: fn(&mut vip_model::store::NodeFacts)| {
        Scene::per_service().with(|scene| change(scene.nodes.get_mut(&NodeName::new(first)).unwrap()))
    };
    assert_eq!(rank(without(|facts| facts.ready = false), second), 0);
    assert_eq!(rank(without(|facts| facts.excluded = Some("drain".into())), second), 0);
}

#[test]
fn under_local_only_nodes_with_endpoints_have_a_place_in_the_order() {
    for only in ["n1", "n2", "n3"] {
        let scene = Scene::per_service().free(LEASE).with(|scene| scene.config.node = NodeName::new(only));
        let scene = scene.service_with(WEB, "10.0.0.50", |service| service.traffic = TrafficPolicy::Local);
        assert_eq!(scene.endpoints(WEB, &[ready(only)]).want(LEASE).rank, 0, "{only}");
    }
}
