//! The whole bench in one value: `Lab::raise` makes switch, router, client, watcher and nodes inside the lab's private
//! namespaces; scenarios take instruments and faults from it. Dropping it kills the nodes; the kernel removes the rest.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::link::{Networks, Switch};
use super::node::{Node, set_up_nic, wait_reachable};
use super::place::Place;
use super::{Census, Detector, Error, Prober, Result, boot, echo, net, sys};

/// What to build.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Number of nodes, 1 to 80.
    pub nodes: u8,
    /// Its networks.
    pub networks: Networks,
    /// Folder for logs; made if it is missing.
    pub logs: PathBuf,
}

/// The bench, up and running.
#[derive(Debug)]
pub struct Lab {
    switch: Switch,
    router: Place,
    client: Place,
    watch: Place,
    nodes: Vec<Node>,
    logs: PathBuf,
    skipped: Vec<String>,
}

impl Lab {
    /// Builds everything. Only inside `boot::enter`: elsewhere it would build in the host's own network namespace.
    pub fn raise(shape: &Shape) -> Result<Self> {
        if boot::inside().is_none() {
            let cause = std::io::Error::other("not started through `lab`");
            return Err(Error::Rights { what: "namespaces of its own", cause });
        }
        fs::create_dir_all(&shape.logs)
            .map_err(Error::system(format!("making the folder {}", shape.logs.display())))?;
        let switch = Switch::make(shape.networks)?;
        let router = plug_in(&switch, "router", net::ROUTER)?;
        let client = plug_in(&switch, "client", net::CLIENT)?;
        let watch = plug_in(&switch, "watch", net::WATCH)?;
        // The detector must see announcements to groups that its own kernel did not join.
        watch.ip("link set eth0 allmulticast on\n")?;
        let nodes = (1..=shape.nodes).map(|number| Node::make(&switch, number)).collect::<Result<_>>()?;
        let mut lab =
            Self { switch, router, client, watch, nodes, logs: shape.logs.clone(), skipped: Vec::new() };
        for place in [&lab.router, &lab.client, &lab.watch] {
            wait_reachable(place, std::time::Duration::from_secs(5))?;
        }
        lab.note_missing_rights()?;
        Ok(lab)
    }

    fn note_missing_rights(&mut self) -> Result<()> {
        let tried = self.client.within(|| sys::real_time(echo::PRIORITY))?;
        if let Err(cause) = tried {
            self.skipped.push(format!(
                "SKIPPED: real-time priority for prober, echo and detector ({cause}); figures are noisier"
            ));
        }
        Ok(())
    }

    /// What this run has to do without, one sentence each; to be shown loudly.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The switch.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The client's namespace.
    pub fn client(&self) -> &Place {
        &self.client
    }

    /// The detector's namespace.
    pub fn watch(&self) -> &Place {
        &self.watch
    }

    /// The router's namespace.
    pub fn router(&self) -> &Place {
        &self.router
    }

    /// The folder of this run's logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The nodes, `n1` first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node by its number, from 1.
    pub fn node(&self, number: u8) -> Result<&Node> {
        self.nodes.get(usize::from(number).wrapping_sub(1)).ok_or_else(|| self.no_node(&format!("n{number}")))
    }

    /// One node by its name.
    pub fn node_named(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name() == name).ok_or_else(|| self.no_node(name))
    }

    /// Switches a node off, as a power failure does. Gives the moment.
    pub fn power_off(&mut self, number: u8) -> Result<super::Stamp> {
        let missing = self.no_node(&format!("n{number}"));
        let node = self.nodes.get_mut(usize::from(number).wrapping_sub(1)).ok_or(missing)?;
        node.power_off(&self.switch)
    }

    /// Switches a node on again; nothing runs in it yet.
    pub fn power_on(&mut self, number: u8) -> Result<()> {
        let missing = self.no_node(&format!("n{number}"));
        let node = self.nodes.get_mut(usize::from(number).wrapping_sub(1)).ok_or(missing)?;
        node.power_on(&self.switch)
    }

    /// Starts a prober of the nodes' echo at `vip` in the client.
    pub fn probe(&self, vip: IpAddr) -> Result<Prober> {
        Prober::start(&self.client, SocketAddr::new(vip, net::ECHO_PORT))
    }

    /// Starts a prober of a Service's address and UDP port in the client.
    pub fn probe_service(&self, target: SocketAddr) -> Result<Prober> {
        Prober::start(&self.client, target)
    }

    /// Starts a detector of `vip` in the watcher's namespace.
    pub fn detect(&self, vip: IpAddr) -> Result<Detector> {
        Detector::start(&self.watch, vip)
    }

    /// Starts a census of these IPv4 addresses in the watcher's namespace, a question for each in every `round`.
    pub fn count(&self, addrs: &[IpAddr], round: Duration) -> Result<Census> {
        Census::start(&self.watch, addrs, round)
    }

    fn no_node(&self, name: &str) -> Error {
        let known: Vec<&str> = self.nodes.iter().map(Node::name).collect();
        Error::NoNode { name: name.to_owned(), known: known.join(", ") }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.powered()) {
            let _ = node.power_off(&self.switch);
        }
        let places = [&self.router, &self.client, &self.watch].map(|place| place.name().to_owned());
        let ports: Vec<String> = self.nodes.iter().flat_map(Node::ports).chain(places).collect();
        self.switch.clear(&ports);
    }
}

/// A namespace on a port of the switch, without an init.
fn plug_in(switch: &Switch, name: &str, number: u8) -> Result<Place> {
    let place = Place::fresh(name)?;
    switch.place().ip(&format!(
        "link add {name} type veth peer name eth0 netns {}\n\
         link set {name} addrgenmode none\n\
         link set {name} master br0\n\
         link set {name} up\n",
        place.path().display()
    ))?;
    set_up_nic(&place, number)?;
    Ok(place)
}
