//! Questions that only API servers on other nodes may answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use vip_cluster::ClusterEvent;
use vip_lab::api::{Effect, Failure as Refusal, Fault, Reach, Verb, Whose};
use vip_model::session::{SessionWrite, Via};
use vip_model::store::{Ask, Expect, FailureClass};

use crate::rig::{Ear, LONG, Rig, address, failed, lock};
use crate::session::{ask, lease, seen, session};

/// Says that 127.0.0.1 is this node, and no other address is.
fn at_home(ear: &Ear) {
    ear.cluster.note_here(BTreeSet::from([IpNet::from(address(1))]));
}

fn elsewhere(mut write: SessionWrite) -> Ask {
    write.via = Via::Elsewhere;
    ask(write)
}

async fn servers_are_learned(rig: &Rig, ear: &mut Ear) {
    ear.read_at_last(&lock()).await;
    let start = Instant::now();
    let read = |rig: &Rig| rig.server.counts().keys().any(|call| call.resource == "endpointslices");
    while !read(rig) && start.elapsed() < LONG {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn elsewhere_means_another_node_and_never_this_one() {
    let rig = Rig::with_admin(3);
    rig.seed_servers(&[1, 2, 3]);
    let mut ear = rig.start();
    servers_are_learned(&rig, &mut ear).await;
    let failure = failed(ear.ask(elsewhere(session("n1", 7, Expect::Absent))).await);
    assert!(failure.text.contains("not known yet"), "{}", failure.text);
    at_home(&ear);
    let mut version = seen(ear.ask(elsewhere(session("n1", 7, Expect::Absent))).await).version;
    let home = rig.count(1);
    rig.turn(1, |knobs| knobs.reach = Reach::Down);
    for _ in 0..5 {
        let renewal = session("n1", 7, Expect::Version(version));
        let (answer, took) = ear.ask_timed(elsewhere(renewal), Duration::from_millis(500)).await;
        version = seen(answer).version;
        println!("renewed elsewhere in {took:?}");
        assert!(took < Duration::from_millis(250), "{took:?}");
    }
    assert_eq!(rig.count(1), home, "this node's own server was asked");
    assert!(rig.count(2) + rig.count(3) >= 6);
}

#[tokio::test]
async fn elsewhere_fails_at_once_when_only_this_node_has_a_server() {
    let mut rig = Rig::with_admin(2);
    // As a pod is told: a Service, which may lead to this node's own server.
    rig.settings.server = Some(rig.url(2));
    rig.seed_servers(&[1]);
    let mut ear = rig.start();
    servers_are_learned(&rig, &mut ear).await;
    at_home(&ear);
    let (answer, took) = ear.ask_timed(elsewhere(session("n1", 7, Expect::Absent)), LONG).await;
    let failure = failed(answer);
    assert_eq!(failure.class, FailureClass::Unreachable);
    assert!(failure.text.contains("no API server on another node is known"), "{}", failure.text);
    assert!(failure.text.contains("127.0.0.1"), "{}", failure.text);
    assert!(took < Duration::from_millis(50), "{took:?}");
    let trouble = ear.rest().iter().any(|event| matches!(event, ClusterEvent::Trouble(_)));
    assert!(!trouble, "the API is well all the same");
}

#[tokio::test]
async fn a_vip_is_nowhere_else() {
    let mut rig = Rig::with_admin(2);
    rig.settings.vips.insert(address(2));
    rig.seed_servers(&[1, 2]);
    let mut ear = rig.start();
    servers_are_learned(&rig, &mut ear).await;
    at_home(&ear);
    let failure = failed(ear.ask(elsewhere(session("n1", 7, Expect::Absent))).await);
    assert!(failure.text.contains("no API server on another node is known"), "{}", failure.text);
    assert_eq!(rig.count(2), 0);
}

#[tokio::test]
async fn elsewhere_does_not_wait_for_silent_servers_and_uses_no_old_connection() {
    let rig = Rig::with_admin(4);
    rig.seed_servers(&[1, 2, 3, 4]);
    let mut ear = rig.start();
    servers_are_learned(&rig, &mut ear).await;
    at_home(&ear);
    let mut version = seen(ear.ask(elsewhere(session("n1", 7, Expect::Absent))).await).version;
    for reach in [Reach::Frozen, Reach::Down, Reach::Cut] {
        for silent in 2..=3 {
            rig.turn(silent, |knobs| knobs.reach = reach);
        }
        let renewal = session("n1", 7, Expect::Version(version));
        let (answer, took) = ear.ask_timed(elsewhere(renewal), Duration::from_millis(800)).await;
        version = seen(answer).version;
        println!("two of three {reach:?}: renewed elsewhere in {took:?}");
        assert!(took < Duration::from_millis(300), "{reach:?}: {took:?}");
    }
    for number in 2..=4 {
        rig.turn(number, |knobs| knobs.reach = Reach::Frozen);
    }
    let renewal = session("n1", 7, Expect::Version(version.clone()));
    let (answer, took) = ear.ask_timed(elsewhere(renewal), Duration::from_millis(300)).await;
    let failure = failed(answer);
    assert_eq!(failure.class, FailureClass::Timeout, "{}", failure.text);
    assert!(took < Duration::from_millis(500), "{took:?}");
    // A path that was cut leaves dead connections behind; the next question opens its own.
    for number in 2..=4 {
        rig.turn(number, |knobs| knobs.reach = Reach::Cut);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    for number in 2..=4 {
        rig.turn(number, |knobs| knobs.reach = Reach::Open);
    }
    let now = seen(ear.ask(Ask::ReadSession(lease("n1"))).await).version;
    let renewal = session("n1", 7, Expect::Version(now));
    let (answer, took) = ear.ask_timed(elsewhere(renewal), Duration::from_millis(800)).await;
    seen(answer);
    assert!(took < Duration::from_millis(250), "{took:?}");
}

#[tokio::test]
async fn a_renewal_elsewhere_that_meets_itself_is_answered_with_what_it_wrote() {
    let rig = Rig::with_admin(3);
    rig.seed_servers(&[1, 2, 3]);
    let mut ear = rig.start();
    servers_are_learned(&rig, &mut ear).await;
    at_home(&ear);
    let first = seen(ear.ask(elsewhere(session("n1", 7, Expect::Absent))).await);
    for silent in [2, 3] {
        rig.turn(silent, |knobs| knobs.faults = vec![Fault::on(Verb::Update, "leases", Effect::HangAfter)]);
        let now = seen(ear.ask(Ask::ReadSession(lease("n1"))).await);
        let renewal = session("n1", 7, Expect::Version(now.version.clone()));
        let second = seen(ear.ask(elsewhere(renewal)).await);
        assert!(now.renewed < second.renewed, "{first:?}");
        rig.turn(silent, |knobs| knobs.faults.clear());
    }
    // A refusal is an answer: this node reaches others.
    rig.server.turn(Whose::All, |knobs| {
        let refusal = Refusal::new(403, "Forbidden", "no");
        knobs.faults = vec![Fault::on(Verb::Update, "leases", Effect::Fail(refusal))];
    });
    let now = seen(ear.ask(Ask::ReadSession(lease("n1"))).await);
    let failure = failed(ear.ask(elsewhere(session("n1", 7, Expect::Version(now.version)))).await);
    assert_eq!(failure.class, FailureClass::Forbidden);
}
