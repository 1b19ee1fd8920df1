//! Addresses that somebody else may still have: when they are looked for, and when they are waited for. The scene's tenure
//! began at 1 s.

use std::collections::BTreeSet;

use vip_model::ScopedAddr;
use vip_model::config::Advertise;
use vip_model::members::{ElectionState, Found, History, Pulse, Said};
use vip_model::observed::{Former, ProbeState, Trail, Trails};
use vip_model::plan::{Doubt, ElectionWant, Heard, NodePlan, Presence, Standing};
use vip_model::service::Service;
use vip_model::store::{RETIRED, Revision, Version};
use vip_model::verdict::{Reason, Verdict};

use crate::world::KernelWork;

use super::scene::{ETH1, Scene, address, at, ip, lease, mac, shown};

const LEASE: &str = "default/kubevip-web";
const FORMER: &str = "default/kubevip-api";
const WEB: &str = "default/web";
const SPOT: ScopedAddr =
    ScopedAddr { addr: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 50)), link: ETH1 };

/// The revision of the Services at which an address left the Lease that it came from.
const LEFT: Revision = Revision(400);

/// A Service that was served before, with an election of its own that this node holds. Its address is not in the kernel.
/// It is known under that Lease since `since`, and came from `before`.
fn scene(since: u64, before: &[&str]) -> Scene {
    let served = |service: &mut Service| service.ingress = vec![shown("10.0.0.50")];
    let mut scene = Scene::per_service().holding(LEASE).service_with(WEB, "10.0.0.50", served);
    let before = before.iter().map(|it| Former { lease: lease(it), at: Some(LEFT) }).collect();
    let trail = Trail { lease: lease(LEASE), since: at(since), before, gone: None };
    let addrs = [(ip("10.0.0.50"), trail)].into();
    let moved = BTreeSet::from([ip("10.0.0.50")]);
    scene.observed.trails = Some(Trails { addrs, moved, turn: at(10_000), ..Trails::default() });
    scene
}

impl Scene {
    fn trails(&mut self) -> &mut Trails {
        self.observed.trails.as_mut().unwrap()
    }

    fn without_probes(mut self) -> Self {
        let Advertise::Arp(layer2) = &mut self.config.advertise;
        layer2.skip_conflict_probe = true;
        self
    }

    fn history(mut self, name: &str, history: History) -> Self {
        self.members.elections.get_mut(&lease(name)).unwrap().history = history;
        self
    }

    fn said(mut self, name: &str, said: Said) -> Self {
        self.members.elections.get_mut(&lease(name)).unwrap().said = said;
        self
    }

    fn lapsed(mut self, name: &str) -> Self {
        self.members.elections.get_mut(&lease(name)).unwrap().pulse = Pulse::Lapsed;
        self
    }

    fn found(mut self, state: ProbeState) -> Self {
        self.observed.probes = [(SPOT, state)].into();
        self
    }
}

fn doubt(scene: &Scene) -> Option<Doubt> {
    scene.plan().doubts.get(&SPOT).copied()
}

fn is_installed(scene: &Scene) -> bool {
    let plan = scene.plan();
    let planned = plan.addresses.set.get(&SPOT);
    planned.is_some_and(|planned| matches!(planned.presence, Presence::Install { .. }))
}

fn assert_taken_at_once(scene: &Scene) {
    assert_eq!(doubt(scene), None);
    assert!(is_installed(scene), "{:?}", scene.verdict(WEB));
}

#[test]
fn a_take_over_of_what_was_known_before_costs_no_probe() {
    assert_taken_at_once(&scene(0, &[]).with(|scene| {
        // The tenure began at 1 s, and 2 s are what a picture needs: it was known long before.
        scene.trails().addrs.get_mut(&ip("10.0.0.50")).unwrap().since = at(0);
        scene.tenure(at(2000));
    }));
}

#[test]
fn an_address_that_joins_a_tenure_is_looked_for_first() {
    let scene = scene(5000, &[]);
    assert_eq!(doubt(&scene), Some(Doubt::Ask(Some(at(16_000)))));
    assert!(!is_installed(&scene));
    assert_eq!(scene.verdict(WEB), Verdict::Skip(Reason::Probing));
    let answered = scene.clone().found(ProbeState::Answered(mac(9)));
    assert_eq!(answered.verdict(WEB), Verdict::Skip(Reason::StillAnswered(mac(9))));
    assert!(is_installed(&scene.found(ProbeState::Silent)));
}

#[test]
fn what_this_tenure_had_is_set_again_without_a_question() {
    let scene = scene(5000, &[]).found(ProbeState::Silent);
    let former = scene.plan();
    assert_taken_at_once(&Scene { former: Some(former), observed: scene_without_probes(&scene), ..scene });
}

#[test]
fn what_this_tenure_had_is_looked_for_again_when_the_store_was_silent_meanwhile() {
    let scene = scene(5000, &[]).found(ProbeState::Silent);
    let former = scene.plan();
    let again = Scene { former: Some(former), observed: scene_without_probes(&scene), ..scene };
    let cut_off = again.clone().with(|scene| scene.trails().lost_sight = Some(at(9000)));
    assert_eq!(doubt(&cut_off), Some(Doubt::Ask(Some(at(24_000)))));
    assert!(!is_installed(&cut_off));
    assert_taken_at_once(&again.with(|scene| scene.trails().lost_sight = Some(at(8000))));
}

#[test]
fn what_somebody_put_there_without_a_tag_proves_nothing_for_an_address_from_another_lease() {
    let planted = |before: &[&str]| {
        scene(5000, before).with(|scene| scene.kernel().addresses.push(address(ETH1, "10.0.0.50/32", 0)))
    };
    assert_taken_at_once(&planted(&[]));
    let moved = planted(&[FORMER]).held_by(FORMER, "n2");
    assert_eq!(doubt(&moved), Some(Doubt::Wait(at(65_000))));
    assert!(!is_installed(&moved));
    assert_eq!(moved.changes().len(), 1, "it is removed");
}

fn scene_without_probes(scene: &Scene) -> vip_model::observed::Observed {
    vip_model::observed::Observed { probes: std::collections::BTreeMap::new(), ..scene.observed.clone() }
}

#[test]
fn after_a_stop_or_a_silence_of_the_store_a_take_over_is_looked_at() {
    let known = || scene(0, &[]).with(|scene| scene.tenure(at(9000)));
    assert_taken_at_once(&known());
    for unrest in [
        known().with(|scene| scene.trails().woke = Some(at(8000))),
        known().with(|scene| scene.trails().lost_sight = Some(at(8000))),
    ] {
        assert_eq!(doubt(&unrest), Some(Doubt::Ask(Some(at(24_000)))));
    }
    let stopped = known().with(|scene| scene.trails().woke = Some(at(8000))).without_probes();
    assert_eq!(doubt(&stopped), Some(Doubt::Wait(at(10_000))));
    let silent = known().with(|scene| scene.trails().lost_sight = Some(at(8000))).without_probes();
    assert_taken_at_once(&silent);
    assert_taken_at_once(&known().with(|scene| scene.trails().woke = Some(at(7000))));
}

#[test]
fn who_has_known_more_of_the_services_than_now_takes_over_with_a_look() {
    let knows = |revision: &str| {
        scene(0, &[]).with(|scene| {
            scene.tenure(at(9000));
            scene.trails().furthest = Some(Revision(437));
            scene.services_at = Version(revision.to_owned());
        })
    };
    assert_eq!(doubt(&knows("430")), Some(Doubt::Ask(Some(at(24_000)))));
    assert_eq!(doubt(&knows("430").without_probes()), Some(Doubt::Wait(at(11_000))));
    assert_taken_at_once(&knows("437"));
    assert_taken_at_once(&knows("440"));
}

#[test]
fn while_the_store_is_known_to_have_newer_leases_a_take_over_is_looked_at() {
    let lags = || {
        scene(0, &[]).with(|scene| {
            scene.tenure(at(9000));
            let other = ElectionState {
                said: Said { is_outdated: true, ..Said::default() },
                ..ElectionState::default()
            };
            scene.members.elections.insert(lease(FORMER), other);
        })
    };
    assert_eq!(doubt(&lags()), Some(Doubt::Ask(Some(at(24_000)))));
    assert_eq!(doubt(&lags().without_probes()), Some(Doubt::Wait(at(69_000))));
}

#[test]
fn a_lease_that_was_given_up_is_taken_with_a_look() {
    let given_up = |scene: Scene| {
        scene.with(|scene| {
            scene.tenure(at(9000));
            scene.members.elections.get_mut(&lease(LEASE)).unwrap().found = Found::Retired(Revision(0));
        })
    };
    assert_eq!(doubt(&given_up(scene(0, &[]))), Some(Doubt::Ask(None)));
    assert_eq!(doubt(&given_up(scene(0, &[]).without_probes())), Some(Doubt::Wait(at(11_000))));
}

#[test]
fn an_address_from_another_lease_waits_until_that_is_free() {
    for probing in [true, false] {
        let moved = || if probing { scene(5000, &[FORMER]) } else { scene(5000, &[FORMER]).without_probes() };
        let held = || moved().held_by(FORMER, "n2");
        // Its holder renews it: it has not heard of the move.
        assert_eq!(doubt(&held()), Some(Doubt::Wait(at(65_000))));
        assert_eq!(doubt(&held().with(|it| it.trails().turn = at(64_000))), Some(Doubt::Wait(at(65_000))));
        // One that nobody holds is taken first: whoever knows less may take it, too.
        assert_eq!(doubt(&held().lapsed(FORMER)), Some(Doubt::Wait(at(20_000))));
        let unseen = moved().undecided(FORMER).history(FORMER, History::Unknown);
        assert_eq!(doubt(&unseen), Some(Doubt::Wait(at(20_000))));
        assert_eq!(doubt(&moved().free(FORMER)), Some(Doubt::Wait(at(20_000))));
        assert_taken_at_once(&moved().holding(FORMER));
        // Given up by a holder who knew of the move.
        let given_up = |at| moved().free(FORMER).said(FORMER, Said { retired: Some(at), ..Said::default() });
        assert_taken_at_once(&given_up(LEFT));
        assert_eq!(doubt(&given_up(Revision(LEFT.0 - 1))), Some(Doubt::Wait(at(20_000))));
    }
    let unseen_for_long = scene(5000, &[FORMER])
        .undecided(FORMER)
        .history(FORMER, History::Unknown)
        .with(|scene| scene.trails().turn = at(20_000));
    assert_eq!(doubt(&unseen_for_long), Some(Doubt::Ask(None)));
}

#[test]
fn the_lease_that_an_address_came_from_is_watched_and_not_stood_for() {
    let scene = scene(5000, &[FORMER]).held_by(FORMER, "n2");
    assert_eq!(
        scene.want(FORMER),
        scene.want(FORMER).retired(vip_model::plan::Footprint::Clear, &Version::default())
    );
    let settled = scene.with(|scene| scene.trails().moved.clear());
    assert!(!settled.plan().elections.contains_key(&lease(FORMER)));
}

#[test]
fn where_the_former_lease_decides_about_others_the_network_is_asked() {
    let moved = || {
        scene(5000, &[FORMER]).service("default/api", "10.0.0.51").held_by(FORMER, "n2").with(|scene| {
            let former: NodePlan = scene.plan();
            let want: &ElectionWant = &former.elections[&lease(FORMER)];
            assert!(want.annotations.is_empty());
            scene.former = Some(former);
        })
    };
    assert_eq!(doubt(&moved()), Some(Doubt::Ask(None)));
    assert_eq!(doubt(&moved().without_probes()), Some(Doubt::Wait(at(20_000))));
}

#[test]
fn what_a_probe_found_of_a_new_address_before_its_lease_was_given_up_says_nothing() {
    let new = scene(0, &[]).with(|scene| {
        scene.tenure(at(9000));
        scene.services.values_mut().for_each(|service| service.ingress.clear());
    });
    let beside_the_election = new.plan();
    assert!(beside_the_election.probes.contains(&SPOT));
    let silent = new.found(ProbeState::Silent).with(|scene| scene.former = Some(beside_the_election));
    assert!(is_installed(&silent));
    let given_up = silent.with(|scene| {
        scene.members.elections.get_mut(&lease(LEASE)).unwrap().found = Found::Retired(Revision(0));
    });
    assert!(!is_installed(&given_up));
    assert_eq!(doubt(&given_up), Some(Doubt::Ask(None)));
    let asked = given_up.clone().with(|scene| scene.former = Some(given_up.plan()));
    assert!(is_installed(&asked));
    let conflict = asked.found(ProbeState::Answered(mac(9)));
    assert_eq!(conflict.verdict(WEB), Verdict::Skip(Reason::Conflict(mac(9))));
}

#[test]
fn a_former_lease_that_nobody_holds_is_taken_and_given_up_with_a_mark() {
    let mark = |scene: &Scene| scene.want(FORMER).annotations.get(RETIRED).cloned();
    for history in [History::New, History::Held] {
        let open = || scene(5000, &[FORMER]).undecided(FORMER).history(FORMER, history);
        assert_eq!(open().want(FORMER).standing, Standing::Contend);
        assert_eq!(mark(&open()), Some(String::new()));
        let others = open().free(LEASE);
        assert_eq!(others.want(FORMER).standing, Standing::Leave, "who has not the new Lease only looks");
    }
    let taken = scene(5000, &[FORMER]).holding(FORMER).with(|it| it.services_at = Version("402".to_owned()));
    assert_eq!(taken.want(FORMER).standing, Standing::Leave);
    assert_eq!(mark(&taken), Some("402".to_owned()));
    let behind = taken.with(|it| it.services_at = Version("399".to_owned()));
    assert_eq!(mark(&behind), Some("400".to_owned()), "it knew more when the address left");
}

#[test]
fn a_holder_that_decides_about_others_is_waited_for_until_it_says_that_the_address_is_gone() {
    let held = |acted: u64| {
        let said = Said { acted: Some(Revision(acted)), ..Said::default() };
        let scene = scene(5000, &[FORMER]).service("default/api", "10.0.0.51").held_by(FORMER, "n2");
        let former = scene.plan();
        scene.said(FORMER, said).with(|scene| scene.former = Some(former))
    };
    for scene in [held(399), held(399).without_probes()] {
        assert_eq!(doubt(&scene), Some(Doubt::Wait(at(65_000))));
        let for_long = scene.with(|scene| scene.trails().turn = at(65_000));
        assert!(!is_installed(&for_long) && doubt(&for_long).is_some());
    }
    assert_taken_at_once(&held(LEFT.0));
    assert_taken_at_once(&held(LEFT.0).without_probes());
}

#[test]
fn what_a_lease_said_before_the_news_of_this_turn_counts_for_nothing() {
    // The address is under another Lease with this plan: what is remembered still names that one.
    let news = |acted: u64| {
        let said = Said { acted: Some(Revision(acted)), ..Said::default() };
        scene(5000, &[]).held_by(FORMER, "n2").said(FORMER, said).with(|scene| {
            scene.services_at = Version("402".to_owned());
            scene.trails().addrs.get_mut(&ip("10.0.0.50")).unwrap().lease = lease(FORMER);
        })
    };
    assert!(!is_installed(&news(401)));
    assert_taken_at_once(&news(402));
}

#[test]
fn who_takes_a_lease_that_an_address_left_unheard_looks_for_what_it_would_install() {
    let taken = |known: &str| {
        scene(0, &[]).with(|scene| {
            scene.tenure(at(9000));
            scene.services_at = Version(known.to_owned());
            scene.members.elections.get_mut(&lease(LEASE)).unwrap().found = Found::Moved(Revision(430));
        })
    };
    assert_eq!(doubt(&taken("429")), Some(Doubt::Ask(None)));
    assert_eq!(doubt(&taken("429").without_probes()), Some(Doubt::Wait(at(69_000))));
    assert_taken_at_once(&taken("430"));
}

#[test]
fn a_holder_says_how_far_it_got_when_it_takes_a_lease_and_when_an_address_left_it() {
    let heard = |scene: &Scene| scene.want(FORMER).heard;
    let moved = || {
        scene(5000, &[FORMER])
            .service("default/api", "10.0.0.51")
            .holding(FORMER)
            .with(|scene| scene.services_at = Version("402".to_owned()))
    };
    let word = Heard { acted: Revision(402), moved: Some(LEFT) };
    assert_eq!(heard(&moved()), Some(word));
    let settled = moved().with(|scene| scene.trails().moved.clear());
    assert_eq!(heard(&settled), Some(Heard { moved: None, ..word }));
    let said = settled.clone().said(FORMER, Said { acted: Some(Revision(1)), ..Said::default() });
    assert_eq!(heard(&said), None, "in quiet times a renewal says nothing new");
    assert_eq!(heard(&settled.held_by(FORMER, "n2")), Some(Heard { moved: None, ..word }));
}

#[test]
fn a_holder_has_not_acted_while_something_is_left_in_its_kernel_or_on_its_way_there() {
    let moved = || {
        scene(5000, &[FORMER])
            .service("default/api", "10.0.0.51")
            .holding(FORMER)
            .with(|scene| scene.services_at = Version("402".to_owned()))
    };
    let acted = |scene: &Scene| scene.want(FORMER).heard.map(|heard| heard.acted);
    assert_eq!(acted(&moved()), Some(Revision(402)));
    assert_eq!(acted(&moved().with(|it| it.kernel_work = KernelWork::InFlight)), Some(Revision(0)));
    assert_eq!(acted(&moved().installed("10.0.0.99/32")), Some(Revision(0)));
}

#[test]
fn a_lease_that_was_given_up_for_what_is_not_heard_of_yet_installs_nothing_until_it_is() {
    let given_up = |known: &str| {
        scene(0, &[]).with(|scene| {
            scene.tenure(at(9000));
            scene.services_at = Version(known.to_owned());
            scene.members.elections.get_mut(&lease(LEASE)).unwrap().found = Found::Retired(Revision(430));
        })
    };
    for probing in [true, false] {
        let behind = if probing { given_up("429") } else { given_up("429").without_probes() };
        assert_eq!(doubt(&behind), Some(Doubt::Wait(at(69_000))));
        assert!(!is_installed(&behind));
    }
    assert_eq!(doubt(&given_up("430")), Some(Doubt::Ask(None)));
    assert_eq!(doubt(&given_up("431").without_probes()), Some(Doubt::Wait(at(11_000))));
    // Versions of the Services that are no numbers tell nothing.
    assert_eq!(doubt(&given_up("x")), Some(Doubt::Ask(None)));
    let long_ago = given_up("429").with(|scene| scene.trails().turn = at(69_000));
    assert_eq!(doubt(&long_ago), Some(Doubt::Ask(None)));
}
