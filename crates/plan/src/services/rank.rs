//! Placement: who goes first when a group of addresses is free. Fed with the nodes, the groups and who holds them now;
//! gives back, for this node and each group, how many nodes come before it. Nothing moves because of it: an owner keeps
//! what it has, also when a node returns.
//!
//! Rendezvous hashing (the highest random weight wins) with a bounded load: of the nodes in the order of their weights
//! the first that has room goes first. Room is a quarter above the mean, or one group. Groups that are held count for
//! their holders; the free ones are given out in the order of their creation, so that a new group changes nothing for
//! older ones. A held group has a rank, too: the one that counts when its holder dies, with the holder's groups given
//! out to the others by the same rule. Nodes that are preferred are filled before others, and a node with another group of
//! the same anti-affinity group comes after those without. All nodes compute the same from the same facts; where facts differ for a moment,
//! the Lease decides.

use std::collections::{BTreeMap, BTreeSet};

use vip_model::NodeName;
use vip_model::service::ServiceName;

/// A node that could hold groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner<'a> {
    pub(super) name: &'a NodeName,
    /// How much it is preferred.
    score: u32,
    hash: u64,
}

impl<'a> Runner<'a> {
    pub(super) fn new(name: &'a NodeName, score: u32) -> Self {
        Self { name, score, hash: fnv(FNV_OFFSET, name.as_str().as_bytes()) }
    }
}

/// An anti-affinity group: its namespace and its name.
pub(super) type Apart<'a> = (&'a str, &'a str);

/// A group that somebody has to hold.
#[derive(Clone, Debug)]
pub(super) struct Race<'a> {
    /// The Service that the group is named after.
    pub(super) key: &'a ServiceName,
    /// Who can hold it.
    pub(super) field: Field,
    /// Who holds it now: an index into the nodes.
    pub(super) holder: Option<usize>,
    /// Its anti-affinity group: another of these is better on another node.
    pub(super) apart: Option<Apart<'a>>,
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

/// How groups are given out when the nodes that hold something keep it; one of them may have died.
#[derive(Clone, Debug)]
struct Book<'a> {
    /// How many groups each node has.
    load: Vec<usize>,
    /// The nodes that have a group of an anti-affinity group.
    apart: BTreeMap<Apart<'a>, BTreeSet<usize>>,
    /// How many nodes there are of each score.
    tiers: BTreeMap<u32, usize>,
}

impl<'a> Book<'a> {
    /// What everybody holds, without the node that died.
    fn new(nodes: &[Runner<'_>], races: &[Race<'a>], dead: Option<usize>) -> Self {
        let mut book = Self { load: vec![0; nodes.len()], apart: BTreeMap::new(), tiers: BTreeMap::new() };
        for (holder, race) in races.iter().filter_map(|race| Some((race.holder?, race))) {
            book.load[holder] += 1;
            if Some(holder) != dead {
                book.note(race, holder);
            }
        }
        for (_, node) in nodes.iter().enumerate().filter(|(at, _)| Some(*at) != dead) {
            *book.tiers.entry(node.score).or_default() += 1;
        }
        book
    }

    fn note(&mut self, race: &Race<'a>, node: usize) {
        if let Some(apart) = race.apart {
            self.apart.entry(apart).or_default().insert(node);
        }
    }

    /// Whether a node has no other group of the race's anti-affinity group.
    fn is_apart(&self, race: &Race<'_>, node: usize) -> bool {
        race.apart.is_none_or(|apart| self.apart.get(&apart).is_none_or(|nodes| !nodes.contains(&node)))
    }
}

/// How many nodes go before the node `me`, for each race. The races come in the order of creation. A node that is no
/// candidate goes last. Nodes without another group of the same anti-affinity group go first, then those that are
/// preferred, and among equals the hash decides.
pub(super) fn ranks(nodes: &[Runner<'_>], me: Option<usize>, races: &[Race<'_>]) -> Vec<u32> {
    let mut books: Vec<Option<Book<'_>>> = vec![None; nodes.len() + 1];
    let mut ranks = Vec::with_capacity(races.len());
    for race in races {
        let book = &mut books[race.holder.unwrap_or(nodes.len())];
        let book = book.get_or_insert_with(|| Book::new(nodes, races, race.holder));
        let hash = hash_of(race.key);
        let weight = |node: usize| mix(hash ^ nodes[node].hash);
        let place = |node: usize| (book.is_apart(race, node), nodes[node].score);
        let runners = (0..nodes.len()).filter(|node| Some(*node) != race.holder && race.field.has(*node));
        let best = runners.clone().map(|node| nodes[node].score).max().unwrap_or_default();
        let limit = limit(races.len(), book.tiers.get(&best).copied().unwrap_or_default());
        let has_room = |node: usize| book.load[node] < limit;
        let Some(first) = runners.clone().max_by_key(|node| (place(*node), has_room(*node), weight(*node)))
        else {
            ranks.push(0); // nobody else can
            continue;
        };
        let rank = match me {
            Some(me) if Some(me) == race.holder || me == first => 0,
            Some(me) if race.field.has(me) => {
                let mine = (place(me), weight(me));
                1 + runners.filter(|node| *node != first && (place(*node), weight(*node)) > mine).count()
            }
            _ => runners.count(),
        };
        book.load[first] += 1;
        book.note(race, first);
        ranks.push(u32::try_from(rank).unwrap_or(u32::MAX));
    }
    ranks
}

/// For each race that the node `me` holds: the nodes that hold another one of the same anti-affinity group, this one
/// only when the other comes first.
pub(super) fn crowds(me: Option<usize>, races: &[Race<'_>]) -> Vec<BTreeSet<usize>> {
    let mut firsts: BTreeMap<Apart<'_>, BTreeMap<usize, usize>> = BTreeMap::new();
    for (at, race) in races.iter().enumerate() {
        if let (Some(apart), Some(holder)) = (race.apart, race.holder) {
            firsts.entry(apart).or_default().entry(holder).or_insert(at);
        }
    }
    let crowd = |(at, race): (usize, &Race<'_>)| {
        let (Some(apart), true) = (race.apart, me.is_some() && race.holder == me) else {
            return BTreeSet::new();
        };
        let holders = firsts.get(&apart).into_iter().flatten();
        holders.filter(|(_, first)| **first != at).map(|(holder, _)| *holder).collect()
    };
    races.iter().enumerate().map(crowd).collect()
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
