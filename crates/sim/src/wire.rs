//! The segment: who hears whom, how late and how often, and a client that remembers who answered.

use std::time::Duration;

use vip_model::LinkAddr;

use crate::queue::Host;
use crate::setup::MAX_NODES;

/// Place of the client in the table of cuts.
const CLIENT: usize = MAX_NODES;

/// Whether frames pass in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// They do.
    #[default]
    Open,
    /// They do not.
    Cut,
}

/// The segment.
#[derive(Clone, Debug)]
pub struct Wire {
    paths: [[Path; MAX_NODES + 1]; MAX_NODES + 1],
    /// Per cent of frames that are lost.
    pub loss: u32,
    /// By how much a frame may be late.
    pub delay: Duration,
    /// Per cent of frames that arrive twice.
    pub duplicate: u32,
    /// The client's neighbour cache, by number of the VIP.
    pub client: Vec<Option<LinkAddr>>,
}

fn place(host: Host) -> usize {
    match host {
        Host::Node(node) => node,
        Host::Client => CLIENT,
    }
}

impl Wire {
    /// An open segment, and a client that knows of so many VIPs.
    pub fn new(vips: usize) -> Self {
        Self {
            paths: Default::default(),
            loss: 0,
            delay: Duration::ZERO,
            duplicate: 0,
            client: vec![None; vips],
        }
    }

    /// Whether a frame passes.
    pub(crate) fn path(&self, from: Host, to: Host) -> Path {
        self.paths[place(from)][place(to)]
    }

    /// Opens or cuts one direction between two nodes.
    pub fn set(&mut self, from: usize, to: usize, path: Path) {
        if from < MAX_NODES && to < MAX_NODES {
            self.paths[from][to] = path;
        }
    }

    /// Opens or cuts everything between a node and all others, the client included.
    pub fn set_all(&mut self, node: usize, path: Path) {
        for other in (0..=CLIENT).filter(|other| *other != node) {
            self.paths[node][other] = path;
            self.paths[other][node] = path;
        }
    }
}
