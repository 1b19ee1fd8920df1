//! Keys for heartbeats: read, made when they are not there, rotated, refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vip_cluster::ClusterEvent;
use vip_lab::api::{Effect, Failure as Refusal, Fault, Identity, Kind, Login, Verb, Whose};
use vip_model::peers::{PeerKey, PeerKeys};

use crate::rig::{Ear, LONG, Rig};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-vip-peers";

fn key(byte: u8) -> PeerKey {
    PeerKey::new([byte; PeerKey::LENGTH])
}

fn keys(newest: u8, previous: Option<u8>) -> PeerKeys {
    PeerKeys { newest: key(newest), previous: previous.map(key) }
}

/// Starts a gateway that makes keys of `first`, then of the numbers after it.
fn start(rig: &Rig, first: u8) -> Ear {
    let mut ear = rig.start();
    let next = AtomicU8::new(first);
    ear.cluster.keep_peer_keys(NAMESPACE, NAME, move || key(next.fetch_add(1, Ordering::Relaxed)));
    ear
}

async fn told(ear: &mut Ear, patience: Duration) -> Option<Result<PeerKeys, String>> {
    ear.wait(patience, |event| match event {
        ClusterEvent::PeerKeys(keys) => Some(keys.clone()),
        _ => None,
    })
    .await
}

fn apply(rig: &Rig, data: &[(&str, &[u8])]) {
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(name, bytes)| ((*name).to_owned(), json!(STANDARD.encode(bytes)))).collect();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data,
    });
    rig.server.store().apply(&secret).expect("the store takes it");
}

fn stored(rig: &Rig) -> Option<Arc<Value>> {
    rig.server.store().get(Kind::named("secrets").expect("the lab has Secrets"), NAMESPACE, NAME)
}

fn delete(rig: &Rig) {
    rig.server.store().delete(Kind::named("secrets").expect("the lab has Secrets"), NAMESPACE, NAME);
}

#[tokio::test]
async fn a_key_that_is_there_is_read_and_what_follows_it_is_told() {
    let rig = Rig::with_admin(1);
    apply(&rig, &[("key", &[1; 32]), ("unrelated", b"x")]);
    let mut ear = start(&rig, 100);
    assert_eq!(told(&mut ear, LONG).await, Some(Ok(keys(1, None))));
    tokio::time::sleep(Duration::from_millis(100)).await;
    apply(&rig, &[("key", &[2; 32]), ("previous", &[1; 32])]);
    let start = Instant::now();
    assert_eq!(told(&mut ear, LONG).await, Some(Ok(keys(2, Some(1)))));
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    // What was no key is told, and nothing is written over it.
    apply(&rig, &[("key", &[3; 31])]);
    let why = told(&mut ear, LONG).await.expect("it is told").expect_err("it is no key");
    assert!(why.contains("kube-system/kube-vip-peers") && why.contains("31 bytes"), "{why}");
    apply(&rig, &[("key", &[2; 32])]);
    assert_eq!(told(&mut ear, LONG).await, Some(Ok(keys(2, None))));
    apply(&rig, &[("key", &[2; 32]), ("unrelated", b"y")]);
    assert_eq!(told(&mut ear, Duration::from_millis(200)).await, None, "the same again is no news");
    let creates = rig.server.counts().keys().any(|call| call.verb == Verb::Create);
    assert!(!creates, "nothing had to be made");
}

#[tokio::test]
async fn agents_that_find_no_key_at_the_same_time_agree_on_one() {
    let rig = Rig::with_admin(1);
    let mut ears: Vec<Ear> = (1..=5).map(|number| start(&rig, number * 10)).collect();
    let mut all = Vec::new();
    for ear in &mut ears {
        all.push(told(ear, LONG).await.expect("keys are told").expect("they are keys"));
    }
    assert!(all.iter().all(|keys| *keys == all[0]), "{all:?}");
    let stored = stored(&rig).expect("it was made");
    assert_eq!(stored["type"], "Opaque");
    assert_eq!(stored["data"], json!({"key": STANDARD.encode(all[0].newest.bytes())}));
    for ear in &mut ears {
        assert_eq!(told(ear, Duration::from_millis(100)).await, None);
    }
}

#[tokio::test]
async fn a_key_that_was_deleted_by_hand_is_followed_by_another_and_stays_the_previous_one() {
    let rig = Rig::with_admin(1);
    let mut ear = start(&rig, 10);
    assert_eq!(told(&mut ear, LONG).await, Some(Ok(keys(10, None))));
    tokio::time::sleep(Duration::from_millis(100)).await;
    delete(&rig);
    assert_eq!(told(&mut ear, LONG).await, Some(Ok(keys(11, Some(10)))));
}

#[tokio::test]
async fn making_it_is_tried_again() {
    let rig = Rig::with_admin(1);
    rig.server.turn(Whose::All, |knobs| {
        let refusal = Refusal::new(503, "ServiceUnavailable", "starting");
        knobs.faults = vec![Fault::on(Verb::Create, "secrets", Effect::Fail(refusal))];
    });
    let mut ear = start(&rig, 10);
    assert_eq!(told(&mut ear, Duration::from_millis(500)).await, None);
    rig.server.turn(Whose::All, |knobs| knobs.faults.clear());
    let keys = told(&mut ear, LONG).await.expect("keys are told").expect("they are keys");
    assert!(keys.previous.is_none());
}

fn grant(rig: &Rig, rules: &str) {
    rig.server
        .store()
        .apply_yaml(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: peers, namespace: kube-system}}\n\
             rules: {rules}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: peers, \
             namespace: kube-system}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: peers}}\n\
             subjects:\n- {{kind: User, name: vip, apiGroup: rbac.authorization.k8s.io}}\n"
        ))
        .expect("the store takes it");
}

fn as_vip(rig: &Rig) {
    let who = Identity::new("vip", &[]);
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Certificate(&who), &rig.url(1));
}

fn missing(ear: &mut Ear) -> Vec<(&'static str, &'static str)> {
    let rights = ear.rest().into_iter().filter_map(|event| match event {
        ClusterEvent::MissingRight { verb, resource: "secrets" } => Some((verb, "secrets")),
        _ => None,
    });
    rights.collect()
}

const BY_NAME: &str =
    "{apiGroups: [''], resources: [secrets], resourceNames: [kube-vip-peers], verbs: [get, list, watch]}";
const CREATE: &str = "{apiGroups: [''], resources: [secrets], verbs: [create]}";

#[tokio::test]
async fn a_right_to_this_name_alone_is_enough() {
    let rig = Rig::new(1);
    as_vip(&rig);
    grant(&rig, &format!("[{BY_NAME}, {CREATE}]"));
    let mut ear = start(&rig, 10);
    assert_eq!(told(&mut ear, LONG).await, Some(Ok(keys(10, None))));
    tokio::time::sleep(Duration::from_millis(100)).await;
    apply(&rig, &[("key", &[2; 32])]);
    assert_eq!(told(&mut ear, LONG).await, Some(Ok(keys(2, None))), "it is watched, too");
    assert_eq!(missing(&mut ear), []);
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_once_and_asked_for_slowly() {
    let rig = Rig::new(1);
    as_vip(&rig);
    let mut ear = start(&rig, 10);
    let why = told(&mut ear, LONG).await.expect("it is told").expect_err("there is no right");
    assert!(why.contains("cannot list resource \"secrets\""), "{why}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(told(&mut ear, Duration::from_millis(1)).await, None);
    assert_eq!(missing(&mut ear), [("list", "secrets")]);
    let calls: u64 = rig
        .server
        .counts()
        .iter()
        .filter(|(call, _)| call.resource == "secrets")
        .map(|(_, count)| count)
        .sum();
    assert!(calls <= 2, "{calls} calls in a second");
}

#[tokio::test]
async fn who_may_read_but_not_make_waits_for_somebody_who_may() {
    let rig = Rig::new(1);
    as_vip(&rig);
    grant(&rig, &format!("[{BY_NAME}]"));
    let mut ear = start(&rig, 10);
    let why = told(&mut ear, LONG).await.expect("it is told").expect_err("there is no right");
    assert!(why.contains("cannot create resource \"secrets\"") && why.contains("by hand"), "{why}");
    apply(&rig, &[("key", &[2; 32])]);
    assert_eq!(told(&mut ear, LONG).await, Some(Ok(keys(2, None))));
    assert_eq!(missing(&mut ear), [("create", "secrets")]);
}
