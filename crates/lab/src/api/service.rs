//! The defaults, allocations and rules of Services: type, cluster addresses, node ports, families and policies. Rules
//! call it for every Service that is written. Single stack IPv4 unless the Service names its families.

use super::failure::Cause;
use super::object::random;
use super::rule::{default_to, list_mut};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The first address of the range that cluster addresses come from, 10.96.0.0/16; the first is the API's own.
const CLUSTER_V4: u32 = 0x0a60_0000;

/// The range of IPv6 cluster addresses, `fd00:10:96::/112`.
const CLUSTER_V6: u128 = 0xfd00_0010_0096 << 80;

/// The default range of node ports, 30000–32767.
const NODE_PORTS: std::ops::Range<u16> = 30000..32768;

pub(super) fn settle(old: Option<&Value>, new: &mut Value) {
    default_to(new, "spec", json!({}));
    if old.is_none() {
        new["status"] = json!({"loadBalancer": {}});
    }
    for ingress in list_mut(new, "/status/loadBalancer/ingress") {
        if ingress.get("ip").is_some() {
            default_to(ingress, "ipMode", json!("VIP"));
        }
    }
    let before = old.map_or(&Value::Null, |old| &old["spec"]);
    let spec = &mut new["spec"];
    default_to(spec, "type", json!("ClusterIP"));
    default_to(spec, "sessionAffinity", json!("None"));
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind == "ExternalName" {
        return;
    }
    settle_addresses(before, spec);
    default_to(spec, "internalTrafficPolicy", json!("Cluster"));
    let outside = kind == "LoadBalancer" || kind == "NodePort";
    if outside {
        default_to(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        default_to(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
    let wants_node_ports =
        outside && (kind == "NodePort" || spec["allocateLoadBalancerNodePorts"] != json!(false));
    settle_ports(before, spec, wants_node_ports.then_some(&NODE_PORTS));
}

/// Families and cluster addresses; both stay with a Service for life.
fn settle_addresses(before: &Value, spec: &mut Value) {
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let Some(kept) = before.get(field) {
            default_to(spec, field, kept.clone());
        }
    }
    let dual = ["PreferDualStack", "RequireDualStack"];
    let asks_dual = spec["ipFamilyPolicy"].as_str().is_some_and(|policy| dual.contains(&policy));
    let headless = spec["clusterIP"] == "None";
    let families = if asks_dual || headless && spec.get("selector").is_none() {
        json!(["IPv4", "IPv6"])
    } else {
        json!(["IPv4"])
    };
    default_to(spec, "ipFamilies", families);
    let policy = match spec["ipFamilies"].as_array().map_or(0, Vec::len) {
        2 => "RequireDualStack",
        _ => "SingleStack",
    };
    default_to(spec, "ipFamilyPolicy", json!(policy));
    if let Some(one) = spec.get("clusterIP").cloned() {
        default_to(spec, "clusterIPs", json!([one]));
    }
    let addresses: Vec<String> = spec["ipFamilies"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|family| if family == "IPv6" { cluster_v6() } else { cluster_v4() })
        .collect();
    default_to(spec, "clusterIPs", json!(addresses));
    let first = spec["clusterIPs"][0].clone();
    default_to(spec, "clusterIP", first);
}

// Random picks out of 65,534: a lab has a few Services, and a clash would only mean one shared cluster address.
fn cluster_v4() -> String {
    Ipv4Addr::from(CLUSTER_V4 + 2 + (random() % 65_000) as u32).to_string()
}

fn cluster_v6() -> String {
    Ipv6Addr::from(CLUSTER_V6 + 2 + u128::from(random() % 65_000)).to_string()
}

fn settle_ports(before: &Value, spec: &mut Value, node_ports: Option<&std::ops::Range<u16>>) {
    let old_ports = before["ports"].as_array().cloned().unwrap_or_default();
    for port in list_mut(spec, "/ports") {
        default_to(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default_to(port, "targetPort", number);
        if port["nodePort"] == json!(0) {
            drop(port.as_object_mut().and_then(|fields| fields.shift_remove("nodePort")));
        }
        if let Some(range) = node_ports {
            let same = |old: &&Value| old["port"] == port["port"] && old["protocol"] == port["protocol"];
            let kept = old_ports.iter().find(same).and_then(|old| old.get("nodePort").cloned());
            let fresh = u64::from(range.start) + random() % range.len() as u64;
            default_to(port, "nodePort", kept.unwrap_or_else(|| json!(fresh)));
        }
    }
}

pub(super) fn check(new: &Value) -> Vec<Cause> {
    let spec = &new["spec"];
    let mut causes = Vec::new();
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    if ports.is_empty() && spec["type"] != "ExternalName" && spec["clusterIP"] != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (at, port) in ports.iter().enumerate() {
        if ports.len() > 1 && port["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(&format!("spec.ports[{at}].name"), ""));
        }
        if !port["port"].as_u64().is_some_and(|number| (1..=65535).contains(&number)) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(&format!("spec.ports[{at}].port"), &port["port"], why));
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !spec["type"].as_str().is_some_and(|kind| kinds.contains(&kind)) {
        let why = "supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"";
        causes.push(Cause::invalid("spec.type", &spec["type"], why));
    }
    causes
}
