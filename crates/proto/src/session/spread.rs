//! Who goes first: hashes that spread jurors, ranks and groups over the members, nodes that are preferred, and those that a
//! group of an anti-affinity group shall not be on; and why a group that is served well would still be better elsewhere.
//! Read by bids and hand-overs; moves nothing by itself.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use vip_model::config::Failback;
use vip_model::session::SessionId;
use vip_model::{Instant, LeaseName, NodeName};

use super::Ownership;
use super::group::Group;

/// So many groups burden no node: a control plane's VIP and a Service or two stay with who followed. Each move is felt by somebody.
const FEW: usize = 3;

/// Why a group of ours is to move though nothing forces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Another group of its anti-affinity group is here.
    Apart,
    /// It came with everything that a dead node had, and others have less.
    Spread,
    /// By `failback`, to a node that is placed better and has been fit for so long.
    Better { after: Duration },
}

impl Ownership {
    /// What is wished of a group of ours.
    pub(super) fn wish(&self, claim: &LeaseName, group: &Group) -> Option<Wish> {
        if group.avoids(&self.id.node) {
            return Some(Wish::Apart);
        }
        if self.next_to_spread() == Some(claim) {
            return Some(Wish::Spread);
        }
        match self.want.settings.failback {
            Failback::Never => None,
            Failback::After(after) => Some(Wish::Better { after }),
        }
    }

    /// Groups of which something is wished are looked at: whether there is somebody better for them changes with time.
    pub(super) fn mark_wishes(&mut self, now: Instant) {
        let is_wished = |claim: &&LeaseName| {
            self.groups.get(*claim).is_some_and(|group| self.wish(claim, group).is_some())
        };
        let wished: Vec<LeaseName> = self.held.iter().filter(is_wished).cloned().collect();
        for claim in wished {
            self.mark(now, &claim);
        }
    }

    /// A dead node is followed by one juror in everything: what comes so is looked at again, a group after the other.
    pub(super) fn spread_later(&mut self, claim: &LeaseName) {
        self.spreading.insert(claim.clone());
    }

    /// A group is where it shall be, or no longer ours: the next one is looked at.
    pub(super) fn stop_spreading(&mut self, now: Instant, claim: &LeaseName) {
        if self.spreading.remove(claim)
            && let Some(next) = self.next_to_spread().cloned()
        {
            self.mark(now, &next);
        }
    }

    fn next_to_spread(&self) -> Option<&LeaseName> {
        let is_served = |claim: &&LeaseName| self.groups.get(*claim).is_some_and(Group::is_announced);
        self.spreading.iter().find(is_served)
    }

    /// A member that could have a group, is no less preferred for it, and has fewer than we would have without it; nobody
    /// while we have a few.
    pub(super) fn lighter(&self, now: Instant, claim: &LeaseName) -> Option<NodeName> {
        let group = self.groups.get(claim)?;
        let load = |session: &SessionId| self.holdings.get(session).map_or(0, BTreeSet::len);
        let could = |node: &NodeName| {
            let (is_apart, (score, _)) = self.place(group, node);
            let (_, (ours, _)) = self.place(group, &self.id.node);
            is_apart && score >= ours && self.is_heir(now, group, node)
        };
        let members = self.peers.iter().filter(|(node, _)| could(node));
        let (node, peer) =
            members.min_by_key(|(node, peer)| (load(&peer.session), Reverse(self.place(group, node))))?;
        let is_burdened = self.held.len() > FEW;
        (is_burdened && load(&peer.session) + 1 < self.held.len()).then(|| node.clone())
    }

    /// A node's place among those that could have something: the largest goes first. Preferred nodes, then a hash.
    pub(super) fn favour(&self, node: &NodeName, seed: u64) -> (u32, u64) {
        let score = self.want.preferences.get(node).copied().unwrap_or_default();
        (score, mix(hash(node.as_str()) ^ seed))
    }

    /// The same for a group: first of all a node without another group of the same anti-affinity group.
    pub(super) fn place(&self, group: &Group, node: &NodeName) -> (bool, (u32, u64)) {
        (!group.avoids(node), self.favour(node, group.id.0))
    }
}

/// FNV-1a, 64 bits.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood 2014): every bit of the input changes half of the output.
pub(super) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
