//! What the real server adds to an object of a kind before it is stored, and what it refuses: names, labels, Lease
//! numbers, role bindings, Services, Events. Verbs call `settle` and then `check`, with the stored object when there
//! is one. Only the rules that a client of ours can meet are here.

use super::failure::Cause;
use super::kind::Kind;
use super::object::meta;
use super::service;
use serde_json::{Value, json};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
     '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const OLD_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
     alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
     validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Fills in what the real server fills in.
pub(crate) fn settle(kind: &Kind, old: Option<&Value>, new: &mut Value) {
    match kind.resource {
        "services" => service::settle(old, new),
        "namespaces" => {
            let name = meta(new, "name").to_owned();
            new["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
            if old.is_none() {
                new["spec"] = json!({"finalizers": ["kubernetes"]});
                new["status"] = json!({"phase": "Active"});
            }
        }
        "secrets" => settle_secret(new),
        "pods" => settle_pod(old, new),
        "clusterrolebindings" | "rolebindings" => settle_binding(new),
        "nodes" => {
            if let Some(cidr) = new["spec"].get("podCIDR").cloned()
                && new["spec"].get("podCIDRs").is_none()
            {
                new["spec"]["podCIDRs"] = json!([cidr]);
            }
            default_to(new, "spec", json!({}));
        }
        _ => {}
    }
}

pub(crate) fn default_to(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.entry(field.to_owned()).or_insert(value);
    }
}

/// The list at a JSON pointer. Indexing a mutable value would leave a null where nothing is.
pub(crate) fn list_mut<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

fn settle_secret(new: &mut Value) {
    use base64::Engine as _;
    default_to(new, "type", json!("Opaque"));
    let Some(plain) = new.as_object_mut().and_then(|fields| fields.shift_remove("stringData")) else {
        return;
    };
    for (key, text) in plain.as_object().into_iter().flatten() {
        let text = text.as_str().unwrap_or_default();
        new["data"][key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
}

fn settle_pod(old: Option<&Value>, new: &mut Value) {
    if old.is_none() {
        new["status"] = json!({"phase": "Pending"});
    }
    default_to(new, "spec", json!({}));
    default_to(&mut new["spec"], "restartPolicy", json!("Always"));
    default_to(&mut new["spec"], "terminationGracePeriodSeconds", json!(30));
    default_to(&mut new["spec"], "schedulerName", json!("default-scheduler"));
}

fn settle_binding(new: &mut Value) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    if new["roleRef"].is_object() {
        default_to(&mut new["roleRef"], "apiGroup", json!(GROUP));
    }
    for subject in list_mut(new, "/subjects") {
        if subject["kind"] == "User" || subject["kind"] == "Group" {
            default_to(subject, "apiGroup", json!(GROUP));
        }
    }
}

/// What is wrong with an object; empty when it may be stored.
pub(crate) fn check(kind: &Kind, old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let mut causes = check_metadata(kind, new);
    match kind.resource {
        "leases" => causes.extend(check_lease(new)),
        "services" => causes.extend(service::check(new)),
        "clusterrolebindings" | "rolebindings" => causes.extend(check_binding(old, new)),
        "events" => causes.extend(check_event(new)),
        "endpointslices" => causes.extend(check_slice(old, new)),
        _ => {}
    }
    causes
}

fn check_metadata(kind: &Kind, new: &Value) -> Vec<Cause> {
    let name = meta(new, "name");
    let mut causes = Vec::new();
    let (fits, why) = match kind.resource {
        "services" => (is_label(name) && name.starts_with(|l: char| l.is_ascii_lowercase()), OLD_LABEL),
        "namespaces" => (is_label(name), LABEL),
        // Role names may be anything that fits into a path, as system:kube-vip-role.
        _ if kind.group == "rbac.authorization.k8s.io" => (!name.contains(['/', '%']), "may not contain '/'"),
        _ => (name.len() <= 253 && name.split('.').all(is_label), SUBDOMAIN),
    };
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if !fits {
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    }
    for value in new["metadata"]["labels"].as_object().into_iter().flat_map(|labels| labels.values()) {
        if !is_label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid("metadata.labels", value, LABEL_VALUE));
        }
    }
    causes
}

fn is_label(text: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_label_value(text: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let edge = |letter: Option<char>| letter.is_none_or(|letter| letter.is_ascii_alphanumeric());
    text.len() <= 63 && text.chars().all(inner) && edge(text.chars().next()) && edge(text.chars().last())
}

fn check_lease(new: &Value) -> Vec<Cause> {
    let spec = &new["spec"];
    let mut causes = Vec::new();
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        let value = &spec["leaseDurationSeconds"];
        causes.push(Cause::invalid("spec.leaseDurationSeconds", value, "must be greater than 0"));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        let value = &spec["leaseTransitions"];
        causes.push(Cause::invalid("spec.leaseTransitions", value, "must be greater than or equal to 0"));
    }
    if !spec["preferredHolder"].as_str().unwrap_or_default().is_empty()
        && spec["strategy"].as_str().unwrap_or_default().is_empty()
    {
        let why = "may only be specified if `strategy` is defined";
        causes.push(Cause::forbidden("spec.preferredHolder", why));
    }
    causes
}

fn check_binding(old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (at, subject) in new["subjects"].as_array().into_iter().flatten().enumerate() {
        if subject["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(&format!("subjects[{at}].name"), ""));
        }
        if subject["kind"] == "ServiceAccount" && subject["namespace"].as_str().unwrap_or_default().is_empty()
        {
            causes.push(Cause::required(&format!("subjects[{at}].namespace"), ""));
        }
    }
    if let Some(old) = old
        && old["roleRef"] != new["roleRef"]
    {
        let go = |field: &str| new["roleRef"][field].clone();
        let value = json!({"APIGroup": go("apiGroup"), "Kind": go("kind"), "Name": go("name")});
        causes.push(Cause::invalid("roleRef", &value, "cannot change roleRef"));
    }
    causes
}

/// An Event lives beside what it is about; an Event about a cluster-scoped object lives in `default`.
fn check_event(new: &Value) -> Vec<Cause> {
    let about = &new["involvedObject"]["namespace"];
    let namespace = meta(new, "namespace");
    let fits = match about.as_str().unwrap_or_default() {
        "" => namespace == "default",
        about => about == namespace,
    };
    if fits {
        return Vec::new();
    }
    let value = json!(about.as_str().unwrap_or_default());
    vec![Cause::invalid("involvedObject.namespace", &value, "does not match event.namespace")]
}

fn check_slice(old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if new["addressType"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required("addressType", ""));
    }
    if old.is_some_and(|old| old["addressType"] != new["addressType"]) {
        causes.push(Cause::invalid("addressType", &new["addressType"], "field is immutable"));
    }
    causes
}
