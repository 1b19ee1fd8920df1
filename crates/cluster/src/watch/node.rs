//! Nodes in view: their addresses and our labels. Everything else of a Node is skipped while it is read, so that a
//! large cluster costs little memory.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;

use serde::Deserialize;
use vip_model::store::{NodeFacts, Snapshot, Version};
use vip_model::{Known, NodeName};

use crate::event::ClusterEvent;
use crate::follow::{Collection, Recovery};
use crate::gateway::Gateway;

/// Labels with this prefix are ours.
const OUR_LABELS: &str = "kube-vip.io/";

/// A Node, as far as it is read.
#[derive(Deserialize)]
pub(crate) struct NodeShape {
    metadata: Meta,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    addresses: Option<Vec<Address>>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl NodeShape {
    fn convert(self) -> (NodeName, NodeFacts) {
        let addresses = self
            .status
            .addresses
            .into_iter()
            .flatten()
            .filter(|address| matches!(address.kind.as_str(), "InternalIP" | "ExternalIP"))
            .filter_map(|address| address.address.parse().ok())
            .collect::<BTreeSet<_>>();
        let mut labels = self.metadata.labels.unwrap_or_default();
        labels.retain(|key, _| key.starts_with(OUR_LABELS));
        (NodeName::new(&self.metadata.name), NodeFacts { addresses, labels })
    }
}

/// All Nodes.
pub(crate) struct NodeWatch {
    gateway: Arc<Gateway>,
    nodes: BTreeMap<NodeName, NodeFacts>,
}

impl NodeWatch {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, nodes: BTreeMap::new() }
    }

    fn tell(&self) {
        self.gateway.tell(ClusterEvent::Snapshot(Snapshot { nodes: Known::Known(self.nodes.clone()) }));
    }
}

impl Collection for NodeWatch {
    type Item = NodeShape;

    fn resource(&self) -> &'static str {
        "nodes"
    }

    fn object(&self) -> String {
        String::new()
    }

    fn query(&self) -> String {
        "/api/v1/nodes?".to_owned()
    }

    fn listed(&mut self, items: Vec<NodeShape>, _version: &Version) {
        self.nodes = items.into_iter().map(NodeShape::convert).collect();
        self.tell();
    }

    fn changed(&mut self, item: NodeShape) {
        let (name, facts) = item.convert();
        // A kubelet writes its Node every few minutes; almost never what we read.
        if self.nodes.get(&name) != Some(&facts) {
            self.nodes.insert(name, facts);
            self.tell();
        }
    }

    fn deleted(&mut self, item: NodeShape) {
        if self.nodes.remove(&item.convert().0).is_some() {
            self.tell();
        }
    }

    fn recovery(&self) -> Recovery {
        Recovery::Resume
    }

    async fn overdue(&mut self) {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_its_addresses_and_our_labels() {
        let shape: NodeShape = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "N1", "labels": {"kube-vip.io/has-ip": "10.0.0.5", "other": "x"}},
            "spec": {"podCIDR": "10.1.0.0/24"},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "10.0.0.11"},
                {"type": "ExternalIP", "address": "fd00::11"},
                {"type": "Hostname", "address": "n1"},
                {"type": "InternalIP", "address": "not an address"},
            ], "images": [{"names": ["big"]}]},
        }))
        .unwrap();
        let (name, facts) = shape.convert();
        assert_eq!(name.as_str(), "n1");
        let addresses: Vec<_> = facts.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.11", "fd00::11"]);
        assert_eq!(facts.labels, BTreeMap::from([("kube-vip.io/has-ip".to_owned(), "10.0.0.5".to_owned())]));
    }

    #[test]
    fn a_node_without_status_or_labels_is_read() {
        let shape: NodeShape =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "n"}})).unwrap();
        assert_eq!(shape.convert().1, NodeFacts::default());
    }
}
