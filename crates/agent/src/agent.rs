//! The node itself: it routes inputs to machines, settles plan → want → difference, and queues outputs.
//!
//! ```text
//! handle ──► machines, facts ──► dirty?
//! poll   ──► machines' deadlines ──► settle (plan, want, diff; at most a few rounds) ──► outputs
//! ```

mod chronicle;
mod desk;
mod elections;
mod elector;
mod outbox;
mod rest;
mod settle;
#[cfg(test)]
mod tests;
mod trails;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vip_model::config::Config;
use vip_model::explanation::Explanation;
use vip_model::kernel::{Actual, FrameIn, Lifetime, Report};
use vip_model::members::Members;
use vip_model::observed::{Errand, ErrandAnswer, Observed, Trails};
use vip_model::plan::NodePlan;
use vip_model::service::ServiceName;
use vip_model::store::{Answer, Ask, Question, Snapshot, Watches};
use vip_model::verdict::Subject;
use vip_model::view::View;
use vip_model::{Instant, Known, LeaseName, LinkIndex, QuestionId, Random};
use vip_plan::{KernelWork, Life};
use vip_proto::announce::Announcer;
use vip_proto::gate::HealthGate;
use vip_proto::lease::LeaseInput;
use vip_proto::session::{Ownership, OwnershipInput, Ticket};
use vip_proto::{Machine, Rest};

use crate::agent::chronicle::Chronicle;
use crate::agent::desk::KernelDesk;
use crate::agent::elections::Elections;
use crate::agent::outbox::Outbox;
use crate::agent::trails::Watchman;
use crate::{Input, Output};

/// How long a stopping agent tries to leave in good order. Beyond it lifetimes and expiry do the rest: with a dead API
/// a stop takes less than three seconds.
const STOP_LIMIT: Duration = Duration::from_millis(2500);
/// Plans of a node whose facts change without touching ownership are at least this far apart, and [`BREATH`].
const SETTLE_PAUSE: Duration = Duration::from_millis(1);
/// Time between two plans for each Service that there is. Making a plan and its differences takes two to three
/// microseconds for each; where thousands of probes are answered one by one, the node must still find the time to send
/// frames.
const BREATH: Duration = Duration::from_micros(10);
/// How long a renewal waits for others to be planned with it, for each other election that there is. Thousands of
/// renewals in a second must not be as many plans; a single one must not wait.
const RENEWAL_PAUSE: Duration = Duration::from_millis(1);
/// The longest such wait: far below what a renewal leaves of a tenure (the renew deadline less the retry period).
const RENEWAL_PAUSE_MAX: Duration = Duration::from_millis(250);

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
    watchman: Watchman,
    // the machines
    elections: Elections,
    /// In mode `session` it decides instead of the elections.
    ownership: Option<Box<Ownership>>,
    /// Something is wanted of the kernel that there was no right to do at that moment.
    awaits_right: bool,
    gate: HealthGate,
    announcer: Announcer,
    /// How often the probes had found something new when `observed` was made.
    findings: u64,
    // what is under way
    plan: NodePlan,
    /// Whether the kernel was at work when the plan was made.
    planned_work: KernelWork,
    /// Something may be handed to the gateways although the plan is the same.
    must_submit: bool,
    desk: KernelDesk,
    outbox: Outbox,
    questions: BTreeMap<QuestionId, Asker>,
    last_id: u64,
    settle_due: Option<Instant>,
    /// When renewals are planned that gathered since the last plan, or what only time has changed.
    refresh_due: Option<Instant>,
    settled_at: Instant,
    watches: Watches,
    door: Option<vip_model::peers::DoorWant>,
    listening: BTreeSet<LinkIndex>,
    outputs: VecDeque<Output>,
    rest: Rest,
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
    /// Nobody: an Event is told once, when what it tells is written, and forgotten.
    Nobody,
}

/// How soon a change of facts must be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// Ownership changed.
    AtOnce,
    /// Something waits for what was found: the kernel's picture, a probe.
    Brisk,
    /// The world around changed.
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
            watchman: Watchman::new(now),
            elections: Elections::default(),
            ownership: None,
            awaits_right: false,
            gate: HealthGate::default(),
            announcer: Announcer::new(),
            findings: 0,
            plan: NodePlan::default(),
            planned_work: KernelWork::InFlight,
            must_submit: false,
            desk: KernelDesk::default(),
            outbox: Outbox::default(),
            questions: BTreeMap::new(),
            last_id: 0,
            settle_due: Some(now),
            refresh_due: None,
            settled_at: now,
            watches: Watches::default(),
            door: None,
            listening: BTreeSet::new(),
            outputs: VecDeque::new(),
            rest: Rest::No,
            random: Random::new(seed),
            chronicle: Chronicle::new(&config),
            config,
        };
        agent.adopt(now);
        agent.choose_elector(now);
        agent.choose_memory();
        agent
    }

    /// The picture of the node after the last turn. The same `Arc` until something changed.
    pub fn view(&mut self) -> Arc<View> {
        let announcements = self.announcer.counters().announcements;
        self.chronicle.view(announcements, self.ownership.as_deref())
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

    /// In mode `session` one machine owns all addresses and looks whether somebody else has them.
    fn choose_memory(&mut self) {
        let remembers = self.config.services.is_some() && self.config.election_mode.is_lease();
        let trails = self.observed.trails.take().filter(|_| remembers);
        self.observed.trails = trails.or_else(|| remembers.then(Trails::default));
    }

    /// Notices when the process was stopped.
    fn runs(&mut self, now: Instant) {
        if let Some(trails) = &mut self.observed.trails {
            self.watchman.runs(now, trails);
        }
    }

    fn mark(&mut self, now: Instant, urgency: Urgency) {
        let due = match urgency {
            Urgency::AtOnce => now,
            Urgency::Brisk => now.max(self.settled_at + self.breath()),
            Urgency::Soon => now.max(self.settled_at + SETTLE_PAUSE + self.breath()),
        };
        self.settle_due = Some(sooner(self.settle_due, due));
    }

    fn breath(&self) -> Duration {
        let services = self.snapshot.services.get().map_or(0, |services| services.len());
        BREATH.saturating_mul(u32::try_from(services).unwrap_or(u32::MAX))
    }

    fn saw_kernel(&mut self, now: Instant, actual: Actual) {
        if !self.desk.accepts(&actual) || self.actual.get() == Some(&actual) {
            return;
        }
        self.desk.saw(&actual, self.config.instance.address_tag());
        // Lifetimes are no fact that a plan is made from: after a refresh only the rest of it is handed over.
        let is_alike = self.actual.get().is_some_and(|former| former.is_alike(&actual));
        self.actual = Known::Known(actual);
        if is_alike && self.planned_work == KernelWork::Settled {
            self.must_submit = true;
        } else {
            self.mark(now, Urgency::Brisk);
        }
    }

    fn applied(&mut self, now: Instant, report: &Report) {
        self.chronicle.applied(now, report, self.desk.in_flight());
        self.notice_removed(report);
        // No reason to plan: what the batch changed is in the picture that follows the report.
        self.desk.applied(now, report);
    }

    fn heard(&mut self, now: Instant, frame: FrameIn, rest: Rest) {
        if let Some(ownership) = &mut self.ownership {
            ownership.handle(now, OwnershipInput::Frame(frame.clone()));
        }
        self.announcer.handle(now, frame);
        let foreign = self.announcer.take_foreign();
        for claim in &foreign {
            self.chronicle.foreign(now, claim);
        }
        self.note_probes(now);
        if foreign.is_empty() {
            self.rest_on(now, rest);
        }
    }

    fn answered(&mut self, now: Instant, id: QuestionId, answer: Answer) {
        let Some(asker) = self.questions.remove(&id) else { return };
        if let Answer::Failed(failure) = &answer {
            self.chronicle.failed(failure.class);
        }
        match asker {
            Asker::Election(lease) => {
                // The answer that ends a silence ends it then: what was looked at before says nothing.
                let is_back = self.elections.is_in_trouble(&lease);
                if let (true, Some(trails)) =
                    (is_back || matches!(answer, Answer::Failed(_)), &mut self.observed.trails)
                {
                    trails.lost_sight = Some(now);
                }
                self.elections.handle(now, &lease, LeaseInput::Answer(answer));
            }
            Asker::Ownership(ticket) => self.own(now, OwnershipInput::Answer(ticket, answer)),
            Asker::NodeLabels => {
                self.desk.labels_answered(now, &answer);
                self.mark(now, Urgency::Soon);
            }
            Asker::Service(name) => {
                for event in self.outbox.answered(now, &name, &answer) {
                    self.ask(Asker::Nobody, Ask::PostEvent(event));
                }
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
        for (lease, question) in self.elections.poll(now) {
            let id = self.next_id();
            // One question per Lease: what was asked before and never answered is forgotten.
            if let Some(former) = self.elections.asks(&lease, id) {
                self.questions.remove(&former);
            }
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
        while let Some(mut frame) = self.announcer.poll(now) {
            let horizon = self.horizon(now);
            frame.not_after = horizon.map_or(frame.not_after, |horizon| frame.not_after.min(horizon));
            self.outputs.push_back(Output::Frame(frame));
        }
        self.note_probes(now);
    }

    fn note_members(&mut self, now: Instant) {
        for lease in self.elections.take_stirred() {
            let Some(election) = self.elections.get(&lease) else { continue };
            let state = election.state();
            let former = self.members.elections.get(&lease);
            if former == Some(&state) {
                continue;
            }
            if former.is_some_and(|former| state.renews(former)) {
                let others = u32::try_from(self.elections.len().saturating_sub(1)).unwrap_or(u32::MAX);
                let pause = RENEWAL_PAUSE.saturating_mul(others).min(RENEWAL_PAUSE_MAX);
                self.refresh_due = Some(sooner(self.refresh_due, now + pause));
            } else {
                self.settle_due = Some(now);
            }
            self.chronicle.takeable(&lease, state.role, election.takeable_since());
            if let Some(trails) = &mut self.observed.trails {
                trails.heard_of(state.said.acted);
            }
            self.members.elections.insert(lease, state);
        }
    }

    fn note_probes(&mut self, now: Instant) {
        if self.findings != self.announcer.findings() {
            self.findings = self.announcer.findings();
            self.observed.probes.clone_from(self.announcer.probes());
            self.mark(now, Urgency::Brisk);
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

    /// Every reason on the way to what was decided about a Service; none when this agent has not seen it.
    pub fn explain(&self, service: &ServiceName) -> Option<Explanation> {
        let (findings, verdict) = vip_plan::explain(&self.world(), service)?;
        Some(Explanation {
            service: service.clone(),
            node: self.config.node.to_string(),
            instance: self.config.instance.to_string(),
            findings,
            since: self.chronicle.since(&Subject::Service(service.clone()), &verdict),
            verdict,
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
            && self.elections.are_finished()
            && self.ownership.as_ref().is_none_or(|ownership| ownership.is_finished());
        is_clear || now >= since + STOP_LIMIT
    }
}

/// The sooner of what is due already and this.
fn sooner(due: Option<Instant>, at: Instant) -> Instant {
    due.map_or(at, |due| due.min(at))
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
            self.choose_memory();
            self.mark(now, Urgency::AtOnce);
            self.rest = Rest::No;
        }
    }

    fn handle(&mut self, now: Instant, input: Input) {
        let rest = std::mem::take(&mut self.rest);
        self.runs(now);
        match input {
            Input::Actual(actual) => self.saw_kernel(now, actual),
            Input::Report(report) => self.applied(now, &report),
            Input::Frame(frame) => self.heard(now, frame, rest),
            Input::Lease(seen) if self.ownership.is_some() => self.own(now, OwnershipInput::Claim(seen)),
            Input::Lease(seen) => {
                let lease = seen.lease.clone();
                self.elections.handle(now, &lease, LeaseInput::Seen(seen));
            }
            Input::Snapshot(snapshot) => {
                if self.snapshot != snapshot {
                    if let Some(trails) = &mut self.observed.trails {
                        trails.heard_of(snapshot.services_at.revision());
                    }
                    self.snapshot = snapshot;
                    self.mark(now, Urgency::Soon);
                }
            }
            Input::Answer(id, answer) => self.answered(now, id, answer),
            Input::Errand(answer) => self.ran(now, answer),
            Input::Sessions(sessions) if self.ownership.is_none() => {
                self.elections.saw_sessions(now, &sessions);
            }
            Input::Sessions(sessions) => self.own(now, OwnershipInput::Sessions(sessions)),
            Input::Peer(heard) => {
                self.own(now, OwnershipInput::Peer(*heard));
                self.rest_on(now, rest);
            }
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
        self.runs(now);
        if self.rest.lasts(now) {
            return None;
        }
        self.turn(now);
        self.rest = self.rest_after_turn(now);
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        if self.chronicle.has_exited() {
            return None;
        }
        let due = if let Rest::Until(due) = self.rest { due } else { self.next_turn() };
        due.into_iter().chain(self.observed.trails.as_ref().map(|_| self.watchman.deadline())).min()
    }
}
