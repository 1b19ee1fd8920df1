//! Words of a scenario that are about the mode `session`.

use std::time::Duration;

use vip_model::config::{ApiLoss, Failback, OnStop};

use crate::clock::Moment;
use crate::fault::parse_seconds;
use crate::run::Promises;
use crate::setup::{MemorySetup, SessionSetup, Setup};

/// Reads one word with what follows it; `None` when it is not about the mode `session`.
pub(super) fn set(setup: &mut Setup, key: &str, rest: &[&str]) -> Option<Result<(), String>> {
    let first = rest.first().copied().unwrap_or_default();
    if key == "session" {
        setup.session.get_or_insert_with(SessionSetup::plain);
        return Some(Ok(()));
    }
    let known = [
        "interval",
        "peers-off",
        "lifetimes",
        "api-loss",
        "failback",
        "on-stop",
        "in-lease-mode",
        "memory-unreadable",
        "ended-sessions",
    ];
    if !known.contains(&key) {
        return None;
    }
    let Some(session) = &mut setup.session else {
        return Some(Err("write `session` first".to_owned()));
    };
    Some(set_word(session, key, (first, rest)))
}

fn set_word(session: &mut SessionSetup, key: &str, (first, rest): (&str, &[&str])) -> Result<(), String> {
    let span = || parse_seconds(first).ok_or_else(|| "no span".to_owned());
    match key {
        "interval" => session.interval = Some(span()?),
        "peers-off" => session.interval = None,
        "lifetimes" => {
            let spans: Option<Vec<Duration>> = rest.iter().map(|word| parse_seconds(word)).collect();
            let [control_plane, service] = spans.unwrap_or_default()[..] else {
                return Err("two spans: of the control plane, of Services".to_owned());
            };
            (session.control_plane_lifetime, session.service_lifetime) = (control_plane, service);
        }
        "api-loss" => {
            session.api_loss = match first {
                "hold-if-peers-agree" => ApiLoss::HoldIfPeersAgree,
                "hold" => ApiLoss::Hold,
                "release" => ApiLoss::Release,
                _ => return Err("hold-if-peers-agree, hold or release".to_owned()),
            }
        }
        "failback" if first == "never" => session.failback = Failback::Never,
        "failback" => session.failback = Failback::After(span()?),
        "on-stop" => {
            session.on_stop = match first {
                "hand-over" => OnStop::HandOver,
                "stay" => OnStop::Stay,
                _ => return Err("hand-over or stay".to_owned()),
            }
        }
        "in-lease-mode" => {
            session.in_lease_mode |= super::nodes(rest)?;
        }
        "ended-sessions" => {
            session.ended_sessions = first.parse().map_err(|_| "how many, of each node".to_owned())?;
        }
        _ => session.memory = MemorySetup::Unreadable,
    }
    Ok(())
}

/// Reads a line that promises something; whether it is one.
pub(super) fn promise(promises: &mut Promises, line: &str) -> bool {
    let Some((key, value)) = line.split_once(' ') else { return false };
    let span = parse_seconds(value.trim());
    match (key, span) {
        ("overlap-at-most", Some(span)) => promises.overlap = Some(span),
        ("median-at-most", Some(span)) => promises.median = Some(span),
        ("count-from", Some(span)) => promises.count_from = Some(Moment::START + span),
        ("depositions-at-most", None) => promises.depositions = value.trim().parse().ok(),
        _ => return false,
    }
    true
}
