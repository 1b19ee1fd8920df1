//! Reads a manifest as the kubelet does: environment and arguments of the first container, later duplicates win,
//! `$(NAME)` is expanded, `ConfigMap`s of the same file are mounted into a folder of the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The node on which everything runs.
const NODE: &str = "N1";

/// How a container is started.
pub(crate) struct Start {
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// The start of the first container of the first Pod or `DaemonSet`.
pub(crate) fn start(text: &str, folder: &Path) -> Result<Start, String> {
    let documents = documents(text)?;
    let (object, spec) = documents
        .iter()
        .find_map(|object| match object["kind"].as_str()? {
            "Pod" => Some((object, &object["spec"])),
            "DaemonSet" => Some((object, &object["spec"]["template"]["spec"])),
            _ => None,
        })
        .ok_or("there is no Pod and no DaemonSet")?;
    let container = &spec["containers"][0];
    let mut environment = BTreeMap::new();
    for source in items(&container["envFrom"]) {
        let map = config_map(&documents, &source["configMapRef"]["name"])?;
        environment.extend(map);
    }
    for variable in items(&container["env"]) {
        let name = variable["name"].as_str().ok_or("a variable without a name")?;
        let value = match variable.get("valueFrom") {
            Some(source) => from(source, object)?,
            None => expand(variable["value"].as_str().unwrap_or_default(), &environment),
        };
        environment.insert(name.to_owned(), value);
    }
    let mut arguments: Vec<String> = items(&container["args"])
        .iter()
        .map(|argument| expand(argument.as_str().unwrap_or_default(), &environment))
        .collect();
    for mount in items(&container["volumeMounts"]) {
        let path = mount["mountPath"].as_str().ok_or("a mount without a path")?;
        if let Some(volume) = items(&spec["volumes"]).iter().find(|volume| volume["name"] == mount["name"])
            && volume.get("configMap").is_some()
        {
            let inside = write(folder, path, &config_map(&documents, &volume["configMap"]["name"])?);
            for text in arguments.iter_mut().chain(environment.values_mut()) {
                *text = text.replace(path, &inside);
            }
        }
    }
    Ok(Start { arguments, environment })
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    text.split("\n---\n")
        .map(|part| serde_saphyr::from_str(part).map_err(|error| error.to_string()))
        .collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn config_map(documents: &[Value], name: &Value) -> Result<BTreeMap<String, String>, String> {
    let map = documents
        .iter()
        .find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == *name)
        .ok_or_else(|| format!("ConfigMap {name} is not in the file"))?;
    serde_json::from_value(map["data"].clone()).map_err(|error| error.to_string())
}

/// Writes the files of a `ConfigMap`; gives back where they are.
fn write(folder: &Path, path: &str, files: &BTreeMap<String, String>) -> String {
    let inside = folder.join(path.trim_start_matches('/'));
    fs::create_dir_all(&inside).expect("a folder for the mount");
    for (name, text) in files {
        fs::write(inside.join(name), text).expect("a file of the mount");
    }
    inside.to_string_lossy().into_owned()
}

fn from(source: &Value, object: &Value) -> Result<String, String> {
    match source["fieldRef"]["fieldPath"].as_str() {
        Some("spec.nodeName") => Ok(NODE.to_owned()),
        Some("metadata.namespace") => {
            Ok(object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned())
        }
        Some("status.hostIP" | "status.podIP") => Ok("192.0.2.11".to_owned()),
        _ => Err(format!("the loader does not know {source}")),
    }
}

/// `$(NAME)` becomes the value of a variable that is known already, `$$` becomes `$`, all else stays.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix("$(").and_then(|rest| rest.split_once(')')) {
            match environment.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[..rest.len() - after.len()]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}
