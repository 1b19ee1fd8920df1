//! Failures by class: what went wrong on the way, and what a server's refusal means (design: ownership rules, errors
//! are classified once, here).

use std::error::Error as StdError;

use http::StatusCode;
use serde::Deserialize;
use vip_model::store::{Failure, FailureClass};

use crate::call::{Call, Reply};

/// How much of a server's message is kept.
const LONGEST_MESSAGE: usize = 300;

/// A `v1.Status`, as far as it is used.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Status {
    /// For people.
    #[serde(default)]
    pub(crate) message: String,
    /// For programs: `NotFound`, `AlreadyExists`, `Expired` …
    #[serde(default)]
    pub(crate) reason: String,
    /// The HTTP status.
    #[serde(default)]
    pub(crate) code: u16,
    /// What it is about.
    #[serde(default)]
    pub(crate) details: Option<Details>,
}

/// What a `v1.Status` is about.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Details {
    /// The object's name.
    #[serde(default)]
    pub(crate) name: String,
    /// The plural of its kind.
    #[serde(default)]
    pub(crate) kind: String,
}

/// A refusal: what the server said and what it means.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) code: StatusCode,
    /// What the body said, empty if it was no `v1.Status`.
    pub(crate) status: Status,
    /// What it means.
    pub(crate) failure: Failure,
    /// How many times the call may have reached a server.
    pub(crate) sent: u32,
}

impl Refusal {
    /// Whether the object that was asked for does not exist, and neither its namespace nor its kind is what is
    /// missing.
    pub(crate) fn is_absence_of(&self, kind: &str, name: &str) -> bool {
        let details = self.status.details.as_ref();
        self.code == StatusCode::NOT_FOUND
            && self.status.reason == "NotFound"
            && details.is_some_and(|details| details.kind == kind && details.name == name)
    }
}

/// What an answer refuses; none when it is what was asked for.
pub(crate) fn refusal(call: &Call, reply: &Reply) -> Option<Box<Refusal>> {
    if reply.status.is_success() {
        return None;
    }
    let body = reply.whole();
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let said = if status.message.is_empty() {
        String::from_utf8_lossy(body)
    } else {
        status.message.as_str().into()
    };
    let class = class_of(reply.status.as_u16(), &status.reason, &said);
    let text = format!("{call}: {} says {}: {}", reply.server, reply.status, shorten(&said));
    Some(Box::new(Refusal { code: reply.status, failure: Failure { class, text }, sent: reply.sent, status }))
}

/// What an `ERROR` event of a watch means.
pub(crate) fn event_failure(call: &Call, server: &str, status: &Status) -> Failure {
    let class = class_of(status.code, &status.reason, &status.message);
    Failure { class, text: format!("{call}: {server} says {}: {}", status.code, shorten(&status.message)) }
}

/// The class of a refusal.
fn class_of(code: u16, reason: &str, message: &str) -> FailureClass {
    let etcd_is_slow = message.contains("etcdserver: request timed out")
        || message.contains("etcdserver: leader changed")
        || message.contains("context deadline exceeded");
    match code {
        // Nobody may create anything in it: no right is missing, the namespace is.
        403 if message.contains("because it is being terminated") => FailureClass::NotFound,
        401 => FailureClass::Unauthorized,
        403 => FailureClass::Forbidden,
        404 => FailureClass::NotFound,
        408 | 504 => FailureClass::Timeout,
        410 => FailureClass::Gone,
        429 => FailureClass::Throttled,
        500..=599 if etcd_is_slow || reason == "Timeout" || reason == "ServerTimeout" => {
            FailureClass::Timeout
        }
        500..=599 => FailureClass::Server,
        _ if reason == "Expired" || reason == "Gone" => FailureClass::Gone,
        _ => FailureClass::Invalid,
    }
}

/// What went wrong on the way to a server.
pub(crate) fn transport_failure(call: &Call, server: &str, error: &(dyn StdError + 'static)) -> Failure {
    let mut class = FailureClass::Unreachable;
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let io = cause.downcast_ref::<std::io::Error>();
        let tls = cause.downcast_ref::<rustls::Error>().or_else(|| {
            io.and_then(std::io::Error::get_ref).and_then(|inner| inner.downcast_ref::<rustls::Error>())
        });
        if tls.is_some() {
            class = FailureClass::Tls;
        } else if io.is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut) {
            class = FailureClass::Timeout;
        }
        let text = cause.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    Failure { class, text: format!("{call}: {server}: {}", shorten(&texts.join(": "))) }
}

/// No answer in time.
pub(crate) fn timeout(call: &Call, server: &str, patience: std::time::Duration) -> Failure {
    let text = format!("{call}: {server}: no answer in {} ms", patience.as_millis());
    Failure { class: FailureClass::Timeout, text }
}

/// An answer that is not what the API says it is.
pub(crate) fn nonsense(call: &Call, server: &str, error: &serde_json::Error) -> Failure {
    // A message of the parser may quote the object: only the place is told.
    let place = format!("line {}, column {}", error.line(), error.column());
    Failure {
        class: FailureClass::Invalid,
        text: format!("{call}: {server} answers what cannot be read ({place})"),
    }
}

fn shorten(message: &str) -> String {
    let line: String = message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_class_that_decides_what_is_done() {
        let rows = [
            (400, "BadRequest", "", FailureClass::Invalid),
            (401, "Unauthorized", "", FailureClass::Unauthorized),
            (403, "Forbidden", "", FailureClass::Forbidden),
            (
                403,
                "Forbidden",
                "events is forbidden: unable to create new content in namespace x because it is being terminated",
                FailureClass::NotFound,
            ),
            (404, "NotFound", "", FailureClass::NotFound),
            (408, "", "", FailureClass::Timeout),
            (410, "Expired", "too old resource version", FailureClass::Gone),
            (410, "Gone", "", FailureClass::Gone),
            (422, "Invalid", "", FailureClass::Invalid),
            (429, "TooManyRequests", "", FailureClass::Throttled),
            (500, "InternalError", "boom", FailureClass::Server),
            (500, "", "etcdserver: request timed out", FailureClass::Timeout),
            (500, "", "rpc error: etcdserver: leader changed", FailureClass::Timeout),
            (500, "ServerTimeout", "", FailureClass::Timeout),
            (502, "", "bad gateway", FailureClass::Server),
            (503, "ServiceUnavailable", "", FailureClass::Server),
            (504, "Timeout", "", FailureClass::Timeout),
        ];
        for (code, reason, message, class) in rows {
            assert_eq!(class_of(code, reason, message), class, "{code} {reason} {message}");
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let cut = shorten(&"ä\n".repeat(LONGEST_MESSAGE));
        assert!(cut.ends_with('…') && !cut.contains('\n'));
        assert_eq!(cut.chars().count(), LONGEST_MESSAGE + 1);
    }
}
