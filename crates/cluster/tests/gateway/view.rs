//! Watches: what is there, what is not, what changes; and that none stays silent for long.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use vip_cluster::ClusterEvent;
use vip_lab::api::{
    Effect, Failure as Refusal, Fault, Identity, Kind, Login, Reach, Verb, Watches as Flow, Whose,
};
use vip_model::store::{Expect, FailureClass, Purpose, Sight, Watches};
use vip_model::{Known, LeaseName, NodeName};

use crate::rig::{LONG, Rig, holder, lock, present, write};

fn apply(rig: &Rig, lease: &LeaseName, who: &str) {
    rig.server
        .store()
        .apply(&json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": lease.name(), "namespace": lease.namespace()},
            "spec": {"holderIdentity": who, "leaseDurationSeconds": 15},
        }))
        .expect("the store takes it");
}

fn delete(rig: &Rig, lease: &LeaseName) {
    rig.server.store().delete(
        Kind::named("leases").expect("the store takes it"),
        lease.namespace(),
        lease.name(),
    );
}

fn watches(rig: &Rig) -> u64 {
    rig.server.counts().iter().filter(|(call, _)| call.verb == Verb::Watch).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn a_lease_is_told_when_it_is_absent_when_it_comes_changes_and_goes() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert!(matches!(ear.sight(&lock(), LONG).await, Some(Sight::Absent(Some(_)))));
    let mut before = None;
    for who in ["n1", "n2"] {
        apply(&rig, &lock(), who);
        let start = Instant::now();
        let sight = ear.sight(&lock(), LONG).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
        assert_eq!(holder(&sight), Some(who));
        let Sight::Present { version, .. } = sight else { unreachable!() };
        assert!(before.is_none_or(|before: vip_model::store::Version| before.is_older_than(&version)));
        before = Some(version);
    }
    delete(&rig, &lock());
    let Some(Sight::Absent(Some(version))) = ear.sight(&lock(), LONG).await else { panic!("not gone") };
    assert!(before.unwrap().is_older_than(&version), "the version is that of the deletion");
}

#[tokio::test]
async fn many_leases_share_one_watch_and_a_later_one_is_told_at_once() {
    let rig = Rig::with_admin(1);
    let leases: Vec<LeaseName> = (0..6).map(|n| LeaseName::new("kube-system", format!("l{n}"))).collect();
    apply(&rig, &leases[5], "n5");
    let mut ear = rig.start();
    ear.watch(&leases[..4].iter().collect::<Vec<_>>());
    for lease in &leases[..4] {
        assert!(matches!(ear.sight(lease, LONG).await, Some(Sight::Absent(_))), "{lease}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(watches(&rig), 1);
    let before = rig.server.counts();
    ear.watch(&leases.iter().collect::<Vec<_>>());
    assert!(matches!(ear.sight(&leases[4], LONG).await, Some(Sight::Absent(_))));
    assert_eq!(holder(&ear.sight(&leases[5], LONG).await.unwrap()), Some("n5"));
    assert_eq!(rig.server.counts(), before, "what was seen already is not asked for again");
    apply(&rig, &leases[4], "n4");
    assert_eq!(holder(&ear.sight(&leases[4], LONG).await.unwrap()), Some("n4"));
    // What nobody wants any more is not told.
    ear.watch(&leases[..4].iter().collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_millis(50)).await;
    apply(&rig, &leases[5], "n9");
    assert_eq!(ear.sight(&leases[5], Duration::from_millis(200)).await, None);
}

#[tokio::test]
async fn a_watch_that_ends_is_opened_again_and_misses_nothing() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert!(ear.sight(&lock(), LONG).await.is_some());
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.server.drop_watches(Whose::All);
        let who = format!("w{round}");
        apply(&rig, &lock(), &who);
        let start = Instant::now();
        while holder(&ear.sight(&lock(), LONG).await.unwrap()) != Some(who.as_str()) {}
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_version_that_is_gone_leads_to_a_new_list() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert!(ear.sight(&lock(), LONG).await.is_some());
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.server.turn(Whose::All, |knobs| knobs.watches = Flow::Frozen);
    apply(&rig, &lock(), "n1");
    delete(&rig, &lock());
    apply(&rig, &lock(), "n2");
    rig.server.store().compact();
    rig.server.drop_watches(Whose::All);
    rig.server.turn(Whose::All, |knobs| knobs.watches = Flow::Flowing);
    let start = Instant::now();
    let sight = ear.sight(&lock(), LONG).await.unwrap();
    assert_eq!(holder(&sight), Some("n2"));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_watch_that_is_silent_is_replaced_when_a_question_shows_more() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert!(matches!(ear.sight(&lock(), LONG).await, Some(Sight::Absent(_))));
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.server.turn(Whose::All, |knobs| knobs.watches = Flow::Frozen);
    present(ear.write(write(&lock(), Expect::Absent, Purpose::Take)).await);
    let start = Instant::now();
    let sight = ear.sight(&lock(), LONG).await.unwrap();
    assert_eq!(holder(&sight), Some("n1"));
    let took = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_millis(1_500)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn an_api_that_comes_back_is_seen_within_300_ms() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert!(ear.sight(&lock(), LONG).await.is_some());
    for reach in [Reach::Down, Reach::Frozen] {
        rig.turn(1, |knobs| knobs.reach = reach);
        apply(&rig, &lock(), &format!("{reach:?}"));
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        rig.turn(1, |knobs| knobs.reach = Reach::Open);
        let start = Instant::now();
        let sight = ear.sight(&lock(), LONG).await.unwrap();
        assert_eq!(holder(&sight), Some(format!("{reach:?}").as_str()));
        assert!(start.elapsed() < Duration::from_millis(300), "{reach:?}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_path_that_heals_is_seen_although_every_connection_of_before_stays_dead() {
    let rig = Rig::with_admin(1);
    rig.turn(1, |knobs| knobs.reach = Reach::Cut);
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert_eq!(ear.sight(&lock(), Duration::from_secs(4)).await, None);
    rig.turn(1, |knobs| knobs.reach = Reach::Open);
    let start = Instant::now();
    assert!(ear.sight(&lock(), LONG).await.is_some());
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
}

#[tokio::test]
async fn trouble_and_recovery_are_told_once() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert!(ear.sight(&lock(), LONG).await.is_some());
    rig.turn(1, |knobs| knobs.reach = Reach::Down);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    rig.turn(1, |knobs| knobs.reach = Reach::Open);
    assert!(ear.sight(&lock(), LONG).await.is_some(), "an API that is back is told by a sight");
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Told: reachable at the start, then trouble and recovery; nothing twice.
    let told: Vec<_> = ear
        .rest()
        .into_iter()
        .filter_map(|event| match event {
            ClusterEvent::Reachable => Some("well".to_owned()),
            ClusterEvent::Trouble(failure) => Some(format!("{:?}", failure.class)),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["well", "Unreachable", "well"]);
}

#[tokio::test]
async fn an_error_event_or_a_5xx_of_a_watch_does_not_make_a_hot_loop() {
    let rig = Rig::with_admin(1);
    rig.server.turn(Whose::All, |knobs| {
        let refusal = Refusal::new(500, "InternalError", "no watch today");
        knobs.faults = vec![Fault::on(Verb::Watch, "leases", Effect::Fail(refusal))];
    });
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert!(ear.sight(&lock(), LONG).await.is_some());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(watches(&rig) <= 10, "{} watches in two seconds", watches(&rig));
    rig.server.turn(Whose::All, |knobs| knobs.faults.clear());
    apply(&rig, &lock(), "n3");
    let start = Instant::now();
    while holder(&ear.sight(&lock(), LONG).await.unwrap()) != Some("n3") {}
    assert!(start.elapsed() < Duration::from_millis(2_500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn nodes_are_told_with_their_addresses_once_they_are_wanted() {
    let rig = Rig::with_admin(1);
    let node = |name: &str, address: &str| {
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kube-vip.io/has-ip": "v"}},
            "status": {"addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]},
        })
    };
    rig.server.store().apply(&node("n1", "10.0.0.11")).unwrap();
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert!(ear.sight(&lock(), LONG).await.is_some());
    assert!(!ear.rest().iter().any(|event| matches!(event, ClusterEvent::Snapshot(_))));
    ear.cluster.watch(Watches { nodes: true, ..Watches::default() });
    let snapshot = |event: &ClusterEvent| match event {
        ClusterEvent::Snapshot(snapshot) => Some(snapshot.clone()),
        _ => None,
    };
    let Known::Known(nodes) = ear.wait(LONG, snapshot).await.unwrap().nodes else { panic!("unknown") };
    assert_eq!(nodes[&NodeName::new("n1")].addresses, BTreeSet::from(["10.0.0.11".parse().unwrap()]));
    rig.server.store().apply(&node("n2", "10.0.0.12")).unwrap();
    let mut count = 0;
    while count < 2 {
        let Known::Known(nodes) = ear.wait(LONG, snapshot).await.unwrap().nodes else { panic!("unknown") };
        count = nodes.values().filter(|facts| !facts.addresses.is_empty()).count();
    }
    rig.server.store().delete(Kind::named("nodes").unwrap(), "", "n1");
    let Known::Known(nodes) = ear.wait(LONG, snapshot).await.unwrap().nodes else { panic!("unknown") };
    assert_eq!(nodes.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["n2"]);
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_once_and_the_rest_works() {
    let rig = Rig::new(1);
    let who = Identity::new("vip", &[]);
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Certificate(&who), &rig.url(1));
    rig.server
        .store()
        .apply_yaml(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: vip}\nrules:\n- apiGroups: \
             [coordination.k8s.io]\n  resources: [leases]\n  verbs: [list, get, watch, update, create]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: vip}\nroleRef: \
             {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: vip}\nsubjects:\n- {kind: User, name: vip, \
             apiGroup: rbac.authorization.k8s.io}\n",
        )
        .unwrap();
    let mut ear = rig.start();
    ear.cluster.watch(Watches { leases: BTreeSet::from([lock()]), nodes: true, ..Watches::default() });
    assert!(ear.sight(&lock(), LONG).await.is_some());
    present(ear.write(write(&lock(), Expect::Absent, Purpose::Take)).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = ear.rest();
    let missing: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            ClusterEvent::MissingRight { verb, resource } if *resource == "nodes" => Some(*verb),
            _ => None,
        })
        .collect();
    assert_eq!(missing, ["list"]);
    assert!(!events.iter().any(|event| matches!(event, ClusterEvent::Snapshot(_))), "nodes stay unknown");
    let trouble = events.iter().any(
        |event| matches!(event, ClusterEvent::Trouble(failure) if failure.class == FailureClass::Forbidden),
    );
    assert!(!trouble, "Nodes are not what elections wait for");
    let lists: u64 =
        rig.server.counts().iter().filter(|(call, _)| call.resource == "nodes").map(|(_, count)| count).sum();
    assert!(lists <= 2, "{lists} lists of Nodes in a second");
}
