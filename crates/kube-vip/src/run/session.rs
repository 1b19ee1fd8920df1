//! What mode `session` needs of the world: the door for heartbeats, the keys, and the memory of an earlier life. Does
//! nothing in other modes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use vip_agent::Input;
use vip_cluster::Cluster;
use vip_model::Instant;
use vip_model::config::{Config, ElectionMode, PeerMode};
use vip_model::peers::{DoorWant, PeerHeard, PeerKey, PeerKeys, PeerSend};
use vip_model::session::Memory;

use super::inbox::Inbox;
use super::memory::{BOOT_ID, MemoryFile};
use super::peers::{Keyring, Peers};
use crate::board::Board;
use crate::status::socket;

/// The Secret with the keys for heartbeats, beside the session Leases.
const PEER_KEYS: &str = "kube-vip-peers";

/// How long the end of the process waits for a file of some kilobytes.
const FLUSH_WITHIN: Duration = Duration::from_millis(200);

/// What mode `session` needs of the world; nothing of it in other modes.
pub(super) struct Session {
    /// None when heartbeats are off, too.
    peers: Option<Peers>,
    memory: Option<Keeper>,
    /// Where the Secret with the keys is.
    namespace: String,
}

/// Writes down what the next life will recall.
type Keeper = (Arc<MemoryFile>, Handle);

/// Where keys go that the cluster gateway has read: to the door, and into the memory for the next life.
#[derive(Clone)]
pub(super) struct Keys(Option<(Arc<Keyring>, Keeper)>);

impl Session {
    /// Recalls what an earlier life left and gets the door ready. The recalled keys are as good as those of the Secret
    /// until it can be read.
    pub(super) fn open(config: &Config, board: &Arc<Board>, io: &Handle) -> Self {
        let ElectionMode::Session(settings) = &config.election_mode else {
            // What happens to claims in this life would be news to a session that goes on after it.
            MemoryFile::forget(&socket::folders(), config.instance.as_str());
            return Self { peers: None, memory: None, namespace: String::new() };
        };
        let memory = MemoryFile::open(&socket::folders(), config.instance.as_str(), Path::new(BOOT_ID));
        let (recall, keys) = memory.recall();
        let peers = match settings.peers {
            PeerMode::Off => None,
            PeerMode::On { interval, .. } => Some(Peers::new(config.node.clone(), interval, board)),
        };
        if let Some(peers) = &peers {
            peers.keyring().set_keys(keys);
        }
        board.inbox.post(Input::Recall(Box::new(recall)));
        let namespace = settings.namespace.clone();
        Self { peers, memory: Some((Arc::new(memory), io.clone())), namespace }
    }

    /// Where keys go.
    pub(super) fn keys(&self) -> Keys {
        let keyring = self.peers.as_ref().map(|peers| Arc::clone(peers.keyring()));
        Keys(keyring.zip(self.memory.clone()))
    }

    /// Has the cluster keep the keys in view, when heartbeats are wanted.
    pub(super) fn keep_keys(&self, cluster: &mut Cluster) {
        if self.peers.is_some() {
            cluster.keep_peer_keys(&self.namespace, PEER_KEYS, fresh_key);
        }
    }

    /// Sends a heartbeat.
    pub(super) fn send(&mut self, send: &PeerSend) {
        if let Some(peers) = &mut self.peers {
            peers.send(send);
        }
    }

    /// Opens, moves or closes the door.
    pub(super) fn want(&mut self, door: Option<DoorWant>) {
        if let Some(peers) = &mut self.peers {
            peers.want(door);
        }
    }

    /// Sleeps until something is in the inbox, a heartbeat was let in or `deadline` is reached.
    pub(super) fn wait(&mut self, inbox: &Inbox, deadline: Option<Instant>) -> io::Result<()> {
        match &mut self.peers {
            Some(peers) => peers.wait(deadline),
            None => inbox.wait(deadline, None).map(|_| ()),
        }
    }

    /// Takes out the heartbeats that were let in.
    pub(super) fn take_heard(&mut self) -> Vec<PeerHeard> {
        self.peers.as_mut().map_or_else(Vec::new, Peers::take_heard)
    }

    /// Keeps what the node knows for its next life.
    pub(super) fn remember(&self, memory: Box<Memory>) {
        if let Some((file, io)) = &self.memory {
            file.remember(memory, io);
        }
    }

    /// Waits a moment for what is still to be written.
    pub(super) fn flush(&self) {
        if let Some((file, _)) = &self.memory {
            file.flush(FLUSH_WITHIN);
        }
    }
}

impl Keys {
    /// The keys as the Secret has them now, or why they cannot be had.
    pub(super) fn hear(&self, keys: Result<PeerKeys, String>) {
        let Some((keyring, (file, io))) = &self.0 else { return };
        match keys {
            Ok(PeerKeys { newest, previous }) => {
                let keys: Vec<PeerKey> = [Some(newest), previous].into_iter().flatten().collect();
                file.keep_keys(keys.clone(), io);
                keyring.set_keys(keys);
            }
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "the keys for heartbeats cannot be had: known ones are used, and without any a dead node is followed only \
                     when its Lease has run out; `kube-vip manifest rbac` prints the right"
                );
                keyring.set_trouble(reason);
            }
        }
    }
}

/// A key that nobody knows.
fn fresh_key() -> PeerKey {
    let mut bytes = [0; PeerKey::LENGTH];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).expect("every kernel that we run on has getrandom");
    PeerKey::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_is_never_the_same() {
        assert_ne!(fresh_key(), fresh_key());
    }
}
