//! The segment: who hears whom, how late and how often, and a client that remembers who answered.

use std::time::Duration;

use vip_model::LinkAddr;

use crate::queue::Host;

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
    /// By place, the places that do not hear it, one bit each; the client's place is the last.
    cut: Vec<u64>,
    /// Per cent of frames that are lost.
    pub loss: u32,
    /// By how much a frame may be late.
    pub delay: Duration,
    /// Per cent of frames that arrive twice.
    pub duplicate: u32,
    /// Per cent of announcements that are lost.
    pub lost_announcements: u32,
    /// Whether the fabric answers broadcasts for the stations that it knows.
    pub fabric: Fabric,
    /// The client's neighbour cache, by number of the VIP.
    pub client: Vec<Option<LinkAddr>>,
    /// The stations that the fabric knows, by number of the VIP.
    pub stations: Vec<Option<LinkAddr>>,
}

/// What the switches do with broadcast questions for addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fabric {
    /// They pass them on.
    #[default]
    Plain,
    /// ARP suppression: they answer for the station that last said it has the address, dead or alive.
    Answers,
}

impl Wire {
    fn place(&self, host: Host) -> usize {
        match host {
            Host::Node(node) => node,
            Host::Client | Host::Fabric => self.cut.len() - 1,
        }
    }

    /// An open segment of so many nodes, and a client that knows of so many VIPs.
    pub fn new(nodes: usize, vips: usize) -> Self {
        Self {
            cut: vec![0; nodes + 1],
            loss: 0,
            delay: Duration::ZERO,
            duplicate: 0,
            lost_announcements: 0,
            fabric: Fabric::Plain,
            stations: vec![None; vips],
            client: vec![None; vips],
        }
    }

    /// Whether a frame passes.
    pub(crate) fn path(&self, from: Host, to: Host) -> Path {
        if from == Host::Fabric {
            return Path::Open;
        }
        if self.cut[self.place(from)] & (1 << self.place(to)) == 0 { Path::Open } else { Path::Cut }
    }

    /// Opens or cuts one direction between two nodes.
    pub fn set(&mut self, from: usize, to: usize, path: Path) {
        let nodes = self.cut.len() - 1;
        if from < nodes && to < nodes {
            self.put(from, to, path);
        }
    }

    /// Opens or cuts everything between a node and all others, the client included.
    pub fn set_all(&mut self, node: usize, path: Path) {
        for other in (0..self.cut.len()).filter(|other| *other != node) {
            self.put(node, other, path);
            self.put(other, node, path);
        }
    }

    fn put(&mut self, from: usize, to: usize, path: Path) {
        match path {
            Path::Open => self.cut[from] &= !(1 << to),
            Path::Cut => self.cut[from] |= 1 << to,
        }
    }

    /// The nodes that the client can hear and be heard by, one bit each.
    pub fn audible(&self) -> u64 {
        let client = self.cut.len() - 1;
        let hears =
            |node: &usize| self.cut[*node] & (1 << client) == 0 && self.cut[client] & (1 << *node) == 0;
        (0..client).filter(hears).map(|node| 1 << node).sum()
    }
}
