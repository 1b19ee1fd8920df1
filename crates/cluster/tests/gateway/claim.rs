//! Claims by the thousand: what it costs to watch them in many namespaces, and to take them all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;
use vip_cluster::ClusterEvent;
use vip_lab::api::{Effect, Fault, Identity, Login, Verb, Whose};
use vip_model::session::{CLAIM, CLAIM_DURATION};
use vip_model::store::{
    Answer, Ask, Expect, FailureClass, LeaseSeen, LeaseWrite, Purpose, Sight, Version, Watches,
};
use vip_model::{LeaseName, QuestionId};

use crate::rig::{Ear, LONG, Rig, present, write};
use crate::scale::{cost, other_half};

/// Claims in many namespaces, as the store has them.
fn claims(rig: &Rig, namespaces: usize, each: usize) -> BTreeSet<LeaseName> {
    let mut claims = BTreeSet::new();
    for namespace in 0..namespaces {
        let namespace = format!("team-{namespace}");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        rig.server.store().apply(&object).expect("the store takes it");
        for number in 0..each {
            let claim = LeaseName::new(&namespace, format!("kubevip-web-{number}"));
            claim_by(rig, &claim, "0000000000000001");
            claims.insert(claim);
        }
    }
    claims
}

fn claim_by(rig: &Rig, claim: &LeaseName, session: &str) {
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": claim.name(), "namespace": claim.namespace(), "annotations": {CLAIM: session},
        },
        "spec": {"holderIdentity": "n1", "leaseDurationSeconds": CLAIM_DURATION.as_secs()},
    });
    rig.server.store().apply(&object).expect("the store takes it");
}

fn calls(rig: &Rig) -> BTreeMap<Verb, u64> {
    let mut calls = BTreeMap::new();
    for (call, count) in rig.server.counts() {
        if call.resource == "leases" {
            *calls.entry(call.verb).or_default() += count;
        }
    }
    calls
}

/// Waits until each of these was told with this session as its owner.
async fn told(ear: &mut Ear, claims: &BTreeSet<LeaseName>, session: &str) {
    let mut open = claims.clone();
    while !open.is_empty() {
        let seen = ear.wait(Duration::from_secs(20), |event| match event {
            ClusterEvent::Lease(LeaseSeen { lease, sight: Sight::Present { record, .. } }) => {
                assert_eq!(record.duration, Some(CLAIM_DURATION));
                (record.annotations.get(CLAIM)? == session).then(|| lease.clone())
            }
            _ => None,
        });
        open.remove(&seen.await.expect("every claim is told"));
    }
}

#[tokio::test]
async fn five_thousand_claims_in_many_namespaces_cost_one_watch_and_no_polling() {
    let rig = Rig::with_admin(1);
    let claims = claims(&rig, 20, 250);
    let mut ear = rig.start();
    let start = Instant::now();
    ear.cluster.watch(Watches { leases: claims.clone(), ..Watches::default() });
    told(&mut ear, &claims, "0000000000000001").await;
    println!("5,000 claims in 20 namespaces seen after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    sleep(Duration::from_millis(1_500)).await;
    // Ten pages, one watch, and then nothing while nothing happens.
    assert_eq!(calls(&rig), BTreeMap::from([(Verb::List, 10), (Verb::Watch, 1)]));
    // All change hands at once, and one of them is written by this node: no list follows.
    let start = Instant::now();
    for claim in &claims {
        claim_by(&rig, claim, "0000000000000002");
    }
    let own = claims.last().expect("there are some");
    let version = rig.stored(own).unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut change = write(own, Expect::Version(Version(version)), Purpose::Take);
    (change.duration, change.annotations) =
        (CLAIM_DURATION, BTreeMap::from([(CLAIM.to_owned(), "0000000000000002".to_owned())]));
    ear.ask_only(Ask::WriteLease(change), LONG);
    told(&mut ear, &claims, "0000000000000002").await;
    println!("5,000 changes seen after {:?}", start.elapsed());
    sleep(Duration::from_millis(500)).await;
    let all = [(Verb::List, 10), (Verb::Watch, 1), (Verb::Get, 1), (Verb::Update, 1)];
    assert_eq!(calls(&rig), BTreeMap::from(all));
}

#[tokio::test]
async fn without_the_right_to_all_namespaces_each_is_watched() {
    let rig = Rig::new(1);
    let who = Identity::new("vip", &[]);
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Certificate(&who), &rig.url(1));
    let claims = claims(&rig, 12, 2);
    for namespace in 0..12 {
        rig.server
            .store()
            .apply_yaml(&format!(
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: vip, namespace: \
                 team-{namespace}}}\nrules: [{{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [list, get, \
                 watch, update, create]}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: \
                 {{name: vip, namespace: team-{namespace}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, \
                 name: vip}}\nsubjects: [{{kind: User, name: vip, apiGroup: rbac.authorization.k8s.io}}]\n"
            ))
            .expect("the store takes it");
    }
    let mut ear = rig.start();
    ear.cluster.watch(Watches { leases: claims.clone(), ..Watches::default() });
    told(&mut ear, &claims, "0000000000000001").await;
    sleep(Duration::from_millis(500)).await;
    for claim in &claims {
        claim_by(&rig, claim, "0000000000000002");
    }
    told(&mut ear, &claims, "0000000000000002").await;
    assert_eq!(calls(&rig)[&Verb::Watch], 24, "one for each of few Leases of a namespace");
    let bad = ear.rest().into_iter().find(|event| match event {
        ClusterEvent::MissingRight { resource, .. } => resource.contains("leases"),
        ClusterEvent::Trouble(_) => true,
        _ => false,
    });
    assert_eq!(bad, None, "nothing is missing that is needed");
}

#[tokio::test]
async fn a_namespace_too_many_moves_all_to_one_watch_and_nothing_is_missed_meanwhile() {
    let rig = Rig::with_admin(1);
    let claims = claims(&rig, 9, 1);
    let mut ear = rig.start();
    let eight: BTreeSet<LeaseName> = claims.iter().take(8).cloned().collect();
    ear.cluster.watch(Watches { leases: eight.clone(), ..Watches::default() });
    told(&mut ear, &eight, "0000000000000001").await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(calls(&rig)[&Verb::Watch], 8);
    // The one watch cannot begin yet; the eight go on.
    rig.server.turn(Whose::All, |knobs| {
        knobs.faults = vec![Fault::on(Verb::List, "leases", Effect::Delay(Duration::from_millis(500)))];
    });
    ear.cluster.watch(Watches { leases: claims.clone(), ..Watches::default() });
    sleep(Duration::from_millis(100)).await;
    for claim in &eight {
        claim_by(&rig, claim, "0000000000000002");
    }
    let start = Instant::now();
    told(&mut ear, &eight, "0000000000000002").await;
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    told(&mut ear, &claims.difference(&eight).cloned().collect(), "0000000000000001").await;
    sleep(Duration::from_millis(200)).await;
    drop(ear.rest());
    for claim in &claims {
        claim_by(&rig, claim, "0000000000000003");
    }
    told(&mut ear, &claims, "0000000000000003").await;
    assert_eq!(calls(&rig)[&Verb::Watch], 9);
    let twice = ear.rest().into_iter().filter(|event| matches!(event, ClusterEvent::Lease(_))).count();
    assert_eq!(twice, 0, "the eight are gone");
}

#[tokio::test]
async fn hundreds_of_takes_wait_for_their_turn_and_renewals_do_not() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    let lock = crate::rig::lock();
    let (version, _) = present(ear.write(write(&lock, Expect::Absent, Purpose::Take)).await);
    rig.server.turn(Whose::All, |knobs| knobs.faults = vec![Fault::on(Verb::Create, "leases", Effect::Hang)]);
    rig.server.reset_counts();
    for claim in many(500) {
        ear.ask_only(Ask::WriteLease(write(&claim, Expect::Absent, Purpose::Take)), Duration::from_secs(2));
    }
    sleep(Duration::from_millis(500)).await;
    let sent = calls(&rig)[&Verb::Create];
    assert!((1..=64).contains(&sent), "{sent} of 500 takes were sent before one was answered");
    let renewal = Ask::WriteLease(write(&lock, Expect::Version(version), Purpose::Renew));
    let (answer, took) = ear.ask_timed(renewal, LONG).await;
    present(answer);
    assert!(took < Duration::from_millis(200), "a renewal behind 500 takes took {took:?}");
    // Each is answered in time all the same, also those whose turn never came.
    let mut answers = 0;
    let timed_out = |event: &ClusterEvent| match event {
        ClusterEvent::Answer(_, Answer::Failed(failure)) => Some(failure.class),
        _ => None,
    };
    while let Some(class) = ear.wait(Duration::from_secs(3), timed_out).await {
        assert_eq!(class, FailureClass::Timeout);
        answers += 1;
    }
    assert_eq!(answers, 500);
}

/// What a rush of questions came to.
#[derive(Debug, Default)]
struct Rush {
    took: Duration,
    asked: usize,
    failed: BTreeMap<FailureClass, usize>,
    conflicts: usize,
}

/// Takes all claims as an agent does that starts alone: all at once, each question with two seconds, again half a
/// second after a failure, until all are taken.
async fn rush(ear: &mut Ear, claims: &[LeaseName]) -> Rush {
    let start = Instant::now();
    let mut rush = Rush::default();
    let take = |claim: &LeaseName| {
        let annotations = BTreeMap::from([(CLAIM.to_owned(), "0000000000000001".to_owned())]);
        let taken = write(claim, Expect::Absent, Purpose::Take);
        Ask::WriteLease(LeaseWrite { duration: CLAIM_DURATION, annotations, ..taken })
    };
    let mut open: BTreeMap<QuestionId, LeaseName> = BTreeMap::new();
    let mut again: Vec<(Instant, LeaseName)> = claims.iter().map(|claim| (start, claim.clone())).collect();
    while !(open.is_empty() && again.is_empty()) {
        let due: Vec<LeaseName> =
            again.extract_if(.., |(at, _)| *at <= Instant::now()).map(|(_, claim)| claim).collect();
        for claim in due {
            rush.asked += 1;
            open.insert(ear.ask_only(take(&claim), Duration::from_secs(2)), claim);
        }
        sleep(Duration::from_millis(2)).await;
        for event in ear.rest() {
            let ClusterEvent::Answer(id, answer) = event else { continue };
            let claim = open.remove(&id).expect("an answer names its question");
            match answer {
                Answer::Failed(failure) => {
                    *rush.failed.entry(failure.class).or_default() += 1;
                    again.push((Instant::now() + Duration::from_millis(500), claim));
                }
                // An earlier question was carried out after all.
                Answer::Conflict => rush.conflicts += 1,
                _ => {}
            }
        }
    }
    rush.took = start.elapsed();
    rush
}

fn many(count: usize) -> Vec<LeaseName> {
    (0..count).map(|number| LeaseName::new("default", format!("kubevip-service-{number}"))).collect()
}

/// 5,000 claims of this node at once, in a process of its own.
#[tokio::test]
#[ignore = "the other half of a measurement"]
async fn taker_process() {
    let Ok(folder) = std::env::var("VIP_SCALE_FOLDER") else { return };
    let mut ear = Ear::of(crate::rig::settings(folder.as_ref(), 0));
    let claims = many(5_000);
    ear.cluster.watch(Watches { leases: claims.iter().cloned().collect(), ..Watches::default() });
    assert!(ear.sight(&claims[0], LONG).await.is_some());
    drop(ear.rest());
    let before = cost();
    let rush = rush(&mut ear, &claims).await;
    let after = cost();
    println!("5,000 claims: {rush:?}");
    println!(
        "{} ms of CPU, resident {} KiB, peak {}",
        after.cpu.saturating_sub(before.cpu).as_millis(),
        after.resident_kib,
        after.peak_kib
    );
}

#[tokio::test]
#[ignore = "a measurement"]
async fn figures_of_five_thousand_claims() {
    for latency in [0, 20] {
        let rig = Rig::with_admin(1);
        let delay = Effect::Delay(Duration::from_millis(latency));
        rig.server.turn(Whose::All, |knobs| knobs.faults = vec![Fault::on(Verb::Create, "leases", delay)]);
        println!("each write takes {latency} ms");
        other_half(&rig, "claim::taker_process").await.unwrap();
        println!("{:?}", calls(&rig));
    }
}
