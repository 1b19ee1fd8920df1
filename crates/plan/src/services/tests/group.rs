//! Services that share addresses: F-SVC-14, ownership rule 6.

use vip_model::config::{LeaseTimings, OnDemand};
use vip_model::plan::{Footprint, Standing};
use vip_model::service::TrafficPolicy;
use vip_model::verdict::{Reason, Verdict};

use super::scene::{GLOBAL, Scene, name, ready, tcp};

const A: &str = "alpha/a";
const B: &str = "beta/b";
const LEASE_A: &str = "alpha/kubevip-a";
const LEASE_B: &str = "beta/kubevip-b";
const CONTROL_PLANE: &str = "kube-system/plndr-cp-lock";

/// Two Services of two namespaces on one address, on different ports.
fn pair(scene: Scene) -> Scene {
    scene
        .service(A, "10.0.0.50")
        .service_with(B, "10.0.0.50", |service| service.ports = vec![tcp(443)])
        .free(LEASE_A)
        .free(LEASE_B)
}

#[test]
fn disjoint_ports_share_an_address_and_the_last_one_out_removes_it() {
    let scene = pair(Scene::new().holding(GLOBAL)).run();
    assert_eq!((scene.verdict(A), scene.verdict(B)), (Verdict::Announce, Verdict::Announce));
    let scene = scene.annotate(A, "ignore", "true");
    assert_eq!((scene.changes(), scene.verdict(B)), (vec![], Verdict::Announce));
    assert!(scene.annotate(B, "ignore", "true").run().ours().is_empty());
}

#[test]
fn of_two_that_want_one_port_the_later_one_drops_out() {
    let scene = || Scene::new().holding(GLOBAL).service(A, "10.0.0.50").service(B, "10.0.0.50").run();
    assert_eq!(scene().verdict(A), Verdict::Announce);
    assert_eq!(scene().reason(B), Reason::PortClash(name(A)));
    let later = scene().edit(A, |service| service.created = "2026-02-01T00:00:00Z".into()).run();
    assert_eq!((later.reason(A), later.verdict(B)), (Reason::PortClash(name(B)), Verdict::Announce));
    let by_name = scene().edit(B, |service| service.created = "2026-01-01T00:00:00Z".into());
    assert_eq!(by_name.reason(B), Reason::PortClash(name(A)));
}

#[test]
fn who_drops_out_blocks_nobody() {
    let scene = Scene::new()
        .holding(GLOBAL)
        .service(A, "10.0.0.50")
        .service_with(B, "10.0.0.50,10.0.0.51", |service| service.ports = vec![tcp(80), tcp(81)])
        .service("gamma/c", "10.0.0.51")
        .run();
    assert_eq!(scene.reason(B), Reason::PortClash(name(A)));
    assert_eq!(scene.verdict("gamma/c"), Verdict::Announce);
}

#[test]
fn the_lowest_name_is_the_authority_and_only_its_holder_stands_for_the_others() {
    let free = pair(Scene::per_service());
    assert_eq!((free.standing(LEASE_A), free.standing(LEASE_B)), (Standing::Contend, Standing::Leave));
    assert_eq!(free.reason(B), Reason::SharedWith(name(A)));
    let holder = free.clone().holding(LEASE_A);
    assert_eq!((holder.standing(LEASE_A), holder.standing(LEASE_B)), (Standing::Contend, Standing::Contend));
    let other = free.held_by(LEASE_A, "n2").holding(LEASE_B).installed("10.0.0.50/32");
    assert_eq!(other.standing(LEASE_B), Standing::Leave);
    assert_eq!(other.want(LEASE_B).footprint, Footprint::Present, "first the address, then the Lease");
    let other = other.run();
    assert!(other.ours().is_empty());
    assert_eq!(other.want(LEASE_B).footprint, Footprint::Clear);
}

#[test]
fn an_address_is_added_only_with_all_leases_of_its_group() {
    let scene = pair(Scene::per_service()).holding(LEASE_A).held_by(LEASE_B, "n2");
    assert_eq!(scene.reason(A), Reason::HeldBy("n2".into()));
    assert!(scene.clone().run().ours().is_empty());
    let scene = scene.holding(LEASE_B).run();
    assert_eq!(scene.ours(), ["10.0.0.50/32 3"]);
    assert_eq!((scene.verdict(A), scene.verdict(B)), (Verdict::Announce, Verdict::Announce));
}

#[test]
fn a_service_that_joins_takes_nothing_from_the_one_that_is_served() {
    let alone = Scene::per_service().holding(LEASE_A).service(A, "10.0.0.50").run();
    let joined = pair(alone).holding(LEASE_A).held_by(LEASE_B, "n2");
    assert_eq!((joined.verdict(A), joined.changes()), (Verdict::Announce, vec![]));
}

#[test]
fn a_lower_name_that_joins_moves_nothing_and_its_lease_goes_to_who_serves() {
    let alone = Scene::per_service().holding(LEASE_B).service(B, "10.0.0.50").run();
    let joined = alone.service_with(A, "10.0.0.50", |service| service.ports = vec![tcp(443)]).free(LEASE_A);
    assert_eq!((joined.verdict(B), joined.changes()), (Verdict::Announce, vec![]));
    assert_eq!((joined.want(LEASE_A).standing, joined.want(LEASE_A).rank), (Standing::Contend, 0));
    assert_eq!(joined.standing(LEASE_B), Standing::Contend);
    let seen_by_another = pair(Scene::per_service()).held_by(LEASE_B, "n2");
    assert!(seen_by_another.want(LEASE_A).rank > 0, "others wait");
}

#[test]
fn a_lease_that_cannot_be_read_blocks_nobody() {
    let scene = pair(Scene::per_service()).holding(LEASE_A).with(|scene| {
        let class = vip_model::store::FailureClass::Forbidden;
        let state = scene.members.elections.get_mut(&super::scene::lease(LEASE_B)).unwrap();
        state.trouble = Some(vip_model::store::Failure { class, text: "forbidden".to_owned() });
    });
    assert_eq!(scene.run().ours(), ["10.0.0.50/32 3"]);
}

#[test]
fn a_member_without_endpoints_takes_nothing_down_that_shares_its_address() {
    let scene = pair(Scene::per_service().holding(LEASE_A)).endpoints(A, &[]);
    let scene = scene.holding(LEASE_A).holding(LEASE_B).run();
    assert_eq!(scene.standing(LEASE_A), Standing::Contend);
    assert_eq!((scene.reason(A), scene.verdict(B)), (Reason::NoEndpoint, Verdict::Announce));
}

#[test]
fn the_lowest_member_that_can_be_served_says_which_nodes_may_hold_the_group() {
    let scene = pair(Scene::per_service()).edit(A, |service| service.traffic = TrafficPolicy::Local);
    let scene = scene.endpoints(A, &[ready("n2")]);
    assert_eq!(scene.standing(LEASE_A), Standing::Leave);
    assert_eq!((scene.reason(A), scene.reason(B)), (Reason::NoLocalEndpoint, Reason::SharedWith(name(A))));
}

#[test]
fn an_interface_that_does_not_exist_takes_nothing_down_that_shares_its_address() {
    let scene = pair(Scene::per_service()).annotate(A, "serviceInterface", "eth9");
    let scene = scene.holding(LEASE_A).holding(LEASE_B).run();
    assert_eq!((scene.ours(), scene.verdict(B)), (vec!["10.0.0.50/32 3".to_owned()], Verdict::Announce));
    let named = scene.annotate(A, "serviceInterface", "eth0").run();
    assert_eq!(named.ours(), ["10.0.0.50/32 2"], "one that does exist counts");
}

#[test]
fn an_interface_that_does_not_exist_takes_nothing_down_that_shares_its_lease() {
    const COMMON: &str = "default/common";
    let scene = Scene::per_service().service("default/a", "10.0.0.50").service("default/b", "10.0.0.51");
    let scene = ["default/a", "default/b"]
        .into_iter()
        .fold(scene, |it, name| it.annotate(name, "leaseName", "common"));
    let broken = scene.clone().annotate("default/a", "serviceInterface", "eth9").free(COMMON);
    assert_eq!(broken.standing(COMMON), Standing::Contend);
    assert_eq!(
        broken.want(COMMON).rank,
        scene.clone().free(COMMON).want(COMMON).rank + 1,
        "who has it goes first"
    );
    let held = broken.holding(COMMON).run();
    assert_eq!(held.reason("default/a"), Reason::LinkMissing("eth9".into()));
    assert_eq!(
        (held.ours(), held.verdict("default/b")),
        (vec!["10.0.0.51/32 3".to_owned()], Verdict::Announce)
    );
    let alone = held.annotate("default/b", "serviceInterface", "eth8");
    assert_eq!(alone.standing(COMMON), Standing::Leave, "then nobody stands for it");
    assert_eq!(alone.reason("default/b"), Reason::LinkMissing("eth9".into()));
}

#[test]
fn who_shares_the_control_planes_vip_is_where_that_is() {
    let scene = |scene: Scene| {
        let scene = scene.with_control_plane(CONTROL_PLANE).held_by(GLOBAL, "n2").free("default/kubevip-web");
        scene.service("default/web", "10.0.0.100,10.0.0.101")
    };
    for start in [Scene::new(), Scene::per_service()] {
        let holder = scene(start.clone()).holding(CONTROL_PLANE).holding("default/kubevip-web").run();
        assert_eq!(holder.ours(), ["10.0.0.100/32 3", "10.0.0.101/32 3"]);
        assert_eq!(holder.verdict("default/web"), Verdict::Announce);
        let other = scene(start).held_by(CONTROL_PLANE, "n3").run();
        assert_eq!(other.reason("default/web"), Reason::HeldBy("n3".into()));
        assert!(other.ours().is_empty());
    }
}

#[test]
fn what_moves_with_the_control_plane_holds_its_lease_back_until_it_is_gone() {
    let scene = Scene::new().with_control_plane(CONTROL_PLANE).held_by(CONTROL_PLANE, "n2");
    let scene = scene.service("default/web", "10.0.0.100,10.0.0.101").installed("10.0.0.101/32");
    assert_eq!(scene.want(CONTROL_PLANE).footprint, Footprint::Present);
    assert_eq!(scene.run().want(CONTROL_PLANE).footprint, Footprint::Clear);
}

#[test]
fn the_control_planes_port_is_taken() {
    let scene = Scene::new().with_control_plane(CONTROL_PLANE);
    let scene = scene.service_with("default/web", "10.0.0.100", |service| service.ports = vec![tcp(6443)]);
    assert!(scene.sentence("default/web").contains("6443"));
}

#[test]
fn a_service_of_its_own_election_that_shares_with_the_global_one_follows_it() {
    let scene = pair(Scene::new()).annotate(A, "forcePerServiceElection", "true");
    let scene = scene.set(|services| services.on_demand = OnDemand::On(LeaseTimings::default()));
    let other = scene.clone().held_by(GLOBAL, "n2");
    assert_eq!((other.standing(LEASE_A), other.standing(GLOBAL)), (Standing::Leave, Standing::Contend));
    let holder = scene.holding(GLOBAL).holding(LEASE_A).run();
    assert_eq!((holder.verdict(A), holder.verdict(B)), (Verdict::Announce, Verdict::Announce));
}
