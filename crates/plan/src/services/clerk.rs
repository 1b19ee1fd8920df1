//! Which node writes what is wrong with a Service for every node. Fed with who holds Leases, with the nodes, and with
//! what this node remembers of a word that others should have said; gives back who speaks, and for how long this node
//! waits for others.
//!
//! Nodes speak in one order that all of them compute: the holder of the global Lease, then whoever holds another Lease
//! and lives, by name (those surely have an agent), then the ready nodes by name. Where those that come first run no
//! agent, or a dead one, the next stands in after a while: it says what is not said yet, and nothing else. One who holds
//! a Lease and lives knows best what is announced: while there is one, nobody stands in to deny that. Every write is
//! compare-and-swap, so two who speak at once cost a write (`docs/decisions/0017`).

use std::collections::BTreeSet;
use std::time::Duration;

use vip_model::config::ServiceElection;
use vip_model::members::{ElectionState, History, Pulse};
use vip_model::plan::Unsaid;
use vip_model::service::{Service, ServiceName};

use super::ground::{Ground, is_holder};
use super::write::CONDITION;

/// How long each node that comes first is waited for: many times what a write takes.
const STEP: Duration = Duration::from_secs(1);
/// The longest wait: nodes that run no agent may come first by the hundred.
const LONGEST: Duration = Duration::from_secs(30);

/// This node's place among those that could write. Found out only when there is something to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clerk {
    post: Post,
    agents: Agents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Post {
    /// It comes first.
    First,
    /// Others come first: for so long it waits for them.
    Next(Duration),
    /// It cannot tell its place.
    Aside,
}

/// Whether another node surely has an agent that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agents {
    Unproven,
    Proven,
}

/// Who says a word about a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// This node.
    Us,
    /// This node, as long as those do not that come first.
    StandIn,
    /// A node that comes first. Nobody has yet.
    Others,
    /// It is said, or another node knows better.
    Nobody,
}

impl Clerk {
    pub(super) fn of(ground: &Ground<'_>) -> Self {
        let agents = agents(ground);
        let post = match place(ground, &agents) {
            Some(0) => Post::First,
            Some(place) => {
                Post::Next(STEP.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX)).min(LONGEST))
            }
            None => Post::Aside,
        };
        Self { post, agents: if agents.is_empty() { Agents::Unproven } else { Agents::Proven } }
    }

    /// Who says that a Service is not announced.
    pub(super) fn speaker(self, ground: &Ground<'_>, service: &Service) -> Speaker {
        let said = service.conditions.get(CONDITION).map(|condition| condition.status.as_str());
        let is_open = match said {
            Some("False") => false,
            Some("True") => self.agents == Agents::Unproven,
            _ => true,
        };
        match self.post {
            Post::First => Speaker::Us,
            Post::Next(wait) if is_open && has_waited(ground, wait) => Speaker::StandIn,
            Post::Next(_) if is_open => Speaker::Others,
            Post::Next(_) | Post::Aside => Speaker::Nobody,
        }
    }
}

/// Whether a word is open for so long.
fn has_waited(ground: &Ground<'_>, wait: Duration) -> bool {
    ground.world.observed.unsaid.as_ref().is_some_and(|unsaid| unsaid.turn >= unsaid.since + wait)
}

/// What others should say, gathered over all Services.
#[derive(Default)]
pub(super) struct Gathered<'a>(Vec<&'a ServiceName>);

impl<'a> Gathered<'a> {
    /// Notes who says what is wrong with a Service.
    pub(super) fn note(&mut self, service: &'a ServiceName, speaker: Speaker) {
        if matches!(speaker, Speaker::StandIn | Speaker::Others) {
            self.0.push(service);
        }
    }

    /// One of them, which is waited for: the same as before as long as nobody speaks of it.
    pub(super) fn unsaid(self, ground: &Ground<'_>, clerk: &Clerk) -> Option<Unsaid> {
        let known = ground.world.observed.unsaid.as_ref().map(|unsaid| &unsaid.service);
        let service = known.filter(|known| self.0.contains(known)).or(self.0.first().copied())?.clone();
        match clerk.post {
            Post::Next(wait) => Some(Unsaid { service, wait }),
            Post::First | Post::Aside => None,
        }
    }
}

/// The nodes that hold a Lease and live. Other clients may hold one, too.
fn agents<'g>(ground: &'g Ground<'_>) -> BTreeSet<&'g str> {
    let mut agents: BTreeSet<_> = ground.world.members.elections.values().filter_map(living_holder).collect();
    agents.retain(|name| ground.cluster.has(name));
    agents
}

fn living_holder(state: &ElectionState) -> Option<&str> {
    state.holder.as_deref().filter(|_| is_holder(state) || state.pulse == Pulse::Beating)
}

/// How many nodes come before this one.
fn place(ground: &Ground<'_>, agents: &BTreeSet<&str>) -> Option<usize> {
    let global = match &ground.services.election {
        ServiceElection::Global(election) => Some(ground.state(&election.lease)),
        ServiceElection::PerService(_) => None,
    };
    match global {
        Some(global) if is_holder(global) => return Some(0),
        Some(global) if global.history == History::Unknown => return None,
        Some(_) | None => {}
    }
    let first = global.and_then(living_holder).filter(|holder| agents.contains(holder));
    let others = agents.iter().copied().filter(|agent| Some(*agent) != first);
    let rest = ground.cluster.ready().filter(|name| !agents.contains(name));
    first.into_iter().chain(others).chain(rest).position(|name| name == ground.world.config.node.as_str())
}
