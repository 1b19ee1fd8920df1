//! What the server answers when it says no: a Kubernetes Status object with the code, reason and message that the
//! real server gives. Verbs and rules make them; the HTTP layer writes them; faults carry them as planned answers.

use super::kind::Kind;
use serde_json::{Map, Value, json};

/// One field that a validation refused, as in `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

impl Cause {
    /// A value that is not accepted; `value` is printed as Go prints it (strings quoted).
    pub(crate) fn invalid(field: &str, value: &Value, why: &str) -> Self {
        let message = format!("Invalid value: {value}: {why}");
        Self { reason: "FieldValueInvalid", message, field: field.to_owned() }
    }

    /// A field that must be there.
    pub(crate) fn required(field: &str, why: &str) -> Self {
        let message =
            if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired", message, field: field.to_owned() }
    }

    /// A field that must not be there.
    pub(crate) fn forbidden(field: &str, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", message: format!("Forbidden: {why}"), field: field.to_owned() }
    }
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status code.
    pub code: u16,
    /// `Status.reason`; empty where the real server sends none.
    pub reason: &'static str,
    /// `Status.message`.
    pub message: String,
    /// `Status.details`.
    details: Option<Value>,
}

impl Failure {
    /// A Status of any code, reason and message, without details. For faults.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// What a server says whose etcd does not answer: 500 `etcdserver: request timed out`.
    pub fn etcd_timeout() -> Self {
        Self::new(500, "", "etcdserver: request timed out")
    }

    /// What a server says whose etcd elects a leader: 500 `etcdserver: leader changed`.
    pub fn etcd_leader_changed() -> Self {
        Self::new(500, "", "etcdserver: leader changed")
    }

    /// What a server says that waited in vain for its etcd: 504.
    pub fn timed_out() -> Self {
        let message =
            "Timeout: request did not complete within requested timeout - context deadline exceeded";
        Self { details: Some(json!({})), ..Self::new(504, "Timeout", message) }
    }

    /// What an overloaded server says: 429 with a second to wait.
    pub fn too_many_requests() -> Self {
        let details = json!({"retryAfterSeconds": 1});
        let message = "Too many requests, please try again later.";
        Self { details: Some(details), ..Self::new(429, "TooManyRequests", message) }
    }

    /// The bearer token is not known.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// This server does not do it, the real one does; the caller records it.
    pub fn not_implemented(what: &str) -> Self {
        Self::new(501, "NotImplemented", format!("the lab's API server does not implement {what}"))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified_resource());
        Self { details: Some(details(kind, name)), ..Self::new(404, "NotFound", message) }
    }

    pub(crate) fn no_such_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: Some(json!({})), ..Self::new(404, "NotFound", message) }
    }

    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified_resource());
        Self { details: Some(details(kind, name)), ..Self::new(409, "AlreadyExists", message) }
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: Some(json!({})), ..Self::new(405, "MethodNotAllowed", message) }
    }

    pub(crate) fn unsupported_media_type() -> Self {
        let message = "415: Unsupported Media Type";
        Self { details: Some(json!({})), ..Self::new(415, "UnsupportedMediaType", message) }
    }

    pub(crate) fn modified(kind: &Kind, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified_resource());
        Self { details: Some(details(kind, name)), ..Self::new(409, "Conflict", message) }
    }

    /// A conflict of a delete precondition: the real server names the kind, not the resource.
    pub(crate) fn precondition(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified_kind());
        Self {
            details: Some(named_details(kind.group, kind.kind, name)),
            ..Self::new(409, "Conflict", message)
        }
    }

    pub(crate) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        Self::invalid_as(&kind.qualified_kind(), named_details(kind.group, kind.kind, name), causes)
    }

    /// A PUT without the resourceVersion that the kind asks for: named by resource, as the real server does.
    pub(crate) fn version_required(kind: &Kind, name: &str) -> Self {
        let cause = Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
        Self::invalid_as(&kind.qualified_resource(), details(kind, name), &[cause])
    }

    /// Query parameters that do not fit together.
    pub(crate) fn invalid_options(causes: &[Cause]) -> Self {
        Self::invalid_as("ListOptions.meta.k8s.io", named_details("meta.k8s.io", "ListOptions", ""), causes)
    }

    fn invalid_as(what: &str, mut details: Value, causes: &[Cause]) -> Self {
        let texts: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let name = details["name"].as_str().unwrap_or_default().to_owned();
        details["causes"] = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        let message = format!("{what} {name:?} is invalid: {list}");
        Self { details: Some(details), ..Self::new(422, "Invalid", message) }
    }

    /// A patch that does not apply or whose result is no object of the kind.
    pub(crate) fn bad_patch() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self { details: Some(json!({})), ..Self::new(422, "Invalid", message) }
    }

    pub(crate) fn forbidden(kind: &Kind, name: Option<&str>, why: &str) -> Self {
        let resource = kind.qualified_resource();
        let name = name.unwrap_or_default();
        let what = if name.is_empty() { resource } else { format!("{resource} {name:?}") };
        let message = format!("{what} is forbidden: {why}");
        Self { details: Some(details(kind, name)), ..Self::new(403, "Forbidden", message) }
    }

    pub(crate) fn forbidden_path(why: &str) -> Self {
        Self { details: Some(json!({})), ..Self::new(403, "Forbidden", format!("forbidden: {why}")) }
    }

    /// The history does not reach back to this version.
    pub(crate) fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// A continue token or an exact version whose snapshot was compacted.
    pub(crate) fn compacted(message: &str) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn version_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        let details = json!({"causes": [cause], "retryAfterSeconds": 1});
        Self { details: Some(details), ..Self::new(504, "Timeout", message) }
    }

    /// The Status object.
    pub fn status(&self) -> Value {
        let mut status = Map::new();
        status.insert("kind".into(), json!("Status"));
        status.insert("apiVersion".into(), json!("v1"));
        status.insert("metadata".into(), json!({}));
        status.insert("status".into(), json!("Failure"));
        status.insert("message".into(), json!(self.message));
        if !self.reason.is_empty() {
            status.insert("reason".into(), json!(self.reason));
        }
        if let Some(details) = &self.details {
            status.insert("details".into(), details.clone());
        }
        status.insert("code".into(), json!(self.code));
        Value::Object(status)
    }

    /// `details.retryAfterSeconds`, which the real server repeats as a header.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        self.details.as_ref()?.get("retryAfterSeconds")?.as_u64()
    }
}

fn details(kind: &Kind, name: &str) -> Value {
    named_details(kind.group, kind.resource, name)
}

fn named_details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = Map::new();
    if !name.is_empty() {
        details.insert("name".into(), json!(name));
    }
    if !group.is_empty() {
        details.insert("group".into(), json!(group));
    }
    details.insert("kind".into(), json!(kind));
    Value::Object(details)
}
