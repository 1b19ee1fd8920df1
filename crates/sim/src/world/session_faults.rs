//! Faults of the mode `session` begin and end: the node network, doors and keys, ways to API servers, session Leases,
//! agents that come back in the other mode.

use std::time::Duration;

use super::peer_gate::REPLAY_EVERY;
use super::{Fact, World};
use crate::fault::{Fault, What};
use crate::peers::{KeyTrouble, Passage};
use crate::process::{Life, ProcessId, Trap};
use crate::queue::{Event, Own};
use crate::setup::ModeSetup;
use crate::store::{Endpoint, Writing};
use crate::wire::Fabric;

/// Faults that consist of others become them.
pub(super) fn expand(fault: Fault) -> Vec<Fault> {
    let parts: &[What] = match fault.what {
        What::CutOff => &[What::Isolate, What::PeerIsolate, What::ApiIsolate],
        What::Unplug => &[What::CarrierLoss, What::Isolate, What::PeerIsolate, What::ApiIsolate],
        What::Between => &[What::Cut, What::PeerCut, What::ApiCut],
        _ => return vec![fault],
    };
    parts.iter().map(|what| Fault { what: *what, ..fault }).collect()
}

impl World {
    /// Faults of the whole world, at their beginning or end.
    pub(super) fn session_wide(&mut self, fault: &Fault, passage: Passage) {
        let begins = passage == Passage::Cut;
        let amount = if begins { fault.amount } else { 0 };
        match fault.what {
            What::PeerLoss => self.node_net.loss = amount,
            What::PeerDelay => self.node_net.delay = Duration::from_millis(u64::from(amount)),
            What::PeerDuplicate => self.node_net.duplicate = amount,
            What::PeerReplay => {
                self.node_net.replay = amount;
                self.queue.push(self.now + REPLAY_EVERY, Event::Replay);
            }
            What::LostAnnouncements => self.wire.lost_announcements = amount,
            What::ArpSuppression => {
                self.wire.stations.clone_from(&self.wire.client);
                self.wire.fabric = if begins { Fabric::Answers } else { Fabric::Plain };
            }
            What::KeyRotation if begins => {
                let next = self.node_net.keys.last().map_or(1, |key| key.0 + 1);
                self.node_net.keys.push(vip_model::peers::KeyId(next));
                self.key_news();
            }
            What::KeyRotation => self.retire_keys(),
            What::SessionDeleted if begins => self.delete_sessions(fault),
            _ => {}
        }
    }

    /// The old keys leave the Secret when every session lists the newest one.
    fn retire_keys(&mut self) {
        let Some(newest) = self.node_net.keys.last().copied() else { return };
        let all = (0..self.setup.agents.len()).all(|agent| {
            let instance = vip_model::InstanceName::new(self.setup.agents[agent].name.clone());
            let number = self.store.sessions.newest(&instance);
            let (_, sessions) = self.store.sessions.set(&instance, number);
            sessions.values().all(|seen| seen.record.end.is_some() || seen.record.keys.contains(&newest))
        });
        if all {
            self.node_net.keys = vec![newest];
            self.key_news();
        }
    }

    /// Somebody deletes the session Leases of a node, or all.
    fn delete_sessions(&mut self, fault: &Fault) {
        for node in self.places(fault.place) {
            for id in self.processes_of(node) {
                let config = &self.processes[id].config;
                let lease = vip_model::session::session_lease("kube-system", &config.instance, &config.node);
                if let Some(instance) = self.store.sessions.delete(&lease, self.now) {
                    self.session_news(&instance);
                }
            }
        }
    }

    /// Faults of one node, at their beginning or end.
    pub(super) fn session_node(&mut self, fault: &Fault, node: usize, passage: Passage) {
        let begins = passage == Passage::Cut;
        let peer = usize::try_from(fault.amount).unwrap_or(usize::MAX).saturating_sub(1);
        match fault.what {
            What::PeerCut => {
                self.node_net.set(node, peer, passage);
                self.node_net.set(peer, node, passage);
            }
            What::PeerCutOut => self.node_net.set(node, peer, passage),
            What::PeerIsolate => self.node_net.set_all(node, passage),
            What::PortBlocked => self.node_net.set_port(node, passage),
            What::KeyWrong => {
                self.nodes[node].trouble.key = if begins { KeyTrouble::Wrong } else { KeyTrouble::None };
            }
            What::KeyUnreadable => {
                let key = if begins { KeyTrouble::Unreadable } else { KeyTrouble::None };
                self.nodes[node].trouble.key = key;
                self.doors_of(node, || Own::ReadKeys);
            }
            What::DoorShut => {
                self.nodes[node].trouble.door_shut = begins;
                self.doors_of(node, || Own::DoorMoves);
            }
            What::ApiCut | What::ApiIsolate | What::ApiAway => self.cut_api(fault, node, passage),
            What::WritesWait => {
                let fresh = Endpoint::default().writes;
                self.store.endpoints[node].writes = if begins { Writing::Waiting } else { fresh };
            }
            What::MemoryLost if begins => {
                self.nodes[node].kept.clear();
                self.nodes[node].kept_keys.clear();
            }
            What::ToLeaseMode | What::ToSessionMode => self.change_mode(fault, node, passage),
            _ => {}
        }
    }

    /// The doors of a node are looked at again, by events that `own` makes.
    fn doors_of(&mut self, node: usize, own: fn() -> Own) {
        for id in self.processes_of(node) {
            if self.processes[id].life != Life::Dead {
                self.later(id, Duration::from_millis(1), own());
            }
        }
    }

    fn cut_api(&mut self, fault: &Fault, node: usize, passage: Passage) {
        let peer = usize::try_from(fault.amount).unwrap_or(usize::MAX).saturating_sub(1);
        for other in 0..self.nodes.len() {
            match fault.what {
                What::ApiCut if other == peer => {
                    self.node_net.set_api(node, other, passage);
                    self.node_net.set_api(other, node, passage);
                }
                // Neither this node to the others nor the others to this node.
                What::ApiIsolate if other != node => {
                    self.node_net.set_api(node, other, passage);
                    self.node_net.set_api(other, node, passage);
                }
                What::ApiAway => self.node_net.set_api(node, other, passage),
                _ => {}
            }
        }
        match passage {
            Passage::Cut => self.watches_fall_silent(node),
            // What was sent into the cut is lost: both directions are opened anew.
            Passage::Open => {
                self.break_watches_of(node);
                self.break_watches(node);
            }
        }
    }

    /// The supervisor ends the agents of a node in good order; they come back in the other mode.
    fn change_mode(&mut self, fault: &Fault, node: usize, passage: Passage) {
        let Some(session) = self.setup.session.clone() else { return };
        let mode = if fault.what == What::ToLeaseMode { ModeSetup::Lease } else { ModeSetup::Session };
        for id in self.processes_of(node) {
            match passage {
                Passage::Cut if self.processes[id].life != Life::Dead => {
                    self.later(id, Duration::ZERO, Own::Input(Box::new(vip_agent::Input::Stop)));
                }
                Passage::Cut => {}
                Passage::Open => {
                    self.end(id);
                    self.processes[id].config.election_mode = session.election_mode(mode, self.setup.timings);
                    self.start(id);
                }
            }
        }
    }

    /// Traps that count outputs.
    pub(super) fn counting_trap(fault: &Fault) -> Option<Trap> {
        match fault.what {
            What::KillAfter => Some(Trap::KillAfter(fault.amount.max(1))),
            What::PauseAfter => Some(Trap::PauseAfter(fault.amount.max(1))),
            _ => None,
        }
    }

    /// All watches of a node's agents break.
    pub(super) fn break_watches_of(&mut self, node: usize) {
        let ids: Vec<ProcessId> = self.processes_of(node).collect();
        for id in ids {
            let broken: Vec<_> = self.processes[id].streams.keys().cloned().collect();
            for watched in broken {
                self.open(id, watched, Duration::from_millis(100));
            }
        }
    }

    /// Whom the client hears may have changed.
    pub(super) fn segment_changed(&mut self) {
        self.clients_look();
        self.tell(&Fact::Answering);
    }
}
