//! The Leases of elections: which Lease, with which timings. The control plane, the Services and their address management
//! share the timings and the rule for the namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::LeaseName;
use vip_model::config::{Election, LeaseTimings};

use super::refusal::Refusal;
use super::source::Values;
use super::{Machine, key, parse};

/// What an address in the kernel must keep between the last renewal and the moment others may take over.
const SHORTEST_FENCE: Duration = Duration::from_secs(1);

/// The election for the control-plane VIP.
pub(super) fn control_plane(values: &Values, machine: &Machine) -> Result<Election, Refusal> {
    Ok(Election {
        annotations: annotations(values)?,
        ..without_annotations(lease(values, machine, key::LEASE_NAME)?, timings(values)?)
    })
}

/// An election whose Lease carries nothing else. Upstream annotates no other Lease than the control plane's.
pub(super) const fn without_annotations(lease: LeaseName, timings: LeaseTimings) -> Election {
    Election { lease, annotations: BTreeMap::new(), timings }
}

/// The Lease that the setting `key` names: `namespace/name`, or a name in the pod's namespace, or in `cp_namespace`.
pub(super) fn lease(values: &Values, machine: &Machine, key: &str) -> Result<LeaseName, Refusal> {
    let text = values.text(key);
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (
            machine.service_account_namespace.as_deref().unwrap_or_else(|| values.text(key::NAMESPACE)),
            text,
        ),
    };
    if !parse::is_object_name(namespace) || !parse::is_object_name(name) {
        return Err(values.refuse(
            key,
            "give name or namespace/name, each of lower-case letters, digits, '-' and '.' (and cp_namespace alike)",
        ));
    }
    Ok(LeaseName::new(namespace, name))
}

/// The timings of every Lease: client-go's rules (`leaderelection.NewLeaderElector`), and room for the fence.
pub(super) fn timings(values: &Values) -> Result<LeaseTimings, Refusal> {
    let timings = LeaseTimings {
        duration: values.seconds(key::LEASE_DURATION, 1)?,
        renew_deadline: values.seconds(key::RENEW_DEADLINE, 1)?,
        retry_period: values.seconds(key::RETRY_PERIOD, 1)?,
    };
    let written = |key: &str| format!("{}={}", values.spelled(key), values.text(key));
    let (duration, deadline) = (written(key::LEASE_DURATION), written(key::RENEW_DEADLINE));
    if timings.fence() < SHORTEST_FENCE {
        return Err(Refusal::Combination(format!(
            "{duration} is too short: less than 1 s is left for an address between a renewal and the moment when the \
             kernel must have removed it (0.98 times the duration less 1 s); give at least 3 seconds"
        )));
    }
    if timings.duration <= timings.renew_deadline {
        return Err(Refusal::Combination(format!(
            "{duration} must be greater than {deadline}: a holder has to give up before others may take over"
        )));
    }
    if timings.renew_deadline <= timings.retry_period.mul_f64(1.2) {
        return Err(Refusal::Combination(format!(
            "{deadline} must be greater than 1.2 times {}: one renewal has to fit in before the deadline",
            written(key::RETRY_PERIOD)
        )));
    }
    Ok(timings)
}

fn annotations(values: &Values) -> Result<BTreeMap<String, String>, Refusal> {
    match values.set(key::LEASE_ANNOTATIONS) {
        None => Ok(BTreeMap::new()),
        Some(text) => serde_json::from_str(text).map_err(|_| {
            values.refuse(key::LEASE_ANNOTATIONS, "give a JSON object of texts, such as {\"team\":\"edge\"}")
        }),
    }
}
