use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use vip_model::NodeName;
use vip_model::session::{BootId, Jury, SessionId, SessionRecord, SessionWrite, Via, session_lease};
use vip_model::store::{Expect, Purpose, Version};

use super::*;
use crate::lease::Draft;

const NOW: &str = "2026-01-02T03:04:05.000006Z";

fn write(expect: Expect) -> SessionWrite {
    let (instance, node) = (InstanceName::new("kube-vip"), NodeName::new("n1"));
    SessionWrite {
        lease: session_lease("kube-system", &instance, &node),
        instance,
        expect,
        purpose: Purpose::Renew,
        duration: Duration::from_secs(15),
        record: SessionRecord {
            id: SessionId(7),
            node,
            boot: BootId::default(),
            doors: vec!["10.0.0.1:10112".parse().unwrap()],
            sites: Vec::new(),
            jury: Jury::default(),
            former: Vec::new(),
            end: None,
            keys: Vec::new(),
            was_heard: false,
            drill: None,
        },
        via: Via::Any,
    }
}

fn stored(mut object: Value) -> Value {
    object["metadata"]["resourceVersion"] = json!("9");
    object
}

#[test]
fn a_session_comes_back_as_it_was_written() {
    let write = write(Expect::Absent);
    let object = stored(Draft::from(&write).compose(None, NOW));
    assert_eq!(object["metadata"]["name"], "kube-vip-session-kube-vip-n1");
    assert_eq!(object["metadata"]["labels"], json!({"kube-vip.io/session-of": "kube-vip"}));
    assert_eq!(object["spec"]["holderIdentity"], "n1");
    assert_eq!(object["spec"]["acquireTime"], NOW);
    let seen = convert(&object).unwrap();
    assert_eq!(seen.record, write.record);
    assert_eq!((seen.version.0.as_str(), seen.renewed.as_deref()), ("9", Some(NOW)));
    assert_eq!(seen.duration, write.duration);
    let (_, _, record) = lease::convert(&object).unwrap();
    assert!(Draft::from(&write).is_shown_by(&record, NOW));
    let mut other = write.clone();
    other.record.id = SessionId(8);
    assert!(!Draft::from(&other).is_shown_by(&record, NOW), "another heir may write in the same microsecond");
}

#[test]
fn a_renewal_keeps_what_it_does_not_know_and_when_it_began() {
    let base = json!({
        "metadata": {
            "name": "kube-vip-session-kube-vip-n1", "namespace": "kube-system", "resourceVersion": "8", "uid": "u",
            "labels": {"l": "1"}, "annotations": {"theirs": "x", "kube-vip.io/session": "{}"},
        },
        "spec": {"acquireTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 4, "strategy": "s"},
    });
    let write = write(Expect::Version(Version("8".to_owned())));
    let object = Draft::from(&write).compose(Some(base), NOW);
    assert_eq!(object["metadata"]["labels"], json!({"l": "1", "kube-vip.io/session-of": "kube-vip"}));
    assert_eq!(object["metadata"]["annotations"]["theirs"], "x");
    assert_eq!(object["metadata"]["uid"], "u");
    assert_eq!(object["metadata"]["resourceVersion"], "8");
    assert_eq!(object["spec"]["acquireTime"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(object["spec"]["renewTime"], NOW);
    assert_eq!(object["spec"]["leaseTransitions"], 4);
    assert_eq!(object["spec"]["strategy"], "s");
    assert_eq!(convert(&object).unwrap().record, write.record);
}

#[test]
fn what_is_no_session_says_why() {
    let good = stored(Draft::from(&write(Expect::Absent)).compose(None, NOW));
    let rows: BTreeMap<&str, fn(&mut Value)> = BTreeMap::from([
        (
            "its annotation kube-vip.io/session is missing",
            (|object| {
                object["metadata"]["annotations"] = json!({});
            }) as fn(&mut Value),
        ),
        ("its annotation kube-vip.io/session is no session: missing field `id`", |object| {
            object["metadata"]["annotations"]["kube-vip.io/session"] = json!("{}");
        }),
        ("its leaseDurationSeconds is missing", |object| {
            object["spec"]["leaseDurationSeconds"] = Value::Null;
        }),
        ("it has neither name nor version", |object| {
            object["metadata"]["resourceVersion"] = Value::Null;
        }),
    ]);
    for (why, spoil) in rows {
        let mut object = good.clone();
        spoil(&mut object);
        let said = convert(&object).unwrap_err();
        assert!(said.starts_with(why), "{said}");
    }
}

#[test]
fn the_label_is_escaped_in_the_query() {
    assert_eq!(
        query("kube-system", &InstanceName::new("a")),
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases?labelSelector=kube-vip.io%2Fsession-of%3Da&"
    );
}
