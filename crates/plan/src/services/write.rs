//! What is written about Services: to their status and annotations, and as labels to our own Node. Fed with what was
//! decided; says how things shall be, the difference is made elsewhere.
//!
//! Only what the kernel shows counts as served, and what the Service says already is left out. One node writes about one
//! Service:
//!
//! * its holder, that it is announced and under which addresses; what it can't serve for a lasting reason;
//! * what is wrong for every node (a port clash, an invalid or unsupported request): the *clerk* (see `clerk`).
//!
//! The condition of a Service that cannot be served any more (no endpoint, none on the node that holds the Lease, all
//! nodes taken out) is corrected when it says that the Service is announced; one that never was gets no condition for
//! what may pass in a moment. When a node that could serve does not take over (its agent may be dead), the clerk corrects
//! it after a while. Every write is compare-and-swap, so that two nodes
//! with different pictures cost a write and nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;

use vip_model::config::{ServiceLabels, ServiceUpdates};
use vip_model::plan::{NodePlan, ServicePlan, Serving};
use vip_model::service::{Condition, EndpointCount, HOST, Ingress, Service, ServiceName};
use vip_model::verdict::{Reason, Verdict};

use super::brief::Hope;
use super::clerk::{Clerk, Speaker};
use super::ground::Ground;
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

/// Writes about a Service that was decided about. Gives back who says what is wrong with it.
pub(super) fn decided(
    ground: &Ground<'_>,
    clerk: &impl Deref<Target = Clerk>,
    (member, decision): (&Member<'_>, &Decision),
    planned: &mut ServicePlan,
) -> Speaker {
    let is_announced = decision.verdict == Verdict::Announce;
    planned.serving = if is_announced { Serving::Here } else { Serving::NotHere };
    let is_said = is_announced && member.word == Word::AsServedHere;
    if ground.services.updates == ServiceUpdates::Off || is_said {
        return Speaker::Nobody;
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
    let Verdict::Skip(reason) = &decision.verdict else {
        say(service, "True", ANNOUNCED, planned);
        return Speaker::Nobody;
    };
    let speaker = who_refuses(ground, (member, reason), decision, clerk);
    if matches!(speaker, Speaker::Us | Speaker::StandIn) {
        say(service, "False", (word(reason), &message(ground, reason, decision.tenure)), planned);
    }
    speaker
}

/// Why a Service is not announced, for people.
fn message(ground: &Ground<'_>, reason: &Reason, tenure: Tenure) -> String {
    let me = &ground.world.config.node;
    match (reason, tenure) {
        (Reason::Conflict(_) | Reason::NodeAddress(_) | Reason::NoEndpoint, _) => reason.to_string(),
        (reason, Tenure::Ours) => format!("{me}, which decides: {reason}"),
        (reason, Tenure::Deserted) => format!("no node serves it, {me} says: {reason}"),
        (reason, _) => format!("no node can serve it, {me} says: {reason}"),
    }
}

/// Writes about a Service that is ours and cannot be served by anybody. Gives back who does.
pub(super) fn impossible(
    ground: &Ground<'_>,
    clerk: &impl Deref<Target = Clerk>,
    (service, reason): (&Service, &Reason),
    planned: &mut ServicePlan,
) -> Speaker {
    let is_for_all = match reason {
        Reason::PortClash(_) | Reason::Invalid(_) | Reason::NotSupported(_) => true,
        Reason::NoAddress => says_announced(service),
        _ => false,
    };
    if ground.services.updates == ServiceUpdates::Off || !is_for_all {
        return Speaker::Nobody;
    }
    let speaker = clerk.speaker(ground, service);
    if matches!(speaker, Speaker::Us | Speaker::StandIn) {
        say(service, "False", (word(reason), &reason.to_string()), planned);
    }
    speaker
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

/// Who says that a Service is not announced.
fn who_refuses(
    ground: &Ground<'_>,
    (member, reason): (&Member<'_>, &Reason),
    decision: &Decision,
    clerk: &impl Deref<Target = Clerk>,
) -> Speaker {
    let us_if = |yes| if yes { Speaker::Us } else { Speaker::Nobody };
    // None for what may pass.
    let is_without_hope = match reason {
        // Several may answer in turn: the first one that was named is enough.
        Reason::Conflict(_) if says_refused(member.service, word(reason)) => return Speaker::Nobody,
        Reason::Conflict(_) | Reason::NodeAddress(_) => return us_if(decision.tenure == Tenure::Ours),
        Reason::NoEndpoint | Reason::NoLocalEndpoint | Reason::SharedWith(_) | Reason::NodeExcluded(_) => {
            Some(decision.hope == Hope::None)
        }
        // Only what the Service itself names is missing for good; a link of the node may come back.
        Reason::LinkMissing(name) => Some(member.notes.interface == Some(name)),
        _ => None,
    };
    if !says_announced(member.service) {
        return Speaker::Nobody;
    }
    match (decision.tenure, is_without_hope) {
        (Tenure::Ours, Some(_)) => Speaker::Us,
        // Whoever could serve it may run no agent, or a dead one.
        (Tenure::Deserted, _) | (Tenure::Nobodys, Some(true)) => clerk.speaker(ground, member.service),
        (Tenure::Ours | Tenure::Nobodys | Tenure::Theirs, _) => Speaker::Nobody,
    }
}

fn says_announced(service: &Service) -> bool {
    service.conditions.get(CONDITION).is_some_and(|condition| condition.status == "True")
}

fn says_refused(service: &Service, reason: &str) -> bool {
    let said = service.conditions.get(CONDITION);
    said.is_some_and(|condition| condition.status == "False" && condition.reason == reason)
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
