//! Who goes first: hashes that spread jurors, ranks and groups over the members, nodes that are preferred, and those that a
//! group of an anti-affinity group shall not be on. Read by bids and hand-overs; moves nothing by itself.

use vip_model::NodeName;

use super::Ownership;
use super::group::Group;

impl Ownership {
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
