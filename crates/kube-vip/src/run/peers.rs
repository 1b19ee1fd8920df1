//! The door for heartbeats: the socket, the keys, and what passes. Fed by the node with the door that it wants and with
//! heartbeats to send, by the cluster with keys; gives back heartbeats that were let in, and what became of the door.
//!
//! ```text
//!   loop ─── want, send ──► Peers ══ shared ══ Ear ──► Input::Peer, Input::Door
//!   cluster ── keys ──────►   │                 ▲
//!                             └──── sendto      └── recvmsg, HMAC, replay: a thread of its own
//! ```
//!
//! Heartbeats go out in the loop's own thread: what is said is as old as the turn that said it.

mod counters;
mod ear;
mod socket;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::heartbeat;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};
use vip_model::NodeName;
use vip_model::peers::{DoorState, DoorWant, PeerKey, PeerSend};
use vip_proto::peers::{SealKey, seal};

pub(crate) use counters::PeerCounters;

use self::counters::Outgoing;
use self::ear::Ear;
use self::socket::PeerSocket;
use crate::board::Board;

/// The door for heartbeats.
pub(crate) struct Peers {
    shared: Arc<Shared>,
    board: Arc<Board>,
}

/// What the door and its ear share.
struct Shared {
    wanted: Mutex<Wanted>,
    bell: EventFd,
}

/// What is wanted of the door, and what it has.
#[derive(Default)]
struct Wanted {
    door: Option<DoorWant>,
    /// The keys that this node can read, the newest first.
    keys: Vec<SealKey>,
    /// Why it can't read any.
    trouble: Option<String>,
    /// The socket through which heartbeats go out; the ear opens it.
    outlet: Option<Arc<PeerSocket>>,
    ended: bool,
}

/// What the ear has to do.
enum Order {
    /// Hold the door like this.
    Hold {
        /// The port that is wanted; none keeps the door closed.
        port: Option<u16>,
        /// The keys that are accepted.
        keys: Vec<SealKey>,
        /// What is known of the keys.
        state: DoorState,
    },
    /// End.
    End,
}

impl Peers {
    /// Starts the ear. Nothing is opened before the node wants it.
    pub(crate) fn start(node: NodeName, board: &Arc<Board>) -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let shared = Arc::new(Shared { wanted: Mutex::default(), bell });
        let ear = Ear::new(node, Arc::clone(&shared), Arc::clone(board));
        std::thread::Builder::new().name("peers".to_owned()).spawn(move || ear.listen())?;
        Ok(Self { shared, board: Arc::clone(board) })
    }

    /// The whole door that is wanted. Returns at once.
    pub(crate) fn want(&self, door: Option<DoorWant>) {
        self.shared.change(|wanted| wanted.door = door);
    }

    /// The keys that this node can read now, the newest first.
    pub(crate) fn set_keys(&self, keys: impl IntoIterator<Item = PeerKey>) {
        let keys = keys.into_iter().map(SealKey::new).collect();
        self.shared.change(|wanted| {
            wanted.keys = keys;
            wanted.trouble = None;
        });
    }

    /// The keys cannot be read. Those that are known stay: they may well be the right ones.
    pub(crate) fn set_key_trouble(&self, trouble: String) {
        self.shared.change(|wanted| wanted.trouble = Some(trouble));
    }

    /// Seals a heartbeat and sends it, or counts that it was not sent. Never waits.
    pub(crate) fn send(&self, send: &PeerSend) {
        let outgoing = self.try_send(send);
        self.board.peers.count_outgoing(outgoing);
    }

    fn try_send(&self, send: &PeerSend) -> Outgoing {
        let wanted = self.shared.lock();
        let key = wanted.door.as_ref().and_then(|door| door.seal);
        let key = key.and_then(|id| wanted.keys.iter().find(|key| key.id() == id));
        let (Some(key), Some(outlet)) = (key, &wanted.outlet) else { return Outgoing::Unsealed };
        let bytes = match seal(key, &send.datagram) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%error, "a heartbeat was not sent");
                return Outgoing::Failed;
            }
        };
        match outlet.send(&bytes, send.to) {
            Ok(()) => Outgoing::Sent,
            Err(error) => {
                tracing::debug!(to = %send.to, %error, "a heartbeat was not sent");
                Outgoing::Failed
            }
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.shared.change(|wanted| wanted.ended = true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        // No code that can panic runs under the lock, and a panic ends the process anyway.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.lock());
        // The only failure is a counter that is full, which means: rung often enough.
        let _ = self.bell.write(1);
    }

    fn order(&self) -> Order {
        let wanted = self.lock();
        if wanted.ended {
            return Order::End;
        }
        let accepted =
            |key: &&SealKey| wanted.door.as_ref().is_some_and(|door| door.accept.contains(&key.id()));
        Order::Hold {
            port: wanted.door.as_ref().map(|door| door.port),
            keys: wanted.keys.iter().filter(accepted).cloned().collect(),
            state: DoorState {
                port: None,
                keys: wanted.keys.iter().map(SealKey::id).collect::<BTreeSet<_>>(),
                newest: wanted.keys.first().map(SealKey::id),
                trouble: wanted.trouble.clone(),
            },
        }
    }

    fn hand_out(&self, outlet: Option<Arc<PeerSocket>>) {
        self.lock().outlet = outlet;
    }
}
