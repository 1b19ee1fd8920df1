//! The verbs on one object: get, create, update, patch and delete, each one change under the store's lock. Fed by the
//! HTTP layer with a target that was already allowed; gives back the HTTP code and the object.

use super::failure::Failure;
use super::kind::{Kind, Scope};
use super::object::{decode, meta, name_tail, new_uid, now_text, same, same_spec, set_meta, shape};
use super::patch;
use super::route::{Part, Target};
use super::rule;
use super::store::{Key, Memory, Store};
use serde_json::{Value, json};
use std::sync::Arc;

/// The HTTP code and the object.
pub(crate) type Done = Result<(u16, Arc<Value>), Failure>;

pub(crate) fn get(store: &Store, target: &Target) -> Done {
    let kind = target.kind;
    let asked = target.query.text("resourceVersion").parse::<u64>().unwrap_or(0);
    store.read(|memory| {
        if asked > memory.version() {
            return Err(Failure::version_too_large(asked, memory.version()));
        }
        let object = memory.get(&Key::new(kind, &target.namespace, &target.name));
        object.map(|object| (200, object)).ok_or_else(|| Failure::not_found(kind, &target.name))
    })
}

pub(crate) fn create(store: &Store, target: &Target, body: &[u8]) -> Done {
    let mut new = decode(target.kind, body)?;
    place(target, &mut new)?;
    store.write(|memory| add(memory, target, new))
}

/// Checks the namespace of a body against the path, and fills it in.
fn place(target: &Target, new: &mut Value) -> Result<(), Failure> {
    match target.kind.scope {
        Scope::Cluster => set_meta(new, "namespace", None),
        Scope::Namespaced if target.namespace.is_empty() => return Err(Failure::method_not_allowed()),
        Scope::Namespaced => {
            let said = meta(new, "namespace");
            if !said.is_empty() && said != target.namespace {
                let why =
                    "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Failure::bad_request(why));
            }
            set_meta(new, "namespace", Some(json!(target.namespace)));
        }
    }
    Ok(())
}

/// Adds a decoded object; also the end of a PUT that creates.
fn add(memory: &mut Memory, target: &Target, mut new: Value) -> Done {
    let kind = target.kind;
    if kind.scope == Scope::Namespaced {
        room(memory, target, meta(&new, "name"))?;
    }
    if meta(&new, "name").is_empty() && !meta(&new, "generateName").is_empty() {
        let name = format!("{}{}", meta(&new, "generateName"), name_tail(memory.number()));
        set_meta(&mut new, "name", Some(json!(name)));
    }
    set_meta(&mut new, "uid", Some(json!(new_uid())));
    set_meta(&mut new, "creationTimestamp", Some(json!(now_text(0))));
    set_meta(&mut new, "deletionTimestamp", None);
    set_meta(&mut new, "deletionGracePeriodSeconds", None);
    set_meta(&mut new, "generation", kind.has_generation.then(|| json!(1)));
    rule::settle(kind, None, &mut new);
    let name = meta(&new, "name").to_owned();
    let causes = rule::check(kind, None, &new);
    if !causes.is_empty() {
        return Err(Failure::invalid(kind, &name, &causes));
    }
    if !meta(&new, "resourceVersion").is_empty() {
        return Err(Failure::internal("resourceVersion should not be set on objects to be created"));
    }
    let key = Key::new(kind, &target.namespace, &name);
    if memory.get(&key).is_some() {
        return Err(Failure::already_exists(kind, &name));
    }
    Ok((201, memory.put(key, new)))
}

/// Refuses new objects in a namespace that is missing or going away.
fn room(memory: &Memory, target: &Target, name: &str) -> Result<(), Failure> {
    let namespaces = Kind::named("namespaces").expect("namespaces are in the table");
    let Some(namespace) = memory.get(&Key::new(namespaces, "", &target.namespace)) else {
        return Err(Failure::not_found(namespaces, &target.namespace));
    };
    if meta(&namespace, "deletionTimestamp").is_empty() {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {} because it is being terminated",
        target.namespace
    );
    Err(Failure::forbidden(target.kind, Some(name), &why))
}

/// PUT. `create` says whether the user may also create, which a PUT of a missing object asks for.
pub(crate) fn update(store: &Store, target: &Target, body: &[u8], create: Result<(), Failure>) -> Done {
    let kind = target.kind;
    let mut new = decode(kind, body)?;
    match meta(&new, "name") {
        "" => {
            let name = &target.name;
            let why = format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            );
            return Err(Failure::bad_request(why));
        }
        name => same_name(name, target)?,
    }
    place(target, &mut new)?;
    store.write(|memory| {
        let key = Key::new(kind, &target.namespace, &target.name);
        let Some(old) = memory.get(&key) else {
            if !kind.put_creates || target.part == Part::Status {
                return Err(Failure::not_found(kind, &target.name));
            }
            create?;
            // Who names the uid of an object means that object and not a new one.
            same_uid(target, &Value::Null, &new)?;
            set_meta(&mut new, "resourceVersion", None);
            return add(memory, target, new);
        };
        same_uid(target, &old, &new)?;
        let version = meta(&new, "resourceVersion");
        if version.is_empty() && !kind.put_blind {
            return Err(Failure::version_required(kind, &target.name));
        }
        same_version(kind, &old, version)?;
        replace(memory, target, &old, new)
    })
}

fn same_name(name: &str, target: &Target) -> Result<(), Failure> {
    if name == target.name {
        return Ok(());
    }
    let url = &target.name;
    let why = format!("the name of the object ({name}) does not match the name on the URL ({url})");
    Err(Failure::bad_request(why))
}

fn same_uid(target: &Target, old: &Value, new: &Value) -> Result<(), Failure> {
    let (said, have) = (meta(new, "uid"), meta(old, "uid"));
    if said.is_empty() || said == have {
        return Ok(());
    }
    let why = format!("Precondition failed: UID in precondition: {said}, UID in object meta: {have}");
    Err(Failure::conflict(target.kind, &target.name, &why))
}

fn same_version(kind: &Kind, old: &Value, version: &str) -> Result<(), Failure> {
    if version.is_empty() || version == meta(old, "resourceVersion") {
        return Ok(());
    }
    if version.parse::<u64>().is_err() {
        let why = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
        return Err(Failure::internal(why));
    }
    Err(Failure::modified(kind, meta(old, "name")))
}

pub(crate) fn patch(store: &Store, target: &Target, content_type: &str, body: &[u8]) -> Done {
    let kind = target.kind;
    store.write(|memory| {
        let key = Key::new(kind, &target.namespace, &target.name);
        let old = memory.get(&key).ok_or_else(|| Failure::not_found(kind, &target.name))?;
        let new = patch::apply(kind, content_type, &old, body)?;
        let mut new = shape(kind, new).map_err(|why| Failure::new(422, "Invalid", why))?;
        same_name(meta(&new, "name"), target)?;
        place(target, &mut new)?;
        same_version(kind, &old, meta(&new, "resourceVersion"))?;
        if meta(&new, "uid") != meta(&old, "uid") {
            let cause =
                super::failure::Cause::invalid("metadata.uid", &new["metadata"]["uid"], "field is immutable");
            return Err(Failure::invalid(kind, &target.name, &[cause]));
        }
        replace(memory, target, &old, new)
    })
}

/// The common end of PUT and PATCH: what the subresource may change, rules, no-op, generation, finalizers.
fn replace(memory: &mut Memory, target: &Target, old: &Value, mut new: Value) -> Done {
    let kind = target.kind;
    match target.part {
        Part::Whole if kind.has_status => carry(old, &mut new, "status"),
        Part::Whole => {}
        Part::Status => {
            let mut whole = old.clone();
            whole["metadata"] = new["metadata"].clone();
            carry(&new, &mut whole, "status");
            new = whole;
        }
    }
    let system_fields = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    for field in system_fields {
        set_meta(&mut new, field, old["metadata"].get(field).cloned());
    }
    rule::settle(kind, Some(old), &mut new);
    let causes = rule::check(kind, Some(old), &new);
    if !causes.is_empty() {
        return Err(Failure::invalid(kind, &target.name, &causes));
    }
    let key = Key::new(kind, &target.namespace, &target.name);
    if same(old, &new)
        && let Some(stored) = memory.get(&key)
    {
        return Ok((200, stored));
    }
    if kind.has_generation && !same_spec(old, &new) {
        let generation = old["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
        set_meta(&mut new, "generation", Some(json!(generation)));
    }
    if !meta(&new, "deletionTimestamp").is_empty() && !is_held(kind, &new) {
        memory.remove(&key);
        return Ok((200, Arc::new(new)));
    }
    Ok((200, memory.put(key, new)))
}

/// Takes a top-level field over, also its absence.
fn carry(from: &Value, to: &mut Value, field: &str) {
    let Some(fields) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(fields.insert(field.to_owned(), value.clone())),
        None => drop(fields.shift_remove(field)),
    }
}

/// Whether something still has to happen before a deleted object may go.
fn is_held(kind: &Kind, object: &Value) -> bool {
    let any = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    let graceful = kind.resource == "pods"
        && object["metadata"]["deletionGracePeriodSeconds"].as_u64().is_some_and(|seconds| seconds > 0);
    any(&object["metadata"]["finalizers"])
        || kind.resource == "namespaces" && any(&object["spec"]["finalizers"])
        || graceful
}

pub(crate) fn delete(store: &Store, target: &Target, body: &[u8]) -> Done {
    let kind = target.kind;
    let options: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(body).map_err(|err| Failure::bad_request(err.to_string()))?
    };
    store.write(|memory| {
        let key = Key::new(kind, &target.namespace, &target.name);
        let old = memory.get(&key).ok_or_else(|| Failure::not_found(kind, &target.name))?;
        delete_conditions(target, &old, &options["preconditions"])?;
        let mut marked = Value::clone(&old);
        let grace = grace_seconds(kind, &old, target, &options);
        if meta(&old, "deletionTimestamp").is_empty() {
            set_meta(&mut marked, "deletionTimestamp", Some(json!(now_text(grace))));
        }
        set_meta(&mut marked, "deletionGracePeriodSeconds", Some(json!(grace)));
        if is_held(kind, &marked) {
            if kind.resource == "namespaces" {
                marked["status"]["phase"] = json!("Terminating");
                set_meta(&mut marked, "deletionGracePeriodSeconds", None);
            }
            return Ok((200, memory.put(key, marked)));
        }
        memory.remove(&key);
        if kind.delete_answers_object {
            return Ok((200, old));
        }
        let mut details = json!({"name": target.name});
        if !kind.group.is_empty() {
            details["group"] = json!(kind.group);
        }
        details["kind"] = json!(kind.resource);
        details["uid"] = json!(meta(&old, "uid"));
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        Ok((200, Arc::new(status)))
    })
}

fn delete_conditions(target: &Target, old: &Value, wanted: &Value) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::precondition(target.kind, &target.name, &why));
    if let Some(uid) = wanted["uid"].as_str()
        && uid != meta(old, "uid")
    {
        let have = meta(old, "uid");
        return refuse(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({have}). The object might have \
             been deleted and then recreated"
        ));
    }
    if let Some(version) = wanted["resourceVersion"].as_str()
        && version != meta(old, "resourceVersion")
    {
        let have = meta(old, "resourceVersion");
        return refuse(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record \
             ({have}). The object might have been modified"
        ));
    }
    Ok(())
}

/// A pod that runs somewhere is given time to stop; everything else goes at once.
fn grace_seconds(kind: &Kind, old: &Value, target: &Target, options: &Value) -> i64 {
    let done = ["Succeeded", "Failed"];
    let placed = !old["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let over = old["status"]["phase"].as_str().is_some_and(|phase| done.contains(&phase));
    if kind.resource != "pods" || !placed || over {
        return 0;
    }
    let asked = target.query.text("gracePeriodSeconds").parse().ok();
    let own = old["spec"]["terminationGracePeriodSeconds"].as_i64();
    options["gracePeriodSeconds"].as_i64().or(asked).or(own).unwrap_or(30)
}
