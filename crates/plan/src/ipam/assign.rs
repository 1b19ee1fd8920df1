//! The allocator as part of the plan: who allocates (the holder of a Lease), from which facts, and what is written into
//! each Service. Runs after the Services' own plan and adds to what that says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vip_model::config::{Ipam, ServiceUpdates, Services};
use vip_model::kernel::Actual;
use vip_model::members::Role;
use vip_model::plan::{ElectionWant, Footprint, NodePlan, Promise, ServicePlan, Serving, Standing};
use vip_model::service::{Condition, EndpointCount, FamilyPolicy, Service, ServiceKind, ServiceName};
use vip_model::store::NodeFacts;
use vip_model::verdict::{Reason, Subject, Verdict};
use vip_model::{Known, NodeName};

use super::{
    ANNOTATION_ADDRESSES, ANNOTATION_ALLOCATED, AllocationInput, Assignment, Origin, Outcome, allocate,
};
use crate::control_plane::LABEL_HAS_IP;
use crate::services::select;
use crate::world::{Life, World};

/// The annotation that names a Service's interface.
const ANNOTATION_INTERFACE: &str = "kube-vip.io/serviceInterface";
/// The label by which the external cloud-provider finds the Services whose addresses are in use.
const LABEL_IMPLEMENTATION: &str = "implementation";
/// Its value.
const IMPLEMENTATION: &str = "kube-vip";
/// A label of the external cloud-provider's first versions.
const LABEL_LEGACY: &str = "ipam-address";
/// The condition that says whether a Service has an address.
const CONDITION: &str = "kube-vip.io/AddressAssigned";

/// Plans the allocator's election and, while this node holds it, what becomes of each Service. With
/// `disable_service_updates` there is nothing that an allocator could do.
pub(crate) fn plan(world: &World<'_>, services: &Services, plan: &mut NodePlan) {
    let (Some(ipam), ServiceUpdates::On) = (&services.ipam, services.updates) else { return };
    want_election(world, ipam, plan);
    let role = world.members.elections.get(&ipam.election.lease).map(|election| &election.role);
    if world.life == Life::Stopping || !matches!(role, Some(Role::Holder { .. })) {
        return;
    }
    // Every fact that an address could be in is needed: what is not known yet may be in use.
    let facts = (&world.snapshot.services, &world.snapshot.nodes, &world.snapshot.pools, world.actual);
    let (Known::Known(all), Known::Known(nodes), Known::Known(pools), Known::Known(actual)) = facts else {
        return;
    };
    let input = input(world, services, (all, nodes, pools, actual));
    let allocation = allocate(&input);
    for ((name, service), outcome) in input.services.iter().zip(&allocation.outcomes) {
        write((name, service), outcome, plan);
    }
    plan.pools = Some(allocation.pools);
}

fn want_election(world: &World<'_>, ipam: &Ipam, plan: &mut NodePlan) {
    let own = world.snapshot.nodes.get().and_then(|nodes| nodes.get(&world.config.node));
    let is_excluded = own.is_some_and(|facts| facts.excluded.is_some());
    let stays_away = world.life == Life::Stopping || is_excluded;
    // A Lease that also decides about addresses is wanted already, with what depends on those.
    plan.elections.entry(ipam.election.lease.clone()).or_insert_with(|| ElectionWant {
        timings: ipam.election.timings,
        annotations: ipam.election.annotations.clone(),
        standing: if stays_away { Standing::Leave } else { Standing::Contend },
        rank: 0,
        footprint: Footprint::Clear,
        heard: None,
        group: None,
    });
}

type Facts<'a> = (
    &'a BTreeMap<ServiceName, std::sync::Arc<Service>>,
    &'a BTreeMap<NodeName, NodeFacts>,
    &'a BTreeMap<String, String>,
    &'a Actual,
);

fn input<'a>(
    world: &World<'a>,
    services: &Services,
    (all, nodes, pools, actual): Facts<'a>,
) -> AllocationInput<'a> {
    let of_type = all.iter().filter(|(_, service)| service.kind == ServiceKind::LoadBalancer);
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for (name, service) in of_type {
        if select(services, name, service).is_ok() {
            ours.push((name, &**service));
        } else {
            others.push(&**service);
        }
    }
    let vips = world.config.control_plane.iter().flat_map(|control_plane| &control_plane.vips);
    let of_nodes = nodes.values().flat_map(|facts| facts.addresses.iter().copied().chain(labelled(facts)));
    let tag = world.config.instance.address_tag();
    let foreign = actual.addresses.iter().filter(|address| address.tag != tag);
    AllocationInput {
        pools,
        services: ours,
        others,
        reserved: vips.map(|vip| vip.addr()).chain(of_nodes).collect(),
        seen: foreign.map(vip_model::kernel::Address::addr).collect(),
        promised: &world.observed.promised,
    }
}

/// The control plane's VIPs as the holder's Node is labelled with them: an agent that only serves Services is not told
/// of them otherwise. IPv6 stands there as 32 hexadecimal digits.
fn labelled(facts: &NodeFacts) -> BTreeSet<IpAddr> {
    let parse = |text: &str| {
        let v6 = || u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
        text.parse().ok().or_else(|| v6().map(|bits| IpAddr::from(bits.to_be_bytes())))
    };
    facts.labels.get(LABEL_HAS_IP).map(|text| text.split('_').filter_map(parse).collect()).unwrap_or_default()
}

/// What is planned for one Service. A Service on which everything is as it should be is not mentioned.
fn write((name, service): (&ServiceName, &Service), outcome: &Outcome, plan: &mut NodePlan) {
    let mut wish = Wish::default();
    match outcome {
        Outcome::Allocated | Outcome::SetByUser => {
            if service.labels.get(LABEL_IMPLEMENTATION).is_none_or(|value| value != IMPLEMENTATION) {
                wish.label();
            }
            wish.condition = has_address(service, outcome);
        }
        Outcome::Assign(assignment) => {
            wish.label();
            wish.assign(service, assignment);
            let promise = Promise { uid: service.uid.clone(), addrs: assignment.addrs.clone() };
            plan.promised.insert(name.clone(), promise);
        }
        Outcome::Refused(reason) => {
            wish.condition = Some(condition("False", word(reason), reason.to_string()));
            let subject = Subject::Service(name.clone());
            let verdict = plan.verdicts.entry(subject).or_insert(Verdict::Skip(Reason::NoAddress));
            if *verdict == Verdict::Skip(Reason::NoAddress) {
                *verdict = Verdict::Skip(reason.clone());
            }
        }
    }
    if wish.is_empty() {
        return;
    }
    let planned = plan.services.entry(name.clone()).or_insert_with(|| nothing_yet(service));
    planned.annotations.extend(wish.annotations);
    planned.labels.extend(wish.labels);
    planned.spec_ip = wish.spec_ip.or(planned.spec_ip.take());
    planned.conditions.extend(wish.condition.map(|condition| (CONDITION.to_owned(), Some(condition))));
}

/// What the allocator wants of one Service.
#[derive(Default)]
struct Wish {
    annotations: BTreeMap<String, Option<String>>,
    labels: BTreeMap<String, Option<String>>,
    spec_ip: Option<String>,
    condition: Option<Condition>,
}

impl Wish {
    fn is_empty(&self) -> bool {
        self.annotations.is_empty() && self.labels.is_empty() && self.condition.is_none()
    }

    fn label(&mut self) {
        self.labels.insert(LABEL_IMPLEMENTATION.to_owned(), Some(IMPLEMENTATION.to_owned()));
        self.labels.insert(LABEL_LEGACY.to_owned(), None);
    }

    /// The condition is not part of it: it follows when the addresses are seen on the Service.
    fn assign(&mut self, service: &Service, assignment: &Assignment) {
        let texts: Vec<_> = assignment.addrs.iter().map(IpAddr::to_string).collect();
        let list = texts.join(",");
        if let Origin::Pool(_) = assignment.origin {
            self.annotations.insert(ANNOTATION_ALLOCATED.to_owned(), Some(list.clone()));
            self.spec_ip = texts.into_iter().next();
            if let Some(interface) = &assignment.interface
                && !service.annotations.contains_key(ANNOTATION_INTERFACE)
            {
                self.annotations.insert(ANNOTATION_INTERFACE.to_owned(), Some(interface.clone()));
            }
        }
        self.annotations.insert(ANNOTATION_ADDRESSES.to_owned(), Some(list));
    }
}

/// The condition of a Service that has addresses. One that was never refused and whose addresses are not ours has none.
fn has_address(service: &Service, outcome: &Outcome) -> Option<Condition> {
    let found = service.conditions.get(CONDITION);
    let reason = if *outcome == Outcome::Allocated { "Allocated" } else { "SetByUser" };
    let is_due = match found {
        Some(found) => found.status != "True" || found.reason != reason,
        None => *outcome == Outcome::Allocated,
    };
    is_due.then(|| {
        let list = service.annotations.get(ANNOTATION_ADDRESSES).map_or("", String::as_str);
        let asks_for_both =
            service.family_policy == FamilyPolicy::PreferDualStack && service.families.len() != 1;
        let is_half = asks_for_both && !list.contains(',');
        let half =
            if is_half && reason == "Allocated" { "; no address of the other family was left" } else { "" };
        condition("True", reason, format!("{list}{half}"))
    })
}

fn condition(status: &str, reason: &str, message: String) -> Condition {
    Condition { status: status.to_owned(), reason: reason.to_owned(), message }
}

/// The reason of a refusal as one word.
const fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::PoolExhausted(_) => "PoolExhausted",
        Reason::NotSupported(_) => "NotSupported",
        _ => "Invalid",
    }
}

/// A Service that nothing else plans anything for.
fn nothing_yet(service: &Service) -> ServicePlan {
    ServicePlan {
        uid: service.uid.clone(),
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
