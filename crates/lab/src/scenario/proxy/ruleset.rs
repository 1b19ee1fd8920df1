//! The table of one node as text for `nft -f`: what reaches a load-balancer address in a Service's status goes to its
//! endpoints, under externalTrafficPolicy Local to those of this node alone, with the client's address kept; otherwise
//! to all, masqueraded. Pure; fed by the proxy with the cluster's objects.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::Value;

use super::Objects;

/// The table's name, in the family `inet`.
pub(super) const TABLE: &str = "kube-proxy";
/// The connection mark of flows that no Service's rule has led anywhere.
pub(super) const UNTRANSLATED: u32 = 1;
/// The connection mark of TCP connections that lead to an endpoint.
const CONNECTION: u32 = 2;
/// The packet mark of what is to be masqueraded; kube-proxy's own.
const MASQUERADE: &str = "0x4000";

/// What a node's table reads, and the marks of the datagram flows that it may make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    pub(super) text: String,
    pub(super) marks: BTreeSet<u32>,
}

/// One address of an endpoint, and where it runs.
struct Endpoint {
    address: IpAddr,
    node: String,
    ready: bool,
    /// Told to stop, and still serving.
    leaving: bool,
}

/// One port of a Service at one of its addresses.
struct Frontend<'a> {
    address: IpAddr,
    protocol: &'a str,
    port: u64,
    /// Where pods listen.
    target: u64,
}

impl Frontend<'_> {
    fn family(&self) -> &'static str {
        if self.address.is_ipv4() { "ip" } else { "ip6" }
    }

    /// A name for its chain that no other has.
    fn chain(&self) -> String {
        let address = self.address.to_string().replace([':', '.'], "_");
        format!("svc-{address}-{}-{}", self.protocol, self.port)
    }
}

/// The table of `node`.
pub(super) fn render(node: &str, objects: &Objects) -> Ruleset {
    let (mut chains, mut rules, mut marks) = (String::new(), String::new(), BTreeSet::new());
    for service in objects.services.iter().filter(|service| service["spec"]["type"] == "LoadBalancer") {
        let local = service["spec"]["externalTrafficPolicy"] == "Local";
        for (frontend, endpoints) in frontends(service, objects) {
            let chosen = choose(endpoints, local.then_some(node));
            marks.extend(chosen.iter().map(|address| mark(*address)));
            let (family, chain) = (frontend.family(), frontend.chain());
            let Frontend { address, protocol, port, .. } = frontend;
            let _ = writeln!(rules, "    {family} daddr {address} {protocol} dport {port} goto {chain}");
            write_chains(&mut chains, &frontend, &chosen, local);
        }
    }
    let text = format!(
        "add table inet {TABLE}\n\
         delete table inet {TABLE}\n\
         table inet {TABLE} {{\n{chains}\
         \x20 chain prerouting {{\n\
         \x20   type nat hook prerouting priority dstnat;\n\
         \x20   ct mark set {UNTRANSLATED}\n{rules}\
         \x20 }}\n\
         \x20 chain postrouting {{\n\
         \x20   type nat hook postrouting priority srcnat;\n\
         \x20   meta mark {MASQUERADE} masquerade\n\
         \x20 }}\n\
         }}\n"
    );
    Ruleset { text, marks }
}

/// Every port at every address of a Service's status, with the endpoints behind it.
fn frontends<'a>(service: &'a Value, objects: &Objects) -> Vec<(Frontend<'a>, Vec<Endpoint>)> {
    let mut found = Vec::new();
    for ingress in list(&service["status"]["loadBalancer"]["ingress"]) {
        let Some(address) = ingress["ip"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
        for port in list(&service["spec"]["ports"]) {
            let protocol = if port["protocol"] == "UDP" { "udp" } else { "tcp" };
            let (endpoints, target) = endpoints(service, port, address, objects);
            let Some(port) = port["port"].as_u64() else { continue };
            found.push((Frontend { address, protocol, port, target }, endpoints));
        }
    }
    found
}

/// The endpoints of a Service's port in the family of `address`, and the port on which they listen.
fn endpoints(service: &Value, port: &Value, address: IpAddr, objects: &Objects) -> (Vec<Endpoint>, u64) {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let named = |port: &Value| port["name"].as_str().unwrap_or_default().to_owned();
    let (mut found, mut target) = (Vec::new(), 0);
    let of_service = |slice: &&std::sync::Arc<Value>| {
        slice["addressType"] == family
            && slice["metadata"]["namespace"] == service["metadata"]["namespace"]
            && slice["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    };
    for slice in objects.slices.iter().filter(of_service) {
        let fits = |other: &&Value| {
            named(other) == named(port)
                && other["protocol"].as_str().unwrap_or("TCP") == port["protocol"].as_str().unwrap_or("TCP")
        };
        let Some(number) = list(&slice["ports"]).iter().find(fits).and_then(|port| port["port"].as_u64())
        else {
            continue;
        };
        target = number;
        found.extend(list(&slice["endpoints"]).iter().filter_map(endpoint));
    }
    (found, target)
}

fn endpoint(value: &Value) -> Option<Endpoint> {
    let conditions = &value["conditions"];
    let ready = conditions["ready"].as_bool().unwrap_or(true);
    Some(Endpoint {
        address: list(&value["addresses"]).first()?.as_str()?.parse().ok()?,
        node: value["nodeName"].as_str().unwrap_or_default().to_owned(),
        ready,
        leaving: conditions["terminating"] == true && conditions["serving"].as_bool().unwrap_or(ready),
    })
}

/// Those of `node` if it is given; the ready ones, or if there is none those that are leaving.
fn choose(endpoints: Vec<Endpoint>, node: Option<&str>) -> BTreeSet<IpAddr> {
    let (mut ready, mut leaving) = (BTreeSet::new(), BTreeSet::new());
    for endpoint in endpoints.into_iter().filter(|endpoint| node.is_none_or(|node| endpoint.node == node)) {
        if endpoint.ready {
            ready.insert(endpoint.address);
        } else if endpoint.leaving {
            leaving.insert(endpoint.address);
        }
    }
    if ready.is_empty() { leaving } else { ready }
}

/// A chain per endpoint, and one for the port that picks one of them at random; without any, what comes is dropped.
fn write_chains(out: &mut String, frontend: &Frontend<'_>, chosen: &BTreeSet<IpAddr>, local: bool) {
    let (family, chain, protocol) = (frontend.family(), frontend.chain(), frontend.protocol);
    for (number, address) in chosen.iter().enumerate() {
        let mark = if protocol == "udp" { mark(*address) } else { CONNECTION };
        let target = std::net::SocketAddr::new(*address, u16::try_from(frontend.target).unwrap_or(0));
        let _ = writeln!(
            out,
            "  chain {chain}-{number} {{\n    ct mark set {mark}\n    meta l4proto {protocol} dnat {family} to {target}\n  }}"
        );
    }
    let _ = writeln!(out, "  chain {chain} {{");
    if !local {
        let _ = writeln!(out, "    meta mark set {MASQUERADE}");
    }
    let _ = match chosen.len() {
        0 => writeln!(out, "    drop"),
        1 => writeln!(out, "    goto {chain}-0"),
        count => {
            let picks: Vec<String> =
                (0..count).map(|number| format!("{number} : goto {chain}-{number}")).collect();
            writeln!(out, "    numgen random mod {count} vmap {{ {} }}", picks.join(", "))
        }
    };
    out.push_str("  }\n");
}

/// The connection mark of datagram flows to an endpoint.
fn mark(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => address
            .octets()
            .chunks_exact(4)
            .fold(0, |mark, word| mark ^ u32::from_be_bytes([word[0], word[1], word[2], word[3]])),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
