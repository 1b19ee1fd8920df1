//! Who contends for the VIP on the nodes: kube-vip with a manifest, or keepalived. Gives the stage what to spawn on a node,
//! and says whether everybody knows everybody.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vip_model::peers::Fitness;
use vip_model::view::{SessionView, TrustView, View};

use super::agent::{self, Manifest};
use super::table::Setup;
use crate::bench::{Node, Spawn, Stamp, boot, net};

/// A juror that vouched longer ago than this is late, at any interval.
const VOUCHED_WITHIN: Duration = Duration::from_millis(2500);
/// How long an agent may take to show its view.
const VIEW_WITHIN: Duration = Duration::from_secs(1);
/// keepalived's configuration inside a node.
const CONFIG: &str = "/run/keepalived.conf";

/// Who contends.
#[derive(Clone, Debug)]
pub enum Contender {
    /// The binary under test.
    KubeVip(Manifest),
    /// keepalived with this time between two adverts, in seconds as it reads them.
    Keepalived(&'static str),
}

impl Contender {
    /// The program; an error if it is not there.
    pub fn binary(&self) -> Result<PathBuf> {
        match self {
            Self::KubeVip(_) => agent::binary(),
            Self::Keepalived(_) => {
                boot::present("keepalived", "keepalived")?;
                Ok(PathBuf::from("/usr/sbin/keepalived"))
            }
        }
    }

    /// What to start on a node, after its files are written there.
    pub fn spawn(&self, node: &Node, setup: Setup, (binary, logs): (&Path, &Path)) -> Result<Spawn> {
        match self {
            Self::KubeVip(manifest) => {
                Ok(manifest.with(setup.set).spawn(node.name(), setup.gate, binary, logs))
            }
            Self::Keepalived(advert) => {
                node.write(CONFIG, &configuration(node.number(), advert))?;
                let args = ["-n", "-l", "-D", "-P", "-f", CONFIG, "-p", "/run/keepalived.pid"];
                let vrrp = ["-r", "/run/keepalived-vrrp.pid"];
                Ok(Spawn {
                    name: format!("keepalived on {}", node.name()),
                    program: binary.to_owned(),
                    args: args.into_iter().chain(vrrp).map(Into::into).collect(),
                    env: Vec::new(),
                    log: logs.join(format!("{}-keepalived.log", node.name())),
                })
            }
        }
    }

    /// Whether each run begins with fresh daemons: what a former run left of keepalived (two masters, a client that knows
    /// the wrong one) must not count for the next.
    pub const fn begins_anew(&self) -> bool {
        matches!(self, Self::Keepalived(_))
    }
}

/// A router of VRRP version 3 for each family; the node with the highest number is the master.
fn configuration(number: u8, advert: &str) -> String {
    let router = |name: &str, id: u8, address: String| {
        format!(
            "vrrp_instance {name} {{\n  state BACKUP\n  interface eth0\n  virtual_router_id {id}\n  \
             priority {}\n  advert_int {advert}\n  virtual_ipaddress {{\n    {address}\n  }}\n}}\n",
            100 + number
        )
    };
    let [v4, v6] = net::vips();
    format!(
        "global_defs {{\n  vrrp_version 3\n}}\n{}{}",
        router("v4", 51, format!("{v4}/32")),
        router("v6", 52, format!("{v6}/128"))
    )
}

/// What the agent on a node shows of itself.
pub fn view(node: &Node) -> Result<View> {
    let folder = node.path("/run/kube-vip")?;
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let sockets = entries.flatten().map(|entry| entry.path());
    let socket = sockets.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "sock"));
    let socket = socket.with_context(|| format!("no agent has a socket on {}", node.name()))?;
    let mut stream = UnixStream::connect(&socket).with_context(|| format!("asking {}", socket.display()))?;
    stream.set_read_timeout(Some(VIEW_WITHIN)).context("limiting the wait for a view")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).with_context(|| format!("listening to {}", socket.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} shows no view", node.name()))
}

/// Whether the agents on these nodes, if they are in mode `session`, all hear each other, and the jury of who holds something
/// vouches. The error says what is missing.
pub fn ensure_settled(nodes: &[&Node]) -> Result<()> {
    for node in nodes {
        let view = view(node)?;
        if let Some(session) = &view.session {
            let taken = view.taken;
            ensure_heard(session, nodes.len() - 1)
                .and_then(|()| ensure_vouched(session, |at| taken.since(at)))
                .with_context(|| format!("the session of {}", node.name()))?;
        }
    }
    Ok(())
}

fn ensure_heard(session: &SessionView, others: usize) -> Result<()> {
    let fit = session.peers.iter().filter(|peer| peer.fitness == Some(Fitness::Fit)).count();
    ensure!(fit == others, "{fit} of {others} members are heard and fit: {:?}", session.peers);
    ensure!(session.trust == TrustView::Sure, "it is {:?}", session.trust);
    Ok(())
}

fn ensure_vouched(session: &SessionView, age: impl Fn(vip_model::Instant) -> Duration) -> Result<()> {
    if session.claims == 0 {
        return Ok(());
    }
    let vouches = |peer: &&vip_model::view::PeerView| {
        peer.juror && peer.vouched.is_some_and(|at| age(at) < VOUCHED_WITHIN)
    };
    let vouching = session.peers.iter().filter(vouches).count();
    ensure!(vouching == session.peers.len(), "{vouching} members vouch: {:?}", session.peers);
    Ok(())
}

/// Lets the client forget where the VIPs are, as if it had never asked.
pub fn forget_neighbours(client: &crate::bench::Place) -> Result<Stamp> {
    client.ip("neigh flush all\n")?;
    Ok(Stamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_per_family_and_the_highest_number_first() {
        let text = configuration(3, "0.01");
        assert!(text.contains("vrrp_version 3"), "{text}");
        assert_eq!(text.matches("priority 103").count(), 2, "{text}");
        assert_eq!(text.matches("advert_int 0.01").count(), 2, "{text}");
        assert!(text.contains("10.77.0.200/32") && text.contains("fd77::200/128"), "{text}");
    }
}
