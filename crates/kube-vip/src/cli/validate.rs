//! `kube-vip validate`: prints the effective settings as YAML, with all that there is to say about them.

use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::settings::{self, Effective, Machine, Sources, Weight};

/// Runs the command. Exit code 1 when there is anything to warn about.
pub(super) fn run(sources: &Sources) -> anyhow::Result<ExitCode> {
    let effective = settings::look(sources, &Machine::read())?;
    super::print(&yaml(&effective)?);
    let count = effective.warnings.iter().filter(|warning| warning.weight == Weight::Warning).count();
    if count == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let things = if count == 1 { "thing" } else { "things" };
    eprintln!("kube-vip: error: {count} {things} to warn about; see warnings");
    Ok(ExitCode::FAILURE)
}

/// The settings for people: times as `3s` and `150ms`, warnings as sentences.
fn yaml(effective: &Effective) -> anyhow::Result<String> {
    let mut document = readable(serde_json::to_value(effective)?);
    if let Value::Object(fields) = &mut document {
        fields.remove("warnings");
        for (title, weight) in [("warnings", Weight::Warning), ("notices", Weight::Notice)] {
            let lines = effective.warnings.iter().filter(|warning| warning.weight == weight);
            let lines: Vec<Value> = lines.map(|warning| Value::String(warning.to_string())).collect();
            if !lines.is_empty() {
                fields.insert(title.to_owned(), Value::Array(lines));
            }
        }
    }
    Ok(serde_saphyr::to_string(&document)?)
}

/// Turns the pairs in which times are stored into text.
fn readable(value: Value) -> Value {
    match value {
        Value::Object(fields) => match span(&fields) {
            Some(text) => Value::String(text),
            None => Value::Object(fields.into_iter().map(|(key, value)| (key, readable(value))).collect()),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(readable).collect()),
        other => other,
    }
}

fn span(fields: &Map<String, Value>) -> Option<String> {
    let (secs, nanos) = (fields.get("secs")?.as_u64()?, fields.get("nanos")?.as_u64()?);
    match nanos {
        0 => Some(format!("{secs}s")),
        _ => Some(format!("{}ms", secs * 1000 + nanos / 1_000_000)),
    }
}
