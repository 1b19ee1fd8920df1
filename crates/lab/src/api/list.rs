//! Lists: selectors, pages that continue in one snapshot, and the meaning of resourceVersion and its match. Fed by the
//! HTTP layer; gives back the List object. Watches use the same reading of the options.

use super::failure::{Cause, Failure};
use super::kind::Kind;
use super::object::meta;
use super::route::{Query, Target};
use super::select::Selector;
use super::store::{Memory, Store};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a client demands of the snapshot that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// Now.
    Latest,
    /// This version or a newer one; now is the newest.
    NotOlderThan(u64),
    /// The state at this version.
    Exact(u64),
}

/// Where a page goes on.
struct Continue {
    version: u64,
    /// Goes on after this namespace and name.
    after: (String, String),
}

pub(crate) fn selector(target: &Target) -> Result<Selector, Failure> {
    let query = &target.query;
    Selector::parse(target.kind, query.text("labelSelector"), query.text("fieldSelector"))
}

/// The number of `resourceVersion`; none when it is absent or empty.
pub(crate) fn version(query: &Query) -> Result<Option<u64>, String> {
    match query.text("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            )
        }),
    }
}

pub(crate) fn list(store: &Store, target: &Target) -> Result<Value, Failure> {
    let selector = selector(target)?;
    let query = &target.query;
    let limit: usize = match query.text("limit") {
        "" => 0,
        text => text.parse().map_err(|_| Failure::bad_request(format!("limit: Invalid value: {text:?}")))?,
    };
    let demand = demand(query, limit)?;
    let resume = match query.text("continue") {
        "" => None,
        token => Some(read_token(token)?),
    };
    store.read(|memory| {
        let version = snapshot_version(memory, demand, resume.as_ref())?;
        let objects = memory.of_kind_at(target.kind, version);
        let rest: Vec<Arc<Value>> = objects
            .iter()
            .filter(|(key, _)| target.namespace.is_empty() || key.namespace == target.namespace)
            .filter(|(key, _)| {
                resume
                    .as_ref()
                    .is_none_or(|token| (&key.namespace, &key.name) > (&token.after.0, &token.after.1))
            })
            .filter(|(_, object)| selector.matches(object))
            .map(|(_, object)| Arc::clone(object))
            .collect();
        let selects_all = selector == Selector::default();
        Ok(page(target.kind, version, &rest, &Page { limit, selects_all }))
    })
}

struct Page {
    /// Objects of a page; 0 means all.
    limit: usize,
    /// Only then can the server count what remains.
    selects_all: bool,
}

fn page(kind: &Kind, version: u64, rest: &[Arc<Value>], page: &Page) -> Value {
    let shown = if page.limit == 0 { rest.len() } else { page.limit.min(rest.len()) };
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if shown < rest.len()
        && let Some(last) = rest[..shown].last()
    {
        let after = json!([meta(last, "namespace"), meta(last, "name")]);
        let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": after}).to_string();
        metadata["continue"] = json!(URL_SAFE_NO_PAD.encode(token));
        if page.selects_all {
            metadata["remainingItemCount"] = json!(rest.len() - shown);
        }
    }
    let items: Vec<Value> = rest[..shown].iter().map(|object| bare(object)).collect();
    json!({
        "kind": format!("{}List", kind.kind),
        "apiVersion": kind.api_version(),
        "metadata": metadata,
        "items": items,
    })
}

/// Items of a typed list carry neither kind nor apiVersion.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("kind");
        fields.shift_remove("apiVersion");
    }
    object
}

fn demand(query: &Query, limit: usize) -> Result<Demand, Failure> {
    let forbid = |field: &str, why: &str| Err(Failure::invalid_options(&[Cause::forbidden(field, why)]));
    if query.has("sendInitialEvents") {
        return forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    let version =
        version(query).map_err(|why| Failure::bad_request(format!("invalid resource version: {why}")))?;
    let wanted = query.text("resourceVersionMatch");
    if !query.text("continue").is_empty() {
        return match (wanted, version) {
            ("", None | Some(0)) => Ok(Demand::Latest),
            ("", Some(_)) => {
                let why = "specifying resource version is not allowed when using continue";
                Err(Failure::bad_request(why))
            }
            _ => {
                forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
            }
        };
    }
    match (wanted, version) {
        ("", None) => Ok(Demand::Latest),
        ("", Some(version)) if version > 0 && limit > 0 => Ok(Demand::Exact(version)),
        ("" | "NotOlderThan", Some(version)) => Ok(Demand::NotOlderThan(version)),
        ("Exact", Some(0)) => forbid(
            "resourceVersionMatch",
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        ("Exact", Some(version)) => Ok(Demand::Exact(version)),
        (_, None) => forbid(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (other, _) => {
            let why = format!("supported values: \"Exact\", \"NotOlderThan\", found {other:?}");
            Err(Failure::invalid_options(&[Cause::invalid("resourceVersionMatch", &json!(other), &why)]))
        }
    }
}

fn snapshot_version(memory: &Memory, demand: Demand, resume: Option<&Continue>) -> Result<u64, Failure> {
    let now = memory.version();
    if let Some(token) = resume {
        if token.version < memory.compacted() {
            let why = "The provided continue parameter is too old to display a consistent list result. You can \
                       start a new list without the continue parameter.";
            return Err(Failure::compacted(why));
        }
        return Ok(token.version);
    }
    match demand {
        Demand::Latest => Ok(now),
        Demand::NotOlderThan(version) | Demand::Exact(version) if version > now => {
            Err(Failure::version_too_large(version, now))
        }
        Demand::NotOlderThan(_) => Ok(now),
        Demand::Exact(version) if version < memory.compacted() => {
            Err(Failure::compacted("The resourceVersion for the provided list is too old."))
        }
        Demand::Exact(version) => Ok(version),
    }
}

fn read_token(token: &str) -> Result<Continue, Failure> {
    let refuse = |why: &str| Failure::bad_request(format!("invalid continue token: {why}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(token.trim_end_matches('='))
        .map_err(|_| refuse("continue key is not valid"))?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| refuse("continue key is not valid"))?;
    let text = |at: usize| token["start"][at].as_str().map(str::to_owned);
    match (token["rv"].as_u64(), text(0), text(1)) {
        (Some(version), Some(namespace), Some(name)) => Ok(Continue { version, after: (namespace, name) }),
        _ => Err(refuse("continue key is not valid: incorrect encoded start resourceVersion")),
    }
}
