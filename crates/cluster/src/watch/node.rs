//! Nodes in view: their addresses, our labels, those that addresses are placed by, and whether they take part in load
//! balancing. Everything else of a Node is skipped while it is read, or soon after, so that a large cluster costs little
//! memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use vip_model::NodeName;
use vip_model::store::{DRAIN, NodeFacts, Version};

use crate::follow::{Collection, Recovery};
use crate::gateway::Gateway;
use crate::shape::{Keys, Texts, or_default};
use crate::snapshots;

/// Labels with these prefixes are ours.
const OUR_LABELS: [&str; 2] = ["kube-vip.io/", "service-provided.kube-vip.io/"];
/// Our own label of a Node that shall hold no addresses of Services, whatever else runs there. `false` is as good as
/// none.
const OWN_EXCLUDE_LABEL: &str = "kube-vip.io/exclude";
/// The label of a Node that no load balancer may use.
const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The label of a control-plane node. kubeadm puts the label above on each of them, for the balancers of clouds; agents
/// usually run on just these nodes, so beside this label it excludes nothing. The drain annotation does.
const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// The taint of a Node that was declared dead.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A Node, as far as it is read.
#[derive(Deserialize)]
pub(crate) struct NodeShape {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: Texts<Annotations>,
}

struct Annotations;

impl Keys for Annotations {
    fn keep(key: &str) -> bool {
        key == DRAIN
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(deserialize_with = "or_default")]
    taints: Vec<Taint>,
}

#[derive(Deserialize)]
struct Taint {
    key: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(deserialize_with = "or_default")]
    addresses: Vec<Address>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl NodeShape {
    /// Keeps the labels that are ours, and those that addresses are placed by.
    fn convert(self, traits: &BTreeSet<String>) -> (NodeName, NodeFacts) {
        let Self { metadata, spec, status } = self;
        let addresses = status
            .addresses
            .into_iter()
            .filter(|address| matches!(address.kind.as_str(), "InternalIP" | "ExternalIP"))
            .filter_map(|address| address.address.parse().ok())
            .collect::<BTreeSet<_>>();
        let ready = status.conditions.iter().any(|one| one.kind == "Ready" && one.status == "True");
        let mut labels = metadata.labels;
        let leads = labels.contains_key(CONTROL_PLANE_LABEL);
        let is_taken_out = labels.get(OWN_EXCLUDE_LABEL).is_some_and(|value| value != "false");
        let labelled = is_taken_out
            .then_some(OWN_EXCLUDE_LABEL)
            .or_else(|| (labels.contains_key(EXCLUDE_LABEL) && !leads).then_some(EXCLUDE_LABEL))
            .map(|label| format!("label {label}"));
        let placing = |key: &String| Some((key.clone(), labels.get(key)?.clone()));
        let traits = traits.iter().filter_map(placing).collect();
        let is_written_by_us =
            |key: &str| key != OWN_EXCLUDE_LABEL && OUR_LABELS.iter().any(|prefix| key.starts_with(prefix));
        labels.retain(|key, _| is_written_by_us(key));
        let draining = metadata.annotations.0.get(DRAIN).is_some_and(|drain| drain == "true");
        let tainted = spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE);
        let excluded = draining
            .then(|| format!("annotation {DRAIN}"))
            .or(labelled)
            .or_else(|| tainted.then(|| format!("taint {OUT_OF_SERVICE}")));
        (NodeName::new(&metadata.name), NodeFacts { addresses, labels, traits, excluded, ready })
    }
}

/// All Nodes.
pub(crate) struct NodeWatch {
    gateway: Arc<Gateway>,
    coming: BTreeMap<NodeName, NodeFacts>,
}

impl NodeWatch {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, coming: BTreeMap::new() }
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

    fn starts(&mut self) {
        self.coming.clear();
    }

    fn found(&mut self, items: Vec<NodeShape>) {
        let traits = &self.gateway.directory.settings().traits;
        self.coming.extend(items.into_iter().map(|item| item.convert(traits)));
    }

    fn listed(&mut self, _version: &Version) {
        let nodes = std::mem::take(&mut self.coming);
        self.gateway.snapshots.replace(|snapshot| snapshots::put(&mut snapshot.nodes, nodes));
    }

    fn changed(&mut self, item: NodeShape) {
        let (name, facts) = item.convert(&self.gateway.directory.settings().traits);
        // A kubelet writes its Node every few minutes; almost never what we read.
        self.gateway.snapshots.change(|snapshot| snapshots::set(&mut snapshot.nodes, name, Some(facts)));
    }

    fn deleted(&mut self, item: NodeShape) {
        let (name, _) = item.convert(&BTreeSet::new());
        self.gateway.snapshots.change(|snapshot| snapshots::set(&mut snapshot.nodes, name, None));
    }

    fn recovery(&self) -> Recovery {
        Recovery::Resume
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
        let (name, facts) = shape.convert(&BTreeSet::new());
        assert_eq!(name.as_str(), "n1");
        let addresses: Vec<_> = facts.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.11", "fd00::11"]);
        assert_eq!(facts.labels, BTreeMap::from([("kube-vip.io/has-ip".to_owned(), "10.0.0.5".to_owned())]));
    }

    #[test]
    fn labels_that_addresses_are_placed_by_are_kept() {
        let shape: NodeShape = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "n", "labels": {"zone": "a", "kube-vip.io/pool": "edge", "other": "x"}},
        }))
        .unwrap();
        let wanted = ["zone", "kube-vip.io/pool", "absent"].map(str::to_owned);
        let (_, facts) = shape.convert(&BTreeSet::from(wanted));
        let keys = |labels: &BTreeMap<String, String>| labels.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&facts.traits), ["kube-vip.io/pool", "zone"]);
        assert_eq!(keys(&facts.labels), ["kube-vip.io/pool"]);
    }

    #[test]
    fn a_node_without_status_or_labels_is_read() {
        let shape: NodeShape =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "n"}})).unwrap();
        assert_eq!(shape.convert(&BTreeSet::new()).1, NodeFacts::default());
    }

    #[test]
    fn a_node_says_itself_that_it_takes_no_part() {
        let facts = |value: serde_json::Value| {
            let shape: NodeShape = serde_json::from_value(value).unwrap();
            let (_, facts) = shape.convert(&BTreeSet::new());
            (facts.excluded, facts.ready, facts.labels.len())
        };
        let rows = [
            (serde_json::json!({"metadata": {"name": "n", "labels": {EXCLUDE_LABEL: ""}}}), Some("label ")),
            (
                serde_json::json!({
                    "metadata": {"name": "n", "labels": {EXCLUDE_LABEL: "", CONTROL_PLANE_LABEL: ""}},
                }),
                None,
            ),
            (
                serde_json::json!({
                    "metadata": {"name": "n", "labels": {OWN_EXCLUDE_LABEL: "", CONTROL_PLANE_LABEL: ""}},
                }),
                Some("label kube-vip.io/exclude"),
            ),
            (serde_json::json!({"metadata": {"name": "n", "labels": {OWN_EXCLUDE_LABEL: "false"}}}), None),
            (
                serde_json::json!({"metadata": {"name": "n", "annotations": {DRAIN: "true"}}}),
                Some("annotation "),
            ),
            (serde_json::json!({"metadata": {"name": "n", "annotations": {DRAIN: "false"}}}), None),
            (
                serde_json::json!({
                    "metadata": {"name": "n"},
                    "spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]},
                }),
                Some("taint "),
            ),
            (
                serde_json::json!({
                    "metadata": {"name": "n"}, "spec": {"unschedulable": true, "taints": [{"key": "other"}]},
                }),
                None,
            ),
        ];
        for (node, excluded) in rows {
            let (why, ready, labels) = facts(node.clone());
            assert_eq!(why.is_some(), excluded.is_some(), "{node}");
            assert!(why.unwrap_or_default().starts_with(excluded.unwrap_or_default()), "{node}");
            assert!(!ready && labels == 0, "{node}");
        }
        let ready = serde_json::json!({
            "metadata": {"name": "n", "labels": {"service-provided.kube-vip.io/web.default": "10.0.0.9"}},
            "status": {"conditions": [{"type": "DiskPressure", "status": "True"}, {"type": "Ready", "status": "True"}]},
        });
        assert_eq!(facts(ready), (None, true, 1));
    }
}
