//! Leases between JSON and the model, compatible with client-go: the same fields, the same formats, and what we do not
//! know is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use vip_model::store::{Acquired, Expect, LeaseRecord, LeaseWrite, Version};

/// `apiVersion` of a Lease.
const API_VERSION: &str = "coordination.k8s.io/v1";

/// The collection of a namespace, or one object of it.
pub(crate) fn path(namespace: &str, name: Option<&str>) -> String {
    let base = format!("/apis/{API_VERSION}/namespaces/{namespace}/leases");
    name.map_or_else(|| base.clone(), |name| format!("{base}/{name}"))
}

/// A wall clock time as client-go writes a `MicroTime`: six digits and `Z`, always.
pub(crate) fn micro_time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// The name of an object and what it says; none when it has neither name nor version.
pub(crate) fn convert(object: &Value) -> Option<(String, Version, LeaseRecord)> {
    let meta = object.get("metadata")?;
    let name = meta.get("name")?.as_str()?.to_owned();
    let version = Version(meta.get("resourceVersion")?.as_str()?.to_owned());
    let spec = object.get("spec");
    let text = |key: &str| {
        let value = spec.and_then(|spec| spec.get(key)).and_then(Value::as_str)?;
        (!value.is_empty()).then(|| value.to_owned())
    };
    let number = |key: &str| spec.and_then(|spec| spec.get(key)).and_then(Value::as_u64);
    let annotations = meta
        .get("annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect::<BTreeMap<_, _>>();
    let record = LeaseRecord {
        holder: text("holderIdentity"),
        duration: number("leaseDurationSeconds").filter(|secs| *secs > 0).map(Duration::from_secs),
        transitions: number("leaseTransitions").and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        acquired: text("acquireTime"),
        renewed: text("renewTime"),
        annotations,
    };
    Some((name, version, record))
}

/// An object without what nobody here reads and what is large.
pub(crate) fn slim(mut object: Value) -> Value {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        // Absent means unchanged to the server; it is a quarter of the object or more.
        meta.remove("managedFields");
    }
    object
}

/// The object to send: `base` with what `write` says, everything else as it was.
pub(crate) fn compose(base: Option<Value>, write: &LeaseWrite, now: &str) -> Value {
    let (namespace, name) = write.lease.parts();
    let mut object = base.filter(Value::is_object).unwrap_or_else(|| json!({}));
    object["apiVersion"] = json!(API_VERSION);
    object["kind"] = json!("Lease");
    let meta = section(&mut object, "metadata");
    meta.insert("name".to_owned(), json!(name));
    meta.insert("namespace".to_owned(), json!(namespace));
    if let Expect::Version(version) = &write.expect {
        meta.insert("resourceVersion".to_owned(), json!(version.0));
    }
    if !write.annotations.is_empty() {
        let annotations = meta.entry("annotations").or_insert_with(|| json!({}));
        if !annotations.is_object() {
            *annotations = json!({});
        }
        for (key, value) in &write.annotations {
            annotations[key.as_str()] = json!(value);
        }
    }
    let acquired = match &write.acquired {
        Acquired::Now => now,
        Acquired::Keep(text) => text,
    };
    let holder = write.holder.as_ref().map_or("", vip_model::NodeName::as_str);
    let spec = section(&mut object, "spec");
    spec.insert("holderIdentity".to_owned(), json!(holder));
    spec.insert("leaseDurationSeconds".to_owned(), json!(write.duration.as_secs().max(1)));
    spec.insert("acquireTime".to_owned(), json!(acquired));
    spec.insert("renewTime".to_owned(), json!(now));
    spec.insert("leaseTransitions".to_owned(), json!(write.transitions));
    object
}

/// Whether `seen` is what was sent with `write` at `now`: two writers never share holder and microsecond.
pub(crate) fn is_ours(seen: &LeaseRecord, write: &LeaseWrite, now: &str) -> bool {
    seen.holder.as_deref() == write.holder.as_ref().map(vip_model::NodeName::as_str)
        && seen.renewed.as_deref() == Some(now)
        && seen.transitions == write.transitions
}

fn section<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object[key].is_object() {
        object[key] = json!({});
    }
    object[key].as_object_mut().expect("made an object just above")
}

#[cfg(test)]
mod tests;
