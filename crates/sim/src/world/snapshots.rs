//! Between the API and the part of a gateway that shows Nodes, Services, endpoints and pools as one snapshot: every
//! domain has a watch of its own, changes in a row are told together.

use std::time::Duration;

use vip_agent::Input;

use super::World;
use super::store_gate::LEG;
use crate::process::{ProcessId, Telling, Watched};
use crate::queue::Own;
use crate::store::Matter;

/// The shortest time between two snapshots while changes stream in.
const PACE: Duration = Duration::from_millis(5);

/// How much of a domain a watch showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// All of it: a list.
    All,
    /// A change.
    Change,
}

impl World {
    /// The newest change of a domain goes to everybody who watches it.
    pub(super) fn news(&mut self, matter: Matter) {
        let number = self.store.objects.newest(matter);
        for id in 0..self.processes.len() {
            self.matter_later(id, matter, number);
        }
    }

    /// A change of a domain is on its way to a watch.
    pub(super) fn matter_later(&mut self, id: ProcessId, matter: Matter, number: usize) {
        let delay = Duration::from_micros(100) + self.up_to(LEG);
        let born = self.store.objects.born(matter, number);
        self.news_later(id, &Watched::Matter(matter), (born, delay), number);
    }

    /// A watch shows a domain as it was after change `number`.
    pub(super) fn matter_arrives(&mut self, id: ProcessId, matter: Matter, (number, share): (usize, Share)) {
        let process = &mut self.processes[id];
        let namespace = process.config.services.as_ref().and_then(|services| services.namespace.clone());
        let number = self.mutation.map_or(number, |mutation| mutation.matter(matter, number, &self.store));
        self.store.objects.show(matter, number, namespace.as_deref(), &mut process.heard);
        let pace = match (process.telling, share) {
            (Telling::Due, Share::Change) => return,
            (Telling::Due | Telling::Idle, Share::All) => Duration::ZERO,
            (Telling::Idle, Share::Change) => (process.told + PACE).since(self.now),
        };
        process.telling = Telling::Due;
        self.later(id, pace, Own::Tell);
    }

    /// The gateway tells what it has heard.
    pub(super) fn tell_snapshot(&mut self, id: ProcessId) {
        let process = &mut self.processes[id];
        if process.telling == Telling::Idle {
            return;
        }
        process.telling = Telling::Idle;
        process.told = self.now;
        let snapshot = process.heard.clone();
        self.input(id, Input::Snapshot(snapshot));
    }
}
