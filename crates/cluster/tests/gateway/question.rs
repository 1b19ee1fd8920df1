//! Questions: what is written and read, what a conflict is, which class a failure has, that every one is answered.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use vip_lab::api::{Effect, Failure as Refusal, Fault, Reach, Verb, Whose};
use vip_model::NodeName;
use vip_model::store::{Acquired, Answer, Ask, Expect, FailureClass, LeaseSeen, Purpose, Sight, Version};
use vip_model::{LeaseName, QuestionId};

use crate::rig::{LONG, Rig, failed, lock, present, write};

fn is_micro_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000000Z"
}

#[tokio::test]
async fn a_lease_is_created_renewed_and_released_as_client_go_does_it() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    let lease = lock();
    assert_eq!(
        ear.read(&lease).await,
        Answer::Lease(LeaseSeen { lease: lease.clone(), sight: Sight::Absent(None) })
    );

    let mut take = write(&lease, Expect::Absent, Purpose::Take);
    take.annotations.insert("owner".to_owned(), "vip".to_owned());
    let (first, record) = present(ear.write(take).await);
    let stored = rig.stored(&lease).unwrap();
    assert_eq!(stored["spec"]["holderIdentity"], "n1");
    assert_eq!(stored["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(stored["spec"]["leaseTransitions"], 0);
    assert_eq!(stored["spec"]["acquireTime"], stored["spec"]["renewTime"]);
    assert!(is_micro_time(stored["spec"]["renewTime"].as_str().unwrap()), "{stored}");
    assert_eq!(stored["metadata"]["annotations"]["owner"], "vip");
    assert_eq!(record.holder.as_deref(), Some("n1"));

    let mut renew = write(&lease, Expect::Version(first.clone()), Purpose::Renew);
    renew.acquired = Acquired::Keep(record.acquired.clone().unwrap());
    let (second, renewed) = present(ear.write(renew).await);
    assert!(first.is_older_than(&second));
    assert_eq!(renewed.acquired, record.acquired);
    assert!(renewed.renewed > record.renewed);

    let mut release = write(&lease, Expect::Version(second), Purpose::Release);
    release.holder = None;
    release.duration = Duration::from_secs(1);
    release.transitions = 4;
    let (_, released) = present(ear.write(release).await);
    assert_eq!(released.holder, None);
    let stored = rig.stored(&lease).unwrap();
    assert_eq!(stored["spec"]["holderIdentity"], "");
    assert_eq!(stored["spec"]["leaseDurationSeconds"], 1);
    assert_eq!(stored["spec"]["leaseTransitions"], 4);
    assert_eq!(stored["spec"]["acquireTime"], stored["spec"]["renewTime"]);
}

#[tokio::test]
async fn a_write_keeps_what_it_does_not_know() {
    let rig = Rig::with_admin(1);
    let lease = lock();
    let theirs = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": lease.name(), "namespace": lease.namespace(),
            "labels": {"team": "net"}, "annotations": {"theirs": "1", "both": "old"},
        },
        "spec": {"holderIdentity": "n9", "leaseDurationSeconds": 15},
    });
    rig.server.store().apply(&theirs).unwrap();
    let mut ear = rig.start();
    // Not read before: the gateway must look for itself.
    let version = rig.stored(&lease).unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut take = write(&lease, Expect::Version(Version(version)), Purpose::Take);
    take.annotations = BTreeMap::from([("both".to_owned(), "new".to_owned())]);
    present(ear.write(take).await);
    let stored = rig.stored(&lease).unwrap();
    assert_eq!(stored["metadata"]["labels"], json!({"team": "net"}));
    assert_eq!(stored["metadata"]["annotations"], json!({"theirs": "1", "both": "new"}));
    assert_eq!(stored["spec"]["holderIdentity"], "n1");
}

#[tokio::test]
async fn a_premise_that_no_longer_holds_is_a_conflict() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    let lease = lock();
    let (first, _) = present(ear.write(write(&lease, Expect::Absent, Purpose::Take)).await);
    assert_eq!(ear.write(write(&lease, Expect::Absent, Purpose::Take)).await, Answer::Conflict);
    let mut other: Value = (*rig.stored(&lease).unwrap()).clone();
    other["spec"]["holderIdentity"] = json!("n2");
    rig.server.store().apply(&other).unwrap();
    // The object of that version is still known, so this one goes to the server and comes back as 409.
    let stale = write(&lease, Expect::Version(first.clone()), Purpose::Renew);
    assert_eq!(ear.write(stale.clone()).await, Answer::Conflict);
    // This one is seen to be stale before it is sent.
    present(ear.read(&lease).await);
    assert_eq!(ear.write(stale.clone()).await, Answer::Conflict);
    let (newest, _) = present(ear.read(&lease).await);
    // Deleted in between: kube-apiserver 1.34 meets the object's uid with this, word for word.
    let why = "Operation cannot be fulfilled on leases.coordination.k8s.io \"plndr-cp-lock\": StorageError: invalid \
               object, Code: 4, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: \
               2d694c34, UID in object meta: ";
    rig.server.turn(Whose::All, |knobs| {
        let effect = Effect::Fail(Refusal::new(409, "Conflict", why));
        knobs.faults = vec![Fault::on(Verb::Update, "leases", effect)];
    });
    let gone = write(&lease, Expect::Version(newest), Purpose::Renew);
    assert_eq!(ear.write(gone).await, Answer::Conflict);
}

#[tokio::test]
async fn a_namespace_that_is_missing_is_not_an_absent_lease() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    let lease = LeaseName::new("nowhere", "lock");
    let failure = failed(ear.write(write(&lease, Expect::Absent, Purpose::Take)).await);
    assert_eq!(failure.class, FailureClass::NotFound, "{}", failure.text);
    assert!(failure.text.contains("nowhere") && failure.text.contains("create"), "{}", failure.text);
}

#[tokio::test]
async fn failures_have_their_class_and_a_text_that_names_all() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    let rows = [
        (Refusal::etcd_timeout(), FailureClass::Timeout),
        (Refusal::etcd_leader_changed(), FailureClass::Timeout),
        (Refusal::too_many_requests(), FailureClass::Throttled),
        (Refusal::new(503, "ServiceUnavailable", "starting"), FailureClass::Server),
        (Refusal::new(504, "Timeout", "slow"), FailureClass::Timeout),
        (Refusal::new(400, "BadRequest", "what?"), FailureClass::Invalid),
        (Refusal::new(410, "Expired", "too old"), FailureClass::Gone),
        (Refusal::new(403, "Forbidden", "no"), FailureClass::Forbidden),
        (Refusal::unauthorized(), FailureClass::Unauthorized),
    ];
    for (refusal, class) in rows {
        let message = refusal.message.clone();
        rig.server.turn(Whose::All, |knobs| {
            knobs.faults = vec![Fault::on(Verb::Get, "leases", Effect::Fail(refusal))];
        });
        let failure = failed(ear.read(&lock()).await);
        assert_eq!(failure.class, class, "{}", failure.text);
        for part in ["get leases", "kube-system/plndr-cp-lock", "127.0.0.1", message.as_str()] {
            assert!(failure.text.contains(part), "{part:?} is not in {:?}", failure.text);
        }
    }
}

#[tokio::test]
async fn every_question_is_answered_by_its_timeout_and_none_waits_for_another() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.read_at_last(&lock()).await;
    rig.server.turn(Whose::All, |knobs| {
        knobs.faults = vec![Fault::on(Verb::Get, "leases", Effect::Hang)];
    });
    let start = std::time::Instant::now();
    let hanging: Vec<QuestionId> =
        (0..20).map(|_| ear.ask_only(Ask::ReadLease(lock()), Duration::from_millis(600))).collect();
    let (answer, took) =
        ear.ask_timed(Ask::WriteLease(write(&lock(), Expect::Absent, Purpose::Take)), LONG).await;
    present(answer);
    assert!(took < Duration::from_millis(500), "a hanging read delayed a write by {took:?}");
    for id in hanging {
        let answer = ear
            .wait(LONG, |event| match event {
                vip_cluster::ClusterEvent::Answer(of, answer) if *of == id => Some(answer.clone()),
                _ => None,
            })
            .await
            .unwrap();
        assert_eq!(failed(answer).class, FailureClass::Timeout);
    }
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_frozen_server_leads_to_a_timeout_and_a_dead_one_to_unreachable() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.read_at_last(&lock()).await;
    rig.turn(1, |knobs| knobs.reach = Reach::Frozen);
    let (answer, took) = ear.ask_timed(Ask::ReadLease(lock()), Duration::from_millis(500)).await;
    let failure = failed(answer);
    assert_eq!(failure.class, FailureClass::Timeout);
    assert!(failure.text.contains("127.0.0.1"), "{}", failure.text);
    assert!(took < Duration::from_millis(700), "{took:?}");
    rig.turn(1, |knobs| knobs.reach = Reach::Down);
    let (answer, took) = ear.ask_timed(Ask::ReadLease(lock()), LONG).await;
    let failure = failed(answer);
    assert_eq!(failure.class, FailureClass::Unreachable, "{}", failure.text);
    assert!(took < Duration::from_millis(300), "{took:?}");
}

#[tokio::test]
async fn a_connection_that_was_cut_does_not_eat_the_whole_patience() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.read_at_last(&lock()).await;
    rig.turn(1, |knobs| knobs.reach = Reach::Cut);
    tokio::time::sleep(Duration::from_millis(20)).await;
    rig.turn(1, |knobs| knobs.reach = Reach::Open);
    // The kept connection is dead and nobody says so; the hedge opens another one.
    let (answer, took) = ear.ask_timed(Ask::ReadLease(lock()), Duration::from_secs(1)).await;
    assert!(matches!(answer, Answer::Lease(_)), "{answer:?}");
    assert!(took < Duration::from_millis(800), "{took:?}");
}

#[tokio::test]
async fn a_node_is_labelled_and_unlabelled() {
    let rig = Rig::with_admin(1);
    rig.server
        .store()
        .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"a": "b"}}}))
        .unwrap();
    let mut ear = rig.start();
    let label = |value: Option<&str>| Ask::LabelNode {
        node: NodeName::new("n1"),
        labels: BTreeMap::from([("kube-vip.io/has-ip".to_owned(), value.map(str::to_owned))]),
    };
    let labels = || {
        let kind = vip_lab::api::Kind::named("nodes").unwrap();
        rig.server.store().get(kind, "", "n1").unwrap()["metadata"]["labels"].clone()
    };
    assert_eq!(ear.ask(label(Some("10.0.0.5"))).await, Answer::Done);
    assert_eq!(labels(), json!({"a": "b", "kube-vip.io/has-ip": "10.0.0.5"}));
    assert_eq!(ear.ask(label(None)).await, Answer::Done);
    assert_eq!(labels(), json!({"a": "b"}));
    let missing = Ask::LabelNode { node: NodeName::new("n7"), labels: BTreeMap::new() };
    assert_eq!(failed(ear.ask(missing).await).class, FailureClass::NotFound);
}
