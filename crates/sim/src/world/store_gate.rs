//! Between agents and the API: questions with their timeouts, watches that break and fall silent, errands.

use std::collections::BTreeSet;
use std::time::Duration;

use vip_agent::Input;
use vip_model::observed::{Errand, ErrandAnswer, ErrandTask};
use vip_model::store::{Answer, Ask, LeaseSeen, Purpose, Question, Watches};
use vip_model::{LeaseName, QuestionId};

use super::snapshots::Share;
use super::{Duty, Fact, World};
use crate::clock::Moment;
use crate::mutation::Mutation;
use crate::process::{Open, ProcessId, Stream, Watched};
use crate::queue::{Event, Own};
use crate::setup::{Endpoints, EventRights};
use crate::store::{Matter, Reach, Swap, Watching, Written, failure, timed_out, unreachable};

/// How long a request or an answer is on its way on a good day.
pub(super) const LEG: Duration = Duration::from_millis(2);
/// How long a gateway waits before it opens a broken watch again.
pub(super) const REWATCH: Duration = Duration::from_millis(200);
/// How often a write that waits looks whether it may go on.
const WAIT: Duration = Duration::from_millis(20);
/// How long a gateway bears the silence of a watch.
const SILENCE: Duration = Duration::from_secs(15);

impl World {
    /// Whether the API server of a node can be reached.
    pub fn reach(&self, endpoint: usize) -> Reach {
        if self.nodes[endpoint].is_awake() { self.store.endpoints[endpoint].reach } else { Reach::Hang }
    }

    /// The API server that a process talks to.
    pub(super) fn server_for(&self, id: ProcessId) -> usize {
        let own = self.processes[id].node;
        if self.setup.endpoints == Endpoints::Own || self.reach_from(own, own) != Reach::Refuse {
            return own;
        }
        (0..self.nodes.len()).find(|other| self.reach_from(own, *other) == Reach::Up).unwrap_or(own)
    }

    pub(super) fn question_leaves(&mut self, id: ProcessId, question: Question) {
        let clock = self.nodes[self.processes[id].node].clock;
        let due = self.local(id) + question.timeout;
        let up = clock.moment_of(due);
        self.later(id, up.since(self.now), Own::Timeout(question.id));
        self.processes[id].asked = self.now;
        let lease = lease_of(&question.ask).cloned();
        self.processes[id].questions.insert(question.id, Open { lease, due });
        let delay = self.up_to(Duration::from_micros(500));
        self.later(id, delay, Own::Send(Box::new(question)));
    }

    pub(super) fn send_question(&mut self, id: ProcessId, question: Box<Question>) {
        let Some((endpoint, later)) = self.server_of(id, &question.ask) else {
            let answer = Own::Answer(question.id, Box::new(unreachable()));
            return self.later(id, Duration::from_micros(50), answer);
        };
        self.asks[id].count(&question.ask);
        self.tell(&Fact::Asked(id, &question.ask));
        let node = self.processes[id].node;
        let (slow, late) = {
            let server = &self.store.endpoints[endpoint];
            (server.slow, server.late)
        };
        match self.reach_from(node, endpoint) {
            Reach::Hang => {}
            Reach::Refuse => {
                let delay = self.up_to(LEG);
                self.later(id, delay, Own::Answer(question.id, Box::new(unreachable())));
            }
            Reach::Up => {
                let delay = later + Duration::from_micros(100) + self.up_to(LEG + late) + slow / 2;
                let generation = self.processes[id].generation;
                let event = Event::Serve { id, generation, question, endpoint };
                self.queue.push(self.now + delay, event);
            }
        }
    }

    /// A question has reached an API server.
    pub(super) fn serve(&mut self, id: ProcessId, generation: u32, question: &Question, endpoint: usize) {
        let node = self.processes[id].node;
        if self.write_waits(&question.ask, endpoint) {
            let question = Box::new(question.clone());
            let event = Event::Serve { id, generation, question, endpoint };
            return self.queue.push(self.now + WAIT, event);
        }
        let answer = match self.reach_from(node, endpoint) {
            Reach::Hang => return,
            Reach::Refuse => unreachable(),
            Reach::Up => self.serve_up(id, &question.ask, endpoint),
        };
        let server = &self.store.endpoints[endpoint];
        let slow = server.slow;
        let lost = if matches!(question.ask, Ask::ReadLease(_) | Ask::ReadSession(_)) {
            0
        } else {
            server.lost_answers
        };
        if self.chance(lost) {
            return;
        }
        let delay = Duration::from_micros(100) + self.up_to(LEG) + slow / 2;
        let own = Own::Answer(question.id, Box::new(answer));
        self.queue.push(self.now + delay, Event::Process { id, generation, own });
    }

    fn serve_up(&mut self, id: ProcessId, ask: &Ask, endpoint: usize) -> Answer {
        let (reads, writes, services) = {
            let server = &self.store.endpoints[endpoint];
            (server.read_status, server.write_status, server.service_status)
        };
        let now = self.now;
        match ask {
            Ask::ReadLease(_) | Ask::ReadSession(_) if reads != 0 => failure(reads),
            Ask::ReadSession(lease) => self.session_read(endpoint, lease),
            Ask::ReadLease(lease) => {
                let seen = self.store.read(endpoint, lease, now);
                Answer::Lease(self.as_shown(seen))
            }
            _ if writes != 0 => failure(writes),
            Ask::WriteLease(write) if self.is_ignored(&write.lease) && write.purpose != Purpose::Release => {
                let seen = self.store.read(endpoint, &write.lease, now);
                let version = self.store.next_version();
                Answer::Lease(Mutation::as_held(seen, (version, &self.processes[id].config.node)))
            }
            Ask::WriteLease(write) => {
                let wall = self.wall_clock(self.processes[id].node);
                let answer = self.store.write(write, now, wall);
                self.trace.write(now, id, write, &answer);
                if matches!(answer, Answer::Lease(_)) {
                    self.tell(&Fact::Written(id, write));
                    self.lease_news(&write.lease);
                }
                answer
            }
            Ask::LabelNode { node, labels } => {
                let answer = self.store.label(now, node, labels);
                self.trace.world(now, || format!("label {node} {labels:?}"));
                self.news(Matter::Nodes);
                answer
            }
            Ask::WriteService(_) | Ask::WriteServiceStatus(_) | Ask::PostEvent(_) if services != 0 => {
                failure(services)
            }
            // The gateway reads before it writes.
            Ask::WriteService(_) | Ask::WriteServiceStatus(_) if reads != 0 => failure(reads),
            Ask::WriteService(_) | Ask::WriteServiceStatus(_) => self.serve_service(id, ask, endpoint),
            Ask::PostEvent(post) => {
                let rights = self.setup.services().map(|(_, services)| services.events);
                self.tell(&Fact::Posted(id, post));
                if rights == Some(EventRights::Missing) { failure(403) } else { Answer::Done }
            }
            Ask::WriteSession(write) => self.session_write(id, write),
        }
    }

    /// A write of a Service.
    fn serve_service(&mut self, id: ProcessId, ask: &Ask, endpoint: usize) -> Answer {
        let now = self.now;
        let (name, written) = match ask {
            Ask::WriteService(write) => {
                let gives = write.annotations.contains_key("kube-vip.io/allocatedIPs");
                if gives && self.mutation == Some(Mutation::BlindAllocation) {
                    self.store.service_swap = Swap::Blind;
                }
                let written = self.store.write_service(now, endpoint, write);
                if self.mutation == Some(Mutation::BlindAllocation) {
                    self.store.service_swap = Swap::Compared;
                }
                (&write.service, written)
            }
            Ask::WriteServiceStatus(write) => (&write.service, self.store.write_status(now, endpoint, write)),
            _ => return Answer::Done,
        };
        self.trace.rewrite(now, id, name, &written);
        match written {
            Written::No(answer) => answer,
            Written::Done(rewrite) => {
                self.look_after_asked();
                self.tell(&Fact::Rewritten(id, name, &rewrite));
                self.news(Matter::Services);
                Answer::Done
            }
        }
    }

    /// A wall clock that is wrong by hours, differently on every node: nobody may compute with it.
    pub(super) fn wall_clock(&self, node: usize) -> vip_model::Instant {
        let skew = Duration::from_secs(3600 * (node as u64 + 1) * 7);
        vip_model::Instant::from_nanos(self.now.as_nanos()) + skew
    }

    /// Whether a Lease decides about nothing because another one of its group does, and nobody is to mind it (a mutation).
    fn is_ignored(&self, lease: &LeaseName) -> bool {
        if self.mutation != Some(Mutation::IgnoresSiblings) {
            return false;
        }
        let ought = self.ought();
        let mut parts = ought.duties.values().filter_map(|duty| match duty {
            Duty::Part(part) if part.lease == *lease => Some(part),
            _ => None,
        });
        parts.any(|part| ought.groups[part.group].lease != *lease)
    }

    /// What a sight looks like to agents; a mutation may dress an old one as the newest.
    fn as_shown(&self, seen: LeaseSeen) -> LeaseSeen {
        match self.mutation {
            Some(Mutation::OldAsNews) => Mutation::as_news(seen, &self.store),
            Some(Mutation::IgnoresSiblings) if self.is_ignored(&seen.lease) => Mutation::as_free(seen),
            _ => seen,
        }
    }

    pub(super) fn answer_arrives(&mut self, id: ProcessId, question: QuestionId, answer: Answer) {
        let process = &mut self.processes[id];
        if process.questions.remove(&question).is_some() {
            process.round_trip = self.now.since(process.asked);
            self.input(id, Input::Answer(question, answer));
            return;
        }
        let newest = process.questions.keys().next_back().copied();
        if let (Some(Mutation::StaleAnswers), Some(newest)) = (self.mutation, newest) {
            self.processes[id].questions.remove(&newest);
            self.input(id, Input::Answer(newest, answer));
        }
    }

    pub(super) fn question_times_out(&mut self, id: ProcessId, question: QuestionId) {
        if self.processes[id].questions.remove(&question).is_some() {
            self.input(id, Input::Answer(question, timed_out()));
        }
    }

    /// The whole set of watches that an agent wants.
    pub(super) fn watches_change(&mut self, id: ProcessId, watches: Watches) {
        let mut wanted: BTreeSet<Watched> = watches.leases.iter().cloned().map(Watched::Lease).collect();
        let services = watches.services.is_some();
        for (matter, is_wanted) in [
            (Matter::Nodes, watches.nodes),
            (Matter::Services, services),
            (Matter::Endpoints, services),
            (Matter::Pools, watches.pools.is_some()),
        ] {
            wanted.extend(is_wanted.then_some(Watched::Matter(matter)));
        }
        let process = &mut self.processes[id];
        for open in process.questions.values_mut() {
            // The answer to the read of an election that was dropped is nobody's; it may begin again meanwhile.
            open.lease.take_if(|lease| !watches.leases.contains(lease));
        }
        if let Some(sessions) = &watches.sessions {
            wanted.insert(Watched::Sessions(sessions.instance.clone()));
        }
        process.watches = watches;
        process.streams.retain(|watched, _| wanted.contains(watched));
        let streams = &process.streams;
        process.topics.retain(|number, watched| streams.get(watched).is_some_and(|it| it.number == *number));
        for watched in wanted {
            if !self.processes[id].streams.contains_key(&watched) {
                self.open(id, watched, Duration::from_millis(1));
            }
        }
    }

    pub(super) fn open(&mut self, id: ProcessId, watched: Watched, delay: Duration) {
        let process = &mut self.processes[id];
        process.connections += 1;
        let number = process.connections;
        process.topics.insert(number, watched.clone());
        let former = process.streams.insert(watched, Stream { number, endpoint: None, last: Moment::START });
        if let Some(former) = former {
            process.topics.remove(&former.number);
        }
        let delay = delay + self.up_to(delay);
        self.later(id, delay, Own::Connect(number));
    }

    pub(super) fn watch_opens(&mut self, id: ProcessId, number: u32) {
        let endpoint = self.server_for(id);
        let server = &self.store.endpoints[endpoint];
        let Some(watched) = self.processes[id].topics.get(&number).cloned() else { return };
        if self.reach_from(self.processes[id].node, endpoint) != Reach::Up || server.read_status != 0 {
            self.open(id, watched, REWATCH);
            return;
        }
        let delay = Duration::from_micros(200) + self.up_to(LEG) + server_slow(self, endpoint);
        let last = self.now + delay;
        if let Some(stream) = self.processes[id].streams.get_mut(&watched) {
            stream.endpoint = Some(endpoint);
            stream.last = last;
        }
        match watched {
            Watched::Matter(matter) => {
                let first = self.store.shown(endpoint, matter, self.now);
                self.later(id, delay, Own::List(number, first));
                for later in first + 1..=self.store.objects.newest(matter) {
                    self.matter_later(id, matter, later);
                }
            }
            Watched::Sessions(instance) => self.sessions_list(id, (number, endpoint), (&instance, delay)),
            Watched::Lease(lease) => {
                let seen = self.store.list(endpoint, &lease, self.now);
                let seen = self.as_shown(seen);
                self.later(id, delay, Own::Input(Box::new(Input::Lease(seen))));
                let first = self.store.seen_by(endpoint, &lease, self.now);
                for event in first..self.store.history(&lease).len() {
                    self.tell_later(id, &lease, event);
                }
            }
        }
    }

    /// The newest event of a Lease goes to everybody who watches it.
    pub(super) fn lease_news(&mut self, lease: &LeaseName) {
        let Some(event) = self.store.history(lease).len().checked_sub(1) else { return };
        for id in 0..self.processes.len() {
            self.tell_later(id, lease, event);
        }
    }

    fn tell_later(&mut self, id: ProcessId, lease: &LeaseName, event: usize) {
        let delay = Duration::from_micros(100) + self.up_to(LEG);
        let born = self.store.history(lease)[event].at;
        self.news_later(id, &Watched::Lease(lease.clone()), (born, delay), event);
    }

    /// Event number `event`, which became true at `born`, is on its way to a watch, if that is open.
    pub(super) fn news_later(
        &mut self,
        id: ProcessId,
        watched: &Watched,
        (born, delay): (Moment, Duration),
        event: usize,
    ) {
        let Some(stream) = self.processes[id].streams.get_mut(watched) else { return };
        let Some(endpoint) = stream.endpoint else { return };
        let server = &self.store.endpoints[endpoint];
        let at = (born + server.lag + server.slow).max(self.now).max(stream.last) + delay;
        stream.last = at;
        let number = stream.number;
        self.later(id, at.since(self.now), Own::News(number, event));
    }

    /// What a list showed arrives.
    pub(super) fn list_arrives(&mut self, id: ProcessId, number: u32, event: usize) {
        if let Some(Watched::Matter(matter)) = self.processes[id].topics.get(&number) {
            self.matter_arrives(id, *matter, (event, Share::All));
        }
    }

    pub(super) fn watch_tells(&mut self, id: ProcessId, number: u32, event: usize) {
        let Some(watched) = self.processes[id].topics.get(&number).cloned() else { return };
        let Some(endpoint) = self.processes[id].streams.get(&watched).and_then(|stream| stream.endpoint)
        else {
            return;
        };
        let silent = self.store.endpoints[endpoint].watches == Watching::Silent;
        let hangs = self.reach_from(self.processes[id].node, endpoint) == Reach::Hang;
        if silent || hangs || self.mutation == Some(Mutation::DeafWatches) {
            return;
        }
        match watched {
            Watched::Sessions(instance) => {
                let (_, sessions) = self.store.sessions.set(&instance, event);
                self.input(id, Input::Sessions(sessions));
            }
            Watched::Matter(matter) => self.matter_arrives(id, matter, (event, Share::Change)),
            Watched::Lease(lease) if self.is_ignored(&lease) => {}
            Watched::Lease(lease) => {
                let sight = self.store.history(&lease)[event].sight.clone();
                let seen = self.as_shown(LeaseSeen { lease, sight });
                self.input(id, Input::Lease(seen));
            }
        }
    }

    /// The watches of an API server have fallen silent; their gateways doubt them after a while.
    pub(super) fn watches_fall_silent(&mut self, endpoint: usize) {
        self.queue.push(self.now + SILENCE, Event::Doubt(endpoint));
    }

    pub(super) fn doubt_watches(&mut self, endpoint: usize) {
        let silent = self.store.endpoints[endpoint].watches == Watching::Silent;
        self.break_cut_watches();
        if silent || self.reach(endpoint) == Reach::Hang {
            self.break_watches(endpoint);
            self.watches_fall_silent(endpoint);
        }
    }

    /// All watches of an API server break.
    pub(super) fn break_watches(&mut self, endpoint: usize) {
        for id in 0..self.processes.len() {
            let broken: Vec<Watched> = self.processes[id]
                .streams
                .iter()
                .filter(|(_, stream)| stream.endpoint == Some(endpoint))
                .map(|(watched, _)| watched.clone())
                .collect();
            for watched in broken {
                self.open(id, watched, REWATCH / 2);
            }
        }
    }

    pub(super) fn run_errand(&mut self, id: ProcessId, errand: &Errand) {
        let node = self.processes[id].node;
        let ErrandTask::HttpProbe { timeout, .. } = &errand.task;
        let slow = self.store.endpoints[node].slow;
        let healthy = !self.nodes[node].trouble.gate_red;
        let (result, delay) = match self.reach(node) {
            Reach::Up if slow < *timeout && healthy => (Ok(()), slow),
            Reach::Up if slow < *timeout => (Err("status 500".to_owned()), slow),
            Reach::Refuse => (Err("connection refused".to_owned()), Duration::ZERO),
            Reach::Up | Reach::Hang => (Err("no answer in time".to_owned()), *timeout),
        };
        let delay = delay + self.up_to(Duration::from_millis(5));
        let answer = Input::Errand(ErrandAnswer { id: errand.id, result });
        self.later(id, delay, Own::Input(Box::new(answer)));
    }
}

/// The Lease that a question is about.
pub(crate) fn lease_of(ask: &Ask) -> Option<&LeaseName> {
    match ask {
        Ask::ReadLease(lease) => Some(lease),
        Ask::WriteLease(write) => Some(&write.lease),
        Ask::ReadSession(lease) => Some(lease),
        Ask::WriteSession(write) => Some(&write.lease),
        Ask::LabelNode { .. } | Ask::WriteService(_) | Ask::WriteServiceStatus(_) | Ask::PostEvent(_) => None,
    }
}

fn server_slow(world: &World, endpoint: usize) -> Duration {
    world.store.endpoints[endpoint].slow
}
