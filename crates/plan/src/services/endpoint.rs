//! Where a Service can be served: which endpoints take traffic, and on which nodes. Reads what kube-proxy reads, so that
//! the VIP never is where the proxy would drop: endpoints that are ready; when none is, those that still serve while
//! they terminate. With `externalTrafficPolicy: Local` only a node with such an endpoint of its own serves.
//!
//! An endpoint of a family that the Service does not have is none: its addresses are of the other family, and no proxy
//! leads from one to the other.
//!
//! An endpoint tells its node by `nodeName`, else by a host name that equals one. One that tells neither counts for
//! policy `Cluster`; under `Local` it counts for no node, because no proxy calls it local. The annotation
//! `allow-reconcile-without-endpoints` makes a Service of policy `Cluster` need none (see `member`).

use vip_model::service::{Endpoint, EndpointCount, EndpointState, TrafficPolicy};
use vip_model::verdict::Reason;
use vip_model::{Family, NodeName};

/// Where a Service can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// On this node.
    Here,
    /// On other nodes only.
    Elsewhere,
    /// Policy `Local`, and no endpoint tells a node.
    Placeless,
    /// Nowhere: no endpoint takes traffic.
    Nowhere,
    /// The endpoints are not known yet. Whoever holds it keeps it, nobody takes it.
    Unknown,
}

impl Backing {
    /// Whether there is a node that can serve.
    pub(super) const fn serves(self) -> bool {
        matches!(self, Self::Here | Self::Elsewhere)
    }

    /// Why this node can't serve.
    pub(super) const fn obstacle(self) -> Option<Reason> {
        match self {
            Self::Here | Self::Unknown => None,
            Self::Elsewhere | Self::Placeless => Some(Reason::NoLocalEndpoint),
            Self::Nowhere => Some(Reason::NoEndpoint),
        }
    }
}

/// Those endpoints that are of a family of the Service, of all families when it names none. They are sorted by address,
/// IPv4 first.
pub(crate) fn of_families<'a>(endpoints: &'a [Endpoint], families: &[Family]) -> &'a [Endpoint] {
    let [family] = families else { return endpoints };
    let (v4, v6) = endpoints.split_at(endpoints.partition_point(|endpoint| endpoint.addr.is_ipv4()));
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// Where a Service of a policy can be served, seen from the node `me`. `endpoints` is none while they are unknown.
pub(super) fn backing(traffic: TrafficPolicy, endpoints: Option<&[Endpoint]>, me: &NodeName) -> Backing {
    let Some(endpoints) = endpoints else { return Backing::Unknown };
    let state = match best_state(endpoints) {
        None => return Backing::Nowhere,
        Some(_) if traffic == TrafficPolicy::Cluster => return Backing::Here,
        Some(state) => state,
    };
    let mut takers = endpoints.iter().filter(|endpoint| endpoint.state == state);
    if takers.clone().any(|endpoint| is_on(endpoint, me)) {
        Backing::Here
    } else if takers.any(|endpoint| place(endpoint).is_some()) {
        Backing::Elsewhere
    } else {
        Backing::Placeless
    }
}

/// How many endpoints there are, seen from the node `me`.
pub(super) fn count(endpoints: &[Endpoint], me: &NodeName) -> EndpointCount {
    let state = best_state(endpoints);
    let mut count = EndpointCount::NONE;
    for endpoint in endpoints {
        count.all += 1;
        if Some(endpoint.state) == state {
            count.taking += 1;
            count.here += u32::from(is_on(endpoint, me));
        }
    }
    count
}

/// The names of the nodes that can serve a Service of policy `Local`; some of them twice.
pub(crate) fn nodes(endpoints: &[Endpoint]) -> impl Iterator<Item = &str> {
    let state = best_state(endpoints);
    endpoints.iter().filter(move |endpoint| Some(endpoint.state) == state).filter_map(place)
}

/// The state of those endpoints that take traffic, if any does.
fn best_state(endpoints: &[Endpoint]) -> Option<EndpointState> {
    let has = |state| endpoints.iter().any(|endpoint| endpoint.state == state);
    [EndpointState::Ready, EndpointState::ServingTerminating].into_iter().find(|state| has(*state))
}

fn place(endpoint: &Endpoint) -> Option<&str> {
    endpoint.node.as_ref().map(NodeName::as_str).or(endpoint.host.as_deref())
}

fn is_on(endpoint: &Endpoint, node: &NodeName) -> bool {
    place(endpoint).is_some_and(|place| place.eq_ignore_ascii_case(node.as_str()))
}
