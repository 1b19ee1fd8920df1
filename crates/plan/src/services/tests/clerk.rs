//! Who says what is wrong with a Service for every node, when those that come first do not.

use vip_model::NodeName;
use vip_model::members::Pulse;
use vip_model::observed::Overdue;
use vip_model::plan::Unsaid;
use vip_model::service::Condition;

use super::scene::{GLOBAL, Scene, at, lease, name};
use crate::services::write::CONDITION;

const WEB: &str = "default/web";
const DB: &str = "default/kubevip-db";

/// A Service that nobody can serve, seen from a node.
fn broken(scene: Scene, me: &str) -> Scene {
    scene.with(|scene| scene.config.node = NodeName::new(me)).service(WEB, "10.0.0.300")
}

fn says(scene: &Scene) -> bool {
    scene.written(WEB).conditions.contains_key(CONDITION)
}

/// How long the node waits for others, in seconds.
fn wait(scene: &Scene) -> Option<u64> {
    scene.plan().unsaid.map(|unsaid| unsaid.wait.as_secs())
}

/// Since the start of the scene nobody has said it; now it is so many milliseconds later.
fn later(mut scene: Scene, millis: u64) -> Scene {
    scene.observed.unsaid = Some(Overdue { service: name(WEB), since: at(0), turn: at(millis) });
    scene
}

fn said(scene: Scene, status: &str) -> Scene {
    scene.edit(WEB, |service| {
        let said = Condition { status: status.to_owned(), reason: String::new(), message: String::new() };
        service.conditions.insert(CONDITION.to_owned(), said);
    })
}

#[test]
fn each_node_waits_for_those_that_come_first_and_then_stands_in() {
    for (me, seconds) in [("n2", 1), ("n3", 2)] {
        let scene = broken(Scene::per_service(), me);
        assert_eq!((says(&scene), wait(&scene)), (false, Some(seconds)));
        let early = later(scene.clone(), 1000 * seconds - 1);
        assert_eq!((says(&early), wait(&early)), (false, Some(seconds)));
        let late = later(scene, 1000 * seconds);
        assert_eq!((says(&late), wait(&late)), (true, Some(seconds)), "until it is seen to be said");
    }
    let first = broken(Scene::per_service(), "n1");
    assert_eq!((says(&first), wait(&first)), (true, None));
}

#[test]
fn who_stands_in_adds_what_is_missing_and_corrects_nobody_who_lives() {
    let scene = || later(broken(Scene::per_service(), "n2"), 9000);
    let refused = said(scene(), "False");
    assert_eq!((says(&refused), wait(&refused)), (false, None), "it is said, in other words");
    assert!(says(&said(scene(), "True")), "nobody holds a Lease, so nobody announces it");
    let lives = said(scene(), "True").held_by(DB, "n3");
    assert_eq!((says(&lives), wait(&lives)), (false, None));
}

#[test]
fn who_holds_a_lease_and_lives_comes_first() {
    let seen_by = |me: &str, pulse| {
        broken(Scene::per_service(), me).held_by(DB, "n3").with(|scene| {
            scene.members.elections.get_mut(&lease(DB)).unwrap().pulse = pulse;
        })
    };
    assert!(says(&seen_by("n3", Pulse::Beating)));
    assert_eq!(wait(&seen_by("n1", Pulse::Beating)), Some(1), "n3, then n1");
    assert!(says(&seen_by("n1", Pulse::Lapsed)), "n3 may be dead");
    assert_eq!(wait(&seen_by("n3", Pulse::Lapsed)), Some(2));
}

#[test]
fn another_client_that_holds_the_global_lease_keeps_nobody_from_speaking() {
    let taken = |me: &str| broken(Scene::new().held_by(GLOBAL, "stranger"), me);
    assert!(says(&taken("n1")));
    assert_eq!(wait(&taken("n2")), Some(1));
    let held = |me: &str| broken(Scene::new().held_by(GLOBAL, "n2"), me);
    assert_eq!((says(&held("n1")), wait(&held("n1"))), (false, Some(1)), "n2 is a node of the cluster");
    assert_eq!((says(&held("n3")), wait(&held("n3"))), (false, Some(2)));
    assert!(says(&later(held("n1"), 1000)));
}

#[test]
fn a_node_that_is_none_of_the_cluster_says_nothing() {
    let scene = broken(Scene::per_service(), "n9");
    assert_eq!((says(&scene), wait(&scene)), (false, None));
    assert!(!says(&later(scene, 60_000)));
}

#[test]
fn one_service_is_waited_for_as_long_as_nobody_speaks_of_it() {
    let scene = later(broken(Scene::per_service(), "n2"), 500).service("default/a", "10.0.0.300");
    let waited = |scene: &Scene| scene.plan().unsaid.map(|Unsaid { service, .. }| service);
    assert_eq!(waited(&scene), Some(name(WEB)), "one that comes later starts no new wait");
    assert_eq!(waited(&said(scene, "False")), Some(name("default/a")));
}
