//! Which API servers there are: read from the endpoints of the `kubernetes` Service while the API answers, remembered
//! for when this node's own does not.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::sleep;
use vip_model::store::FailureClass;

use crate::call::{Call, Take};
use crate::gateway::{Gateway, Problem};
use crate::lane::Patience;

/// How often the servers are read. They change when a control-plane node comes or goes.
const EVERY: Duration = Duration::from_secs(30);
/// How often until they were read once.
const AT_FIRST: Duration = Duration::from_secs(1);
/// How often when the right is missing.
const FORBIDDEN: Duration = Duration::from_secs(300);
/// How long one reading may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Slices {
    #[serde(default)]
    items: Option<Vec<Slice>>,
}

#[derive(Deserialize)]
struct Slice {
    #[serde(default)]
    endpoints: Option<Vec<SliceEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
struct SliceEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Deserialize)]
struct Endpoints {
    #[serde(default)]
    subsets: Option<Vec<Subset>>,
}

#[derive(Deserialize)]
struct Subset {
    #[serde(default)]
    addresses: Option<Vec<SubsetAddress>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
struct SubsetAddress {
    ip: String,
}

#[derive(Deserialize)]
struct Port {
    #[serde(default)]
    port: Option<u16>,
}

/// Reads the servers again and again, until the task is aborted.
pub(crate) async fn learn(gateway: Arc<Gateway>) {
    let mut wait = AT_FIRST;
    loop {
        match read(&gateway).await {
            Ok(servers) => {
                // None at all is not news: somebody just answered.
                if !servers.is_empty() {
                    gateway.directory.learn(|learned| learned.servers = servers);
                    wait = EVERY;
                }
            }
            Err(problem) if problem.failure().class == FailureClass::Forbidden => wait = FORBIDDEN,
            Err(_) => {}
        }
        sleep(wait).await;
    }
}

/// From the `EndpointSlices`, and from the `Endpoints` where those are not to be had.
async fn read(gateway: &Gateway) -> Result<BTreeSet<SocketAddr>, Problem> {
    let slices = Call {
        verb: "list",
        resource: "endpointslices.discovery.k8s.io",
        object: "default/kubernetes".to_owned(),
        path: "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
               ?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes"
            .to_owned(),
        body: None,
    };
    let patience = Patience::of(PATIENCE);
    match gateway.call(&gateway.background, &slices, Take::Whole, patience).await {
        Ok(reply) => {
            return Ok(serde_json::from_slice::<Slices>(reply.whole()).map(of_slices).unwrap_or_default());
        }
        Err(Problem::Refused(refusal)) if matches!(refusal.code.as_u16(), 403 | 404) => {}
        Err(problem) => return Err(problem),
    }
    let endpoints = Call {
        verb: "get",
        resource: "endpoints",
        object: "default/kubernetes".to_owned(),
        path: "/api/v1/namespaces/default/endpoints/kubernetes".to_owned(),
        body: None,
    };
    let reply = gateway.call(&gateway.background, &endpoints, Take::Whole, patience).await?;
    Ok(serde_json::from_slice::<Endpoints>(reply.whole()).map(of_endpoints).unwrap_or_default())
}

fn of_slices(slices: Slices) -> BTreeSet<SocketAddr> {
    let mut servers = BTreeSet::new();
    for slice in slices.items.into_iter().flatten() {
        let ports = slice.ports.unwrap_or_default();
        let endpoints = slice.endpoints.unwrap_or_default();
        add(&mut servers, endpoints.iter().flat_map(|endpoint| &endpoint.addresses), &ports);
    }
    servers
}

fn of_endpoints(endpoints: Endpoints) -> BTreeSet<SocketAddr> {
    let mut servers = BTreeSet::new();
    for subset in endpoints.subsets.into_iter().flatten() {
        let ports = subset.ports.unwrap_or_default();
        let addresses = subset.addresses.unwrap_or_default();
        add(&mut servers, addresses.iter().map(|address| &address.ip), &ports);
    }
    servers
}

fn add<'a>(servers: &mut BTreeSet<SocketAddr>, addresses: impl Iterator<Item = &'a String>, ports: &[Port]) {
    for address in addresses.filter_map(|text| text.parse::<IpAddr>().ok()) {
        servers.extend(ports.iter().filter_map(|port| Some(SocketAddr::new(address, port.port?))));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(servers: &BTreeSet<SocketAddr>) -> Vec<String> {
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_are_read_from_slices() {
        let slices = json!({"items": [
            {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.11"]}, {"addresses": ["10.0.0.12"]}],
             "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]},
            {"addressType": "IPv6", "endpoints": null, "ports": null},
        ]});
        let servers = of_slices(serde_json::from_value(slices).unwrap());
        assert_eq!(texts(&servers), ["10.0.0.11:6443", "10.0.0.12:6443"]);
    }

    #[test]
    fn servers_are_read_from_endpoints() {
        let endpoints = json!({"subsets": [
            {"addresses": [{"ip": "fd00::1"}, {"ip": "x"}], "ports": [{"name": "https", "port": 6443}]},
        ]});
        assert_eq!(texts(&of_endpoints(serde_json::from_value(endpoints).unwrap())), ["[fd00::1]:6443"]);
    }
}
