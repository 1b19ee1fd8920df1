//! The thread that listens to heartbeats. It sleeps on the socket and on a bell; it opens, moves and closes the socket as
//! the node wants it, and lets in what is authentic, for this node, and news.
//!
//! A thread of its own, because a juror answers at once: behind the tasks for the API a heartbeat would wait for whole
//! lists of Services to be read.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vip_agent::Input;
use vip_model::peers::{Datagram, DoorState, PeerHeard};
use vip_model::{Instant, NodeName};
use vip_proto::peers::{Haste, Refused, Replay, Replies, SealKey, admit};

use super::counters::Incoming;
use super::socket::{Batch, Drained, PeerSocket, Received};
use super::{Order, Shared};
use crate::board::{Board, boot_now};

/// Batches of datagrams that are read before the bell is looked at again.
const BURST: usize = 4;

/// Datagrams refused within [`WINDOW`] that make a storm: 10,000 a second.
const STORM: u32 = 100;

/// The time in which they are counted.
const WINDOW: Duration = Duration::from_millis(10);

/// Pause between two looks at the socket in a storm: waking up for each datagram costs more than refusing it. A heartbeat
/// waits that long at most.
const BREATH: Duration = Duration::from_micros(250);

/// Milliseconds until a socket that could not be opened is tried again.
const OPEN_AGAIN: u16 = 5_000;

/// The listening side of the door.
pub(super) struct Ear {
    node: NodeName,
    shared: Arc<Shared>,
    board: Arc<Board>,
    socket: Option<Arc<PeerSocket>>,
    /// The port that was asked for when the socket was opened.
    asked: Option<u16>,
    /// The keys that are known and accepted.
    keys: Vec<SealKey>,
    replay: Replay,
    replies: Replies,
    told: Option<DoorState>,
    trouble: Option<String>,
    overflow: u32,
    /// Since when refused datagrams are counted, and how many were.
    refused: (Instant, u32),
    complaints: BTreeSet<&'static str>,
}

impl Ear {
    /// An ear that hears nothing yet.
    pub(super) fn new(node: NodeName, shared: Arc<Shared>, board: Arc<Board>) -> Self {
        Self {
            node,
            shared,
            board,
            socket: None,
            asked: None,
            keys: Vec::new(),
            replay: Replay::new(),
            replies: Replies::new(),
            told: None,
            trouble: None,
            overflow: 0,
            refused: (Instant::ZERO, 0),
            complaints: BTreeSet::new(),
        }
    }

    /// Listens until the door is given up.
    pub(super) fn listen(mut self) {
        let mut batch = Batch::new();
        while let Order::Hold { port, keys, state } = self.shared.order() {
            self.keys = keys;
            self.hold(port);
            self.tell(state);
            // Until the bell rings.
            while self.wait() == Woken::ByDatagrams {
                if self.drain(&mut batch) == Drained::Whole {
                    self.breathe();
                }
            }
        }
    }

    /// Opens, moves or closes the socket.
    fn hold(&mut self, port: Option<u16>) {
        if self.asked == port && self.socket.is_some() == port.is_some() {
            return;
        }
        self.asked = port;
        self.socket = None;
        self.trouble = None;
        // The old port must be free before it can be opened again.
        self.shared.hand_out(None);
        let Some(port) = port else { return };
        match open(port) {
            Ok(socket) => {
                let socket = Arc::new(socket);
                self.shared.hand_out(Some(Arc::clone(&socket)));
                self.socket = Some(socket);
                self.overflow = 0;
                self.complaints.remove(SHUT);
            }
            Err(error) => {
                let trouble = format!("UDP port {port} for heartbeats cannot be opened: {error}");
                if self.complaints.insert(SHUT) {
                    tracing::warn!(port, %error, "no heartbeats: the socket cannot be opened, trying again every 5 s");
                }
                self.trouble = Some(trouble);
            }
        }
    }

    /// Tells the node what became of the door, when that is news.
    fn tell(&mut self, keys: DoorState) {
        let port = self.socket.as_ref().and_then(|socket| socket.port().ok());
        let state = DoorState { port, trouble: self.trouble.clone().or(keys.trouble), ..keys };
        if self.told.as_ref() != Some(&state) {
            self.told = Some(state.clone());
            self.board.inbox.post(Input::Door(state));
        }
    }

    fn wait(&self) -> Woken {
        let mut watched = vec![PollFd::new(self.shared.bell.as_fd(), PollFlags::POLLIN)];
        watched.extend(self.socket.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        let patience = match (&self.socket, self.asked) {
            (None, Some(_)) => PollTimeout::from(OPEN_AGAIN),
            _ => PollTimeout::NONE,
        };
        match poll(&mut watched, patience) {
            Ok(0) => Woken::ByBell,
            Ok(_) if watched[0].any() == Some(true) => {
                // Silence the bell before the order is read: what is wanted after that rings again.
                let _ = self.shared.bell.read();
                Woken::ByBell
            }
            Ok(_) | Err(Errno::EINTR) => Woken::ByDatagrams,
            // No descriptor of ours is ever wrong; a pause is better than a busy loop should one be.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(u64::from(OPEN_AGAIN)));
                Woken::ByBell
            }
        }
    }

    fn drain(&mut self, batch: &mut Batch) -> Drained {
        let Some(socket) = self.socket.clone() else { return Drained::Whole };
        for _ in 0..BURST {
            let drained = match socket.receive(batch) {
                Ok(drained) => drained,
                Err(error) => {
                    // What an address behind the socket reports; the next datagram is read all the same.
                    tracing::debug!(%error, "a heartbeat could not be read");
                    return Drained::Partly;
                }
            };
            for (bytes, received) in batch.datagrams() {
                self.hear(bytes, received);
            }
            if drained == Drained::Whole {
                return Drained::Whole;
            }
        }
        Drained::Partly
    }

    fn hear(&mut self, bytes: &[u8], received: &Received) {
        self.board.peers.count_overflow(received.overflow.wrapping_sub(self.overflow));
        self.overflow = received.overflow;
        let Some(from) = received.from else {
            tracing::debug!("a heartbeat of an unknown address family was dropped");
            return;
        };
        match self.judge(bytes, from) {
            Ok(datagram) => {
                self.board.peers.count_incoming(Incoming::Admitted);
                let heard = Box::new(PeerHeard { at: boot_now(), from, datagram });
                match self.replies.note(heard.at, &heard.datagram) {
                    Haste::AtOnce => {
                        self.board.inbox.post(Input::Peer(heard));
                    }
                    Haste::NextTurn => self.board.inbox.leave(heard),
                }
            }
            Err(incoming) => {
                self.refused.1 += 1;
                self.board.peers.count_incoming(incoming);
            }
        }
    }

    fn breathe(&mut self) {
        let now = boot_now();
        if now.since(self.refused.0) > WINDOW {
            self.refused = (now, 0);
        } else if self.refused.1 > STORM {
            std::thread::sleep(BREATH);
        }
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

    /// What it says, when it may come in; else what it is.
    fn judge(&mut self, bytes: &[u8], from: SocketAddr) -> Result<Datagram, Incoming> {
        let datagram = admit(&self.keys, bytes).map_err(|refused| {
            self.complain(refused, from);
            Incoming::Refused(refused)
        })?;
        if datagram.to != self.node {
            return Err(Incoming::Astray);
        }
        let fresh = self.replay.note(boot_now(), datagram.session, datagram.sequence);
        fresh.map_err(Incoming::Stale)?;
        Ok(datagram)
    }
}

/// What cannot be opened is complained of until it can.
const SHUT: &str = "shut";

/// Why the thread woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    ByBell,
    ByDatagrams,
}

/// The port that is wanted, or any other when somebody has it.
fn open(port: u16) -> io::Result<PeerSocket> {
    match PeerSocket::open(port) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let socket = PeerSocket::open(0)?;
            tracing::warn!(
                wanted = port,
                port = socket.port()?,
                "the port for heartbeats is taken: another one is used, and a firewall must let it pass; give each agent \
                 of a node its own peers_port"
            );
            Ok(socket)
        }
        outcome => outcome,
    }
}
