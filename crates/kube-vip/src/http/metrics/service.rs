//! What metrics say of Services: how many are in which state, and each by its name up to a limit, because a series for
//! each of thousands costs those who store them more than it tells anybody. Fed with the published view.

use std::collections::BTreeMap;

use vip_model::verdict::{Reason, Verdict};
use vip_model::view::{ServiceView, View};

use super::{Exposition, Kind, flag};

/// How many Services have series of their own, the first by name: more than most clusters have.
pub(super) const SERVICES_LIMIT: usize = 1_000;
/// How many namespaces have a series of their own; the Services of all others are counted under the empty one.
pub(super) const NAMESPACES_LIMIT: usize = 200;

/// The states of a Service, seen from one node.
const STATES: [&str; 7] =
    ["announced", "elsewhere", "waiting", "refused", "without_endpoint", "node_unfit", "not_ours"];

/// The state that a verdict comes to.
const fn state(verdict: &Verdict) -> &'static str {
    let Verdict::Skip(reason) = verdict else { return "announced" };
    match reason {
        Reason::HeldBy(_) | Reason::SharedWith(_) => "elsewhere",
        Reason::KernelUnknown
        | Reason::LeaseUnknown
        | Reason::Lapsed
        | Reason::LeaseFree
        | Reason::Leaving
        | Reason::Stopping
        | Reason::StillAnswered(_)
        | Reason::Probing
        | Reason::LookingFirst
        | Reason::Unproven
        | Reason::Installing
        | Reason::EndpointsUnknown
        | Reason::NoAddress => "waiting",
        Reason::NodeAddress(_)
        | Reason::Conflict(_)
        | Reason::Invalid(_)
        | Reason::NotSupported(_)
        | Reason::PortClash(_)
        | Reason::PoolExhausted(_) => "refused",
        Reason::NoEndpoint | Reason::NoLocalEndpoint => "without_endpoint",
        Reason::LinkMissing(_)
        | Reason::NoLinkFits
        | Reason::LinkDown(_)
        | Reason::Unhealthy(_)
        | Reason::NodeExcluded(_) => "node_unfit",
        Reason::NotALoadBalancer
        | Reason::Deleting
        | Reason::Ignored
        | Reason::OtherClass(_)
        | Reason::OtherNamespace(_) => "not_ours",
    }
}

pub(super) fn write_services(page: &mut Exposition, view: &View) {
    let mut states: BTreeMap<_, _> = STATES.map(|state| (state, 0_u32)).into();
    for service in view.services.iter() {
        *states.entry(state(&service.verdict)).or_default() += 1;
    }
    page.family(
        "kube_vip_services",
        Kind::Gauge,
        "Services of type LoadBalancer by what this node does with them.",
    );
    for state in STATES {
        page.sample(&[("state", state)], f64::from(states[state]));
    }
    let ours: Vec<_> = view.services.iter().filter(|service| state(&service.verdict) != "not_ours").collect();
    if ours.is_empty() {
        return;
    }
    write_namespaces(page, &ours);
    let listed = &ours[..ours.len().min(SERVICES_LIMIT)];
    let names =
        |service: &ServiceView| (service.service.namespace().to_owned(), service.service.name().to_owned());
    page.family(
        "kube_vip_service_announced",
        Kind::Gauge,
        "1 when this node answers for the addresses, else 0.",
    );
    for service in listed {
        let (namespace, name) = names(service);
        let held = flag(service.verdict == Verdict::Announce);
        page.sample(&[("namespace", &namespace), ("name", &name)], held);
    }
    page.family("kube_vip_service_endpoints", Kind::Gauge, "Endpoints of the Service that take traffic.");
    for service in listed {
        let (namespace, name) = names(service);
        page.sample(&[("namespace", &namespace), ("name", &name)], f64::from(service.endpoints.taking));
    }
}

fn write_namespaces(page: &mut Exposition, ours: &[&ServiceView]) {
    let mut namespaces: BTreeMap<&str, u32> = BTreeMap::new();
    for service in ours {
        let namespace = service.service.namespace();
        let has_room = namespaces.len() < NAMESPACES_LIMIT || namespaces.contains_key(namespace);
        *namespaces.entry(if has_room { namespace } else { "" }).or_default() += 1;
    }
    page.family("kube_vip_active_services", Kind::Gauge, "Services that are ours, by namespace.");
    for (namespace, count) in namespaces {
        page.sample(&[("namespace", namespace)], f64::from(count));
    }
}

/// How many Services have no series of their own.
pub(super) fn left_out(view: &View) -> usize {
    let ours = view.services.iter().filter(|service| state(&service.verdict) != "not_ours").count();
    ours.saturating_sub(SERVICES_LIMIT)
}
