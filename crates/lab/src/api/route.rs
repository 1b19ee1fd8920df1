//! From an HTTP request line to what it asks: which verb on which resource, object and subresource, or a plain path.
//! The HTTP layer feeds it; access rules, faults, counters and verbs read the result.

use super::failure::Failure;
use super::kind::{Kind, Scope};
use std::fmt;

/// What a request does, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Read one object, or a plain path.
    Get,
    /// Read a collection.
    List,
    /// Follow a collection.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        })
    }
}

/// The decoded query string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(key), unescape(value))
        });
        Self(pairs.collect())
    }

    /// The value of a parameter; empty when it is absent.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.all(key).next().unwrap_or_default()
    }

    /// Every value of a parameter that may be repeated.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.all(key).next().is_some()
    }

    /// Go's reading of a boolean parameter: present and neither `0` nor `false`.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.all(key).next().is_some_and(|value| value != "0" && value != "false")
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (*first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let code = std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok());
                if let Some(code) = code {
                    bytes.push(code);
                    rest = after;
                } else {
                    bytes.push(b'%');
                }
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A part of an object with a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object itself.
    Whole,
    /// `…/status`.
    Status,
}

/// A request on a resource.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) verb: Verb,
    pub(crate) kind: &'static Kind,
    /// Empty: all namespaces, or a cluster-scoped kind.
    pub(crate) namespace: String,
    /// Empty: the collection.
    pub(crate) name: String,
    pub(crate) part: Part,
    pub(crate) query: Query,
}

impl Target {
    /// `leases`, or `services/status`: the resource as RBAC rules name it.
    pub(crate) fn resource(&self) -> String {
        match self.part {
            Part::Whole => self.kind.resource.to_owned(),
            Part::Status => format!("{}/status", self.kind.resource),
        }
    }

    /// The object that is asked for, also by a list or a watch that names the only one that it wants: a right that is
    /// limited to names counts for it. Empty for a collection.
    pub(crate) fn object(&self) -> &str {
        if !self.name.is_empty() {
            return &self.name;
        }
        let mut terms = self.query.text("fieldSelector").split(',');
        let name = terms.find_map(|term| term.trim().strip_prefix("metadata.name="));
        name.unwrap_or_default().trim_start_matches('=')
    }
}

/// What a path is.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    Resource(Target),
    /// A path without resources: `/version`, `/readyz`, ….
    Path(String, Query),
}

/// Groups that exist in every cluster; an unknown resource in them is missing here, not there.
const SERVED_ELSEWHERE: &[&str] = &["apps", "batch", "autoscaling", "policy"];

/// Reads a request line. `method` is the HTTP method, `path` without the query.
pub(crate) fn route(method: &str, path: &str, query: &str) -> Result<Route, Failure> {
    let query = Query::parse(query);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Ok(Route::Path(path.to_owned(), query)),
    };
    let (namespace, resource, rest) = match rest {
        ["namespaces", namespace, resource, rest @ ..] if !["status", "finalize"].contains(resource) => {
            (*namespace, *resource, rest)
        }
        [resource, rest @ ..] => ("", *resource, rest),
        [] => unreachable!("the arms above have asked for a rest"),
    };
    let Some(kind) = Kind::of_resource(group, version, resource) else {
        return Err(missing(group, version, resource));
    };
    let fits = match kind.scope {
        Scope::Cluster => namespace.is_empty(),
        Scope::Namespaced => !namespace.is_empty() || rest.is_empty(),
    };
    if !fits {
        return Err(Failure::no_such_resource());
    }
    let (name, part) = match rest {
        [] => ("", Part::Whole),
        [name] => (*name, Part::Whole),
        [name, "status"] if kind.has_status => (*name, Part::Status),
        [_, "status"] => return Err(Failure::no_such_resource()),
        [_, other, ..] => return Err(Failure::not_implemented(&format!("{resource}/{other}"))),
    };
    let verb = verb(method, name, part, &query)?;
    let (namespace, name) = (unescape(namespace), unescape(name));
    Ok(Route::Resource(Target { verb, kind, namespace, name, part, query }))
}

fn missing(group: &str, version: &str, resource: &str) -> Failure {
    let served = Kind::named(resource).is_none_or(|kind| kind.group != group)
        && (group.is_empty() || group.ends_with(".k8s.io") || SERVED_ELSEWHERE.contains(&group));
    if served {
        return Failure::not_implemented(&format!("{resource} of group {group:?} version {version}"));
    }
    Failure::new(404, "", "404 page not found")
}

fn verb(method: &str, name: &str, part: Part, query: &Query) -> Result<Verb, Failure> {
    Ok(match (method, name.is_empty(), part) {
        ("GET", true, _) if query.is_set("watch") => Verb::Watch,
        ("GET", true, _) => Verb::List,
        ("GET", false, _) => Verb::Get,
        ("POST", true, _) => Verb::Create,
        ("PUT", false, _) => Verb::Update,
        ("PATCH", false, _) => Verb::Patch,
        ("DELETE", false, Part::Whole) => Verb::Delete,
        ("DELETE", true, _) => Verb::DeleteCollection,
        _ => return Err(Failure::method_not_allowed()),
    })
}
