//! What passes: a datagram that is authentic, for this node, and news. Fed with what the socket received; gives back
//! heartbeats for the node, and counts everything. Nothing that is refused costs more than the check.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use vip_model::peers::{Datagram, PeerHeard};
use vip_model::{Instant, NodeName};
use vip_proto::peers::{Refused, Replay, SealKey, admit};

use super::counters::Incoming;
use super::socket::Received;
use crate::board::Board;

/// Datagrams refused within [`WINDOW`] that make a storm: 10,000 a second.
const STORM: u32 = 100;

/// The time in which they are counted.
const WINDOW: Duration = Duration::from_millis(10);

/// Pause between two looks at the socket in a storm: waking up for each datagram costs more than refusing it. A heartbeat
/// waits that long at most.
const BREATH: Duration = Duration::from_micros(250);

/// The judge of what arrives.
pub(super) struct Ear {
    node: NodeName,
    board: Arc<Board>,
    /// The keys that are known and accepted.
    keys: Vec<SealKey>,
    replay: Replay,
    /// The kernel's count of what it dropped, as it was last told.
    overflow: u32,
    /// Since when refused datagrams are counted, and how many were.
    refused: (Instant, u32),
    complaints: BTreeSet<&'static str>,
}

impl Ear {
    /// An ear that lets nothing in yet.
    pub(super) fn new(node: NodeName, board: Arc<Board>) -> Self {
        Self {
            node,
            board,
            keys: Vec::new(),
            replay: Replay::new(),
            overflow: 0,
            refused: (Instant::ZERO, 0),
            complaints: BTreeSet::new(),
        }
    }

    /// The keys that are known and accepted from now on.
    pub(super) fn accept(&mut self, keys: Vec<SealKey>) {
        self.keys = keys;
    }

    /// A new socket counts from zero.
    pub(super) const fn begin_socket(&mut self) {
        self.overflow = 0;
    }

    /// Judges what arrived at `now`; gives it back if it may come in.
    pub(super) fn hear(&mut self, now: Instant, bytes: &[u8], received: &Received) -> Option<PeerHeard> {
        self.board.peers.count_overflow(received.overflow.wrapping_sub(self.overflow));
        self.overflow = received.overflow;
        let Some(from) = received.from else {
            tracing::debug!("a heartbeat of an unknown address family was dropped");
            return None;
        };
        match self.judge(now, bytes, from) {
            Ok(datagram) => {
                self.board.peers.count_incoming(Incoming::Admitted);
                Some(PeerHeard { at: now, from, datagram })
            }
            Err(incoming) => {
                self.refused.1 += 1;
                self.board.peers.count_incoming(incoming);
                None
            }
        }
    }

    /// Until when nobody needs to look at the socket, in a storm; none when there is none.
    pub(super) fn breath(&mut self, now: Instant) -> Option<Instant> {
        if now.since(self.refused.0) > WINDOW {
            self.refused = (now, 0);
        }
        (self.refused.1 > STORM).then(|| now + BREATH)
    }

    /// What it says, when it may come in; else what it is.
    fn judge(&mut self, now: Instant, bytes: &[u8], from: SocketAddr) -> Result<Datagram, Incoming> {
        let datagram = admit(&self.keys, bytes).map_err(|refused| {
            self.complain(refused, from);
            Incoming::Refused(refused)
        })?;
        if datagram.to != self.node {
            return Err(Incoming::Astray);
        }
        let fresh = self.replay.note(now, datagram.session, datagram.sequence);
        fresh.map_err(Incoming::Stale)?;
        Ok(datagram)
    }

    /// Says so once for each reason: a storm must not become a storm of lines.
    fn complain(&mut self, refused: Refused, from: SocketAddr) {
        if self.complaints.insert(refused.reason()) {
            tracing::warn!(
                %from,
                reason = %refused,
                "a datagram on the port for heartbeats was refused; further ones are only counted"
            );
        }
    }
}
