//! Placement: who goes first when a group of addresses is free. Fed with the nodes, the groups and who holds them now;
//! gives back, for this node and each group, how many nodes come before it. Nothing moves because of it: an owner keeps
//! what it has, also when a node returns.
//!
//! Rendezvous hashing (the highest random weight wins) with a bounded load: of the nodes in the order of their weights
//! the first that has room goes first. Room is a quarter above the mean, or one group. Groups that are held count for
//! their holders; the free ones are given out in the order of their creation, so that a new group changes nothing for
//! older ones. A held group has a rank, too: the one that counts when its holder dies, with the holder's groups given
//! out to the others by the same rule. All nodes compute the same from the same facts; where facts differ for a moment,
//! the Lease decides.

use vip_model::NodeName;
use vip_model::service::ServiceName;

/// A node that could hold groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner<'a> {
    pub(super) name: &'a NodeName,
    hash: u64,
}

impl<'a> Runner<'a> {
    pub(super) fn new(name: &'a NodeName) -> Self {
        Self { name, hash: fnv(FNV_OFFSET, name.as_str().as_bytes()) }
    }
}

/// A group that somebody has to hold.
#[derive(Clone, Debug)]
pub(super) struct Race<'a> {
    /// The Service that the group is named after.
    pub(super) key: &'a ServiceName,
    /// Who can hold it.
    pub(super) field: Field,
    /// Who holds it now: an index into the nodes.
    pub(super) holder: Option<usize>,
}

/// Which nodes can hold a group.
#[derive(Clone, Debug)]
pub(super) enum Field {
    /// All of them.
    All,
    /// These, by index, sorted and without duplicates.
    Only(Vec<usize>),
}

impl Field {
    fn has(&self, node: usize) -> bool {
        match self {
            Self::All => true,
            Self::Only(nodes) => nodes.binary_search(&node).is_ok(),
        }
    }
}

/// How many nodes go before the node `me`, for each race. The races come in the order of creation. A node that is no
/// candidate goes last.
pub(super) fn ranks(nodes: &[Runner<'_>], me: Option<usize>, races: &[Race<'_>]) -> Vec<u32> {
    let mut held = vec![0; nodes.len()];
    for holder in races.iter().filter_map(|race| race.holder) {
        held[holder] += 1;
    }
    let mut books: Vec<Option<Vec<usize>>> = vec![None; nodes.len() + 1];
    let mut ranks = Vec::with_capacity(races.len());
    for race in races {
        let book =
            books[race.holder.map_or(nodes.len(), |holder| holder)].get_or_insert_with(|| held.clone());
        let hash = hash_of(race.key);
        let weight = |node: usize| mix(hash ^ nodes[node].hash);
        let runners = (0..nodes.len()).filter(|node| Some(*node) != race.holder && race.field.has(*node));
        let limit = limit(races.len(), nodes.len() - usize::from(race.holder.is_some()));
        let has_room = runners.clone().filter(|node| book[*node] < limit);
        let Some(first) = has_room
            .max_by_key(|node| weight(*node))
            .or_else(|| runners.clone().max_by_key(|node| weight(*node)))
        else {
            ranks.push(0); // nobody else can
            continue;
        };
        book[first] += 1;
        let rank = match me {
            Some(me) if Some(me) == race.holder || me == first => 0,
            Some(me) if race.field.has(me) => {
                1 + runners.filter(|node| *node != first && weight(*node) > weight(me)).count()
            }
            _ => runners.count(),
        };
        ranks.push(u32::try_from(rank).unwrap_or(u32::MAX));
    }
    ranks
}

/// How many groups a node may have before others go first: a quarter above the mean, rounded down, but never less than
/// what an even spread needs.
fn limit(groups: usize, nodes: usize) -> usize {
    let nodes = nodes.max(1);
    groups.div_ceil(nodes).max(groups * 5 / (nodes * 4))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn hash_of(key: &ServiceName) -> u64 {
    fnv(FNV_OFFSET, key.as_str().as_bytes())
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood 2014): every bit of the input changes half of the output.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
