//! Leases between JSON and the model, compatible with client-go: the same fields, the same formats, and what we do not
//! know is kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use vip_model::session::{SESSION, SESSION_LABEL, SessionWrite};
use vip_model::store::{Acquired, Expect, LeaseRecord, LeaseWrite, Version};
use vip_model::{LeaseName, NodeName};

/// `apiVersion` of a Lease.
const API_VERSION: &str = "coordination.k8s.io/v1";

/// The collection of a namespace, or one object of it.
pub(crate) fn path(namespace: &str, name: Option<&str>) -> String {
    let base = format!("/apis/{API_VERSION}/namespaces/{namespace}/leases");
    name.map_or_else(|| base.clone(), |name| format!("{base}/{name}"))
}

/// Where every kubelet keeps a Lease that it renews every ten seconds: none of ours is there.
const KUBELETS: &str = "kube-node-lease";

/// Which Leases one watch shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// This one.
    One(LeaseName),
    /// Those of this namespace.
    Namespace(String),
    /// Those of all namespaces, but for those of kubelets.
    All,
}

impl Scope {
    /// Whether this Lease is among them.
    pub(crate) fn holds(&self, lease: &LeaseName) -> bool {
        match self {
            Self::One(one) => one == lease,
            Self::Namespace(namespace) => lease.namespace() == namespace,
            Self::All => lease.namespace() != KUBELETS,
        }
    }

    /// Path and query of a list, so that `key=value` can be added.
    pub(crate) fn query(&self) -> String {
        match self {
            Self::One(lease) => {
                let (namespace, name) = lease.parts();
                format!("{}?fieldSelector=metadata.name%3D{name}&", path(namespace, None))
            }
            Self::Namespace(namespace) => format!("{}?", path(namespace, None)),
            Self::All => {
                format!("/apis/{API_VERSION}/leases?fieldSelector=metadata.namespace!%3D{KUBELETS}&")
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(lease) => write!(f, "{lease}"),
            Self::Namespace(namespace) => f.write_str(namespace),
            Self::All => f.write_str("in all namespaces"),
        }
    }
}

/// A wall clock time as client-go writes a `MicroTime`: six digits and `Z`, always.
pub(crate) fn micro_time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Namespace and name of an object.
pub(crate) fn name(object: &Value) -> Option<LeaseName> {
    let text = |key: &str| object.get("metadata")?.get(key)?.as_str();
    Some(LeaseName::new(text("namespace")?, text("name")?))
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

/// The longest `spec.leaseDurationSeconds` that the API takes.
const LONGEST: u64 = i32::MAX as u64;

/// What is written to a Lease; what it does not say stays as it was.
pub(crate) struct Draft<'a> {
    /// The Lease.
    pub(crate) lease: &'a LeaseName,
    /// What must still hold.
    pub(crate) expect: &'a Expect,
    holder: &'a str,
    duration: Duration,
    /// As it was, or the moment of sending when there was none, when none.
    acquired: Option<&'a Acquired>,
    /// As it was when none.
    transitions: Option<u32>,
    label: Option<(&'a str, &'a str)>,
    /// An empty one takes away what is there.
    annotations: BTreeMap<&'a str, Cow<'a, str>>,
}

impl<'a> From<&'a LeaseWrite> for Draft<'a> {
    fn from(write: &'a LeaseWrite) -> Self {
        let annotations = write.annotations.iter();
        Self {
            lease: &write.lease,
            expect: &write.expect,
            holder: write.holder.as_ref().map_or("", NodeName::as_str),
            duration: write.duration,
            acquired: Some(&write.acquired),
            transitions: Some(write.transitions),
            label: None,
            annotations: annotations.map(|(key, value)| (key.as_str(), Cow::from(value))).collect(),
        }
    }
}

impl<'a> From<&'a SessionWrite> for Draft<'a> {
    fn from(write: &'a SessionWrite) -> Self {
        let record = serde_json::to_string(&write.record).expect("a record has text keys and plain values");
        Self {
            lease: &write.lease,
            expect: &write.expect,
            holder: write.record.node.as_str(),
            duration: write.duration,
            acquired: None,
            transitions: None,
            label: Some((SESSION_LABEL, write.instance.as_str())),
            annotations: BTreeMap::from([(SESSION, Cow::from(record))]),
        }
    }
}

impl Draft<'_> {
    /// The object to send: `base` with what this says, everything else as it was.
    pub(crate) fn compose(&self, base: Option<Value>, now: &str) -> Value {
        let (namespace, name) = self.lease.parts();
        let mut object = base.filter(Value::is_object).unwrap_or_else(|| json!({}));
        object["apiVersion"] = json!(API_VERSION);
        object["kind"] = json!("Lease");
        let meta = section(&mut object, "metadata");
        meta.insert("name".to_owned(), json!(name));
        meta.insert("namespace".to_owned(), json!(namespace));
        if let Expect::Version(version) = &self.expect {
            meta.insert("resourceVersion".to_owned(), json!(version.0));
        }
        if let Some((key, value)) = self.label {
            section(&mut object["metadata"], "labels").insert(key.to_owned(), json!(value));
        }
        for (key, value) in &self.annotations {
            if !value.is_empty() {
                section(&mut object["metadata"], "annotations").insert((*key).to_owned(), json!(value));
            } else if let Some(Value::Object(there)) = object.pointer_mut("/metadata/annotations") {
                there.remove(*key);
            }
        }
        self.fill(section(&mut object, "spec"), now);
        object
    }

    fn fill(&self, spec: &mut Map<String, Value>, now: &str) {
        spec.insert("holderIdentity".to_owned(), json!(self.holder));
        spec.insert("leaseDurationSeconds".to_owned(), json!(self.duration.as_secs().clamp(1, LONGEST)));
        spec.insert("renewTime".to_owned(), json!(now));
        match self.acquired {
            Some(Acquired::Now) => drop(spec.insert("acquireTime".to_owned(), json!(now))),
            Some(Acquired::Keep(text)) => drop(spec.insert("acquireTime".to_owned(), json!(text))),
            None if spec.get("acquireTime").is_none_or(Value::is_null) => {
                spec.insert("acquireTime".to_owned(), json!(now));
            }
            None => {}
        }
        if let Some(transitions) = self.transitions {
            spec.insert("leaseTransitions".to_owned(), json!(transitions));
        }
    }

    /// Whether `seen` is what was sent with this at `now`: two writers never share content and microsecond.
    pub(crate) fn is_shown_by(&self, seen: &LeaseRecord, now: &str) -> bool {
        let annotations = &seen.annotations;
        seen.holder.as_deref().unwrap_or_default() == self.holder
            && seen.renewed.as_deref() == Some(now)
            && self.transitions.is_none_or(|transitions| seen.transitions == transitions)
            && self
                .annotations
                .iter()
                .all(|(key, value)| annotations.get(*key).map_or("", String::as_str) == value)
    }
}

fn section<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object[key].is_object() {
        object[key] = json!({});
    }
    object[key].as_object_mut().expect("made an object just above")
}

#[cfg(test)]
mod tests;
