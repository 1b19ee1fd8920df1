//! The node network, over which agents send heartbeats to each other, and the doors through which they go: who reaches
//! whom, what is lost, late, twice or old, which keys are read where. It is cut apart from the VIPs' network (`wire`) and
//! from the ways to API servers. Plain state; the world moves it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::mutation::Words;
use vip_model::peers::{Datagram, DoorState, DoorWant, KeyId};
use vip_model::session::SessionId;
use vip_model::{Instant, NodeName};
use vip_proto::peers::{
    ASKS_MOST, GRANTS_MOST, GROUPS_MOST, Replay, SUCCESSIONS_MOST, UNSEEN_MOST, decode, encode,
};

/// So many former datagrams are kept for somebody who sends old ones again.
const RECORDED: usize = 256;
/// So many datagrams wait in the socket of a process that does not read; what comes after is lost.
pub(crate) const SOCKET_BUFFER: usize = 400;

/// Node and port that a datagram is sent to.
pub(crate) type Target = (usize, u16);

/// The key that a datagram was sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// One that others have, too.
    Genuine(KeyId),
    /// One that only the sender's node has, under the same fingerprint.
    Wrong(KeyId),
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) from: SocketAddr,
    pub(crate) seal: Seal,
    pub(crate) datagram: Datagram,
}

/// What is wrong with the keys of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeyTrouble {
    /// Nothing.
    #[default]
    None,
    /// It has other bytes than the others.
    Wrong,
    /// It cannot read any.
    Unreadable,
}

/// The socket of one process.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// What the agent wants; none while closed.
    pub(crate) want: Option<DoorWant>,
    /// What the agent was told last.
    pub(crate) told: DoorState,
    /// On which port it listens.
    pub(crate) port: Option<u16>,
    /// What was let in before: the memory that the program uses.
    pub(crate) replay: Replay,
    /// Of whom it let in the last one, and its sequence.
    pub(crate) last: Option<(SessionId, Instant)>,
    /// The keys that the node has read.
    pub(crate) keys: BTreeSet<KeyId>,
    /// Datagrams that wait because the process is stopped.
    pub(crate) waiting: usize,
    /// Datagrams that were refused: forged, not for us, or not newer.
    pub(crate) refused: u64,
    /// What a mutation remembers.
    pub(crate) words: Words,
}

impl Door {
    /// Whether a datagram may pass at `now`, on the node's clock: sealed with an accepted key that is read here, for this
    /// node, and newer than what came from that session before.
    pub(crate) fn admits(&mut self, now: Instant, sealed: &Sealed, me: &NodeName) -> bool {
        let Some(want) = &self.want else { return false };
        let Seal::Genuine(key) = sealed.seal else { return false };
        let datagram = &sealed.datagram;
        let good = want.accept.contains(&key)
            && self.keys.contains(&key)
            && datagram.to == *me
            && self.replay.note(now, datagram.session, datagram.sequence).is_ok();
        if good {
            self.last = Some((datagram.session, datagram.sequence));
        } else {
            self.refused += 1;
        }
        good
    }
}

/// The node network and the ways from nodes to API servers.
#[derive(Clone, Debug)]
pub struct NodeNet {
    /// For each sender, the nodes that do not get its datagrams, one bit each.
    cut: Vec<u64>,
    /// For each node, the API servers that it does not reach, one bit each.
    api_cut: Vec<u64>,
    /// Nodes whose port is blocked by a firewall.
    blocked: u64,
    /// Per cent of datagrams that are lost.
    pub loss: u32,
    /// By how much a datagram may be late.
    pub delay: Duration,
    /// Per cent of datagrams that arrive twice.
    pub duplicate: u32,
    /// Per cent of datagrams after which an old one is sent again by somebody.
    pub replay: u32,
    recorded: Vec<(Target, Rc<Sealed>)>,
    /// Counts what was recorded.
    turns: usize,
    /// The keys in the Secret; the last one is the newest.
    pub keys: Vec<KeyId>,
}

fn set_bit(mask: &mut u64, bit: usize, passage: Passage) {
    match passage {
        Passage::Cut => *mask |= 1 << bit,
        Passage::Open => *mask &= !(1 << bit),
    }
}

/// Whether something passes.
pub use crate::wire::Path as Passage;

impl NodeNet {
    /// An open network of so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            cut: vec![0; nodes],
            api_cut: vec![0; nodes],
            blocked: 0,
            loss: 0,
            delay: Duration::ZERO,
            duplicate: 0,
            replay: 0,
            recorded: Vec::new(),
            turns: 0,
            keys: vec![KeyId(1)],
        }
    }

    /// Whether datagrams pass from one node to another.
    pub fn passes(&self, from: usize, to: usize) -> bool {
        let blocked = self.blocked & ((1 << from) | (1 << to)) != 0;
        self.cut[from] & (1 << to) == 0 && !blocked
    }

    /// Opens or cuts one direction.
    pub fn set(&mut self, from: usize, to: usize, passage: Passage) {
        if from < self.cut.len() && to < self.cut.len() {
            set_bit(&mut self.cut[from], to, passage);
        }
    }

    /// Opens or cuts everything between a node and the others.
    pub fn set_all(&mut self, node: usize, passage: Passage) {
        for other in (0..self.cut.len()).filter(|other| *other != node) {
            self.set(node, other, passage);
            self.set(other, node, passage);
        }
    }

    /// A firewall blocks the port of a node, or does not.
    pub fn set_port(&mut self, node: usize, passage: Passage) {
        set_bit(&mut self.blocked, node, passage);
    }

    /// Whether a node reaches an API server; its own always, on `lo`.
    pub fn reaches_api(&self, node: usize, server: usize) -> bool {
        self.api_cut[node] & (1 << server) == 0
    }

    /// Opens or cuts the way from a node to an API server.
    pub fn set_api(&mut self, node: usize, server: usize, passage: Passage) {
        if node < self.api_cut.len() && server < self.api_cut.len() {
            set_bit(&mut self.api_cut[node], server, passage);
        }
    }

    /// Somebody records a datagram; `number` is a random one.
    pub(crate) fn record(&mut self, to: Target, sealed: &Rc<Sealed>, number: u64) {
        let entry = (to, Rc::clone(sealed));
        if self.recorded.len() < RECORDED {
            self.recorded.push(entry);
        } else {
            // As many from long ago as from just now: who listens in keeps what the dead said, too.
            let place = number % (self.turns as u64 + 1);
            if let Some(place) = usize::try_from(place).ok().and_then(|place| self.recorded.get_mut(place)) {
                *place = entry;
            }
        }
        self.turns += 1;
    }

    /// A recorded datagram, by number.
    pub(crate) fn recorded(&self, number: u64) -> Option<(Target, Rc<Sealed>)> {
        let count = u64::try_from(self.recorded.len()).ok().filter(|count| *count > 0)?;
        self.recorded.get(usize::try_from(number % count).ok()?).cloned()
    }
}

/// A datagram as the other side reads it: what does not fit into one is left out.
pub(crate) fn as_on_the_wire(datagram: Datagram) -> Datagram {
    let fits = datagram.asks.len() <= ASKS_MOST
        && datagram.grants.len() <= GRANTS_MOST
        && datagram.successions.len() <= SUCCESSIONS_MOST
        && datagram.unseen.len() <= UNSEEN_MOST
        && datagram.groups.listed().len() <= GROUPS_MOST / 2;
    if fits {
        return datagram;
    }
    let (instance, mut bytes) = (datagram.instance, Vec::new());
    encode(&datagram, &mut bytes).expect("names of nodes are short");
    decode(instance, &bytes).expect("what was just encoded")
}
