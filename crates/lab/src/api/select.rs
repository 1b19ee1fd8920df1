//! Label and field selectors: parsed from the query, then asked about objects. The grammar is that of the Kubernetes
//! documentation, "Labels and Selectors"; what a kind's field selectors may name is in the table of kinds.

use super::failure::Failure;
use super::kind::Kind;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    FieldIs(String, String),
    FieldIsNot(String, String),
}

/// What a list or a watch asks for; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    terms: Vec<Term>,
}

impl Selector {
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Failure> {
        let mut terms = Vec::new();
        for text in split_terms(labels) {
            terms.push(label_term(text)?);
        }
        for text in fields.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            terms.push(field_term(kind, text)?);
        }
        Ok(Self { terms })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| term.matches(object))
    }
}

impl Term {
    fn matches(&self, object: &Value) -> bool {
        let label = |key: &String| object["metadata"]["labels"].get(key).and_then(Value::as_str);
        match self {
            Term::In(key, values) => label(key).is_some_and(|have| values.iter().any(|value| value == have)),
            Term::NotIn(key, values) => {
                label(key).is_none_or(|have| values.iter().all(|value| value != have))
            }
            Term::Exists(key) => label(key).is_some(),
            Term::Absent(key) => label(key).is_none(),
            Term::FieldIs(path, value) => field(object, path) == *value,
            Term::FieldIsNot(path, value) => field(object, path) != *value,
        }
    }
}

/// The text of a field; an absent one is empty, as in the real server.
fn field(object: &Value, path: &str) -> String {
    let mut at = object;
    for part in path.split('.') {
        at = &at[part];
    }
    match at {
        Value::Null if path == "spec.unschedulable" || path == "spec.hostNetwork" => "false".to_owned(),
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Splits at commas that are not inside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut terms) = (0_usize, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    terms.push(text[from..].trim());
    terms.retain(|term| !term.is_empty());
    terms
}

fn label_term(text: &str) -> Result<Term, Failure> {
    let refuse = |why: &str| Failure::bad_request(format!("unable to parse requirement: {why}"));
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Term::Absent(label_key(key)?));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Term::NotIn(label_key(key)?, vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Term::In(label_key(key)?, vec![value.trim().to_owned()]));
    }
    let Some((key, rest)) = text.split_once(char::is_whitespace) else {
        return Ok(Term::Exists(label_key(text)?));
    };
    let (operator, set) = match rest.trim_start().split_once('(') {
        Some((operator, set)) => (operator.trim(), set.trim_end()),
        None => return Err(refuse(&format!("found '{}', expected: '('", rest.trim()))),
    };
    let Some(set) = set.strip_suffix(')') else {
        return Err(refuse("found '', expected: ',', ')' or identifier"));
    };
    let values = set.split(',').map(|value| value.trim().to_owned()).collect();
    match operator {
        "in" => Ok(Term::In(label_key(key)?, values)),
        "notin" => Ok(Term::NotIn(label_key(key)?, values)),
        other => Err(refuse(&format!("found '{other}', expected: in, notin, =, ==, !="))),
    }
}

fn label_key(text: &str) -> Result<String, Failure> {
    let key = text.trim();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    if key.is_empty() || !key.chars().all(fits) {
        let why =
            format!("unable to parse requirement: <nil>: Invalid value: {key:?}: name part must be a label");
        return Err(Failure::bad_request(why));
    }
    Ok(key.to_owned())
}

fn field_term(kind: &Kind, text: &str) -> Result<Term, Failure> {
    let (path, value, term): (&str, &str, fn(String, String) -> Term) =
        if let Some((path, value)) = text.split_once("!=") {
            (path, value, Term::FieldIsNot)
        } else if let Some((path, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            (path, value, Term::FieldIs)
        } else {
            let why = format!("invalid selector: '{text}'; can't understand '{text}'");
            return Err(Failure::bad_request(why));
        };
    if !["metadata.name", "metadata.namespace"].contains(&path) && !kind.fields.contains(&path) {
        let why =
            format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
        return Err(Failure::bad_request(why));
    }
    Ok(term(path.to_owned(), value.to_owned()))
}
