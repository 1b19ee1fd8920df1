//! The part of the plan that concerns the control-plane VIP: one election, one or two addresses that move together.

use std::net::IpAddr;

use vip_model::VipNet;
use vip_model::config::{ControlPlane, NodeLabel, Preference};
use vip_model::kernel::{Actual, Address, Link};
use vip_model::members::{ElectionState, History, Role};
use vip_model::observed::Gate;
use vip_model::plan::{Completeness, ElectionWant, Footprint, NodePlan, Presence, Standing};
use vip_model::store::NodeFacts;
use vip_model::verdict::{Reason, Subject, Verdict};

use crate::label::label_value;
use crate::place::{self, Links};
use crate::vip::{Certainty, Novelty, Vip};
use crate::world::{KernelWork, Life, World};

/// The label that the holder's Node carries (upstream's name).
pub(crate) const LABEL_HAS_IP: &str = "kube-vip.io/has-ip";

/// Everything that the decision about one VIP needs.
struct Candidate<'a> {
    vip: VipNet,
    link: Result<&'a Link, Reason>,
    /// The address as installed on its link by us (or adopted), with any prefix length.
    installed: Option<&'a Address>,
}

pub(crate) fn plan(world: &World<'_>, control_plane: &ControlPlane, plan: &mut NodePlan) {
    let election = world.members.elections.get(&control_plane.election.lease).cloned().unwrap_or_default();
    plan.health.clone_from(&control_plane.health);
    plan.addresses.ours_untagged = untagged(world, control_plane);
    plan.addresses.completeness = completeness(world, &election, None);
    let Some(actual) = world.actual.get() else {
        want_election(world, control_plane, Standing::Leave, plan);
        skip_all(control_plane, plan, &Reason::KernelUnknown);
        return;
    };
    let links = Links::new(world.config, actual);
    let candidates: Vec<_> =
        control_plane.vips.iter().map(|vip| candidate(control_plane, actual, &links, *vip)).collect();
    let obstacle = obstacle(world, &election, &candidates);
    plan.addresses.completeness = completeness(world, &election, obstacle.as_ref());
    let gives = (world.life == Life::Stopping || drained(world).is_some()) && obstacle.is_none();
    let standing = match (&obstacle, &world.observed.control_plane_gate) {
        (Some(_), _) => Standing::Leave,
        (None, _) if gives => Standing::HandOver,
        (None, Gate::Red { .. }) => Standing::Reluctant,
        (None, Gate::Open | Gate::Green) => Standing::Contend,
    };
    want_election(world, control_plane, standing, plan);
    for candidate in &candidates {
        let subject = Subject::ControlPlane(candidate.vip.addr());
        plan.places.extend(candidate.link.as_ref().ok().map(|link| (subject.clone(), link.index)));
        let verdict = match &obstacle {
            Some(reason) => Verdict::Skip(reason.clone()),
            None => place_vip(world, control_plane, (&election, candidate), plan),
        };
        plan.verdicts.insert(subject, verdict);
    }
    // What is about to be there, is there: the election may give way before the next plan.
    let is_vip = |addr: IpAddr| control_plane.vips.iter().any(|vip| vip.addr() == addr);
    let installs = plan
        .addresses
        .set
        .iter()
        .any(|(at, planned)| is_vip(at.addr) && matches!(planned.presence, Presence::Install { .. }));
    if let Some(want) = plan.elections.get_mut(&control_plane.election.lease).filter(|_| installs) {
        want.footprint = Footprint::Present;
    }
    if control_plane.node_label == NodeLabel::HasIp {
        let holds = plan.verdicts.values().any(|verdict| *verdict == Verdict::Announce);
        plan.node_labels.insert(
            LABEL_HAS_IP.to_owned(),
            holds.then(|| label_value(control_plane.vips.iter().map(|vip| vip.addr()))),
        );
    }
}

fn candidate<'a>(
    control_plane: &ControlPlane,
    actual: &'a Actual,
    links: &Links<'a>,
    vip: VipNet,
) -> Candidate<'a> {
    let link = links.choose(&control_plane.interface, control_plane.link_down, vip.addr());
    let installed = link.as_ref().ok().and_then(|link| {
        actual.addresses.iter().find(|address| address.link == link.index && address.net == vip.0)
    });
    Candidate { vip, link, installed }
}

/// What keeps this node from holding the VIPs at all. They move together, so one obstacle counts for all.
fn obstacle(world: &World<'_>, election: &ElectionState, candidates: &[Candidate<'_>]) -> Option<Reason> {
    let is_holder = matches!(election.role, Role::Holder { .. });
    if world.life == Life::Stopping && !(is_holder && world.hands_over()) {
        return Some(Reason::Stopping);
    }
    if let Some(why) = drained(world)
        && !(is_holder && world.hands_over())
    {
        return Some(Reason::NodeExcluded(why.to_owned()));
    }
    candidates.iter().find_map(|candidate| {
        let missing = candidate.link.as_ref().err().cloned();
        missing.or_else(|| taken_by_node(world, election, candidate.vip.addr()))
    })
}

/// Why this node was drained, if a user did so.
fn drained<'a>(world: &World<'a>) -> Option<&'a str> {
    let facts = world.snapshot.nodes.get()?.get(&world.config.node)?;
    facts.excluded.as_deref().filter(|_| facts.is_drained())
}

/// A *new* VIP that a Node lists as its own address is a mistake in the configuration. A VIP that was held before is
/// not refused: a kubelet may have picked it up as its node's address, and then refusing would end the service.
fn taken_by_node(world: &World<'_>, election: &ElectionState, vip: IpAddr) -> Option<Reason> {
    if election.history != History::New {
        return None;
    }
    let nodes = world.snapshot.nodes.get()?;
    let (node, _) = nodes.iter().find(|(_, facts)| facts.addresses.contains(&vip))?;
    Some(Reason::NodeAddress(node.to_string()))
}

/// Decides about one VIP that nothing keeps from this node: its address, its claim, its probe.
fn place_vip(
    world: &World<'_>,
    control_plane: &ControlPlane,
    (election, candidate): (&ElectionState, &Candidate<'_>),
    plan: &mut NodePlan,
) -> Verdict {
    let Ok(link) = candidate.link else { return Verdict::Skip(Reason::NoLinkFits) };
    let vip = Vip {
        net: candidate.vip,
        link,
        scope: place::scope(control_plane.loopback_scope, link),
        installed: candidate.installed,
        certainty: Certainty::Sure,
        novelty: if election.history == History::New { Novelty::New } else { Novelty::Old },
        on_loss: control_plane.on_loss,
    };
    match (vip.plan(world, election, plan), &world.observed.control_plane_gate) {
        (Verdict::Skip(Reason::Leaving), Gate::Red { reason }) => {
            Verdict::Skip(Reason::Unhealthy(reason.clone()))
        }
        (verdict, _) => verdict,
    }
}

fn want_election(world: &World<'_>, control_plane: &ControlPlane, standing: Standing, plan: &mut NodePlan) {
    let election = &control_plane.election;
    let want = ElectionWant {
        timings: election.timings,
        annotations: election.annotations.clone(),
        standing,
        rank: rank(world),
        footprint: footprint(world, control_plane),
        heard: None,
        group: None,
    };
    plan.elections.insert(election.lease.clone(), want);
}

/// How many nodes are preferred to this one. Agents run on some of the nodes only: those that never stand cost a moment.
fn rank(world: &World<'_>) -> u32 {
    let wishes = &world.config.preferred;
    let Some(nodes) = world.snapshot.nodes.get().filter(|_| !wishes.is_empty()) else { return 0 };
    let score = |facts: &NodeFacts| Preference::score(wishes, &facts.traits);
    let mine = nodes.get(&world.config.node).map_or(0, score);
    let better = |facts: &&NodeFacts| facts.ready && !facts.is_drained() && score(facts) > mine;
    u32::try_from(nodes.values().filter(better).count()).unwrap_or(u32::MAX)
}

/// Whether any of the VIPs is still in the kernel, as far as we can tell. Doubt counts as yes.
fn footprint(world: &World<'_>, control_plane: &ControlPlane) -> Footprint {
    let Some(actual) = world.actual.get() else { return Footprint::Present };
    let tag = world.config.instance.address_tag();
    let is_there = actual.addresses.iter().any(|address| {
        (address.tag == tag || address.tag == 0)
            && control_plane.vips.iter().any(|vip| vip.addr() == address.addr())
    });
    if is_there || world.kernel_work == KernelWork::InFlight { Footprint::Present } else { Footprint::Clear }
}

/// The VIPs that are ours without a tag, left behind by an agent that does not tag: all but those that a Node lists
/// as its own address.
fn untagged(world: &World<'_>, control_plane: &ControlPlane) -> std::collections::BTreeSet<IpAddr> {
    let is_nodes_own = |vip: &IpAddr| {
        let nodes = world.snapshot.nodes.get();
        nodes.is_some_and(|nodes| nodes.values().any(|facts| facts.addresses.contains(vip)))
    };
    control_plane.vips.iter().map(|vip| vip.addr()).filter(|vip| !is_nodes_own(vip)).collect()
}

/// Nothing is removed while it is undecided who may hold the VIP, unless we could not serve it anyway: then nothing but
/// the sight of the Lease is waited for. In mode `session` a successor may be under way.
fn completeness(world: &World<'_>, election: &ElectionState, obstacle: Option<&Reason>) -> Completeness {
    let is_seen = election.history != History::Unknown;
    match (election.role, world.life) {
        (_, Life::Stopping) => Completeness::Complete,
        (Role::Undecided, Life::Running) if obstacle.is_some() && is_seen && !world.hands_over() => {
            Completeness::Complete
        }
        (Role::Undecided, Life::Running) => Completeness::Partial,
        (Role::Follower | Role::Holder { .. } | Role::Leaving, Life::Running) => Completeness::Complete,
    }
}

fn skip_all(control_plane: &ControlPlane, plan: &mut NodePlan, reason: &Reason) {
    for vip in &control_plane.vips {
        plan.verdicts.insert(Subject::ControlPlane(vip.addr()), Verdict::Skip(reason.clone()));
    }
}

#[cfg(test)]
mod tests;
