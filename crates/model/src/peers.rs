//! Heartbeats between agents: what one datagram says, and the door (the socket) through which they go.
//!
//! The node sees contents only. Bytes, keys and the check against forgery and replay belong to whoever holds the door:
//! what reaches the node was sent by a member, to this node, and is newer than what came from that session before.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{SessionId, Succession};
use crate::{Instant, LeaseName, NodeName};

/// The fingerprint of a key for heartbeats. The key itself never reaches the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub u32);

/// Tells the heartbeats of several instances in one cluster apart (`InstanceName::address_tag`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceTag(pub u8);

/// A key for heartbeats. Only the gateways and the door see it: it has no text, is in no journal and in no view.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerKey([u8; Self::LENGTH]);

impl PeerKey {
    /// Bytes of a key.
    pub const LENGTH: usize = 32;

    /// A key of these bytes.
    pub const fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerKey(…)")
    }
}

/// The keys for heartbeats, as the store has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerKeys {
    /// The one that all shall use as soon as all can read it.
    pub newest: PeerKey,
    /// The one before; none when there never was one or it was taken away.
    pub previous: Option<PeerKey>,
}

/// A claim on the wire: a 64-bit FNV-1a hash of `namespace/name` of its Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The group of a claim.
    pub fn of(lease: &LeaseName) -> Self {
        Self(fnv(lease.namespace().bytes().chain([b'/']).chain(lease.name().bytes())))
    }
}

/// What one datagram says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagram {
    /// The sender's instance: one node may run several, and the port of one may once have been that of another.
    pub instance: InstanceTag,
    /// The sender's node.
    pub from: NodeName,
    /// The sender's session.
    pub session: SessionId,
    /// The node that it is for: a copy that is sent to another node means nothing there.
    pub to: NodeName,
    /// When it was sent, on the sender's boot-time clock; grows with every datagram of that sender, over restarts of its
    /// agent too.
    pub sequence: Instant,
    /// What was last heard from the receiver.
    pub echo: Option<Echo>,
    /// Whether it wants an answer at once.
    pub kind: Kind,
    /// The generation of the sender's jury when the receiver is in it, counted from 1; 0 when it is not.
    pub jury: u32,
    /// How long ago the API last answered the sender; none when it never did.
    pub api_age: Option<Duration>,
    /// Whether the sender could hold VIPs.
    pub fitness: Fitness,
    /// What the sender serves, and where a hand-over stands.
    pub groups: GroupList,
    /// Votes that the sender asks for.
    pub asks: Vec<Vote>,
    /// Votes that the sender gives.
    pub grants: Vec<Vote>,
    /// Sessions that ended, as far as the sender knows and the receiver may need to.
    pub successions: Vec<Succession>,
    /// Groups of the receiver whose addresses do not answer on the sender's networks, though the receiver is heard.
    pub unseen: Vec<GroupId>,
}

/// Whether a datagram wants an answer at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A juror answers it.
    Beat,
    /// It is an answer.
    Reply,
}

/// What was last heard from the receiver of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The receiver's session, as last heard.
    pub session: SessionId,
    /// The newest sequence that was heard of it.
    pub sequence: Instant,
    /// Whether the sender, as a juror, vouches for it.
    pub word: Word,
    /// The list of groups that the sender has of it; that of no groups when it has none.
    pub groups: ListDigest,
}

/// A juror's word for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It is no juror of it, has just started and only listens, or has granted it to an heir.
    Silent,
    /// It vouches.
    Vouches,
}

/// Whether a member could hold VIPs, for the order of contenders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fitness {
    /// Gates are green (or not configured) and nothing keeps it from holding.
    #[default]
    Fit,
    /// Its health gate is closed.
    Unhealthy,
    /// It is drained, excluded or stopping.
    Leaving,
    /// It stops and says that it will be back: what it holds stays.
    BackSoon,
}

/// What a member says of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupWord {
    /// The group.
    pub group: GroupId,
    /// Where it stands.
    pub stage: Stage,
}

/// What a member says of all its groups: the list, until the other side has echoed it, and then that it is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupList {
    /// These.
    Listed(Vec<GroupWord>),
    /// The list that the receiver echoed.
    AsEchoed(ListDigest),
}

impl GroupList {
    /// A list of no groups.
    pub const EMPTY: Self = Self::Listed(Vec::new());

    /// The groups, when they are listed.
    pub fn listed(&self) -> &[GroupWord] {
        match self {
            Self::Listed(words) => words,
            Self::AsEchoed(_) => &[],
        }
    }
}

/// A list of groups in 64 bits: FNV-1a over its words. It tells lists of members apart; nobody who has no key gets to choose
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListDigest(pub u64);

impl ListDigest {
    /// That of no groups.
    pub const NONE: Self = Self(FNV_BASIS);

    /// The digest of a list.
    pub fn of(words: &[GroupWord]) -> Self {
        let bytes = |word: &GroupWord| {
            let group = word.group.0.to_be_bytes();
            group.into_iter().chain([word.stage as u8])
        };
        Self(fnv(words.iter().flat_map(bytes)))
    }
}

impl Default for ListDigest {
    fn default() -> Self {
        Self::NONE
    }
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(FNV_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Where a group stands at a member, with its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is owned; its addresses are not all announced yet.
    Owned = 1,
    /// It is owned and announced.
    Announced = 2,
    /// It was handed over and its addresses are gone.
    Withdrawn = 3,
    /// It is given up: whoever is eligible may take it.
    Released = 4,
    /// It was handed over, and is served until its new owner says that it serves it.
    Given = 5,
}

/// A vote, asked for or given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vote {
    /// The session that would end.
    pub of: SessionId,
    /// The generation of its jury.
    pub generation: u32,
    /// The session that would follow.
    pub heir: SessionId,
    /// The heir's attempt, counted up; a grant counts for this attempt only.
    pub attempt: u32,
    /// How many jurors go before the heir.
    pub rank: u8,
}

/// A datagram that was let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHeard {
    /// When it was let in, on the receiver's boot-time clock: it may have waited for a turn since.
    pub at: Instant,
    /// Where it came from: later datagrams go there, too.
    pub from: SocketAddr,
    /// What it says.
    pub datagram: Datagram,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSend {
    /// Where to.
    pub to: SocketAddr,
    /// What to say.
    pub datagram: Datagram,
}

/// The wanted door: the whole set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorWant {
    /// The UDP port to listen on; when it is taken, any other is.
    pub port: u16,
    /// The key that seals what is sent; none sends nothing.
    pub seal: Option<KeyId>,
    /// The keys that are accepted.
    pub accept: BTreeSet<KeyId>,
}

/// What became of the door.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorState {
    /// The port on which it listens; none when it does not.
    pub port: Option<u16>,
    /// The keys that this node can read.
    pub keys: BTreeSet<KeyId>,
    /// The newest of them: the one that all shall use as soon as all can read it.
    pub newest: Option<KeyId>,
    /// What is wrong, for people.
    pub trouble: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_show_itself() {
        let keys = PeerKeys { newest: PeerKey::new([7; PeerKey::LENGTH]), previous: None };
        assert_eq!(format!("{keys:?}"), "PeerKeys { newest: PeerKey(…), previous: None }");
    }

    #[test]
    fn a_group_is_the_hash_of_its_leases_name() {
        // FNV-1a of "a/b", by hand from the definition.
        let expected = [b'a', b'/', b'b'].into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        assert_eq!(GroupId::of(&LeaseName::new("a", "b")), GroupId(expected));
        assert_ne!(GroupId::of(&LeaseName::new("a", "b")), GroupId::of(&LeaseName::new("b", "a")));
    }

    #[test]
    fn lists_that_differ_have_other_digests() {
        let word = |group, stage| GroupWord { group: GroupId(group), stage };
        let lists = [
            vec![],
            vec![word(1, Stage::Owned)],
            vec![word(1, Stage::Announced)],
            vec![word(2, Stage::Owned)],
            vec![word(1, Stage::Owned), word(2, Stage::Owned)],
            vec![word(2, Stage::Owned), word(1, Stage::Owned)],
        ];
        let digests: BTreeSet<u64> = lists.iter().map(|list| ListDigest::of(list).0).collect();
        assert_eq!(digests.len(), lists.len());
        assert_eq!(ListDigest::of(&[]), ListDigest::NONE);
    }
}
