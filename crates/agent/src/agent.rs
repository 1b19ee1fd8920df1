//! The node itself: it routes inputs to machines, settles plan → want → difference, and queues outputs.
//!
//! ```text
//! handle ──► machines, facts ──► dirty?
//! poll   ──► machines' deadlines ──► settle (plan, want, diff; at most a few rounds) ──► outputs
//! ```

mod chronicle;
mod desk;
mod elector;
mod outbox;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vip_model::config::Config;
use vip_model::kernel::{Actual, FrameIn, Lifetime, Report};
use vip_model::members::Members;
use vip_model::observed::{Errand, ErrandAnswer, Observed};
use vip_model::plan::NodePlan;
use vip_model::service::ServiceName;
use vip_model::store::{Answer, Question, Snapshot, Watches};
use vip_model::view::View;
use vip_model::{Instant, Known, LeaseName, LinkIndex, QuestionId, Random};
use vip_plan::Life;
use vip_proto::Machine;
use vip_proto::announce::Announcer;
use vip_proto::gate::HealthGate;
use vip_proto::lease::{LeaseElection, LeaseInput};
use vip_proto::session::{Ownership, OwnershipInput, Ticket};

use crate::agent::chronicle::Chronicle;
use crate::agent::desk::KernelDesk;
use crate::agent::outbox::Outbox;
use crate::{Input, Output};

/// How long a stopping agent tries to leave in good order. Beyond it lifetimes and expiry do the rest: with a dead API
/// a stop takes less than three seconds.
const STOP_LIMIT: Duration = Duration::from_millis(2500);
/// Plans of a node whose facts change without touching ownership are at least this far apart.
const SETTLE_PAUSE: Duration = Duration::from_millis(10);

/// A node: fed with what happens, polled for what is to be done.
pub struct Agent {
    config: Config,
    life: Life,
    stopping_since: Option<Instant>,
    // what is known
    snapshot: Snapshot,
    actual: Known<Actual>,
    members: Members,
    observed: Observed,
    adopt_until: Lifetime,
    // the machines
    elections: BTreeMap<LeaseName, LeaseElection>,
    /// In mode `session` it decides instead of the elections.
    ownership: Option<Box<Ownership>>,
    gate: HealthGate,
    announcer: Announcer,
    // what is under way
    plan: NodePlan,
    desk: KernelDesk,
    outbox: Outbox,
    questions: BTreeMap<QuestionId, Asker>,
    last_id: u64,
    settle_due: Option<Instant>,
    settled_at: Instant,
    watches: Watches,
    door: Option<vip_model::peers::DoorWant>,
    listening: BTreeSet<LinkIndex>,
    outputs: VecDeque<Output>,
    random: Random,
    // what is shown
    chronicle: Chronicle,
}

/// Who waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asker {
    Election(LeaseName),
    Ownership(Ticket),
    NodeLabels,
    HealthGate,
    Service(ServiceName),
    /// Nobody: an Event is told once and forgotten.
    Nobody,
}

/// How soon a change of facts must be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    AtOnce,
    Soon,
}

impl Agent {
    /// A node that knows nothing yet. `seed` feeds its jitter; the same seed and inputs give the same outputs.
    pub fn new(now: Instant, seed: u64, config: Config) -> Self {
        let mut agent = Self {
            adopt_until: Lifetime::Forever,
            life: Life::Running,
            stopping_since: None,
            snapshot: Snapshot::default(),
            actual: Known::Unknown,
            members: Members::default(),
            observed: Observed::default(),
            elections: BTreeMap::new(),
            ownership: None,
            gate: HealthGate::default(),
            announcer: Announcer::new(),
            plan: NodePlan::default(),
            desk: KernelDesk::default(),
            outbox: Outbox::default(),
            questions: BTreeMap::new(),
            last_id: 0,
            settle_due: Some(now),
            settled_at: now,
            watches: Watches::default(),
            door: None,
            listening: BTreeSet::new(),
            outputs: VecDeque::new(),
            random: Random::new(seed),
            chronicle: Chronicle::new(&config),
            config,
        };
        agent.adopt(now);
        agent.choose_elector(now);
        agent
    }

    /// The picture of the node after the last turn. The same `Arc` until something changed.
    pub fn view(&mut self) -> Arc<View> {
        let announcements = self.announcer.counters().announcements;
        self.chronicle.view(announcements, &self.members, self.ownership.as_deref())
    }

    /// The plan of the last turn.
    pub const fn plan(&self) -> &NodePlan {
        &self.plan
    }

    /// What is found at the start may stay as long as a fence that were set now: long enough to prove our right.
    fn adopt(&mut self, now: Instant) {
        let control_plane = self.config.control_plane.as_ref();
        self.adopt_until = control_plane
            .filter(|control_plane| control_plane.on_loss == vip_model::config::OnLoss::Remove)
            .map_or(Lifetime::Forever, |control_plane| {
                Lifetime::Until(now + control_plane.election.timings.fence())
            });
    }

    fn mark(&mut self, now: Instant, urgency: Urgency) {
        let due = match urgency {
            Urgency::AtOnce => now,
            Urgency::Soon => now.max(self.settled_at + SETTLE_PAUSE),
        };
        self.settle_due = Some(self.settle_due.map_or(due, |earlier| earlier.min(due)));
    }

    fn saw_kernel(&mut self, now: Instant, actual: Actual) {
        if !self.desk.accepts(&actual) || self.actual.get() == Some(&actual) {
            return;
        }
        self.desk.saw(&actual);
        self.actual = Known::Known(actual);
        self.mark(now, Urgency::AtOnce);
    }

    fn applied(&mut self, now: Instant, report: &Report) {
        self.chronicle.applied(now, report, self.desk.in_flight());
        self.desk.applied(now, report);
        self.mark(now, Urgency::AtOnce);
    }

    fn heard(&mut self, now: Instant, frame: FrameIn) {
        if let Some(ownership) = &mut self.ownership {
            ownership.handle(now, OwnershipInput::Frame(frame.clone()));
        }
        self.announcer.handle(now, frame);
        for claim in self.announcer.take_foreign() {
            self.chronicle.foreign(now, &claim);
        }
        self.note_probes(now);
    }

    fn answered(&mut self, now: Instant, id: QuestionId, answer: Answer) {
        let Some(asker) = self.questions.remove(&id) else { return };
        if let Answer::Failed(failure) = &answer {
            self.chronicle.failed(failure.class);
        }
        match asker {
            Asker::Election(lease) => {
                if let Some(election) = self.elections.get_mut(&lease) {
                    election.handle(now, LeaseInput::Answer(answer));
                }
            }
            Asker::Ownership(ticket) => self.own(now, OwnershipInput::Answer(ticket, answer)),
            Asker::NodeLabels => {
                self.desk.labels_answered(now, &answer);
                self.mark(now, Urgency::Soon);
            }
            Asker::Service(name) => {
                self.outbox.answered(now, &name, &answer);
                self.mark(now, Urgency::Soon);
            }
            Asker::HealthGate | Asker::Nobody => {}
        }
    }

    fn ran(&mut self, now: Instant, answer: ErrandAnswer) {
        if self.questions.remove(&answer.id) == Some(Asker::HealthGate) {
            self.gate.handle(now, answer.result);
        }
    }

    fn stop(&mut self, now: Instant) {
        if self.stopping_since.is_none() {
            if !self.stays() {
                self.life = Life::Stopping;
            }
            self.stopping_since = Some(now);
            self.chronicle.stopping(now);
            self.mark(now, Urgency::AtOnce);
        }
    }

    fn next_id(&mut self) -> QuestionId {
        self.last_id += 1;
        QuestionId(self.last_id)
    }

    /// Lets the machines that the plan is made from act on the time, and collects what they want done.
    fn poll_deciders(&mut self, now: Instant) {
        let mut asked = Vec::new();
        for (lease, election) in &mut self.elections {
            while let Some(question) = election.poll(now) {
                asked.push((lease.clone(), question));
            }
        }
        for (lease, question) in asked {
            // One question per Lease: what was asked before and never answered is forgotten.
            self.questions.retain(|_, asker| *asker != Asker::Election(lease.clone()));
            let id = self.next_id();
            self.chronicle.asked(&question.ask);
            self.questions.insert(id, Asker::Election(lease));
            self.outputs.push_back(Output::Ask(Question {
                id,
                timeout: question.timeout,
                ask: question.ask,
            }));
        }
        while let Some(task) = self.gate.poll(now) {
            self.questions.retain(|_, asker| *asker != Asker::HealthGate);
            let id = self.next_id();
            self.questions.insert(id, Asker::HealthGate);
            self.outputs.push_back(Output::Errand(Errand { id, task }));
        }
        self.poll_ownership(now);
        self.note_members(now);
        if self.observed.control_plane_gate != *self.gate.state() {
            self.observed.control_plane_gate = self.gate.state().clone();
            self.mark(now, Urgency::AtOnce);
        }
    }

    fn poll_announcer(&mut self, now: Instant) {
        let horizon = self.horizon(now);
        while let Some(mut frame) = self.announcer.poll(now) {
            frame.not_after = horizon.map_or(frame.not_after, |horizon| frame.not_after.min(horizon));
            self.outputs.push_back(Output::Frame(frame));
        }
        self.note_probes(now);
    }

    fn note_members(&mut self, now: Instant) {
        for (lease, election) in &self.elections {
            let state = election.state();
            if self.members.elections.get(lease) != Some(&state) {
                self.chronicle.takeable(lease, state.role, election.takeable_since());
                self.members.elections.insert(lease.clone(), state);
                self.settle_due = Some(now);
            }
        }
    }

    fn note_probes(&mut self, now: Instant) {
        if self.observed.probes != *self.announcer.probes() {
            self.observed.probes.clone_from(self.announcer.probes());
            self.mark(now, Urgency::AtOnce);
        }
    }

    /// Whether our Node's labels are as they shall be, or cannot be.
    fn has_labelled(&self) -> bool {
        let node = self.snapshot.nodes.get().and_then(|nodes| nodes.get(&self.config.node));
        node.is_none_or(|facts| {
            let missing = vip_plan::diff::node_labels(&self.plan.node_labels, node).len();
            self.desk.is_done_labelling(&facts.labels, missing)
        })
    }

    /// Whether a stopping node has nothing left to do, or no time left to do it.
    fn has_left(&self, now: Instant) -> bool {
        let Some(since) = self.stopping_since else { return false };
        if self.stays() {
            return true; // what is held stays, for the next life
        }
        let is_clear = self.desk.is_idle()
            && self.has_labelled()
            && self.plan.elections.values().all(|want| want.footprint == vip_model::plan::Footprint::Clear)
            && self.elections.values().all(LeaseElection::is_finished)
            && self.ownership.as_ref().is_none_or(|ownership| ownership.is_finished());
        is_clear || now >= since + STOP_LIMIT
    }
}

impl Machine for Agent {
    type Want = Config;
    type Input = Input;
    type Output = Output;

    fn want(&mut self, now: Instant, config: Config) {
        if self.config != config {
            self.chronicle.reconfigured(now, &config);
            self.config = config;
            self.adopt(now);
            self.choose_elector(now);
            self.mark(now, Urgency::AtOnce);
        }
    }

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Actual(actual) => self.saw_kernel(now, actual),
            Input::Report(report) => self.applied(now, &report),
            Input::Frame(frame) => self.heard(now, frame),
            Input::Lease(seen) if self.ownership.is_some() => self.own(now, OwnershipInput::Claim(seen)),
            Input::Lease(seen) => {
                if let Some(election) = self.elections.get_mut(&seen.lease) {
                    election.handle(now, LeaseInput::Seen(seen));
                }
            }
            Input::Snapshot(snapshot) => {
                if self.snapshot != snapshot {
                    self.snapshot = snapshot;
                    self.mark(now, Urgency::Soon);
                }
            }
            Input::Answer(id, answer) => self.answered(now, id, answer),
            Input::Errand(answer) => self.ran(now, answer),
            Input::Sessions(sessions) => self.own(now, OwnershipInput::Sessions(sessions)),
            Input::Peer(heard) => self.own(now, OwnershipInput::Peer(*heard)),
            Input::Door(door) => self.own(now, OwnershipInput::Door(door)),
            Input::Recall(recall) => self.own(now, OwnershipInput::Recall(*recall)),
            Input::Stop => self.stop(now),
        }
    }

    fn poll(&mut self, now: Instant) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        // After `Exit` there is nobody left to carry anything out.
        if self.chronicle.has_exited() {
            return None;
        }
        self.turn(now);
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        if self.chronicle.has_exited() {
            return None;
        }
        let machines = self.elections.values().filter_map(Machine::deadline);
        let others = [
            self.ownership.as_ref().and_then(|ownership| ownership.deadline()),
            self.gate.deadline(),
            self.announcer.deadline(),
            self.settle_due,
            self.desk.deadline(),
            self.outbox.deadline(),
            self.stopping_since.map(|since| since + STOP_LIMIT),
        ];
        machines.chain(others.into_iter().flatten()).min()
    }
}
