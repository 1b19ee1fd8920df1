//! What the node wants of a Service, put into the object as it was read. Everything that is not named stays as it is.
//! Each function says whether it changed anything: what is already so is not written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use vip_model::service::{Condition, Ingress, Protocol};
use vip_model::store::{ServiceStatusWrite, ServiceWrite, Version};

use super::read::LoadBalancer;

/// The version of an object.
pub(crate) fn version(object: &Value) -> Option<Version> {
    object["metadata"]["resourceVersion"].as_str().map(|version| Version(version.to_owned()))
}

/// Annotations, labels and the wanted address.
pub(crate) fn compose(object: &mut Value, write: &ServiceWrite) -> bool {
    let annotations = set_texts(&mut object["metadata"], "annotations", &write.annotations);
    let labels = set_texts(&mut object["metadata"], "labels", &write.labels);
    let wanted = write.spec_ip.as_deref();
    let address = wanted.is_some_and(|ip| object["spec"]["loadBalancerIP"].as_str() != Some(ip));
    if address {
        section(object, "spec").insert("loadBalancerIP".to_owned(), json!(wanted));
    }
    annotations || labels || address
}

/// The ingress list and our conditions; `now` is when a condition changes its status.
pub(crate) fn compose_status(object: &mut Value, write: &ServiceStatusWrite, now: Timestamp) -> bool {
    let before = LoadBalancer::deserialize(&object["status"]["loadBalancer"]).unwrap_or_default().convert();
    // Compared as the model reads it, so that what only others write (errors of ports) is no difference.
    let ingress = !same(&before, &write.ingress);
    let status = &mut object["status"];
    if ingress {
        let list = write.ingress.iter().map(ingress_value).collect();
        section(status, "loadBalancer").insert("ingress".to_owned(), list);
    }
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let mut changed = false;
    for (kind, condition) in &write.conditions {
        changed |= set_condition(&mut conditions, kind, condition.as_ref(), now);
    }
    if changed {
        status["conditions"] = Value::Array(conditions);
    }
    ingress || changed
}

/// Whether two ingress lists mean the same. `VIP` is what a missing `ipMode` means, and not every server stores it.
fn same(one: &[Ingress], other: &[Ingress]) -> bool {
    let mode = |ingress: &Ingress| ingress.mode.clone().filter(|mode| mode != "VIP");
    one.len() == other.len()
        && one.iter().zip(other).all(|(a, b)| {
            (a.ip, &a.hostname, &a.ports) == (b.ip, &b.hostname, &b.ports) && mode(a) == mode(b)
        })
}

fn set_texts(object: &mut Value, key: &str, texts: &BTreeMap<String, Option<String>>) -> bool {
    let now = |name: &str| object[key].get(name).and_then(Value::as_str);
    let differs = texts.iter().any(|(name, text)| now(name) != text.as_deref());
    if differs {
        let map = section(object, key);
        for (name, text) in texts {
            match text {
                Some(text) => map.insert(name.clone(), json!(text)),
                None => map.shift_remove(name),
            };
        }
    }
    differs
}

fn set_condition(
    conditions: &mut Vec<Value>,
    kind: &str,
    wanted: Option<&Condition>,
    now: Timestamp,
) -> bool {
    let at = conditions.iter().position(|condition| condition["type"] == kind);
    let Some(wanted) = wanted else {
        return at.map(|at| conditions.remove(at)).is_some();
    };
    let Condition { status, reason, message } = wanted;
    let Some(at) = at else {
        conditions.push(json!({
            "type": kind, "status": status, "lastTransitionTime": seconds(now), "reason": reason, "message": message,
        }));
        return true;
    };
    let condition = &mut conditions[at];
    if condition["status"] == *status && condition["reason"] == *reason && condition["message"] == *message {
        return false;
    }
    if condition["status"] != *status {
        condition["lastTransitionTime"] = json!(seconds(now));
    }
    condition["status"] = json!(status);
    condition["reason"] = json!(reason);
    condition["message"] = json!(message);
    true
}

fn ingress_value(ingress: &Ingress) -> Value {
    let mut value = Map::new();
    if let Some(ip) = ingress.ip {
        value.insert("ip".to_owned(), json!(ip));
    }
    if let Some(hostname) = &ingress.hostname {
        value.insert("hostname".to_owned(), json!(hostname));
    }
    if let Some(mode) = &ingress.mode {
        value.insert("ipMode".to_owned(), json!(mode));
    }
    if !ingress.ports.is_empty() {
        let ports = ingress.ports.iter().map(|port| {
            let protocol = match port.protocol {
                Protocol::Tcp => "TCP",
                Protocol::Udp => "UDP",
                Protocol::Sctp => "SCTP",
            };
            json!({"port": port.port, "protocol": protocol})
        });
        value.insert("ports".to_owned(), ports.collect());
    }
    Value::Object(value)
}

/// A wall clock time as `metav1.Time` is written: whole seconds and `Z`.
pub(crate) fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn section<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object[key].is_object() {
        object[key] = json!({});
    }
    object[key].as_object_mut().expect("made an object just above")
}
