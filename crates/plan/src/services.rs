//! The part of the plan that concerns Services of type `LoadBalancer`: which are ours, which addresses they ask for, who
//! may hold them, what this node installs, announces, filters and writes. Fed with the world after the control plane's
//! part was planned; adds to the same plan.
//!
//! ```text
//! select ─► request ─► endpoint ─► group ─► brief ─► election ─► spot ─► write
//!  ours?    addresses   where?     together  lead,     stand,     install,  status,
//!                                  clashes   rank      who leads  announce  labels
//! ```
//!
//! Every Service that is seen gets a verdict, and what is wrong with one has no part in what becomes of another. The
//! plan is near-linear in the number of Services: lists are walked side by side, and what is looked up is indexed.

mod brief;
mod clerk;
mod election;
pub(crate) mod endpoint;
mod explain;
mod filter;
mod ground;
mod group;
mod member;
mod notes;
mod rank;
mod request;
mod seat;
mod select;
mod spot;
mod trail;
mod write;

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use vip_model::config::{ServiceElection, ServiceSecurity, Services};
use vip_model::plan::{Completeness, Footprint, NodePlan, PacketFilter, Standing};
use vip_model::service::{Endpoint, Service, ServiceName};
use vip_model::verdict::{Reason, Subject, Verdict};
use vip_model::{Known, Walk};

use crate::diff;
use crate::world::{Life, World};
use brief::briefs;
use clerk::{Clerk, Gathered};
use election::{Tally, Wants, want_global};
use ground::Ground;
use group::Groups;
use member::Member;
use seat::{Decider, Decision, seat};

pub(crate) use select::select;

/// Why a Service is served by this node, or not; none when no such Service was seen.
pub(crate) fn explain(
    world: &World<'_>,
    services: &Services,
    (name, plan): (&ServiceName, &NodePlan),
) -> Option<Vec<vip_model::explanation::Finding>> {
    let listed = world.snapshot.services.get()?;
    let service = listed.get(name)?;
    Some(explain::explain(&Ground::new(world, services), (listed, name, service), plan))
}

type Listed = BTreeMap<ServiceName, Arc<Service>>;

/// One Service that was seen. Names are copied while it is at hand.
struct Row<'a> {
    name: &'a ServiceName,
    service: &'a Service,
    subject: Subject,
    fate: Fate,
}

/// What becomes of one Service.
enum Fate {
    /// It is somebody else's, or nobody's.
    NotOurs(Reason),
    /// It is ours.
    Ours(Ours),
}

/// A Service of ours.
struct Ours {
    name: ServiceName,
    uid: String,
    /// Its index among those that take part, or why it cannot be served by anybody.
    part: Result<usize, Reason>,
}

pub(crate) fn plan(world: &World<'_>, services: &Services, plan: &mut NodePlan) {
    let ground = Ground::new(world, services);
    protect_control_plane(world, plan);
    let Known::Known(listed) = &world.snapshot.services else {
        protect_everything(&ground, plan);
        want_global(&ground, None, plan);
        return;
    };
    // A node that stops takes the filter away with the addresses.
    if services.security == ServiceSecurity::On && world.life == Life::Running {
        plan.filter = Some(PacketFilter::default());
    }
    let (mut rows, mut members) = admit(&ground, listed);
    let groups = Groups::new(&ground, &members);
    refuse(&mut rows, &groups);
    let decisions = decide(&ground, &members, &groups, plan);
    if let Some(trails) = &world.observed.trails {
        trail::watch_former(&ground, trails, plan);
    }
    hold_leases(&ground, plan);
    if let Some(trails) = &world.observed.trails {
        trail::say_heard(&ground, trails, plan);
    }
    report(&ground, rows, (&mut members, decisions), plan);
}

/// The control plane's word that its part is not the whole truth yet holds for its own addresses only.
fn protect_control_plane(world: &World<'_>, plan: &mut NodePlan) {
    if plan.addresses.completeness == Completeness::Partial
        && let Some(control_plane) = &world.config.control_plane
    {
        plan.addresses.undecided.extend(control_plane.vips.iter().map(|vip| vip.addr()));
        plan.addresses.completeness = Completeness::Complete;
    }
}

/// While Services are unknown every address of ours may be one of theirs, but for the control plane's.
fn protect_everything(ground: &Ground<'_>, plan: &mut NodePlan) {
    let (Some(kernel), Life::Running) = (ground.world.actual.get(), ground.world.life) else { return };
    let tag = ground.world.config.instance.address_tag();
    let ours =
        kernel.addresses.iter().filter(|address| address.tag == tag).map(vip_model::kernel::Address::addr);
    plan.addresses.undecided.extend(ours.filter(|addr| ground.control_plane_vip(*addr).is_none()));
}

/// Every Service that was seen, and those that take part. Services and endpoints have the same order, so that no Service
/// has to look for its own.
fn admit<'a>(ground: &Ground<'a>, listed: &'a Listed) -> (Vec<Row<'a>>, Vec<Member<'a>>) {
    let endpoints = ground.world.snapshot.endpoints.get();
    let mut walk = endpoints.map(|endpoints| Walk::new(endpoints));
    let mut of = |name: &ServiceName| -> Option<&'a [Endpoint]> {
        let found = walk.as_mut()?.find(name);
        Some(found.map(Vec::as_slice).unwrap_or_default())
    };
    let mut rows = Vec::with_capacity(listed.len());
    let mut members = Vec::with_capacity(listed.len());
    for (name, service) in listed {
        let service = &**service;
        let mut ours = || {
            let part = Member::new(ground, name, service, of(name)).map(|member| {
                members.push(member);
                members.len() - 1
            });
            Ours { name: name.clone(), uid: service.uid.clone(), part }
        };
        let fate = match select(ground.services, name, service) {
            Err(reason) => Fate::NotOurs(reason),
            Ok(()) => Fate::Ours(ours()),
        };
        rows.push(Row { name, service, subject: Subject::Service(name.clone()), fate });
    }
    (rows, members)
}

/// Members that lost a port to another one take no part.
fn refuse(rows: &mut [Row<'_>], groups: &Groups) {
    let mut dropped = groups.dropped.iter().peekable();
    for row in rows {
        if let Fate::Ours(Ours { part, .. }) = &mut row.fate
            && let Ok(member) = part
            && let Some((_, reason)) = dropped.next_if(|(dropped, _)| dropped == member)
        {
            *part = Err(reason.clone());
        }
    }
}

/// Plans all groups and the global election.
fn decide(
    ground: &Ground<'_>,
    members: &[Member<'_>],
    groups: &Groups,
    plan: &mut NodePlan,
) -> Vec<Option<Decision>> {
    let global = match &ground.services.election {
        ServiceElection::Global(election) => Some(&election.lease),
        ServiceElection::PerService(_) => None,
    };
    let mut decisions: Vec<Option<Decision>> = members.iter().map(|_| None).collect();
    let mut tally = Tally::default();
    let mut wants = Wants::default();
    for brief in briefs(ground, members, groups) {
        if let Some(lease) = brief.lease.filter(|_| !brief.avoid.is_empty() && ground.world.hands_over()) {
            plan.avoid.insert(lease.clone(), brief.avoid.clone());
        }
        let decide = |at: usize, decision| decisions[at] = Some(decision);
        let share = seat((ground, members), &brief, (&mut *plan, &mut wants), decide);
        if global.is_some() && brief.lease == global {
            tally.members += brief.group.len();
            tally.linked += share.linked;
            tally.present += share.present;
        }
    }
    wants.add_to(plan);
    want_global(ground, Some(tally), plan);
    decisions
}

/// While an address by our hand is on its way out, or only kept until its Lease was seen, no Lease is released: the one
/// that covered it may be any of them. A Service that moves to another address and away from this node in one step leaves
/// such an address behind.
fn hold_leases(ground: &Ground<'_>, plan: &mut NodePlan) {
    let (Some(kernel), Some(actual)) = (&ground.kernel, ground.world.actual.get()) else { return };
    if diff::has_leaving(&plan.addresses, actual, (kernel.tag, ground.world.config)) {
        let lets_go = |standing| matches!(standing, Standing::Leave | Standing::Reluctant);
        let leaving = plan.elections.values_mut().filter(|wanted| lets_go(wanted.standing));
        leaving.for_each(|wanted| wanted.footprint = Footprint::Present);
    }
}

/// Verdicts, places and writes. Built as sorted lists and joined at once.
fn report(
    ground: &Ground<'_>,
    rows: Vec<Row<'_>>,
    (members, mut decisions): (&mut [Member<'_>], Vec<Option<Decision>>),
    plan: &mut NodePlan,
) {
    let clerk = LazyCell::new(|| Clerk::of(ground));
    let mut gathered = Gathered::default();
    let mut verdicts = Vec::with_capacity(rows.len());
    let mut places = Vec::with_capacity(members.len());
    let mut planned = Vec::with_capacity(rows.len());
    let mut foreign = std::collections::BTreeSet::new();
    for Row { name, service, subject, fate } in rows {
        let Ours { name: key, uid, part } = match fate {
            Fate::Ours(ours) => ours,
            Fate::NotOurs(reason) => {
                if matches!(reason, Reason::OtherClass(_) | Reason::OtherNamespace(_)) {
                    foreign.insert(name);
                }
                verdicts.push((subject, Verdict::Skip(reason)));
                continue;
            }
        };
        let mut written = write::nothing(uid);
        let verdict = match part {
            Err(reason) => {
                gathered.note(name, write::impossible(ground, &clerk, (service, &reason), &mut written));
                Verdict::Skip(reason)
            }
            Ok(at) => {
                let decision = decisions[at].take().expect("every member that is not dropped has a group");
                let word = write::decided(ground, &clerk, (&members[at], &decision), &mut written);
                gathered.note(name, word);
                write::label(ground, name, &decision.served, plan);
                written.endpoints = members[at].count;
                written.addrs = std::mem::take(&mut members[at].addrs);
                written.lease = match decision.lease {
                    Decider::Own => members[at].ballot.take_own(),
                    Decider::Other(lease) => lease,
                };
                places.extend(decision.link.map(|link| (subject.clone(), link)));
                decision.verdict
            }
        };
        planned.push((key, written));
        verdicts.push((subject, verdict));
    }
    plan.unsaid = gathered.unsaid(ground, &clerk);
    plan.verdicts.append(&mut verdicts.into_iter().collect());
    plan.places.append(&mut places.into_iter().collect());
    plan.services.append(&mut planned.into_iter().collect());
    let is_out_of_scope = |name: &ServiceName| {
        ground.services.namespace.as_ref().is_some_and(|namespace| *namespace != name.namespace())
    };
    write::unlabel(ground, |name| is_out_of_scope(name) || foreign.contains(name), plan);
}

#[cfg(test)]
mod tests;
