//! The configuration file: JSON or YAML, keys of any case. It is read into text by key, as if each value had been
//! written in the environment; what no setting knows is named, so that the caller can warn.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::refusal::FileRefusal;
use super::table::{self, Setting};

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct FileValues {
    /// Text by the setting's key.
    pub(super) known: BTreeMap<String, String>,
    /// Keys that no setting has, as written.
    pub(super) unknown: Vec<String>,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<FileValues, FileRefusal> {
    let format = path.extension().map(|ext| ext.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !path.exists() {
        return Err(FileRefusal::Missing(path.to_owned()));
    }
    if !["json", "yaml", "yml"].contains(&format.as_str()) {
        return Err(FileRefusal::Format(if format.is_empty() { format } else { format!(".{format}") }));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|cause| FileRefusal::Unreadable { path: path.to_owned(), cause })?;
    let malformed = |format, cause: String| FileRefusal::Malformed {
        format,
        path: path.to_owned(),
        cause: cause.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let value: Value = if format == "json" {
        serde_json::from_str(&text).map_err(|cause| malformed("JSON", cause.to_string()))?
    } else if text.trim().is_empty() {
        Value::Null
    } else {
        serde_saphyr::from_str(&text).map_err(|cause| malformed("YAML", cause.to_string()))?
    };
    match value {
        Value::Null => Ok(FileValues::default()),
        Value::Object(_) => {
            let mut values = FileValues::default();
            gather("", &value, &mut values);
            Ok(values)
        }
        _ => {
            Err(malformed(if format == "json" { "JSON" } else { "YAML" }, "it is no map of settings".into()))
        }
    }
}

/// Walks down until a path is the key of a setting.
fn gather(prefix: &str, value: &Value, into: &mut FileValues) {
    let Value::Object(entries) = value else { return };
    for (name, value) in entries {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if let Some(setting) = with_file_key(&path) {
            if let Some(text) = as_text(value) {
                into.known.insert(setting.key(), text);
            }
        } else if value.is_object() && leads_to_a_setting(&path) {
            gather(&path, value, into);
        } else {
            into.unknown.push(path);
        }
    }
}

fn with_file_key(path: &str) -> Option<&'static Setting> {
    table::settings().find(|setting| !setting.file.is_empty() && setting.file.eq_ignore_ascii_case(path))
}

fn leads_to_a_setting(path: &str) -> bool {
    let prefix = format!("{}.", path.to_ascii_lowercase());
    table::settings().any(|setting| setting.file.to_ascii_lowercase().starts_with(&prefix))
}

/// A value as it would be written in the environment. Empty text and null are as good as absent.
fn as_text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => String::new(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        Value::Object(entries) if entries.is_empty() => String::new(),
        other => other.to_string(),
    };
    (!text.is_empty()).then_some(text)
}
