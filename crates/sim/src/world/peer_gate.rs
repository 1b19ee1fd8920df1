//! Between agents: doors that open and close, heartbeats with their troubles, keys that are read, and what an agent
//! leaves behind for its next life.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use vip_agent::Input;
use vip_model::peers::{DoorState, DoorWant, PeerHeard, PeerSend};
use vip_model::session::{Memory, Recall};

use super::World;
use crate::mutation::Mutation;
use crate::peers::{KeyTrouble, SOCKET_BUFFER, Seal, Sealed, as_on_the_wire};
use crate::process::{Life, ProcessId};
use crate::queue::{Event, Own};
use crate::setup::{MemorySetup, own_addresses};
use crate::store::Reach;

/// How long a datagram is on its way on a good day, at most: one may overtake another.
const HOP: Duration = Duration::from_micros(300);
/// A heartbeat that was recorded is sent again so often.
pub(super) const REPLAY_EVERY: Duration = Duration::from_millis(5);
/// How long a door takes to open or close, and a file to be written, on a good day.
const SOON: Duration = Duration::from_millis(1);
/// How long a new key takes to reach a node that can read it.
const KEY_NEWS: Duration = Duration::from_secs(2);
/// How long a gateway waits before it tries to read the keys again.
const KEY_RETRY: Duration = Duration::from_millis(500);
/// How long an agent waits for what it left behind.
const RECALL: Duration = Duration::from_millis(5);
/// A second agent of a node finds its port taken and gets one from here on.
const OTHER_PORTS: u16 = 40_000;

/// The node that has this address on the node network.
fn node_of(addr: IpAddr) -> Option<usize> {
    let number = match addr {
        IpAddr::V4(addr) => usize::from(addr.octets()[3]),
        IpAddr::V6(addr) => usize::from(addr.segments()[7]),
    };
    let node = number.checked_sub(1)?;
    (node < crate::setup::MAX_NODES && own_addresses(node).iter().any(|own| own.addr() == addr))
        .then_some(node)
}

impl World {
    /// An agent sends a heartbeat.
    pub(super) fn peer_leaves(&mut self, id: ProcessId, mut sent: PeerSend) {
        if let Some(mutation) = self.mutation {
            mutation.says(&mut self.processes[id].door.words, &mut sent.datagram, self.now);
        }
        let node = self.processes[id].node;
        let door = &self.processes[id].door;
        let seal = door.want.as_ref().and_then(|want| want.seal).filter(|key| door.keys.contains(key));
        let (Some(port), Some(key), Some(to)) = (door.port, seal, node_of(sent.to.ip())) else { return };
        let seal = match self.nodes[node].trouble.key {
            KeyTrouble::None => Seal::Genuine(key),
            KeyTrouble::Wrong => Seal::Wrong(key),
            KeyTrouble::Unreadable => return,
        };
        let own = own_addresses(node);
        let from = if sent.to.is_ipv4() { own[0] } else { own[1] };
        let from = SocketAddr::new(from.addr(), port);
        let sealed = Rc::new(Sealed { from, seal, datagram: as_on_the_wire(sent.datagram) });
        let target = (to, sent.to.port());
        if self.node_net.replay > 0 {
            let number = self.dice.next_u64();
            self.node_net.record(target, &sealed, number);
        }
        self.sent_peers += 1;
        if to < self.nodes.len() && self.node_net.passes(node, to) {
            self.fly_to(target, &sealed);
        }
    }

    /// Somebody who recorded heartbeats sends one again, the dead's too: at an own pace, whoever speaks.
    pub(super) fn replay(&mut self) {
        if self.node_net.replay == 0 {
            return;
        }
        if self.chance(self.node_net.replay) {
            let number = self.dice.next_u64();
            if let Some((target, sealed)) = self.node_net.recorded(number) {
                self.fly_to(target, &sealed);
            }
        }
        self.queue.push(self.now + REPLAY_EVERY, Event::Replay);
    }

    fn fly_to(&mut self, to: (usize, u16), sealed: &Rc<Sealed>) {
        let copies = if self.chance(self.node_net.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            if self.chance(self.node_net.loss) {
                continue;
            }
            let delay = Duration::from_micros(20) + self.up_to(HOP + self.node_net.delay);
            self.queue.push(self.now + delay, Event::Datagram { to, sealed: Rc::clone(sealed) });
        }
    }

    /// A datagram reaches a node: the socket there, if one is open, gets it.
    pub(super) fn datagram_arrives(&mut self, (node, port): (usize, u16), sealed: Rc<Sealed>) {
        let Some(id) = self.processes_of(node).find(|id| self.processes[*id].door.port == Some(port)) else {
            return;
        };
        if !self.nodes[node].is_awake() {
            return;
        }
        let process = &mut self.processes[id];
        if process.life == Life::Running {
            return self.datagram_is_read(id, sealed);
        }
        if process.door.waiting < SOCKET_BUFFER {
            process.door.waiting += 1;
            let generation = process.generation;
            process.frozen.push(Event::Process { id, generation, own: Own::Datagram(sealed) });
        }
    }

    /// The door checks a datagram and hands it on.
    pub(super) fn datagram_is_read(&mut self, id: ProcessId, sealed: Rc<Sealed>) {
        let now = self.local(id);
        let process = &mut self.processes[id];
        process.door.waiting = 0;
        if matches!(self.mutation, Some(Mutation::AcceptsReplays | Mutation::BelievesReplays)) {
            process.door.replay = vip_proto::peers::Replay::default();
        }
        if self.nodes[process.node].trouble.key != KeyTrouble::None
            || !process.door.admits(now, &sealed, &process.config.node)
        {
            return;
        }
        let Sealed { from, mut datagram, .. } = Rc::unwrap_or_clone(sealed);
        if let Some(mutation) = self.mutation {
            mutation.hears(&mut process.door.words, &mut datagram);
        }
        let heard = PeerHeard { at: now, from, datagram };
        self.input(id, Input::Peer(Box::new(heard)));
    }

    /// The whole door that an agent wants.
    pub(super) fn door_wanted(&mut self, id: ProcessId, want: Option<DoorWant>) {
        let door = &mut self.processes[id].door;
        if want.is_none() {
            door.port = None;
        }
        door.want = want;
        let delay = Duration::from_micros(50) + self.up_to(SOON);
        self.later(id, delay, Own::DoorMoves);
        self.later(id, delay, Own::ReadKeys);
    }

    /// A door is opened, moved or closed, as the node allows, and the agent is told when something is new.
    pub(super) fn door_moves(&mut self, id: ProcessId) {
        let node = self.processes[id].node;
        let shut = self.nodes[node].trouble.door_shut;
        let taken = |port: u16| {
            self.processes_of(node).any(|other| other != id && self.processes[other].door.port == Some(port))
        };
        let port = match &self.processes[id].door.want {
            Some(want) if !shut && !taken(want.port) => Some(want.port),
            Some(_) if !shut => Some(OTHER_PORTS + u16::try_from(id % 1000).expect("below 1000")),
            _ => None,
        };
        let trouble = (shut && self.processes[id].door.want.is_some()).then(|| "cannot listen".to_owned());
        let keys = match self.nodes[node].trouble.key {
            KeyTrouble::Unreadable => std::collections::BTreeSet::new(),
            KeyTrouble::None | KeyTrouble::Wrong => self.processes[id].door.keys.clone(),
        };
        let newest = self.node_net.keys.iter().rev().find(|key| keys.contains(key)).copied();
        let state = DoorState { port, keys, newest, trouble };
        let door = &mut self.processes[id].door;
        door.port = port;
        if door.told != state {
            door.told = state.clone();
            self.input(id, Input::Door(state));
        }
    }

    /// The gateway reads the keys: from what it kept, and from the API when that can be reached.
    pub(super) fn keys_are_read(&mut self, id: ProcessId) {
        if self.processes[id].door.want.is_none() {
            return;
        }
        let node = self.processes[id].node;
        let server = self.server_for(id);
        let reads =
            self.store.endpoints[server].read_status == 0 && self.store.endpoints[server].lag.is_zero();
        if self.setup.session.as_ref().is_some_and(|setup| setup.memory == MemorySetup::Kept) {
            let kept = self.nodes[node].kept_keys.clone();
            self.processes[id].door.keys.extend(kept);
        }
        if reads && self.reach_from(node, server) == Reach::Up {
            let keys: std::collections::BTreeSet<_> = self.node_net.keys.iter().copied().collect();
            self.nodes[node].kept_keys.clone_from(&keys);
            self.processes[id].door.keys = keys;
        } else {
            self.later(id, KEY_RETRY, Own::ReadKeys);
        }
        self.door_moves(id);
    }

    /// The keys in the Secret have changed: everybody hears of it sooner or later.
    pub(super) fn key_news(&mut self) {
        for id in 0..self.processes.len() {
            if self.processes[id].door.want.is_some() {
                let delay = self.up_to(KEY_NEWS);
                self.later(id, delay, Own::ReadKeys);
            }
        }
    }

    /// An agent that has just started asks for what an earlier life left.
    pub(super) fn recall_soon(&mut self, id: ProcessId) {
        if !self.processes[id].config.election_mode.is_lease() {
            let delay = Duration::from_micros(100) + self.up_to(RECALL);
            self.later(id, delay, Own::Recall);
        }
    }

    pub(super) fn recalled(&mut self, id: ProcessId) {
        let process = &self.processes[id];
        let node = &self.nodes[process.node];
        let readable = self.setup.session.as_ref().is_some_and(|setup| setup.memory == MemorySetup::Kept);
        let readable = readable && self.mutation != Some(Mutation::ForgetsSession);
        let memory = node.kept.get(&process.number).filter(|_| readable).map(|memory| Memory::clone(memory));
        let recall = Recall { boot: node.boot, memory };
        self.input(id, Input::Recall(Box::new(recall)));
    }

    /// What an agent wants to be kept is written soon.
    pub(super) fn remember(&mut self, id: ProcessId, memory: Box<Memory>) {
        let delay = self.up_to(SOON);
        self.later(id, delay, Own::Keep(memory));
    }

    pub(super) fn kept(&mut self, id: ProcessId, memory: Box<Memory>) {
        let process = &self.processes[id];
        let number = process.number;
        self.nodes[process.node].kept.insert(number, memory);
    }
}

#[cfg(test)]
mod tests;
