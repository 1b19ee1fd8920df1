//! Session Leases between JSON and the model (election mode `session`). Fed by answers and by the watch; gives back what
//! a session Lease says, or why it cannot be understood.

use serde_json::Value;
use vip_model::InstanceName;
use vip_model::session::{SESSION, SESSION_LABEL, SessionSeen};

use crate::lease;

/// The session Leases of an instance: path and query of a list, ending in `&`.
pub(crate) fn query(namespace: &str, instance: &InstanceName) -> String {
    let label = SESSION_LABEL.replace('/', "%2F");
    format!("{}?labelSelector={label}%3D{instance}&", lease::path(namespace, None))
}

/// What a session Lease says; an error says for people why it says nothing.
pub(crate) fn convert(object: &Value) -> Result<SessionSeen, String> {
    let (_, version, lease) = lease::convert(object).ok_or("it has neither name nor version")?;
    let text =
        lease.annotations.get(SESSION).ok_or_else(|| format!("its annotation {SESSION} is missing"))?;
    let record = serde_json::from_str(text)
        .map_err(|error| format!("its annotation {SESSION} is no session: {error}"))?;
    let duration = lease.duration.ok_or("its leaseDurationSeconds is missing")?;
    Ok(SessionSeen { version, renewed: lease.renewed, duration, record })
}

#[cfg(test)]
mod tests;
