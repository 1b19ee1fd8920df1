//! Between agents and session Leases: reads, writes and watches of whole sets; which API servers a node reaches; what the
//! client sees.

use std::time::Duration;

use vip_model::session::{SessionWrite, Via};
use vip_model::store::{Answer, Ask, Purpose};
use vip_model::{InstanceName, LeaseName};

use super::store_gate::{LEG, REWATCH};
use super::{Fact, World};
use crate::kernel::FakeKernel;
use crate::mutation::Mutation;
use crate::process::{ProcessId, Watched};
use crate::queue::Own;
use crate::setup::Endpoints;
use crate::store::{Reach, Writing};

/// How many servers on other nodes are asked, and how much later the next one.
const ELSEWHERE_MOST: usize = 3;
const ELSEWHERE_NEXT: Duration = Duration::from_millis(15);

impl World {
    /// Whether a node reaches an API server; its own is reached on `lo`.
    pub fn reach_from(&self, node: usize, endpoint: usize) -> Reach {
        if self.node_net.reaches_api(node, endpoint) { self.reach(endpoint) } else { Reach::Hang }
    }

    /// The API server that a question goes to, and how much later than at once; none when there is no server elsewhere
    /// that it may go to.
    pub(super) fn server_of(&mut self, id: ProcessId, ask: &Ask) -> Option<(usize, Duration)> {
        match ask {
            Ask::WriteSession(write) if write.via == Via::Elsewhere => self.server_elsewhere(id),
            _ => Some((self.server_for(id), Duration::ZERO)),
        }
    }

    /// As the gateway: up to three servers on other nodes are asked, one a moment after the other, and the first answer
    /// counts. Servers that refuse are passed over.
    fn server_elsewhere(&mut self, id: ProcessId) -> Option<(usize, Duration)> {
        if self.setup.endpoints == Endpoints::Own {
            return None;
        }
        let own = self.processes[id].node;
        if self.mutation == Some(Mutation::OwnServerProves) {
            return Some((own, Duration::ZERO));
        }
        let nodes = self.nodes.len();
        let first = usize::try_from(self.dice.below(nodes as u64)).expect("few nodes");
        let others = (first..first + nodes).map(|number| number % nodes);
        let asked: Vec<usize> = others
            .filter(|other| *other != own && self.reach_from(own, *other) != Reach::Refuse)
            .take(ELSEWHERE_MOST)
            .collect();
        let answers = asked.iter().position(|other| self.reach_from(own, *other) == Reach::Up);
        let place = answers.unwrap_or(0);
        let delay = ELSEWHERE_NEXT * u32::try_from(place).expect("at most three");
        asked.get(place).map(|server| (*server, delay))
    }

    /// Whether a write has to wait because etcd has no leader.
    pub(super) fn write_waits(&self, ask: &Ask, endpoint: usize) -> bool {
        let reads = matches!(ask, Ask::ReadLease(_) | Ask::ReadSession(_));
        !reads && self.store.endpoints[endpoint].writes == Writing::Waiting
    }

    pub(super) fn session_read(&self, endpoint: usize, lease: &LeaseName) -> Answer {
        let horizon = self.now.before(self.store.endpoints[endpoint].lag);
        Answer::Session(lease.clone(), self.store.sessions.seen(lease, horizon).map(Box::new))
    }

    pub(super) fn session_write(&mut self, id: ProcessId, write: &SessionWrite) -> Answer {
        let wall = self.wall_clock(self.processes[id].node);
        let mut write = write.clone();
        if let Some(mutation) = self.mutation {
            mutation.session_write(&mut write, self);
        }
        let write = &write;
        let answer = self.store.write_session(write, self.now, wall);
        self.trace.session_write(self.now, id, write, &answer);
        if matches!(answer, Answer::Session(..)) {
            self.depositions += u32::from(write.purpose == Purpose::Depose);
            self.tell(&Fact::SessionWritten(id, write));
            self.session_news(&write.instance);
        }
        answer
    }

    /// The newest set of an instance goes to everybody who watches it.
    pub(super) fn session_news(&mut self, instance: &InstanceName) {
        let newest = self.store.sessions.newest(instance);
        for id in 0..self.processes.len() {
            self.session_later(id, instance, newest);
        }
    }

    fn session_later(&mut self, id: ProcessId, instance: &InstanceName, set: usize) {
        let delay = Duration::from_micros(100) + self.up_to(LEG);
        let (born, _) = self.store.sessions.set(instance, set);
        self.news_later(id, &Watched::Sessions(instance.clone()), (born, delay), set);
    }

    /// A watch of session Leases begins with their list.
    pub(super) fn sessions_list(
        &mut self,
        id: ProcessId,
        (number, endpoint): (u32, usize),
        (instance, delay): (&InstanceName, Duration),
    ) {
        let horizon = self.now.before(self.store.endpoints[endpoint].lag);
        let first = self.store.sessions.at(instance, horizon);
        self.later(id, delay, Own::News(number, first));
        for set in first + 1..=self.store.sessions.newest(instance) {
            self.session_later(id, instance, set);
        }
    }

    /// Watches over a way that is cut are opened again.
    pub(super) fn break_cut_watches(&mut self) {
        for id in 0..self.processes.len() {
            let node = self.processes[id].node;
            let broken: Vec<Watched> = self.processes[id]
                .streams
                .iter()
                .filter(|(_, stream)| {
                    stream.endpoint.is_some_and(|endpoint| !self.node_net.reaches_api(node, endpoint))
                })
                .map(|(watched, _)| watched.clone())
                .collect();
            for watched in broken {
                self.open(id, watched, REWATCH / 2);
            }
        }
    }

    /// Who answers, or whom the client hears or knows, has changed.
    pub(crate) fn clients_look(&mut self) {
        let audible = self.wire.audible();
        for number in 0..self.eyes.len() {
            let known = self.wire.client[number].as_ref().and_then(FakeKernel::node_with);
            self.eyes[number].look(self.now, self.answering[number] & audible, known);
        }
    }

    /// As above for one VIP.
    pub(super) fn client_looks(&mut self, number: usize) {
        let known = self.wire.client[number].as_ref().and_then(FakeKernel::node_with);
        self.eyes[number].look(self.now, self.answering[number] & self.wire.audible(), known);
    }
}
