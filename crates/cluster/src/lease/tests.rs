use k8s_openapi::api::coordination::v1::Lease;
use vip_model::store::Purpose;

use super::*;

fn write(expect: Expect) -> LeaseWrite {
    LeaseWrite {
        lease: LeaseName::new("kube-system", "plndr-cp-lock"),
        expect,
        purpose: Purpose::Take,
        holder: Some(NodeName::new("n1")),
        duration: Duration::from_secs(15),
        acquired: Acquired::Now,
        transitions: 3,
        annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
    }
}

fn compose(base: Option<Value>, write: &LeaseWrite, now: &str) -> Value {
    Draft::from(write).compose(base, now)
}

fn is_ours(seen: &LeaseRecord, write: &LeaseWrite, now: &str) -> bool {
    Draft::from(write).is_shown_by(seen, now)
}

const NOW: &str = "2026-01-02T03:04:05.000006Z";

#[test]
fn micro_times_have_six_digits_and_z() {
    assert_eq!(micro_time("2026-01-02T03:04:05.000006999Z".parse().unwrap()), NOW);
    assert_eq!(micro_time("2026-01-02T03:04:05Z".parse().unwrap()), "2026-01-02T03:04:05.000000Z");
}

#[test]
fn a_written_lease_is_what_the_typed_api_reads() {
    let object = compose(None, &write(Expect::Absent), NOW);
    let lease: Lease = serde_json::from_value(object.clone()).unwrap();
    let spec = lease.spec.unwrap();
    assert_eq!(lease.metadata.name.as_deref(), Some("plndr-cp-lock"));
    assert_eq!(lease.metadata.namespace.as_deref(), Some("kube-system"));
    assert_eq!(lease.metadata.resource_version, None);
    assert_eq!(spec.holder_identity.as_deref(), Some("n1"));
    assert_eq!(spec.lease_duration_seconds, Some(15));
    assert_eq!(spec.lease_transitions, Some(3));
    assert_eq!(serde_json::to_value(&spec.renew_time).unwrap(), json!(NOW));
    assert_eq!(serde_json::to_value(&spec.acquire_time).unwrap(), json!(NOW));
    let back = serde_json::to_value(serde_json::from_value::<Lease>(object).unwrap()).unwrap();
    let (_, _, record) =
        convert(&compose(Some(back), &write(Expect::Version(Version("9".to_owned()))), NOW)).unwrap();
    assert_eq!(record.renewed.as_deref(), Some(NOW));
}

#[test]
fn what_we_do_not_know_is_kept() {
    let base = json!({
        "metadata": {
            "name": "plndr-cp-lock", "namespace": "kube-system", "resourceVersion": "8", "uid": "u",
            "labels": {"l": "1"}, "annotations": {"theirs": "x"}, "ownerReferences": [{"name": "o"}],
        },
        "spec": {"holderIdentity": "old", "preferredHolder": "p", "strategy": "OldestEmulationVersion"},
    });
    let object = compose(Some(base), &write(Expect::Version(Version("8".to_owned()))), NOW);
    assert_eq!(object["metadata"]["labels"]["l"], "1");
    assert_eq!(object["metadata"]["annotations"], json!({"theirs": "x", "a": "b"}));
    assert_eq!(object["metadata"]["ownerReferences"][0]["name"], "o");
    assert_eq!(object["metadata"]["uid"], "u");
    assert_eq!(object["metadata"]["resourceVersion"], "8");
    assert_eq!(object["spec"]["preferredHolder"], "p");
    assert_eq!(object["spec"]["strategy"], "OldestEmulationVersion");
    assert_eq!(object["spec"]["holderIdentity"], "n1");
}

#[test]
fn a_release_writes_no_holder_and_at_least_one_second() {
    let mut release = write(Expect::Version(Version("8".to_owned())));
    release.holder = None;
    release.duration = Duration::from_millis(1);
    release.acquired = Acquired::Keep("2026-01-01T00:00:00.000000Z".to_owned());
    let object = compose(None, &release, NOW);
    assert_eq!(object["spec"]["holderIdentity"], "");
    assert_eq!(object["spec"]["leaseDurationSeconds"], 1);
    assert_eq!(object["spec"]["acquireTime"], "2026-01-01T00:00:00.000000Z");
    let (_, _, record) = convert(&object).unwrap();
    assert_eq!(record.holder, None);
    assert!(is_ours(&record, &release, NOW));
    assert!(!is_ours(&record, &write(Expect::Absent), NOW));
}

#[test]
fn an_empty_annotation_takes_away_what_is_there() {
    let mut write = write(Expect::Absent);
    write.annotations = BTreeMap::from([("a".to_owned(), String::new()), ("b".to_owned(), "2".to_owned())]);
    let object = compose(None, &write, NOW);
    assert_eq!(object["metadata"]["annotations"], json!({"b": "2"}));
    let base = json!({"metadata": {"annotations": {"a": "1", "theirs": "x"}}});
    let object = compose(Some(base), &write, NOW);
    assert_eq!(object["metadata"]["annotations"], json!({"b": "2", "theirs": "x"}));
    let named = |mut object: Value| {
        object["metadata"]["resourceVersion"] = json!("9");
        convert(&object).unwrap().2
    };
    assert!(is_ours(&named(object), &write, NOW));
    write.annotations.insert("a".to_owned(), "1".to_owned());
    assert!(!is_ours(&named(compose(None, &self::write(Expect::Absent), NOW)), &write, NOW));
    write.annotations = BTreeMap::from([("a".to_owned(), String::new())]);
    assert_eq!(compose(None, &write, NOW)["metadata"].get("annotations"), None);
}

#[test]
fn the_duration_of_a_claim_fits_the_api_and_comes_back() {
    let mut write = write(Expect::Version(Version("8".to_owned())));
    write.duration = vip_model::session::CLAIM_DURATION;
    let object = compose(None, &write, NOW);
    let lease: Lease = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(lease.spec.unwrap().lease_duration_seconds, Some(i32::MAX));
    assert_eq!(convert(&object).unwrap().2.duration, Some(write.duration));
    write.duration += Duration::from_secs(1);
    assert_eq!(compose(None, &write, NOW)["spec"]["leaseDurationSeconds"], i32::MAX);
}

#[test]
fn empty_and_odd_fields_are_read_as_absent() {
    let object = json!({
        "metadata": {"name": "l", "resourceVersion": "1"},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 0, "leaseTransitions": -1, "renewTime": null},
    });
    let (_, _, record) = convert(&object).unwrap();
    assert_eq!((record.holder, record.duration, record.transitions), (None, None, 0));
    assert_eq!(record.renewed, None);
    assert!(convert(&json!({"metadata": {"name": "l"}})).is_none());
    assert!(convert(&json!(7)).is_none());
}

#[test]
fn managed_fields_are_dropped() {
    let slimmed = slim(json!({"metadata": {"name": "l", "managedFields": [1]}}));
    assert_eq!(slimmed, json!({"metadata": {"name": "l"}}));
}
