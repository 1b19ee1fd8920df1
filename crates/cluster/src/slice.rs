//! What stands behind Services: EndpointSlices and `Endpoints` objects between JSON and the model.
//!
//! An endpoint is read as kube-proxy reads it: the first of its addresses, and its conditions as one state. Slices of
//! names (`FQDN`) and addresses of another family than their slice's are nothing that traffic can be sent to.

use std::collections::BTreeSet;

use serde::Deserialize;
use vip_model::service::{Endpoint, EndpointState, ServiceName};
use vip_model::{Family, NodeName};

use crate::shape::{Keys, Texts, or_default};

/// The label that says to which Service a slice belongs.
pub(crate) const SERVICE: &str = "kubernetes.io/service-name";

/// The names of nodes, each stored once: thousands of endpoints share a few.
#[derive(Default)]
pub(crate) struct NodeNames(BTreeSet<NodeName>);

impl NodeNames {
    fn get(&mut self, name: &str) -> NodeName {
        let name = NodeName::new(name);
        if let Some(known) = self.0.get(&name) {
            return known.clone();
        }
        self.0.insert(name.clone());
        name
    }
}

/// A piece of what stands behind a Service: a slice, or a whole Endpoints object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The object's namespace and name.
    pub(crate) object: (String, String),
    /// The Service; none when the object names none.
    pub(crate) service: Option<ServiceName>,
    /// Its endpoints, sorted.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// An object that is a piece.
pub(crate) trait PieceShape {
    /// What it says.
    fn convert(self, nodes: &mut NodeNames) -> Piece;
}

#[derive(Deserialize)]
struct Meta {
    namespace: String,
    name: String,
    #[serde(default)]
    labels: Texts<OurLabels>,
}

struct OurLabels;

impl Keys for OurLabels {
    fn keep(key: &str) -> bool {
        key == SERVICE
    }
}

/// An EndpointSlice, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceShape {
    metadata: Meta,
    #[serde(default)]
    address_type: String,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Vec<EndpointShape>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointShape {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Conditions,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    node_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl Conditions {
    /// Not said is ready; not said whether it serves is as ready as it is (`discovery.k8s.io/v1`).
    fn state(&self) -> EndpointState {
        let ready = self.ready.unwrap_or(true);
        match (ready, self.serving.unwrap_or(ready), self.terminating.unwrap_or(false)) {
            (true, _, _) => EndpointState::Ready,
            (false, true, true) => EndpointState::ServingTerminating,
            (false, _, _) => EndpointState::NotReady,
        }
    }
}

impl PieceShape for SliceShape {
    fn convert(self, nodes: &mut NodeNames) -> Piece {
        let Self { metadata, address_type, endpoints } = self;
        let Meta { namespace, name, labels } = metadata;
        let family = match address_type.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        };
        let endpoints = endpoints.into_iter().filter_map(|endpoint| {
            let addr =
                endpoint.addresses.first()?.parse().ok().filter(|addr| Some(Family::of(*addr)) == family)?;
            let state = endpoint.conditions.state();
            let (node, host) = place(endpoint.node_name, endpoint.hostname, nodes);
            Some(Endpoint { addr, node, host, state })
        });
        let endpoints = merge(endpoints.collect());
        let service = labels.0.into_values().next().filter(|service| !service.is_empty());
        let service = service.map(|service| ServiceName::new(&*namespace, service));
        Piece { object: (namespace, name), service, endpoints }
    }
}

/// A `v1` Endpoints object, as far as it is read.
#[derive(Deserialize)]
pub(crate) struct EndpointsShape {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    subsets: Vec<Subset>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subset {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<Address>,
    #[serde(default, deserialize_with = "or_default")]
    not_ready_addresses: Vec<Address>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    #[serde(default)]
    ip: String,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    node_name: Option<String>,
}

impl PieceShape for EndpointsShape {
    fn convert(self, nodes: &mut NodeNames) -> Piece {
        let Meta { namespace, name, .. } = self.metadata;
        let mut endpoints = Vec::new();
        for Subset { addresses, not_ready_addresses } in self.subsets {
            let states = [(addresses, EndpointState::Ready), (not_ready_addresses, EndpointState::NotReady)];
            for (addresses, state) in states {
                for Address { ip, hostname, node_name } in addresses {
                    let Ok(addr) = ip.parse() else { continue };
                    let (node, host) = place(node_name, hostname, nodes);
                    endpoints.push(Endpoint { addr, node, host, state });
                }
            }
        }
        let service = Some(ServiceName::new(&*namespace, &*name));
        Piece { object: (namespace, name), service, endpoints: merge(endpoints) }
    }
}

/// The node of an endpoint, or its host name: that is of use only when no node is named, and is not kept otherwise.
fn place(
    node: Option<String>,
    host: Option<String>,
    nodes: &mut NodeNames,
) -> (Option<NodeName>, Option<String>) {
    match node.filter(|node| !node.is_empty()) {
        Some(node) => (Some(nodes.get(&node)), None),
        None => (None, host.filter(|host| !host.is_empty())),
    }
}

/// Sorted, each endpoint once, with its best state: one that is ready for one port and not for another stands in two
/// slices or subsets.
pub(crate) fn merge(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    endpoints.sort_unstable();
    endpoints
        .dedup_by(|next, kept| (next.addr, &next.node, &next.host) == (kept.addr, &kept.node, &kept.host));
    endpoints.shrink_to_fit();
    endpoints
}

#[cfg(test)]
mod tests;
