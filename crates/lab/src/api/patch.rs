//! Patches: RFC 7386 merge patches, RFC 6902 JSON patches, and strategic merge patches as far as they touch only maps
//! and lists that the real server replaces whole. Everything else is refused as not implemented. The verb feeds the
//! stored object and the body; it gets back the patched object, not yet checked.

use super::failure::Failure;
use super::kind::Kind;
use serde_json::{Map, Value};

/// Lists that a strategic merge patch replaces as a whole (no patch strategy in the API types).
const REPLACED_WHOLE: &[&str] = &[
    "spec.taints",
    "spec.externalIPs",
    "spec.loadBalancerSourceRanges",
    "spec.clusterIPs",
    "spec.ipFamilies",
    "status.loadBalancer.ingress",
    "subsets",
    "rules",
    "subjects",
];

/// Applies a patch of a content type to an object.
pub(crate) fn apply(kind: &Kind, content_type: &str, old: &Value, body: &[u8]) -> Result<Value, Failure> {
    let decode = |err: &serde_json::Error| Failure::bad_request(format!("error decoding patch: {err}"));
    let mut new = old.clone();
    match content_type {
        "application/merge-patch+json" => {
            let patch: Value = serde_json::from_slice(body).map_err(|err| decode(&err))?;
            json_patch::merge(&mut new, &patch);
        }
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_slice(body).map_err(|err| decode(&err))?;
            json_patch::patch(&mut new, &patch).map_err(|_| Failure::bad_patch())?;
        }
        "application/strategic-merge-patch+json" => {
            let patch: Map<String, Value> = serde_json::from_slice(body).map_err(|err| decode(&err))?;
            strategic(kind, &mut new, &patch, "")?;
        }
        "application/apply-patch+yaml" => return Err(Failure::not_implemented("server-side apply")),
        _ => return Err(Failure::unsupported_media_type()),
    }
    Ok(new)
}

fn strategic(kind: &Kind, into: &mut Value, patch: &Map<String, Value>, path: &str) -> Result<(), Failure> {
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Some(fields) = into.as_object_mut() else { return Ok(()) };
    for (key, value) in patch {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if key.starts_with('$') {
            return Err(Failure::not_implemented(&format!("strategic merge directive {path}")));
        }
        match value {
            Value::Null => drop(fields.shift_remove(key)),
            Value::Object(inner) => {
                strategic(kind, fields.entry(key.clone()).or_insert(Value::Null), inner, &path)?;
            }
            Value::Array(_) if !REPLACED_WHOLE.contains(&path.as_str()) => {
                let what = format!("strategic merge of the list {path} of a {}", kind.kind);
                return Err(Failure::not_implemented(&what));
            }
            other => drop(fields.insert(key.clone(), other.clone())),
        }
    }
    Ok(())
}
