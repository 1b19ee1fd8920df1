//! The control plane of the lab: one endpoint of the small API server per node, opened inside the node, all over one
//! store. The stage turns its faults; agents and the client talk to it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use serde_json::json;

use super::table::Health;
use crate::api::{
    self, Effect, Endpoint, Failure, Fault, Identity, Knobs, Login, Reach, Server, Watches, Whose,
};
use crate::bench::{Lab, Node, Place, net};

/// Port of the API servers.
pub const PORT: u16 = 6443;
/// Address of the `kubernetes` Service; nothing routes to it here, as nothing does before kube-proxy runs.
const SERVICE: [u8; 4] = [10, 96, 0, 1];

/// The running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    server: Server,
    /// The current namespace of each node, for a listener that is opened again after a power cycle.
    places: Vec<Arc<Mutex<Place>>>,
}

impl ControlPlane {
    /// Opens an endpoint in every node of the lab and serves them all from one thread.
    pub fn start(lab: &Lab) -> Result<Self> {
        let server = Server::new()?;
        seed(&server, lab)?;
        let mut places = Vec::new();
        let mut endpoints = Vec::new();
        for node in lab.nodes() {
            let place = Arc::new(Mutex::new(node.place()?.clone()));
            endpoints.push(endpoint(node, &place)?);
            places.push(place);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the API server's runtime")?;
        let served = server.clone();
        thread::Builder::new()
            .name("api server".to_owned())
            .spawn(move || runtime.block_on(api::serve(served, endpoints)))
            .context("starting the API server's thread")?;
        Ok(Self { server, places })
    }

    /// The server behind all endpoints.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The administrator's kubeconfig as kubeadm writes it: its server is the VIP.
    pub fn admin_conf(&self) -> Result<String> {
        let url = format!("https://{}:{PORT}", net::v4(net::VIP));
        Ok(self.server.credentials().kubeconfig(Login::Certificate(&Identity::admin()), &url)?)
    }

    /// The certificate authority, PEM.
    pub fn authority(&self) -> &str {
        self.server.credentials().authority_pem()
    }

    /// Changes the API server of one node.
    pub fn set(&self, node: &Node, health: Health) {
        self.server.turn(Whose::Endpoint(node.name()), |knobs| *knobs = knobs_of(health));
    }

    /// Changes the API servers of all nodes.
    pub fn set_all(&self, health: Health) {
        self.server.turn(Whose::All, |knobs| *knobs = knobs_of(health));
    }

    /// The path between a node's own agent and its API server is cut: no byte comes back, connections of before stay
    /// dead.
    pub fn cut(&self, node: &Node) {
        self.server.turn(Whose::Endpoint(node.name()), |knobs| knobs.reach = Reach::Cut);
    }

    /// The node lost its power: its API server with it.
    pub fn power_off(&self, node: &Node) {
        self.server.turn(Whose::Endpoint(node.name()), |knobs| knobs.reach = Reach::Down);
    }

    /// The node is back, with a new network namespace: its API server opens there.
    pub fn power_on(&self, node: &Node) -> Result<()> {
        if let Some(slot) = self.places.get(usize::from(node.number()).wrapping_sub(1)) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = node.place()?.clone();
        }
        self.set(node, Health::Serving);
        Ok(())
    }
}

impl Drop for ControlPlane {
    /// Its thread goes on, with nothing to serve.
    fn drop(&mut self) {
        self.server.stop();
    }
}

fn knobs_of(health: Health) -> Knobs {
    let healthy = Knobs::default();
    match health {
        Health::Serving => healthy,
        Health::Refusing => Knobs { reach: Reach::Down, ..healthy },
        Health::Hanging => Knobs { reach: Reach::Frozen, ..healthy },
        Health::Forbidding => Knobs {
            faults: vec![Fault::all(Effect::Fail(Failure::new(403, "Forbidden", "everything is forbidden")))],
            ..healthy
        },
        // What others write doesn't reach it either.
        Health::Alone => Knobs { watches: Watches::Frozen, ..Knobs::dead_etcd() },
    }
}

fn endpoint(node: &Node, place: &Arc<Mutex<Place>>) -> Result<Endpoint> {
    let again = Arc::clone(place);
    let rebind = move || {
        let place = again.lock().unwrap_or_else(PoisonError::into_inner).clone();
        crate::bench::node::listen_in(&place, PORT).map_err(std::io::Error::other)
    };
    let loopback =
        [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into(), IpAddr::from(SERVICE)];
    let addresses = node.addresses().into_iter().chain(net::vips()).chain(loopback).collect();
    Ok(Endpoint {
        name: node.name().to_owned(),
        listener: node.listen(PORT)?,
        addresses,
        rebind: Some(Arc::new(rebind)),
    })
}

/// The `kubernetes` Service and one Node per node.
fn seed(server: &Server, lab: &Lab) -> Result<()> {
    let servers: Vec<IpAddr> = lab.nodes().iter().map(|node| node.addresses()[0]).collect();
    server.store().seed_kubernetes_service(IpAddr::from(SERVICE), &servers, PORT)?;
    for node in lab.nodes() {
        let addresses: Vec<_> = node
            .addresses()
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .chain([json!({"type": "Hostname", "address": node.name()})])
            .collect();
        server.store().apply(&json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": node.name(),
                "labels": {
                    "kubernetes.io/hostname": node.name(),
                    "node-role.kubernetes.io/control-plane": "",
                },
            },
            "spec": {},
            "status": {
                "addresses": addresses,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            },
        }))?;
    }
    Ok(())
}
