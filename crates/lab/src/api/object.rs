//! Bytes to objects: decoding with the checks that the real server's typed decoder makes, normal forms (no nulls, no
//! empty maps, no unknown metadata, times in UTC with six digits), names and identities. Verbs feed it bodies and
//! patched objects; the store gets what it gives back.

use super::failure::Failure;
use super::kind::Kind;
use base64::Engine as _;
use serde_json::{Map, Value, json};
use std::hash::{BuildHasher, Hasher, RandomState};

/// What object metadata may hold; anything else is dropped, as the typed decoder of the real server drops it.
/// `managedFields` is left out on purpose: nothing reads it here.
const METADATA: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
];

/// The types of a Lease's spec: (field, type in Go's words).
const LEASE_SPEC: &[(&str, &str)] = &[
    ("holderIdentity", "string"),
    ("leaseDurationSeconds", "int32"),
    ("acquireTime", "time"),
    ("renewTime", "time"),
    ("leaseTransitions", "int32"),
    ("strategy", "string"),
    ("preferredHolder", "string"),
];

/// Reads the body of a POST or a PUT.
pub(crate) fn decode(kind: &Kind, body: &[u8]) -> Result<Value, Failure> {
    let object: Value = serde_json::from_slice(body).map_err(|err| {
        let why = format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse \
             error: {err}",
            kind.kind
        );
        Failure::bad_request(why)
    })?;
    let refuse = |named: &str, why: String| {
        let version = kind.version;
        let cannot = format!("{named} in version {version:?} cannot be handled as a {}: {why}", kind.kind);
        Failure::bad_request(cannot)
    };
    let api_version = kind.api_version();
    let said = |field: &str, default: &str| match object[field].as_str() {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => default.to_owned(),
    };
    let (said_version, said_kind) = (said("apiVersion", &api_version), said("kind", kind.kind));
    if said_version != api_version || said_kind != kind.kind {
        let why = format!("no kind {said_kind:?} is registered for version {said_version:?}");
        return Err(refuse(&said_kind, why));
    }
    shape(kind, object).map_err(|why| refuse(kind.kind, why))
}

/// Brings an object into the normal form of its kind, or says in Go's words which type is wrong.
pub(crate) fn shape(kind: &Kind, object: Value) -> Result<Value, String> {
    let Value::Object(mut fields) = object else {
        return Err(format!(
            "json: cannot unmarshal {} into Go value of type {}",
            type_name(&object),
            kind.kind
        ));
    };
    fields.values_mut().for_each(drop_nulls);
    fields.retain(|_, value| !value.is_null());
    fields.remove("apiVersion");
    fields.remove("kind");
    let metadata = match fields.remove("metadata") {
        None => Map::new(),
        Some(Value::Object(metadata)) => shape_metadata(metadata)?,
        Some(other) => return Err(mismatch(&other, kind.kind, "metadata", "ObjectMeta")),
    };
    if kind.resource == "leases" {
        let spec = fields.remove("spec").unwrap_or_else(|| json!({}));
        fields.clear();
        fields.insert("spec".into(), shape_lease_spec(spec)?);
    }
    if kind.resource == "secrets" {
        check_secret_data(fields.get("data"))?;
    }
    let mut object = Map::new();
    object.insert("kind".into(), json!(kind.kind));
    object.insert("apiVersion".into(), json!(kind.api_version()));
    object.insert("metadata".into(), Value::Object(metadata));
    object.extend(fields);
    Ok(Value::Object(object))
}

fn shape_metadata(mut metadata: Map<String, Value>) -> Result<Map<String, Value>, String> {
    metadata.retain(|key, _| METADATA.contains(&key.as_str()));
    for key in ["labels", "annotations"] {
        let Some(entries) = metadata.get(key) else { continue };
        let Value::Object(entries) = entries else {
            return Err(mismatch(entries, "ObjectMeta", &format!("metadata.{key}"), "map[string]string"));
        };
        if let Some(wrong) = entries.values().find(|value| !value.is_string()) {
            return Err(mismatch(wrong, "ObjectMeta", &format!("metadata.{key}"), "string"));
        }
        if entries.is_empty() {
            metadata.remove(key);
        }
    }
    for key in ["name", "namespace", "uid", "resourceVersion", "generateName"] {
        match metadata.get(key) {
            Some(Value::String(text)) if text.is_empty() => drop(metadata.remove(key)),
            None | Some(Value::String(_)) => {}
            Some(other) => return Err(mismatch(other, "ObjectMeta", &format!("metadata.{key}"), "string")),
        }
    }
    Ok(metadata)
}

fn check_secret_data(data: Option<&Value>) -> Result<(), String> {
    for value in data.and_then(Value::as_object).into_iter().flat_map(Map::values) {
        let Value::String(text) = value else { return Err(mismatch(value, "Secret", "data", "[]uint8")) };
        if let Err(error) = base64::engine::general_purpose::STANDARD.decode(text) {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len(),
            };
            return Err(format!("illegal base64 data at input byte {at}"));
        }
    }
    Ok(())
}

fn shape_lease_spec(spec: Value) -> Result<Value, String> {
    let Value::Object(said) = spec else {
        return Err(mismatch(&spec, "Lease", "spec", "v1.LeaseSpec"));
    };
    let mut spec = Map::new();
    for (field, wanted) in LEASE_SPEC {
        let Some(value) = said.get(*field) else { continue };
        let path = format!("spec.{field}");
        let value = match (*wanted, value) {
            ("string", Value::String(_)) => value.clone(),
            ("int32", Value::Number(number)) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
                value.clone()
            }
            ("time", Value::String(text)) => json!(micro_time(text)?),
            ("time", other) => {
                return Err(format!(
                    "json: cannot unmarshal {} into Go value of type string",
                    type_name(other)
                ));
            }
            (wanted, other) => return Err(mismatch(other, "LeaseSpec", &path, wanted)),
        };
        spec.insert((*field).to_owned(), value);
    }
    Ok(Value::Object(spec))
}

/// Reads a Kubernetes `MicroTime` (RFC 3339 with exactly six digits of a second) and writes it in UTC.
fn micro_time(text: &str) -> Result<String, String> {
    const LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
    let refuse = |rest: &str, element: &str| {
        format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {rest:?} as {element:?}")
    };
    let Ok(time) = text.parse::<jiff::Timestamp>() else { return Err(refuse(text, "2006")) };
    // The seconds end at byte 19 in this form: 2006-01-02T15:04:05
    let fraction = text.get(19..).unwrap_or_default();
    let digits = fraction.chars().skip(1).take_while(char::is_ascii_digit).count();
    if !fraction.starts_with('.') || digits != 6 {
        return Err(refuse(fraction, ".000000"));
    }
    Ok(time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

/// The type of a JSON value in the words of Go's decoder; numbers are shown when they do not fit.
fn type_name(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) => format!("number {number}"),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

fn mismatch(value: &Value, outer: &str, path: &str, wanted: &str) -> String {
    let said = type_name(value);
    format!("json: cannot unmarshal {said} into Go struct field {outer}.{path} of type {wanted}")
}

fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(drop_nulls);
        fields.retain(|_, value| !value.is_null());
    }
}

/// A text of the metadata; empty when it is absent.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Sets or (with nothing) removes a field of the metadata.
pub(crate) fn set_meta(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    match value {
        Some(value) => drop(metadata.insert(field.to_owned(), value)),
        None => drop(metadata.shift_remove(field)),
    }
}

/// Whether two objects differ in nothing but their resource version.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        set_meta(&mut object, "resourceVersion", None);
        object
    };
    bare(left) == bare(right)
}

/// Whether two objects differ outside of metadata and status.
pub(crate) fn same_spec(left: &Value, right: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.shift_remove("metadata");
            fields.shift_remove("status");
        }
        object
    };
    bare(left) == bare(right)
}

/// Now, in the form of `creationTimestamp`: RFC 3339, whole seconds, UTC.
pub(crate) fn now_text(seconds_ahead: i64) -> String {
    let now = jiff::Timestamp::now().as_second() + seconds_ahead;
    jiff::Timestamp::from_second(now).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A number that nobody can guess twice: the standard library seeds every `RandomState` from the system.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A random UUID, RFC 9562 §5.4.
pub(crate) fn new_uid() -> String {
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0x0fff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

/// The tail of a generated name: five letters that the real server also uses.
pub(crate) fn name_tail(number: u64) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ random();
    let mut tail = String::new();
    for _ in 0..5 {
        tail.push(char::from(LETTERS[(rest % LETTERS.len() as u64) as usize]));
        rest /= LETTERS.len() as u64;
    }
    tail
}
