//! The part of the plan that concerns the control-plane VIP: one election, one or two addresses that move together.

use std::net::IpAddr;

use vip_model::config::{Advertise, ControlPlane, Layer2, NodeLabel, OnLoss};
use vip_model::kernel::{Actual, Address, Dad, Lifetime, Link, LinkKind};
use vip_model::members::{ElectionState, History, Role};
use vip_model::observed::{Gate, ProbeState};
use vip_model::plan::{
    Claim, Completeness, ElectionWant, Footprint, NodePlan, PlannedAddress, Presence, Standing,
};
use vip_model::verdict::{Reason, Subject, Verdict};
use vip_model::{Family, LinkAddr, ScopedAddr, VipNet};

use crate::place;
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
    plan.addresses.completeness = completeness(world, &election);
    let Some(actual) = world.actual.get() else {
        want_election(world, control_plane, Standing::Leave, plan);
        skip_all(control_plane, plan, &Reason::KernelUnknown);
        return;
    };
    let candidates: Vec<_> =
        control_plane.vips.iter().map(|vip| candidate(world, control_plane, actual, *vip)).collect();
    let obstacle = obstacle(world, &election, &candidates);
    let standing = match (&obstacle, &world.observed.control_plane_gate) {
        (Some(_), _) => Standing::Leave,
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
    if control_plane.node_label == NodeLabel::HasIp {
        let holds = plan.verdicts.values().any(|verdict| *verdict == Verdict::Announce);
        plan.node_labels.insert(LABEL_HAS_IP.to_owned(), holds.then(|| label_value(&control_plane.vips)));
    }
}

fn candidate<'a>(
    world: &World<'_>,
    control_plane: &ControlPlane,
    actual: &'a Actual,
    vip: VipNet,
) -> Candidate<'a> {
    let link = place::control_plane_link(world.config, control_plane, actual, vip.addr());
    let installed = link.as_ref().ok().and_then(|link| {
        actual.addresses.iter().find(|address| address.link == link.index && address.net == vip.0)
    });
    Candidate { vip, link, installed }
}

/// What keeps this node from holding the VIPs at all. They move together, so one obstacle counts for all.
fn obstacle(world: &World<'_>, election: &ElectionState, candidates: &[Candidate<'_>]) -> Option<Reason> {
    if world.life == Life::Stopping {
        return Some(Reason::Stopping);
    }
    candidates.iter().find_map(|candidate| {
        let missing = candidate.link.as_ref().err().cloned();
        missing.or_else(|| taken_by_node(world, election, candidate.vip.addr()))
    })
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
    let at = ScopedAddr { addr: candidate.vip.addr(), link: link.index };
    let Advertise::Arp(layer2) = &world.config.advertise;
    let conflict = conflict(world, layer2, (election, candidate), at, plan);
    let scope = place::scope(control_plane, link);
    let planned = |presence| PlannedAddress { net: candidate.vip, link: link.index, scope, presence };
    match election.role {
        Role::Undecided => {
            plan.addresses.set.insert(at, planned(Presence::Keep { at_most: world.adopt_until }));
            Verdict::Skip(Reason::LeaseUnknown)
        }
        Role::Leaving => Verdict::Skip(match &world.observed.control_plane_gate {
            Gate::Red { reason } => Reason::Unhealthy(reason.clone()),
            Gate::Open | Gate::Green => Reason::Leaving,
        }),
        Role::Follower => {
            if is_preserved(world, control_plane, election, candidate.vip) {
                plan.addresses.set.insert(at, planned(Presence::Keep { at_most: Lifetime::Forever }));
            }
            Verdict::Skip(match &election.holder {
                Some(holder) if holder == world.config.node.as_str() => Reason::Lapsed,
                Some(holder) => Reason::HeldBy(holder.clone()),
                None => Reason::LeaseFree,
            })
        }
        Role::Holder { fence_until, serve_until, .. } => {
            if let Some(reason) = conflict {
                return Verdict::Skip(reason);
            }
            let valid = match control_plane.on_loss {
                OnLoss::Remove => Lifetime::Until(fence_until),
                OnLoss::Preserve => Lifetime::Forever,
            };
            plan.addresses.set.insert(at, planned(Presence::Install { valid, not_after: serve_until }));
            match candidate.installed {
                Some(address) if address.dad == Dad::Ready => {
                    if let Some((addr, broadcast)) = link_addresses(link) {
                        let interval = layer2.announce_interval;
                        plan.claims.insert(at, Claim { addr, broadcast, interval, not_after: serve_until });
                    }
                    Verdict::Announce
                }
                _ => Verdict::Skip(Reason::Installing),
            }
        }
    }
}

/// A *new* VIP (its Lease never named a holder) that somebody else answers for is not taken. While that is open, the
/// probe runs beside the election.
fn conflict(
    world: &World<'_>,
    layer2: &Layer2,
    (election, candidate): (&ElectionState, &Candidate<'_>),
    at: ScopedAddr,
    plan: &mut NodePlan,
) -> Option<Reason> {
    let can_probe = candidate.link.as_ref().is_ok_and(|link| link_addresses(link).is_some());
    let is_new = election.history == History::New;
    if layer2.skip_conflict_probe || !can_probe || !is_new {
        return None;
    }
    // Wanted for as long as the VIP is new, so that its answer is kept: one that an outsider removes is set again
    // without asking twice.
    plan.probes.insert(at);
    if candidate.installed.is_some() {
        return None;
    }
    match world.observed.probes.get(&at) {
        Some(ProbeState::Silent) => None,
        Some(ProbeState::Answered(other)) => Some(Reason::Conflict(other.clone())),
        Some(ProbeState::Asking) | None => Some(Reason::Probing),
    }
}

/// The link's own and its broadcast address, when addresses on it can be announced.
pub fn link_addresses(link: &Link) -> Option<(LinkAddr, LinkAddr)> {
    match link.kind {
        LinkKind::Broadcast => Some((link.addr.clone()?, LinkAddr::BROADCAST)),
        LinkKind::Infiniband => Some((link.addr.clone()?, link.broadcast.clone()?)),
        LinkKind::Loopback | LinkKind::Other => None,
    }
}

/// `vip_preserve_on_leadership_loss`: an IPv4 address stays until another leader is seen.
fn is_preserved(
    world: &World<'_>,
    control_plane: &ControlPlane,
    election: &ElectionState,
    vip: VipNet,
) -> bool {
    let other_leads = election.holder.as_deref().is_some_and(|holder| holder != world.config.node.as_str());
    control_plane.on_loss == OnLoss::Preserve && vip.family() == Family::V4 && !other_leads
}

fn want_election(world: &World<'_>, control_plane: &ControlPlane, standing: Standing, plan: &mut NodePlan) {
    let election = &control_plane.election;
    let want = ElectionWant {
        timings: election.timings,
        annotations: election.annotations.clone(),
        standing,
        rank: 0,
        footprint: footprint(world, control_plane),
    };
    plan.elections.insert(election.lease.clone(), want);
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

/// Nothing is removed while it is undecided who may hold the VIP, unless we could not serve it anyway.
fn completeness(world: &World<'_>, election: &ElectionState) -> Completeness {
    match (election.role, world.life) {
        (_, Life::Stopping) => Completeness::Complete,
        (Role::Undecided, Life::Running) => Completeness::Partial,
        (Role::Follower | Role::Holder { .. } | Role::Leaving, Life::Running) => Completeness::Complete,
    }
}

fn skip_all(control_plane: &ControlPlane, plan: &mut NodePlan, reason: &Reason) {
    for vip in &control_plane.vips {
        plan.verdicts.insert(Subject::ControlPlane(vip.addr()), Verdict::Skip(reason.clone()));
    }
}

/// The addresses as a legal label value: IPv4 as it is, IPv6 as 32 hex digits (as upstream does for a single one), two
/// joined by `_` (upstream's comma is not legal). At most 48 of 63 characters.
fn label_value(vips: &[VipNet]) -> String {
    let texts: Vec<String> = vips
        .iter()
        .map(|vip| match vip.addr() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("{:032x}", u128::from(v6)),
        })
        .collect();
    texts.join("_")
}

#[cfg(test)]
mod tests;
