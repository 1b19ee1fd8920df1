//! The cluster behind the agents of a Services scenario: the lab's own API server, or the real one. Scenarios write and
//! read objects through it as an administrator; the proxies follow it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::sync::watch;
use vip_lab::api::{Effect, Failure, Fault, Identity, Kind, Knobs, Login, Reach, Whose};
use vip_lab::bench::{Lab, Node};
use vip_lab::scenario::control_plane::{ControlPlane, PORT};
use vip_lab::scenario::proxy::{self, Objects};
use vip_lab::scenario::table::Health;

/// What a node reaches of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// Every server.
    All,
    /// At most a server of its own, which reaches no other one.
    Own,
    /// None, not even one of its own.
    None,
}

/// What is wrong with the API, for all nodes. The administrator works on it unhindered, but for the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// Every request takes so much longer.
    Slow(Duration),
    /// Connections are made, and nothing is answered.
    Hangs,
    /// Connections break, and none is made.
    Away,
    /// The server's own process stands still.
    Stopped,
    /// The store behind the server stands still: what reads from memory is answered, nothing is written.
    StoreStopped,
    /// Whatever the agents ask for is forbidden.
    NoRights,
}

/// Whether a node has power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    On,
    Off,
}

/// What scenarios need of an API server.
pub(crate) trait Cluster {
    /// Writes the files into a node by which its agent finds it.
    fn furnish(&self, node: &Node) -> Result<()>;
    /// Settings by which an agent finds those files.
    fn settings(&self) -> Vec<(&'static str, &'static str)>;
    /// Creates an object or replaces it, its status included.
    fn apply(&self, object: &Value) -> Result<()>;
    /// An object, if it is there.
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Value>>;
    /// All objects of a kind.
    fn list(&self, resource: &str) -> Result<Vec<Value>>;
    /// What a node reaches, beside what the network between the nodes lets through.
    fn contact(&self, node: &Node, contact: Contact);
    /// Changes the weather.
    fn trouble(&self, trouble: Trouble) -> Result<()>;
    /// A node has lost its power, or is back with a network namespace of its own.
    fn power(&self, node: &Node, power: Power) -> Result<()>;
    /// The names of all objects of a kind in a namespace.
    fn names(&self, resource: &str, namespace: &str) -> Result<Vec<String>>;
    /// Lays a merge patch over an object.
    fn merge(&self, resource: &str, namespace: &str, name: &str, patch: &Value) -> Result<()>;
    /// Deletes an object, if it is there.
    fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<()>;
    /// What proxies follow.
    fn objects(&self) -> Result<watch::Receiver<Objects>>;
    /// What must hold at the end of every scenario.
    fn check(&self, lab: &Lab) -> Result<()>;
    /// The lab's own API server, whose faults can be turned on.
    fn plane(&self) -> Option<&ControlPlane>;
}

/// The row of a plural name.
pub(crate) fn kind(resource: &str) -> Result<&'static Kind> {
    Kind::named(resource).with_context(|| format!("{resource} is no resource of the lab"))
}

/// The lab's own API server.
pub(crate) struct Small(ControlPlane);

impl Small {
    /// Starts it.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        ControlPlane::start(lab).map(Self)
    }
}

impl Cluster for Small {
    /// As a DaemonSet finds its API server: at an address that no agent of these scenarios manages.
    fn furnish(&self, node: &Node) -> Result<()> {
        let credentials = self.0.server().credentials();
        let url = format!("https://127.0.0.1:{PORT}");
        let local = credentials.kubeconfig(Login::Certificate(&Identity::admin()), &url)?;
        Ok(node.write("/etc/kubernetes/admin.conf", &local)?)
    }

    fn settings(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    fn apply(&self, object: &Value) -> Result<()> {
        Ok(self.0.server().store().apply(object).map(drop)?)
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let found = self.0.server().store().get(kind(resource)?, namespace, name);
        Ok(found.map(|found| (*found).clone()))
    }

    fn list(&self, resource: &str) -> Result<Vec<Value>> {
        let all = self.0.server().store().list(kind(resource)?);
        Ok(all.iter().map(|object| (**object).clone()).collect())
    }

    fn contact(&self, node: &Node, contact: Contact) {
        match contact {
            Contact::All => self.0.set(node, Health::Serving),
            Contact::Own => self.0.set(node, Health::Alone),
            Contact::None => self.0.cut(node),
        }
    }

    fn trouble(&self, trouble: Trouble) -> Result<()> {
        let calm = Knobs::default();
        let knobs = match trouble {
            Trouble::None => calm,
            Trouble::Slow(latency) => Knobs { latency, ..calm },
            Trouble::Hangs | Trouble::Stopped => Knobs { reach: Reach::Frozen, ..calm },
            Trouble::Away => Knobs { reach: Reach::Down, ..calm },
            Trouble::StoreStopped => Knobs::dead_etcd(),
            Trouble::NoRights => {
                let refusal = Failure::new(403, "Forbidden", "forbidden: no role");
                Knobs { faults: vec![Fault::all(Effect::Fail(refusal))], ..calm }
            }
        };
        self.0.server().turn(Whose::All, |all| *all = knobs);
        Ok(())
    }

    fn power(&self, node: &Node, power: Power) -> Result<()> {
        match power {
            Power::Off => self.0.power_off(node),
            Power::On => self.0.power_on(node)?,
        }
        Ok(())
    }

    fn names(&self, resource: &str, namespace: &str) -> Result<Vec<String>> {
        let all = self.0.server().store().list(kind(resource)?);
        let inside = all.iter().filter(|object| object["metadata"]["namespace"] == namespace);
        Ok(inside.filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    fn merge(&self, resource: &str, namespace: &str, name: &str, patch: &Value) -> Result<()> {
        Ok(self.0.server().store().merge(kind(resource)?, namespace, name, patch).map(drop)?)
    }

    fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<()> {
        self.0.server().store().delete(kind(resource)?, namespace, name);
        Ok(())
    }

    fn objects(&self) -> Result<watch::Receiver<Objects>> {
        proxy::follow(self.0.server())
    }

    fn check(&self, _: &Lab) -> Result<()> {
        let missing = self.0.server().not_implemented();
        ensure!(missing.is_empty(), "asked for what the API server doesn't do: {}", missing.join(", "));
        Ok(())
    }

    fn plane(&self) -> Option<&ControlPlane> {
        Some(&self.0)
    }
}
