//! A minimal kube-proxy for the lab: on every node one nftables table that leads what reaches a Service's load-balancer
//! address to its endpoints. Fed with the Services and `EndpointSlices` of the cluster as a latest-value cell (`follow`
//! makes one of the lab's own API server); one thread per node replaces the whole table when it would read differently.
//! API faults do not reach it: it reads the store itself, as if its own watch never broke.

mod ruleset;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::socket::SockProtocol;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::api::{Kind, Server, Store};
use crate::bench::netlink::Netlink;
use crate::bench::place::feed;
use crate::bench::{Node, boot};
use ruleset::{Ruleset, UNTRANSLATED};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE` of `linux/netfilter/nfnetlink_conntrack.h`.
const CT_DELETE: u16 = 1 << 8 | 2;
const CTA_MARK: u16 = 8;
const CTA_MARK_MASK: u16 = 21;

/// What the proxies follow.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// All Services.
    pub services: Vec<Arc<Value>>,
    /// All `EndpointSlices`.
    pub slices: Vec<Arc<Value>>,
}

impl Objects {
    fn of(store: &Store) -> Self {
        let list = |resource| Kind::named(resource).map(|kind| store.list(kind)).unwrap_or_default();
        Self { services: list("services"), slices: list("endpointslices") }
    }

    /// Are these the very same versions?
    fn same(&self, other: &Self) -> bool {
        let equal = |a: &[Arc<Value>], b: &[Arc<Value>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        equal(&self.services, &other.services) && equal(&self.slices, &other.slices)
    }
}

/// Follows the store of the lab's API server, until the process ends.
pub fn follow(server: &Server) -> Result<watch::Receiver<Objects>> {
    let mut version = server.store().subscribe();
    let (sender, receiver) = watch::channel(Objects::of(server.store()));
    let server = server.clone();
    let runtime = runtime()?;
    let run = move || {
        while runtime.block_on(version.changed()).is_ok() {
            version.mark_unchanged();
            let now = Objects::of(server.store());
            // Most changes are renewals of Leases.
            sender.send_if_modified(|seen| {
                let changed = !seen.same(&now);
                *seen = now;
                changed
            });
        }
    };
    thread::Builder::new().name("services".to_owned()).spawn(run).context("following the store")?;
    Ok(receiver)
}

/// Something to wait on a cell with; no task runs in it.
fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().build().context("making a runtime for a thread that waits")
}

/// Starts the proxy of a node; it ends when `objects` does, or when the node has lost its power.
pub fn start(node: &Node, objects: &watch::Receiver<Objects>) -> Result<()> {
    boot::present("nft", "nftables")?;
    let place = node.place()?.clone();
    let netlink = place.within(|| Netlink::open(SockProtocol::NetlinkNetFilter))?;
    let netlink = netlink.context("opening a socket for connection tracking")?;
    let (name, mut objects) = (node.name().to_owned(), objects.clone());
    objects.mark_changed();
    let runtime = runtime()?;
    let run = move || {
        if place.move_in().is_err() {
            return;
        }
        let mut applied = Ruleset::default();
        while runtime.block_on(objects.changed()).is_ok() {
            let wanted = ruleset::render(&name, &objects.borrow_and_update());
            if wanted == applied {
                continue;
            }
            if let Err(why) = apply(&netlink, &applied, &wanted) {
                eprintln!("lab: the proxy of {name}: {why:#}");
                continue;
            }
            applied = wanted;
        }
    };
    thread::Builder::new()
        .name(format!("proxy of {}", node.name()))
        .spawn(run)
        .context("starting a proxy")?;
    Ok(())
}

/// Replaces the table, then forgets the datagram flows that it would lead elsewhere now: to endpoints that are gone, and
/// those that came before the Service was known. Connections of TCP go on, as under kube-proxy.
fn apply(netlink: &Netlink, applied: &Ruleset, wanted: &Ruleset) -> Result<()> {
    feed(Command::new("nft").args(["-f", "-"]), &wanted.text)?;
    let gone: BTreeSet<u32> = applied.marks.difference(&wanted.marks).copied().collect();
    for mark in gone.into_iter().chain([UNTRANSLATED]) {
        netlink.request(CT_DELETE, &flows_marked(mark)).context("forgetting flows")?;
    }
    Ok(())
}

/// `nfgenmsg` for all families, then the mark and its mask.
fn flows_marked(mark: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for (kind, value) in [(CTA_MARK, mark), (CTA_MARK_MASK, u32::MAX)] {
        body.extend(8_u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value.to_be_bytes());
    }
    body
}
