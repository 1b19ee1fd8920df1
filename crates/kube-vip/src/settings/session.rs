//! How owners of addresses are found: one Lease for each election, or sessions and heartbeats with their policies. The
//! settings of sessions are read in mode `session` alone; elsewhere they are worth a notice.

use std::ops::RangeInclusive;
use std::time::Duration;

use vip_model::config::{ApiLoss, ElectionMode, Failback, OnStop, PeerMode, SessionSettings};

use super::effective::{Features, is_default};
use super::refusal::Refusal;
use super::source::Values;
use super::{Machine, Warning, Weight, election, key, parse, table, warning};

/// Shorter intervals cost more than they gain; with longer ones a death is seen no sooner than by the API.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(1);

/// With shorter ones a node that returns would be flooded.
const MOVE_PAUSES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);

/// The port of an agent that holds addresses of Services alone: the node may have another agent, on the default port.
const SERVICES_PORT: u16 = 7950;

/// An address is refreshed at a third of its lifetime, and the kernel counts in whole seconds.
const SHORTEST_LIFETIME: i64 = 2;

/// What mode `lease` does not read.
const SESSION_ONLY: [&str; 9] = [
    key::PEERS,
    key::PEERS_PORT,
    key::PEERS_INTERVAL,
    key::API_LOSS,
    key::FAILBACK,
    key::MOVE_PAUSE,
    key::ON_STOP,
    key::CONTROL_PLANE_LIFETIME,
    key::SERVICES_LIFETIME,
];

/// The mode with its settings.
pub(super) fn mode(
    values: &Values,
    machine: &Machine,
    features: Features,
    warnings: &mut Vec<Warning>,
) -> Result<ElectionMode, Refusal> {
    require_kubernetes(values)?;
    match values.text(key::ELECTION_MODE) {
        "lease" => {
            warnings.extend(unread(values));
            Ok(ElectionMode::Lease)
        }
        "session" => Ok(ElectionMode::Session(settings(values, machine, features)?)),
        "etcd" => Err(not_built(values, key::ELECTION_MODE)),
        _ => Err(values.refuse(key::ELECTION_MODE, "give session or lease")),
    }
}

fn not_built(values: &Values, key: &str) -> Refusal {
    Refusal::NotBuilt {
        asked: format!("{}={}", values.spelled(key), values.text(key)),
        instead:
            "elections are held in the Kubernetes API (election_mode session or lease, leaderElectionType \
                  kubernetes)"
                .into(),
    }
}

fn require_kubernetes(values: &Values) -> Result<(), Refusal> {
    match values.text(key::ELECTION_BACKEND) {
        "kubernetes" => Ok(()),
        "etcd" => Err(not_built(values, key::ELECTION_BACKEND)),
        other => Err(values.refuse(
            key::ELECTION_BACKEND,
            format!("invalid LeaderElectionMode {other} not supported; give kubernetes"),
        )),
    }
}

fn unread(values: &Values) -> impl Iterator<Item = Warning> {
    SESSION_ONLY.into_iter().filter_map(|key| {
        let given = values.given(key)?;
        let text = "only read with election_mode=session";
        (!is_default(table::setting(key), &given.text))
            .then(|| warning(Weight::Notice, given.spelled.clone(), text))
    })
}

fn settings(values: &Values, machine: &Machine, features: Features) -> Result<SessionSettings, Refusal> {
    let first = if features.control_plane() { key::LEASE_NAME } else { key::SERVICES_LEASE };
    Ok(SessionSettings {
        namespace: election::lease(values, machine, first)?.namespace().to_owned(),
        timings: election::timings(values)?,
        peers: peers(values, features)?,
        control_plane_lifetime: values.seconds(key::CONTROL_PLANE_LIFETIME, SHORTEST_LIFETIME)?,
        service_lifetime: values.seconds(key::SERVICES_LIFETIME, SHORTEST_LIFETIME)?,
        api_loss: match values.text(key::API_LOSS) {
            "hold-if-peers-agree" => ApiLoss::HoldIfPeersAgree,
            "hold" => ApiLoss::Hold,
            "release" => ApiLoss::Release,
            _ => return Err(values.refuse(key::API_LOSS, "give hold-if-peers-agree, hold or release")),
        },
        failback: failback(values)?,
        move_pause: values.span(key::MOVE_PAUSE, &MOVE_PAUSES)?,
        on_stop: match values.text(key::ON_STOP) {
            "hand-over" => OnStop::HandOver,
            "stay" => OnStop::Stay,
            _ => return Err(values.refuse(key::ON_STOP, "give hand-over or stay")),
        },
    })
}

fn peers(values: &Values, features: Features) -> Result<PeerMode, Refusal> {
    if !values.boolean(key::PEERS)? {
        return Ok(PeerMode::Off);
    }
    let port = if values.given(key::PEERS_PORT).is_none() && !features.control_plane() {
        SERVICES_PORT
    } else {
        values.port(key::PEERS_PORT)?
    };
    Ok(PeerMode::On { port, interval: values.span(key::PEERS_INTERVAL, &INTERVALS)? })
}

fn failback(values: &Values) -> Result<Failback, Refusal> {
    match values.text(key::FAILBACK) {
        "never" => Ok(Failback::Never),
        "at-once" => Ok(Failback::After(Duration::ZERO)),
        text => parse::span(text)
            .map(Failback::After)
            .ok_or_else(|| values.refuse(key::FAILBACK, "give never, at-once, or a time such as 10m")),
    }
}

#[cfg(test)]
mod tests;
