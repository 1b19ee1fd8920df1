//! Unknown is not empty.

use vip_model::Known;
use vip_model::members::History;
use vip_model::plan::{Footprint, Standing};
use vip_model::service::EndpointState;
use vip_model::verdict::{Reason, Verdict};

use super::scene::{ETH1, GLOBAL, Scene, address, at, endpoint, shown};

const WEB: &str = "default/web";
const LEASE: &str = "default/kubevip-web";

#[test]
fn unknown_services_delete_nothing_and_do_not_hold_the_control_plane_hostage() {
    let scene =
        Scene::new().with_control_plane("kube-system/plndr-cp-lock").with(|scene| scene.listed = false);
    let scene = scene.holding(GLOBAL).installed("10.0.0.50/32").installed("10.0.0.100/32");
    let scene = scene.held_by("kube-system/plndr-cp-lock", "n2").run();
    assert_eq!(scene.ours(), ["10.0.0.50/32 3"], "the VIP of the control plane goes, the unknown one stays");
    let undecided = Scene::new().with_control_plane("kube-system/plndr-cp-lock");
    let undecided = undecided.undecided("kube-system/plndr-cp-lock").installed("10.0.0.100/32");
    let undecided = undecided.installed("10.0.0.50/32").run();
    assert_eq!(undecided.ours(), ["10.0.0.100/32 3"], "and the other way round");
}

#[test]
fn nobody_takes_what_it_does_not_know_and_a_holder_keeps_it() {
    let blind: [fn(&mut Scene); 2] = [|scene| scene.listed = false, |scene| scene.endpoints_listed = false];
    for hide in blind {
        let scene = Scene::new().service(WEB, "10.0.0.50").with(hide);
        assert_eq!(scene.standing(GLOBAL), Standing::Leave);
        assert_eq!(scene.holding(GLOBAL).standing(GLOBAL), Standing::Contend);
    }
}

#[test]
fn unknown_endpoints_keep_what_is_installed_and_add_nothing() {
    for (scene, lease) in [(Scene::new(), GLOBAL), (Scene::per_service(), LEASE)] {
        let scene = scene.service(WEB, "10.0.0.50").with(|scene| scene.endpoints_listed = false);
        let taker = scene.clone().free(lease);
        assert_eq!((taker.standing(lease), taker.run().ours().len()), (Standing::Leave, 0));
        let new = scene.clone().holding(lease);
        assert_eq!(new.reason(WEB), Reason::EndpointsUnknown);
        let keeper = scene.holding(lease).installed("10.0.0.50/32");
        assert_eq!(keeper.standing(lease), Standing::Contend);
        assert_eq!((keeper.verdict(WEB), keeper.changes()), (Verdict::Announce, vec![]));
    }
}

#[test]
fn until_endpoints_are_known_a_lease_is_not_given_up_that_may_name_this_node() {
    for (scene, lease) in [(Scene::new(), GLOBAL), (Scene::per_service(), LEASE)] {
        // The plan is a turn older than what the election sees: with the addresses long gone it would release at once.
        let scene = scene.service(WEB, "10.0.0.50").with(|scene| scene.endpoints_listed = false).free(lease);
        let want = scene.want(lease);
        assert_eq!((want.standing, want.footprint), (Standing::Leave, Footprint::Present));
        let known = scene.with(|scene| scene.endpoints_listed = true);
        assert_eq!(known.want(lease).footprint, Footprint::Clear);
    }
}

#[test]
fn an_undecided_election_keeps_addresses_wherever_they_are_and_adds_none() {
    for (scene, lease) in [(Scene::new(), GLOBAL), (Scene::per_service(), LEASE)] {
        let scene = scene.undecided(lease).service(WEB, "10.0.0.50");
        assert_eq!((scene.reason(WEB), scene.changes()), (Reason::LeaseUnknown, vec![]));
        assert_eq!(scene.clone().installed("10.0.0.50/24").changes(), []);
        let forgotten = scene.installed("10.0.0.66/32").run();
        assert!(forgotten.ours().is_empty(), "no Service asks for that one");
    }
}

#[test]
fn an_undecided_node_does_not_keep_what_it_could_not_serve() {
    let scene = Scene::new().undecided(GLOBAL).service(WEB, "10.0.0.50").installed("10.0.0.50/32");
    let scene = scene.endpoints(WEB, &[endpoint("n1", EndpointState::NotReady)]).run();
    assert!(scene.ours().is_empty());
}

#[test]
fn a_restarted_agent_that_has_seen_neither_endpoints_nor_lease_keeps_what_it_finds_and_takes_nothing() {
    for (scene, lease) in [(Scene::new(), GLOBAL), (Scene::per_service(), LEASE)] {
        let scene = scene.service(WEB, "10.0.0.50").installed("10.0.0.50/32");
        let scene = scene.with(|scene| scene.endpoints_listed = false).undecided(lease);
        let state = |scene: &mut Scene, history| {
            scene.members.elections.get_mut(&super::scene::lease(lease)).unwrap().history = history;
        };
        let unseen = scene.clone().with(|scene| state(scene, History::Unknown));
        assert_eq!((unseen.changes(), unseen.standing(lease)), (vec![], Standing::Leave));
        let unheard = unseen.with(|scene| scene.members.elections.clear());
        assert_eq!((unheard.changes(), unheard.standing(lease)), (vec![], Standing::Leave));
        // Seen and free: another node may take it at any moment.
        let free = scene.with(|scene| state(scene, History::Held));
        assert_eq!((free.standing(lease), free.run().ours().len()), (Standing::Leave, 0));
    }
}

#[test]
fn an_unread_kernel_stands_for_nothing_and_releases_nothing() {
    for (scene, lease) in [(Scene::new(), GLOBAL), (Scene::per_service(), LEASE)] {
        let scene = scene.free(lease).service(WEB, "10.0.0.50").with(|scene| scene.actual = Known::Unknown);
        let want = scene.want(lease);
        assert_eq!((want.standing, want.footprint), (Standing::Leave, Footprint::Present));
        assert_eq!(scene.reason(WEB), Reason::KernelUnknown);
    }
}

#[test]
fn a_lost_election_takes_the_addresses_away() {
    let scene = Scene::new().held_by(GLOBAL, "n2").service(WEB, "10.0.0.50").installed("10.0.0.50/32");
    assert_eq!(scene.reason(WEB), Reason::HeldBy("n2".into()));
    assert!(scene.run().ours().is_empty());
}

#[test]
fn a_renewed_right_moves_the_lifetime_and_the_claim() {
    let scene = Scene::new().holding(GLOBAL).service_with(WEB, "10.0.0.50", |service| {
        service.ingress = vec![shown("10.0.0.50")];
    });
    let scene = scene.with(|scene| {
        let tag = scene.tag();
        let mut early = address(ETH1, "10.0.0.50/32", tag);
        early.valid = vip_model::kernel::Lifetime::Until(at(9000));
        scene.kernel().addresses.push(early);
    });
    assert_eq!(scene.changes().len(), 1);
    assert!(scene.plan().claims.values().all(|claim| claim.not_after == at(11_000)));
}
