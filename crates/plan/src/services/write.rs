//! What is written about Services: to their status and annotations, and as labels to our own Node. Fed with what was
//! decided; says how things shall be, the difference is made elsewhere.
//!
//! Only what the kernel shows counts as served, and what the Service says already is left out. One node writes about one
//! Service:
//!
//! * its holder, that it is announced and under which addresses; what it can't serve for a lasting reason;
//! * what is wrong for every node (a port clash, an invalid or unsupported request): the *clerk*. With a global election
//!   that is its holder; else, or while nobody holds it, the ready node with the lowest name among those that hold a Lease
//!   (so it surely has an agent), or among all when none does.
//!
//! The condition of a Service that cannot be served any more (no endpoint, none on the node that holds the Lease, all
//! nodes taken out) is corrected when it says that the Service is announced; one that never was gets no condition for
//! what may pass in a moment. When a node that could serve does not take over (its agent may be dead), the node that the
//! Service names as its last one corrects it after a while. Every write is compare-and-swap, so that two nodes
//! with different pictures cost a write and nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;

use vip_model::config::{ServiceElection, ServiceLabels, ServiceUpdates};
use vip_model::members::History;
use vip_model::plan::{NodePlan, ServicePlan, Serving};
use vip_model::service::{Condition, EndpointCount, HOST, Ingress, Service, ServiceName};
use vip_model::verdict::{Reason, Verdict};

use super::brief::Hope;
use super::ground::{Ground, is_holder};
use super::member::Member;
use super::notes::Notes;
use super::seat::{Decision, Progress, Tenure};
use crate::label::{LABEL_LIMIT, label_value};

/// The condition that says whether a Service is announced.
pub(super) const CONDITION: &str = "kube-vip.io/Announced";
/// Keys of the Node labels that name served Services (upstream's).
const LABEL: &str = "service-provided.kube-vip.io/";
/// `ipMode` of an address that nodes answer for: packets arrive with it as their destination.
const MODE: &str = "VIP";

/// Whether this node writes what is wrong for every node. Found out only when there is something to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clerk {
    /// It does.
    Us,
    /// Another node does, or none.
    Others,
}

impl Clerk {
    pub(super) fn of(ground: &Ground<'_>) -> Self {
        let global = match &ground.services.election {
            ServiceElection::Global(election) => Some(ground.state(&election.lease)),
            ServiceElection::PerService(_) => None,
        };
        let is_us = match global {
            Some(global) if global.holder.is_some() || global.history == History::Unknown => {
                is_holder(global)
            }
            Some(_) | None => {
                let me = ground.world.config.node.as_str();
                lowest_agent(ground).or(ground.cluster.lowest()) == Some(me)
            }
        };
        if is_us { Self::Us } else { Self::Others }
    }
}

/// The lowest name of a ready node that holds a Lease.
fn lowest_agent<'g>(ground: &'g Ground<'_>) -> Option<&'g str> {
    let mut lowest: Option<&str> = None;
    for holder in ground.world.members.elections.values().filter_map(|state| state.holder.as_deref()) {
        if lowest.is_none_or(|lowest| holder < lowest) && ground.cluster.is_ready(holder) {
            lowest = Some(holder);
        }
    }
    lowest
}

/// What a Service says already of how it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// All that this node would write, served all of its addresses: there is nothing to do.
    AsServedHere,
    /// Something else.
    Otherwise,
}

impl Word {
    pub(super) fn of(
        ground: &Ground<'_>,
        service: &Service,
        (notes, addrs): (&Notes<'_>, &[IpAddr]),
    ) -> Self {
        let is_as_served = notes.host == Some(ground.world.config.node.as_str())
            && shows(service, addrs)
            && says(service, "True", ANNOUNCED);
        if is_as_served { Self::AsServedHere } else { Self::Otherwise }
    }
}

/// Writes about a Service that was decided about.
pub(super) fn decided(
    ground: &Ground<'_>,
    clerk: &impl Deref<Target = Clerk>,
    (member, decision): (&Member<'_>, &Decision),
    planned: &mut ServicePlan,
) {
    let is_announced = decision.verdict == Verdict::Announce;
    planned.serving = if is_announced { Serving::Here } else { Serving::NotHere };
    let is_said = is_announced && member.word == Word::AsServedHere;
    if ground.services.updates == ServiceUpdates::Off || is_said {
        return;
    }
    let service = member.service;
    if decision.progress == Progress::Settled && !decision.served.is_empty() {
        let me = ground.world.config.node.as_str();
        if member.notes.host != Some(me) {
            planned.annotations.insert(HOST.to_owned(), Some(me.to_owned()));
        }
        if !shows(service, &decision.served) {
            planned.ingress = Some(ingress(service, &decision.served));
        }
    }
    match &decision.verdict {
        Verdict::Announce => say(service, "True", ANNOUNCED, planned),
        Verdict::Skip(reason) if may_refuse(ground, (member, reason), decision, clerk) => {
            let message = match (reason, decision.tenure) {
                (Reason::Conflict(_) | Reason::NodeAddress(_) | Reason::NoEndpoint, _) => reason.to_string(),
                (reason, Tenure::Ours) => format!("{}, which decides: {reason}", ground.world.config.node),
                (reason, Tenure::Deserted) => {
                    format!("no node serves it, {} says: {reason}", ground.world.config.node)
                }
                (reason, _) => format!("no node can serve it, {} says: {reason}", ground.world.config.node),
            };
            say(service, "False", (word(reason), &message), planned);
        }
        Verdict::Skip(_) => {}
    }
}

/// Writes about a Service that is ours and cannot be served by anybody.
pub(super) fn impossible(
    ground: &Ground<'_>,
    clerk: &impl Deref<Target = Clerk>,
    (service, reason): (&Service, &Reason),
    planned: &mut ServicePlan,
) {
    let is_for_all = match reason {
        Reason::PortClash(_) | Reason::Invalid(_) | Reason::NotSupported(_) => true,
        Reason::NoAddress => says_announced(service),
        _ => false,
    };
    if ground.services.updates == ServiceUpdates::On && is_for_all && **clerk == Clerk::Us {
        say(service, "False", (word(reason), &reason.to_string()), planned);
    }
}

/// The plan for a Service as long as nothing is known of it.
pub(super) const fn nothing(uid: String) -> ServicePlan {
    ServicePlan {
        uid,
        addrs: Vec::new(),
        lease: None,
        endpoints: EndpointCount::NONE,
        serving: Serving::NotHere,
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        spec_ip: None,
        ingress: None,
        conditions: BTreeMap::new(),
    }
}

fn ingress(service: &Service, served: &[IpAddr]) -> Vec<Ingress> {
    let of = |addr: &IpAddr| Ingress {
        ip: Some(*addr),
        hostname: None,
        mode: Some(MODE.to_owned()),
        ports: service.ports.clone(),
    };
    served.iter().map(of).collect()
}

/// Whether the status already shows what is served. An API server older than 1.29 drops `ipMode`.
fn shows(service: &Service, served: &[IpAddr]) -> bool {
    let is_shown = |(ingress, addr): (&Ingress, &IpAddr)| {
        ingress.ip == Some(*addr)
            && ingress.hostname.is_none()
            && ingress.mode.as_deref().is_none_or(|mode| mode == MODE)
            && ingress.ports == service.ports
    };
    service.ingress.len() == served.len() && service.ingress.iter().zip(served).all(is_shown)
}

/// Whether this node says that a Service is not announced.
fn may_refuse(
    ground: &Ground<'_>,
    (member, reason): (&Member<'_>, &Reason),
    decision: &Decision,
    clerk: &impl Deref<Target = Clerk>,
) -> bool {
    let is_without_hope = match reason {
        Reason::Conflict(_) | Reason::NodeAddress(_) => return decision.tenure == Tenure::Ours,
        Reason::NoEndpoint | Reason::NoLocalEndpoint | Reason::SharedWith(_) | Reason::NodeExcluded(_) => {
            decision.hope == Hope::None
        }
        // Only what the Service itself names is missing for good; a link of the node may come back.
        Reason::LinkMissing(name) => member.notes.interface == Some(name),
        _ => return false,
    };
    let is_ours = match decision.tenure {
        Tenure::Ours => true,
        // A node that could serve may run no agent: the last one that did knows that nobody took over.
        Tenure::Deserted if member.notes.host == Some(ground.world.config.node.as_str()) => true,
        Tenure::Nobodys | Tenure::Deserted => is_without_hope && **clerk == Clerk::Us,
        Tenure::Theirs => false,
    };
    is_ours && says_announced(member.service)
}

fn says_announced(service: &Service) -> bool {
    service.conditions.get(CONDITION).is_some_and(|condition| condition.status == "True")
}

/// Reason and message of a Service that is announced: the same on every node, so that a move changes nothing in it.
const ANNOUNCED: (&str, &str) = ("Announced", "a node answers for the addresses");

fn says(service: &Service, status: &str, (reason, message): (&str, &str)) -> bool {
    let found = service.conditions.get(CONDITION);
    found.is_some_and(|it| it.status == status && it.reason == reason && it.message == message)
}

/// Plans the condition, unless the Service has it already.
fn say(service: &Service, status: &str, (reason, message): (&str, &str), planned: &mut ServicePlan) {
    if says(service, status, (reason, message)) {
        return;
    }
    let owned = str::to_owned;
    let condition = Condition { status: owned(status), reason: owned(reason), message: owned(message) };
    planned.conditions.insert(CONDITION.to_owned(), Some(condition));
}

/// A reason as one word.
const fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::PortClash(_) => "PortClash",
        Reason::NotSupported(_) => "NotSupported",
        Reason::Conflict(_) => "Conflict",
        Reason::NodeAddress(_) => "NodeAddress",
        Reason::NoEndpoint => "NoEndpoint",
        Reason::NoLocalEndpoint => "NoLocalEndpoint",
        Reason::NoAddress => "NoAddress",
        Reason::SharedWith(_) => "SharedWith",
        Reason::NodeExcluded(_) => "NodeExcluded",
        Reason::LinkMissing(_) => "LinkMissing",
        _ => "Invalid",
    }
}

/// Labels our Node for a Service that it serves.
pub(super) fn label(ground: &Ground<'_>, name: &ServiceName, served: &[IpAddr], plan: &mut NodePlan) {
    if ground.services.node_labels == ServiceLabels::Off || served.is_empty() {
        return;
    }
    // A longer name is no legal key.
    if let Some(key) = key(name) {
        plan.node_labels.insert(key, Some(label_value(served.iter().copied())));
    }
}

/// Takes labels of our Node away that name Services which this node does not serve. Those of Services that may be
/// another agent's are left alone: `is_foreign` tells them.
pub(super) fn unlabel(ground: &Ground<'_>, is_foreign: impl Fn(&ServiceName) -> bool, plan: &mut NodePlan) {
    let own = ground.world.snapshot.nodes.get().and_then(|nodes| nodes.get(&ground.world.config.node));
    if ground.services.node_labels == ServiceLabels::Off {
        return;
    }
    for key in own.iter().flat_map(|facts| facts.labels.keys()) {
        let named = key.strip_prefix(LABEL).and_then(|name| name.split_once('.'));
        let Some((name, namespace)) = named else { continue };
        if !plan.node_labels.contains_key(key) && !is_foreign(&ServiceName::new(namespace, name)) {
            plan.node_labels.insert(key.clone(), None);
        }
    }
}

fn key(name: &ServiceName) -> Option<String> {
    let part = format!("{}.{}", name.name(), name.namespace());
    (part.len() <= LABEL_LIMIT).then(|| format!("{LABEL}{part}"))
}
