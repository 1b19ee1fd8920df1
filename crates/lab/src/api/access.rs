//! May this user do that: the role-based check against the stored roles and bindings, with the words of the real
//! server when the answer is no. The HTTP layer asks it before every verb; a missing verb in a manifest shows here.

use super::credential::Identity;
use super::failure::Failure;
use super::kind::Kind;
use super::object::meta;
use super::route::{Target, Verb};
use super::store::Store;
use serde_json::Value;
use std::sync::Arc;

/// Paths that everyone may read (the role `system:public-info-viewer` of every cluster).
const PUBLIC_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// Paths that every authenticated user may read (the role `system:discovery` of every cluster).
const DISCOVERY: &[&str] = &["/api", "/apis", "/openapi"];

/// The group that may all.
const MASTERS: &str = "system:masters";

/// Checks a verb on a resource. `verb` is not always the target's: a PUT that creates asks for `create` too.
pub(crate) fn check(store: &Store, who: &Identity, verb: Verb, target: &Target) -> Result<(), Failure> {
    if who.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let mut missing = Vec::new();
    for binding in bindings(store, &target.namespace) {
        if !names(&binding, who) {
            continue;
        }
        match role(store, &binding) {
            Some(role) if rules(&role).iter().any(|rule| allows(rule, verb, target)) => return Ok(()),
            Some(_) => {}
            None => missing.push(missing_role(&binding)),
        }
    }
    Err(refusal(who, verb, target, &missing))
}

/// Checks a plain path.
pub(crate) fn check_path(who: &Identity, path: &str) -> Result<(), Failure> {
    let known = who.groups.iter().any(|group| group == "system:authenticated");
    let discovery = DISCOVERY
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    let allowed =
        who.groups.iter().any(|group| group == MASTERS) || PUBLIC_PATHS.contains(&path) || known && discovery;
    if allowed {
        return Ok(());
    }
    Err(Failure::forbidden_path(&format!("User {:?} cannot get path {path:?}", who.user)))
}

fn bindings(store: &Store, namespace: &str) -> Vec<Arc<Value>> {
    let of = |resource: &str| Kind::named(resource).map(|kind| store.list(kind)).unwrap_or_default();
    let mut bindings = of("clusterrolebindings");
    if !namespace.is_empty() {
        bindings
            .extend(of("rolebindings").into_iter().filter(|binding| meta(binding, "namespace") == namespace));
    }
    bindings
}

fn names(binding: &Value, who: &Identity) -> bool {
    binding["subjects"].as_array().into_iter().flatten().any(|subject| {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("User") => who.user == name,
            Some("Group") => who.groups.iter().any(|group| group == name),
            Some("ServiceAccount") => {
                let namespace = subject["namespace"].as_str().unwrap_or_default();
                who.user == format!("system:serviceaccount:{namespace}:{name}")
            }
            _ => false,
        }
    })
}

fn role(store: &Store, binding: &Value) -> Option<Arc<Value>> {
    let name = binding["roleRef"]["name"].as_str()?;
    match binding["roleRef"]["kind"].as_str()? {
        "ClusterRole" => store.get(Kind::named("clusterroles")?, "", name),
        "Role" => store.get(Kind::named("roles")?, meta(binding, "namespace"), name),
        _ => None,
    }
}

fn missing_role(binding: &Value) -> String {
    let kind = binding["roleRef"]["kind"].as_str().unwrap_or_default().to_lowercase();
    let name = binding["roleRef"]["name"].as_str().unwrap_or_default();
    format!("{kind}.rbac.authorization.k8s.io {name:?} not found")
}

fn rules(role: &Value) -> &[Value] {
    role["rules"].as_array().map_or(&[], Vec::as_slice)
}

fn allows(rule: &Value, verb: Verb, target: &Target) -> bool {
    let lists = |field: &str, wanted: &str| {
        rule[field].as_array().into_iter().flatten().any(|entry| entry == "*" || entry == wanted)
    };
    let resource = target.resource();
    let any_part = resource.split_once('/').map(|(_, part)| format!("*/{part}"));
    let named = rule["resourceNames"].as_array().is_none_or(|names| {
        names.is_empty() || !target.object().is_empty() && names.iter().any(|name| *name == target.object())
    });
    lists("verbs", &verb.to_string())
        && lists("apiGroups", target.kind.group)
        && (lists("resources", &resource) || any_part.is_some_and(|part| lists("resources", &part)))
        && named
}

fn refusal(who: &Identity, verb: Verb, target: &Target, missing: &[String]) -> Failure {
    let place = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", target.namespace)
    };
    let why = format!(
        "User {:?} cannot {verb} resource {:?} in API group {:?} {place}",
        who.user,
        target.resource(),
        target.kind.group
    );
    let told = match missing {
        [] => String::new(),
        [one] => format!(": RBAC: {one}"),
        many => format!(": RBAC: [{}]", many.join(", ")),
    };
    let name = Some(target.object()).filter(|name| !name.is_empty());
    Failure::forbidden(target.kind, name, &(why + &told))
}
