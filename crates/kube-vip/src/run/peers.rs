//! The door for heartbeats: the socket, the keys, and what passes. Fed by the node with the door that it wants and with
//! heartbeats to send, by the cluster with keys; gives back heartbeats that were let in, and what became of the door.
//!
//! ```text
//!   loop ─── want, send ──► Peers ──► sendto
//!        ◄── wait ───────────  │ ◄─── recvmmsg ─► Ear: HMAC, replay ─► heartbeats for the turn
//!   cluster ── keys ──► Keyring ┘
//! ```
//!
//! All of it runs in the loop's own thread, which sleeps on the socket as well. What is said is as old as the turn that said
//! it, and a heartbeat wakes up one thread and not two. In a storm the loop does what is due
//! between two reads of at most [`AT_ONCE`] batches.

mod counters;
mod ear;
mod keyring;
mod socket;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::heartbeat;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use vip_agent::Input;
use vip_model::peers::{Datagram, DoorState, DoorWant, Kind, PeerHeard, PeerSend};
use vip_model::{Instant, NodeName};
use vip_proto::peers::{SealKey, seal};

pub(crate) use counters::PeerCounters;
pub(crate) use keyring::Keyring;

use self::counters::Outgoing;
use self::ear::Ear;
use self::keyring::Known;
use self::socket::{Batch, Drained, PeerSocket};
use crate::board::{Board, boot_now};

/// Batches of datagrams that are read before the loop looks at what else is due: some 500 datagrams, a few milliseconds.
const AT_ONCE: usize = 32;

/// How long nobody looks for the answers to what was just said, as a share of the interval and at most: by then all of them
/// have come, and wake up the loop once. Whatever else arrives meanwhile waits as long.
const GATHER_SHARE: u32 = 25;
const GATHER_MOST: Duration = Duration::from_millis(2);

/// Time until a socket that could not be opened is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// The door for heartbeats.
pub(crate) struct Peers {
    board: Arc<Board>,
    keyring: Arc<Keyring>,
    known: Known,
    /// The whole door that the node wants; none is a closed one.
    wanted: Option<DoorWant>,
    socket: Option<PeerSocket>,
    /// The port that was asked for when the socket was opened.
    asked: Option<u16>,
    /// When a socket that could not be opened is tried again, and why it could not.
    shut: Option<(Instant, String)>,
    told: Option<DoorState>,
    /// How long answers are gathered.
    gather: Duration,
    /// When all answers to what was said last have come.
    answered: Instant,
    ear: Ear,
    batch: Batch,
    heard: Vec<PeerHeard>,
}

impl Peers {
    /// A door that is closed: nothing is opened before the node wants it. `interval` is the time between two heartbeats.
    pub(crate) fn new(node: NodeName, interval: Duration, board: &Arc<Board>) -> Self {
        Self {
            board: Arc::clone(board),
            keyring: Arc::new(Keyring::new(Arc::clone(&board.inbox))),
            known: Known::default(),
            wanted: None,
            socket: None,
            asked: None,
            shut: None,
            told: None,
            gather: (interval / GATHER_SHARE).min(GATHER_MOST),
            answered: Instant::ZERO,
            ear: Ear::new(node, Arc::clone(board)),
            batch: Batch::new(),
            heard: Vec::new(),
        }
    }

    /// Where keys are left for this door, from any thread.
    pub(crate) fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// The whole door that is wanted.
    pub(crate) fn want(&mut self, door: Option<DoorWant>) {
        self.wanted = door;
        self.settle();
    }

    /// Seals a heartbeat and sends it, or counts that it was not sent. Never waits.
    pub(crate) fn send(&mut self, send: &PeerSend) {
        let outgoing = self.try_send(send);
        self.board.peers.count_outgoing(outgoing);
        if outgoing == Outgoing::Sent && is_answered_in_calm(&send.datagram) {
            self.answered = boot_now() + self.gather;
        }
    }

    /// Sleeps until something is in the inbox, a heartbeat was let in or `deadline` is reached. Whatever else arrives wakes up
    /// nobody but this.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            self.look_for_keys();
            let now = boot_now();
            let gathering = Some(self.answered).filter(|answered| now < *answered);
            let pause = self.ear.breath(now).max(gathering);
            let again = self.shut.as_ref().map(|(again, _)| *again);
            let until = [deadline, again, pause].into_iter().flatten().min();
            let listening = self.socket.as_ref().filter(|_| pause.is_none()).map(PeerSocket::as_fd);
            let woken = self.board.inbox.wait(until, listening)?;
            if woken.by_socket || pause.is_some() {
                self.listen();
            }
            let now = boot_now();
            if again.is_some_and(|again| now >= again) {
                self.asked = None;
                self.settle();
            }
            if woken.by_bell || !self.heard.is_empty() || deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(());
            }
        }
    }

    /// Takes out what was let in.
    pub(crate) fn take_heard(&mut self) -> Vec<PeerHeard> {
        std::mem::take(&mut self.heard)
    }

    fn try_send(&self, send: &PeerSend) -> Outgoing {
        let seal_with = self.wanted.as_ref().and_then(|door| door.seal);
        let key = seal_with.and_then(|id| self.known.keys.iter().find(|key| key.id() == id));
        let (Some(key), Some(socket)) = (key, &self.socket) else { return Outgoing::Unsealed };
        let bytes = match seal(key, &send.datagram) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%error, "a heartbeat was not sent");
                return Outgoing::Failed;
            }
        };
        match socket.send(&bytes, send.to) {
            Ok(()) => Outgoing::Sent,
            Err(error) => {
                tracing::debug!(to = %send.to, %error, "a heartbeat was not sent");
                Outgoing::Failed
            }
        }
    }

    fn look_for_keys(&mut self) {
        if let Some(known) = self.keyring.take_news() {
            self.known = known;
            self.settle();
        }
    }

    /// Makes the door what is wanted, by what is known, and tells the node.
    fn settle(&mut self) {
        self.hold(self.wanted.as_ref().map(|door| door.port));
        let wanted = &self.wanted;
        let is_accepted =
            |key: &&SealKey| wanted.as_ref().is_some_and(|door| door.accept.contains(&key.id()));
        self.ear.accept(self.known.keys.iter().filter(is_accepted).cloned().collect());
        self.tell();
    }

    /// Opens, moves or closes the socket.
    fn hold(&mut self, port: Option<u16>) {
        if self.asked == port && self.socket.is_some() == port.is_some() {
            return;
        }
        if self.asked == port && self.shut.is_some() {
            return; // it is tried again in its time
        }
        self.asked = port;
        // The old port must be free before it can be opened again.
        self.socket = None;
        let Some(port) = port else {
            self.shut = None;
            return;
        };
        match open(port) {
            Ok(socket) => {
                self.socket = Some(socket);
                self.shut = None;
                self.ear.begin_socket();
            }
            Err(error) => {
                if self.shut.is_none() {
                    tracing::warn!(port, %error, "no heartbeats: the socket cannot be opened, trying again every 5 s");
                }
                let trouble = format!("UDP port {port} for heartbeats cannot be opened: {error}");
                self.shut = Some((boot_now() + OPEN_AGAIN, trouble));
            }
        }
    }

    /// Tells the node what became of the door, when that is news.
    fn tell(&mut self) {
        let keys = &self.known.keys;
        let state = DoorState {
            port: self.socket.as_ref().and_then(|socket| socket.port().ok()),
            keys: keys.iter().map(SealKey::id).collect::<BTreeSet<_>>(),
            newest: keys.first().map(SealKey::id),
            trouble: self.shut.as_ref().map(|(_, trouble)| trouble).or(self.known.trouble.as_ref()).cloned(),
        };
        if self.told.as_ref() != Some(&state) {
            self.told = Some(state.clone());
            self.board.inbox.post(Input::Door(state));
        }
    }

    /// Reads what waits in the socket, or as much of it as may be read at once.
    fn listen(&mut self) {
        let Some(socket) = &self.socket else { return };
        for _ in 0..AT_ONCE {
            let drained = match socket.receive(&mut self.batch) {
                Ok(drained) => drained,
                Err(error) => {
                    // What an address behind the socket reports; the next datagram is read all the same.
                    tracing::debug!(%error, "a heartbeat could not be read");
                    return;
                }
            };
            let now = boot_now();
            for (bytes, received) in self.batch.datagrams() {
                self.heard.extend(self.ear.hear(now, bytes, received));
            }
            if drained == Drained::Whole {
                return;
            }
        }
    }
}

/// Whether it is answered at once by whoever gets it, and nobody's answer is waited for: nothing is asked, given or missed.
const fn is_answered_in_calm(datagram: &Datagram) -> bool {
    matches!(datagram.kind, Kind::Beat)
        && datagram.jury > 0
        && datagram.asks.is_empty()
        && datagram.grants.is_empty()
        && datagram.unseen.is_empty()
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
