//! Sessions: written, read and watched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vip_cluster::ClusterEvent;
use vip_lab::api::{Effect, Fault, Kind, Verb, Watches as Flow, Whose};
use vip_model::session::{
    BootId, CLAIM, CLAIM_DURATION, CLAIM_FROM, End, Jury, SESSION, SESSION_LABEL, SessionId, SessionRecord,
    SessionSeen, SessionWrite, Sessions, Via, session_lease,
};
use vip_model::store::{Answer, Ask, Expect, LeaseWrite, Purpose, SessionWatch, Version, Watches};
use vip_model::{InstanceName, LeaseName, NodeName};

use crate::rig::{Ear, LONG, Rig, present};

fn instance() -> InstanceName {
    InstanceName::new("kube-vip")
}

pub(crate) fn record(node: &str, id: u64) -> SessionRecord {
    SessionRecord {
        id: SessionId(id),
        node: NodeName::new(node),
        boot: BootId::default(),
        doors: Vec::new(),
        sites: Vec::new(),
        jury: Jury::default(),
        former: Vec::new(),
        end: None,
        keys: Vec::new(),
        was_heard: false,
        drill: None,
    }
}

pub(crate) fn lease(node: &str) -> LeaseName {
    session_lease("kube-system", &instance(), &NodeName::new(node))
}

pub(crate) fn session(node: &str, id: u64, expect: Expect) -> SessionWrite {
    SessionWrite {
        lease: lease(node),
        instance: instance(),
        expect,
        purpose: Purpose::Renew,
        duration: Duration::from_secs(15),
        record: record(node, id),
        via: Via::Any,
    }
}

/// Puts a session Lease into the store, as another node would.
fn apply(rig: &Rig, node: &str, id: u64) {
    let record = serde_json::to_string(&record(node, id)).expect("the rig is set up");
    apply_annotated(rig, lease(node).name(), &record);
}

fn apply_annotated(rig: &Rig, name: &str, annotation: &str) {
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name, "namespace": "kube-system",
            "labels": {SESSION_LABEL: "kube-vip"}, "annotations": {SESSION: annotation},
        },
        "spec": {"holderIdentity": "x", "leaseDurationSeconds": 15},
    });
    rig.server.store().apply(&object).expect("the rig is set up");
}

fn delete(rig: &Rig, node: &str) {
    rig.server.store().delete(
        Kind::named("leases").expect("the rig is set up"),
        "kube-system",
        lease(node).name(),
    );
}

pub(crate) fn ask(write: SessionWrite) -> Ask {
    Ask::WriteSession(Box::new(write))
}

#[track_caller]
pub(crate) fn seen(answer: Answer) -> SessionSeen {
    match answer {
        Answer::Session(_, Some(seen)) => *seen,
        other => panic!("no session: {other:?}"),
    }
}

fn watch(ear: &Ear) {
    let sessions = SessionWatch { namespace: "kube-system".to_owned(), instance: instance() };
    ear.cluster.watch(Watches { sessions: Some(sessions), ..Watches::default() });
}

/// The next set that is told.
async fn next(ear: &mut Ear, patience: Duration) -> Option<Arc<Sessions>> {
    ear.wait(patience, |event| match event {
        ClusterEvent::Sessions(sessions) => Some(Arc::clone(sessions)),
        _ => None,
    })
    .await
}

fn ids(sessions: &Sessions) -> Vec<u64> {
    sessions.values().map(|seen| seen.record.id.0).collect()
}

#[tokio::test]
async fn a_session_is_created_renewed_read_and_released() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    let absent = Answer::Session(lease("n1"), None);
    assert_eq!(ear.ask(Ask::ReadSession(lease("n1"))).await, absent);

    let first = seen(ear.ask(ask(session("n1", 7, Expect::Absent))).await);
    assert_eq!(first.record, record("n1", 7));
    let stored = rig.stored(&lease("n1")).unwrap();
    assert_eq!(stored["metadata"]["labels"][SESSION_LABEL], "kube-vip");
    assert_eq!(stored["spec"]["holderIdentity"], "n1");
    assert_eq!(stored["spec"]["leaseDurationSeconds"], 15);
    let began = stored["spec"]["acquireTime"].clone();
    assert_eq!(began.as_str(), first.renewed.as_deref());

    let mut renewal = session("n1", 7, Expect::Version(first.version.clone()));
    renewal.record.jury = Jury { generation: 1, members: vec![NodeName::new("n2")] };
    let second = seen(ear.ask(ask(renewal.clone())).await);
    assert!(first.version.is_older_than(&second.version) && first.renewed < second.renewed);
    assert_eq!(second.record, renewal.record);
    assert_eq!(rig.stored(&lease("n1")).unwrap()["spec"]["acquireTime"], began);
    assert_eq!(seen(ear.ask(Ask::ReadSession(lease("n1"))).await), second);

    // Whoever still believes in the first version, or in none, is told to look again.
    assert_eq!(ear.ask(ask(renewal)).await, Answer::Conflict);
    assert_eq!(ear.ask(ask(session("n1", 8, Expect::Absent))).await, Answer::Conflict);
    let unknown = Expect::Version(Version("3".to_owned()));
    assert_eq!(ear.ask(ask(session("n1", 8, unknown))).await, Answer::Conflict);

    let mut release = session("n1", 7, Expect::Version(second.version));
    (release.purpose, release.record.end) = (Purpose::Release, Some(End::Released));
    let third = seen(ear.ask(ask(release)).await);
    assert_eq!(third.record.end, Some(End::Released));
    let gone = session("n2", 1, Expect::Version(third.version));
    assert_eq!(ear.ask(ask(gone)).await, Answer::Conflict, "it does not exist");
}

#[tokio::test]
async fn an_heir_deposes_what_it_only_saw_and_keeps_what_it_does_not_know() {
    let rig = Rig::with_admin(1);
    apply(&rig, "n2", 2);
    let mut theirs: Value = (*rig.stored(&lease("n2")).unwrap()).clone();
    theirs["metadata"]["annotations"]["theirs"] = json!("1");
    rig.server.store().apply(&theirs).unwrap();
    let mut ear = rig.start();
    watch(&ear);
    let sessions = next(&mut ear, LONG).await.unwrap();
    let before = sessions[&lease("n2")].clone();
    rig.server.reset_counts();
    let mut deposal = session("n2", 2, Expect::Version(before.version.clone()));
    (deposal.purpose, deposal.record.end) = (Purpose::Depose, Some(End::SucceededBy(SessionId(1))));
    let after = seen(ear.ask(ask(deposal)).await);
    assert_eq!(after.record.end, Some(End::SucceededBy(SessionId(1))));
    let stored = rig.stored(&lease("n2")).unwrap();
    assert_eq!(stored["metadata"]["annotations"]["theirs"], "1");
    assert_eq!(stored["spec"]["holderIdentity"], "n2");
    let gets: u64 =
        rig.server.counts().iter().filter(|(call, _)| call.verb == Verb::Get).map(|(_, count)| count).sum();
    assert_eq!(
        gets, 0,
        "what a watch showed is not read again: one write stands between clients and service"
    );
}

#[tokio::test]
async fn a_renewal_that_was_sent_twice_and_met_itself_is_answered_with_what_it_wrote() {
    let rig = Rig::with_admin(2);
    rig.seed_servers(&[1, 2]);
    let mut ear = rig.start();
    let first = seen(ear.ask(ask(session("n1", 7, Expect::Absent))).await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    rig.turn(1, |knobs| knobs.faults = vec![Fault::on(Verb::Update, "leases", Effect::HangAfter)]);
    let renewal = session("n1", 7, Expect::Version(first.version));
    let (answer, took) = ear.ask_timed(ask(renewal), Duration::from_secs(2)).await;
    let second = seen(answer);
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert!(first.renewed < second.renewed);
}

#[tokio::test]
async fn a_session_that_nobody_understands_counts_as_none_and_can_be_written_again() {
    let rig = Rig::with_admin(1);
    apply_annotated(&rig, lease("n1").name(), "{\"id\":");
    let mut ear = rig.start();
    assert_eq!(ear.ask(Ask::ReadSession(lease("n1"))).await, Answer::Session(lease("n1"), None));
    let written = seen(ear.ask(ask(session("n1", 7, Expect::Absent))).await);
    assert_eq!(written.record, record("n1", 7));
    assert_eq!(
        ear.ask(ask(session("n1", 8, Expect::Absent))).await,
        Answer::Conflict,
        "now it is understood"
    );
}

#[tokio::test]
async fn a_claim_is_taken_handed_over_and_served_and_an_elector_of_mode_lease_can_read_it() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    let claim = LeaseName::new("default", "kubevip-web");
    let write = |expect, purpose, holder: &str, annotations: [(&str, &str); 2]| {
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let (holder, duration) = (Some(NodeName::new(holder)), CLAIM_DURATION);
        LeaseWrite { holder, duration, annotations, ..crate::rig::write(&claim, expect, purpose) }
    };
    let (one, two) = (SessionId(1).to_string(), SessionId(2).to_string());
    let take = write(Expect::Absent, Purpose::Take, "n1", [(CLAIM, &one), (CLAIM_FROM, "")]);
    let (version, taken) = present(ear.write(take).await);
    assert_eq!(taken.annotations, BTreeMap::from([(CLAIM.to_owned(), one.clone())]));
    assert_eq!((taken.duration, taken.holder.as_deref()), (Some(CLAIM_DURATION), Some("n1")));
    let stored = rig.stored(&claim).unwrap();
    assert_eq!(stored["spec"]["leaseDurationSeconds"], i32::MAX);
    assert_eq!(stored["spec"]["renewTime"].as_str(), taken.renewed.as_deref());

    let over = write(Expect::Version(version), Purpose::HandOver, "n2", [(CLAIM, &two), (CLAIM_FROM, &one)]);
    let (version, over) = present(ear.write(over).await);
    assert_eq!((&over.annotations[CLAIM], &over.annotations[CLAIM_FROM]), (&two, &one));
    assert!(over.renewed > taken.renewed);
    let served =
        write(Expect::Version(version.clone()), Purpose::Take, "n2", [(CLAIM, &two), (CLAIM_FROM, "")]);
    let (_, served) = present(ear.write(served).await);
    assert_eq!(served.annotations, BTreeMap::from([(CLAIM.to_owned(), two.clone())]));
    let late = write(Expect::Version(version), Purpose::Depose, "n3", [(CLAIM, &one), (CLAIM_FROM, "")]);
    assert_eq!(ear.write(late).await, Answer::Conflict);
}

#[tokio::test]
async fn hundreds_of_claims_do_not_delay_a_renewal() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    let mut version = seen(ear.ask(ask(session("n1", 7, Expect::Absent))).await).version;
    rig.server.turn(Whose::All, |knobs| {
        knobs.faults = vec![Fault::on(Verb::Create, "leases", Effect::Delay(Duration::from_millis(300)))];
    });
    for number in 0..400 {
        let claim = LeaseName::new("default", format!("claim-{number}"));
        ear.ask_only(Ask::WriteLease(crate::rig::write(&claim, Expect::Absent, Purpose::Take)), LONG);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..5 {
        let (answer, took) = ear.ask_timed(ask(session("n1", 7, Expect::Version(version))), LONG).await;
        version = seen(answer).version;
        println!("renewed in {took:?} beside hundreds of claims");
        assert!(took < Duration::from_millis(300), "{took:?}");
    }
}

#[tokio::test]
async fn sessions_are_told_as_a_whole_when_all_are_known_and_whenever_one_changes() {
    let rig = Rig::with_admin(1);
    for number in 1..=250 {
        apply(&rig, &format!("n{number:03}"), number);
    }
    apply_annotated(&rig, "kube-vip-session-other-n1", "{}");
    let mut ear = rig.start();
    watch(&ear);
    let sessions = next(&mut ear, LONG).await.unwrap();
    assert_eq!(ids(&sessions), (1..=250).collect::<Vec<_>>(), "a list of several pages is told once, whole");
    drop(ear.rest());
    apply(&rig, "n251", 251);
    let sessions = next(&mut ear, LONG).await.unwrap();
    assert_eq!(sessions.len(), 251);
    apply(&rig, "n007", 1_007);
    let sessions = next(&mut ear, LONG).await.unwrap();
    assert_eq!(sessions[&lease("n007")].record.id, SessionId(1_007));
    delete(&rig, "n008");
    let sessions = next(&mut ear, LONG).await.unwrap();
    assert!(!sessions.contains_key(&lease("n008")) && sessions.len() == 250);
    // Other Leases, and sessions of other instances, are not of interest.
    let other = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "x", "namespace": "kube-system", "labels": {SESSION_LABEL: "other"}},
    });
    rig.server.store().apply(&other).unwrap();
    assert_eq!(next(&mut ear, Duration::from_millis(200)).await, None);
}

#[tokio::test]
async fn a_change_is_told_in_a_moment() {
    let rig = Rig::with_admin(1);
    for number in 1..=50 {
        apply(&rig, &format!("n{number}"), number);
    }
    let mut ear = rig.start();
    watch(&ear);
    assert_eq!(next(&mut ear, LONG).await.unwrap().len(), 50);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut times = Vec::new();
    for id in 1_000..1_100 {
        apply(&rig, "n1", id);
        let start = Instant::now();
        while next(&mut ear, LONG).await.unwrap()[&lease("n1")].record.id != SessionId(id) {}
        times.push(start.elapsed());
    }
    times.sort();
    println!("told after {:?} (median), {:?} (worst of 100)", times[50], times[99]);
    assert!(times[50] < Duration::from_millis(10), "{:?}", times[50]);
}

#[tokio::test]
async fn what_cannot_be_understood_is_left_out_and_told_once() {
    let rig = Rig::with_admin(1);
    apply(&rig, "n1", 1);
    apply_annotated(&rig, lease("n2").name(), "{}");
    apply_annotated(&rig, "a-copy", &serde_json::to_string(&record("n1", 9)).unwrap());
    let mut ear = rig.start();
    watch(&ear);
    assert_eq!(ids(&next(&mut ear, LONG).await.unwrap()), [1]);
    let unreadable = |ear: &mut Ear| {
        let mut told: Vec<String> = ear
            .rest()
            .into_iter()
            .filter_map(|event| match event {
                ClusterEvent::Unreadable { object, .. } => Some(object),
                _ => None,
            })
            .collect();
        told.sort();
        told
    };
    let (copy, two) = ("leases kube-system/a-copy", "leases kube-system/kube-vip-session-kube-vip-n2");
    assert_eq!(unreadable(&mut ear), [copy, two]);
    // Nonsense again is not told again; what was understood in between is.
    apply_annotated(&rig, lease("n2").name(), "{\"id\": 1}");
    assert_eq!(ids(&next(&mut ear, LONG).await.unwrap()), [1]);
    assert_eq!(unreadable(&mut ear), Vec::<String>::new());
    apply(&rig, "n2", 2);
    assert_eq!(ids(&next(&mut ear, LONG).await.unwrap()), [1, 2]);
    apply_annotated(&rig, lease("n2").name(), "{}");
    assert_eq!(ids(&next(&mut ear, LONG).await.unwrap()), [1]);
    assert_eq!(unreadable(&mut ear), [two]);
}

#[tokio::test]
async fn a_watch_that_shows_no_renewal_of_ours_is_replaced_within_a_second() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    watch(&ear);
    assert_eq!(next(&mut ear, LONG).await.unwrap().len(), 0);
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.server.turn(Whose::All, |knobs| knobs.watches = Flow::Frozen);
    apply(&rig, "n2", 2);
    seen(ear.ask(ask(session("n1", 1, Expect::Absent))).await);
    let start = Instant::now();
    assert_eq!(ids(&next(&mut ear, LONG).await.unwrap()), [1, 2]);
    let took = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_millis(1_500)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_version_that_is_gone_leads_to_a_new_list_of_sessions() {
    let rig = Rig::with_admin(1);
    apply(&rig, "n1", 1);
    apply(&rig, "n2", 2);
    let mut ear = rig.start();
    watch(&ear);
    assert_eq!(next(&mut ear, LONG).await.unwrap().len(), 2);
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.server.turn(Whose::All, |knobs| knobs.watches = Flow::Frozen);
    delete(&rig, "n1");
    apply(&rig, "n3", 3);
    rig.server.store().compact();
    rig.server.drop_watches(Whose::All);
    rig.server.turn(Whose::All, |knobs| knobs.watches = Flow::Flowing);
    let start = Instant::now();
    assert_eq!(ids(&next(&mut ear, LONG).await.unwrap()), [2, 3]);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}
