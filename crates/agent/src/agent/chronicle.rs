//! What the node shows of itself: transitions (logged once, kept for the view), counters, the view.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vip_model::config::{Config, ServiceElection};
use vip_model::kernel::{Actual, Batch, Change, Outcome, Report};
use vip_model::members::{ElectionState, History, Members, Role};
use vip_model::observed::{Gate, Observed};
use vip_model::plan::{NodePlan, ServicePlan};
use vip_model::service::ServiceName;
use vip_model::store::{Ask, FailureClass, Purpose};
use vip_model::verdict::{Reason, Subject, Verdict};
use vip_model::view::{Readiness, ServiceView, Transition, View, VipView};
use vip_model::{Instant, LeaseName, Walk};
use vip_proto::announce::ForeignClaim;
use vip_proto::session::Ownership;

/// How many transitions the view keeps: a day of a quiet node, an hour of a busy one.
const JOURNAL_LIMIT: usize = 256;
/// How old a view may be after a turn that decided nothing.
const VIEW_EVERY: Duration = Duration::from_millis(200);
/// How many take-over times are kept.
const TAKEOVER_LIMIT: usize = 1024;

/// The node's diary.
#[derive(Debug)]
pub(super) struct Chronicle {
    view: View,
    published: Arc<View>,
    is_stale: bool,
    /// A plan was made since the last turn ended.
    is_replanned: bool,
    journal: VecDeque<Transition>,
    /// Whether the journal is longer than the one that the view shows.
    has_written: bool,
    verdicts: BTreeMap<Subject, (Verdict, Instant)>,
    gate: Gate,
    /// Since when a Lease that we hold could be taken, until its addresses are announced.
    taking: BTreeMap<LeaseName, Instant>,
    exited: bool,
    /// The Lease of the control plane, when one is configured.
    control_plane: Option<LeaseName>,
    /// The Leases that the configuration names: that of the control plane and the one for all Services. Those of single
    /// Services come and go with them.
    configured: Vec<LeaseName>,
}

/// Whether what Services are served by is known: they themselves and their endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// It is, or nobody asked for Services.
    Done,
    /// Not yet.
    Awaited,
}

impl Chronicle {
    pub(super) fn new(config: &Config) -> Self {
        let view =
            View { node: config.node.to_string(), instance: config.instance.to_string(), ..View::default() };
        Self {
            published: Arc::new(view.clone()),
            view,
            is_stale: true,
            is_replanned: false,
            journal: VecDeque::new(),
            has_written: false,
            verdicts: BTreeMap::new(),
            gate: Gate::Open,
            taking: BTreeMap::new(),
            exited: false,
            control_plane: control_plane(config),
            configured: configured(config),
        }
    }

    pub(super) fn view(&mut self, announcements: u64, ownership: Option<&Ownership>) -> Arc<View> {
        if self.is_stale || self.view.counters.announcements != announcements {
            self.is_stale = false;
            self.view.counters.announcements = announcements;
            self.view.session = ownership.map(Ownership::view);
            if self.has_written {
                self.has_written = false;
                self.view.journal = self.journal.iter().cloned().collect();
            }
            self.published = Arc::new(self.view.clone());
        }
        Arc::clone(&self.published)
    }

    pub(super) fn turned(&mut self, now: Instant) {
        self.view.taken = now;
        self.view.counters.turns += 1;
        // Heartbeats make a hundred turns a second that decide nothing: those are shown now and then.
        self.is_stale |= self.has_written || self.is_replanned || now >= self.published.taken + VIEW_EVERY;
        self.is_replanned = false;
    }

    pub(super) fn stopping(&mut self, now: Instant) {
        self.view.stopping = true;
        self.write(now, "agent", "stopping: silence, addresses, Leases, in this order".to_owned());
    }

    /// Since when a verdict stands.
    pub(super) fn since(&self, subject: &Subject, verdict: &Verdict) -> Option<Instant> {
        self.verdicts.get(subject).filter(|(stands, _)| stands == verdict).map(|(_, since)| *since)
    }

    pub(super) const fn has_exited(&self) -> bool {
        self.exited
    }

    pub(super) fn exited(&mut self, now: Instant) {
        self.exited = true;
        self.write(now, "agent", "stopped".to_owned());
    }

    pub(super) fn reconfigured(&mut self, now: Instant, config: &Config) {
        self.view.node = config.node.to_string();
        self.view.instance = config.instance.to_string();
        self.control_plane = control_plane(config);
        self.configured = configured(config);
        self.write(now, "agent", "configuration changed".to_owned());
    }

    pub(super) fn asked(&mut self, ask: &Ask) {
        let kind = match ask {
            Ask::ReadLease(_) => "read",
            Ask::WriteLease(write) => match write.purpose {
                Purpose::Take => "take",
                Purpose::Renew => "renew",
                Purpose::Release => "release",
                Purpose::Depose => "depose",
                Purpose::HandOver => "hand_over",
            },
            Ask::ReadSession(_) => "read_session",
            Ask::WriteSession(_) => "session",
            Ask::LabelNode { .. } => "label",
            Ask::WriteService(_) => "service",
            Ask::WriteServiceStatus(_) => "service_status",
            Ask::PostEvent(_) => "event",
        };
        *self.view.counters.questions.entry(kind.to_owned()).or_default() += 1;
    }

    pub(super) fn failed(&mut self, class: FailureClass) {
        self.view.counters.count_failure(class);
    }

    /// Tells of addresses that go, also of those that were found at the start.
    pub(super) fn removing(&mut self, now: Instant, batch: &Batch, actual: &Actual) {
        for change in &batch.changes {
            if let Change::DelAddress { link, net } = change {
                let name = actual.links.get(link).map_or("a link that is gone", |link| link.name.as_str());
                let change = format!("removing {net} from {name}");
                self.write(now, &net.addr().to_string(), change);
            }
        }
    }

    pub(super) fn foreign(&mut self, now: Instant, claim: &ForeignClaim) {
        *self.view.counters.foreign_claims.entry(claim.at.addr.to_string()).or_default() += 1;
        let change = format!("{} claims the address too; asserting ours", claim.from);
        tracing::warn!(vip = %claim.at.addr, from = %claim.from, "somebody else claims a VIP that we hold");
        self.record(now, claim.at.addr.to_string(), change);
    }

    pub(super) fn applied(&mut self, now: Instant, report: &Report, batch: Option<&Batch>) {
        for (at, outcome) in report.outcomes.iter().enumerate() {
            let kind = match outcome {
                Outcome::Done => "done",
                Outcome::TooLate => "too_late",
                Outcome::Failed { .. } => "failed",
            };
            *self.view.counters.changes.entry(kind.to_owned()).or_default() += 1;
            if let Outcome::Failed { text, .. } = outcome {
                let subject =
                    batch.and_then(|batch| batch.changes.get(at)).map_or("kernel".to_owned(), about);
                let change = format!("the kernel refused: {text}");
                // A change that fails again and again is told once.
                if self.journal.back().is_none_or(|last| last.subject != subject || last.change != change) {
                    tracing::error!(subject, error = text, "a kernel change failed");
                    self.record(now, subject, change);
                }
            }
        }
    }

    /// Remembers since when a Lease that we do not hold can be taken, for the time of the take-over.
    pub(super) fn takeable(&mut self, lease: &LeaseName, role: Role, since: Option<Instant>) {
        if let Some(since) = since
            && !matches!(role, Role::Holder { .. })
        {
            self.taking.insert(lease.clone(), since);
        }
    }

    /// Compares a plan and what it was made from with the last ones, and writes down what changed.
    pub(super) fn planned(
        &mut self,
        now: Instant,
        (former, plan): (&NodePlan, &NodePlan),
        (members, observed): (&Members, &Observed),
        actual: Option<&Actual>,
    ) {
        self.view.counters.plans += 1;
        self.is_replanned = true;
        let has_moved = self.compare_elections(now, members);
        if self.gate != observed.control_plane_gate {
            self.gate.clone_from(&observed.control_plane_gate);
            self.view.gate.clone_from(&self.gate);
            self.write(now, "health gate", gate_text(&self.gate));
        }
        let has_news = self.compare_verdicts(now, plan);
        if has_news || has_moved || shows_other(&former.services, &plan.services) {
            self.view.services = self.services(plan, members);
        }
        self.view.verdicts = self.vips(plan, members, actual);
        if !self.taking.is_empty() && plan.verdicts.values().all(|verdict| *verdict == Verdict::Announce) {
            self.took(now, members);
        }
    }

    /// Writes down what changed in elections. Gives back whether one of them has another holder, came, or went.
    fn compare_elections(&mut self, now: Instant, members: &Members) -> bool {
        if members.elections == *self.view.elections {
            return false;
        }
        let former = std::mem::replace(&mut self.view.elections, Arc::new(members.elections.clone()));
        let mut has_moved = members.elections.len() != former.len();
        let (mut walk, unheard) = (Walk::new(&former), ElectionState::default());
        for (lease, state) in &members.elections {
            let found = walk.find(lease);
            has_moved |= found.is_none_or(|found| found.holder != state.holder);
            if found != Some(state) {
                self.election(now, lease, (found.unwrap_or(&unheard), state));
            }
        }
        has_moved
    }

    /// Writes down the verdicts that changed. Gives back whether one did, came, or went.
    fn compare_verdicts(&mut self, now: Instant, plan: &NodePlan) -> bool {
        let mut walk = Walk::new(&self.verdicts);
        let is_news = |(subject, verdict): &(&Subject, &Verdict)| {
            walk.find(subject).is_none_or(|(former, _)| former != *verdict)
        };
        let news: Vec<_> = plan.verdicts.iter().filter(is_news).collect();
        for (subject, verdict) in &news {
            let text = match verdict {
                Verdict::Announce => "announced by this node".to_owned(),
                Verdict::Skip(reason) => reason.to_string(),
            };
            match (subject, verdict) {
                (_, Verdict::Skip(Reason::NotALoadBalancer)) => {}
                // Thousands of lines when an agent starts, and the next verdict follows at once.
                (Subject::Service(_), Verdict::Skip(reason)) if reason.is_passing() => {
                    let subject = subject.to_string();
                    tracing::debug!(subject, "{text}");
                    self.record(now, subject, text);
                }
                _ => self.write(now, &subject.to_string(), text),
            }
            self.verdicts.insert((*subject).clone(), ((*verdict).clone(), now));
        }
        let has_lost = self.verdicts.len() != plan.verdicts.len();
        if has_lost {
            self.verdicts.retain(|subject, _| plan.verdicts.contains_key(subject));
        }
        has_lost || !news.is_empty()
    }

    /// Judges whether everything that was asked for is known. What is wrong with the Lease of one Service among others is
    /// that Service's business.
    pub(super) fn judge(&mut self, listing: Listing, members: &Members, actual: Option<&Actual>) {
        let elections = &members.elections;
        let is_unseen =
            |lease: &LeaseName| elections.get(lease).is_none_or(|state| state.history == History::Unknown);
        let has_trouble =
            |lease: &LeaseName| elections.get(lease).is_some_and(|state| state.trouble.is_some());
        let all_have_trouble =
            !elections.is_empty() && elections.values().all(|state| state.trouble.is_some());
        self.view.readiness =
            if actual.is_none() || listing == Listing::Awaited || self.configured.iter().any(is_unseen) {
                Readiness::Starting
            } else if all_have_trouble || self.configured.iter().any(has_trouble) {
                Readiness::Stale
            } else {
                Readiness::Ready
            };
    }

    fn election(
        &mut self,
        now: Instant,
        lease: &LeaseName,
        (former, state): (&ElectionState, &ElectionState),
    ) {
        let was_holder = matches!(former.role, Role::Holder { .. });
        let is_holder = matches!(state.role, Role::Holder { .. });
        if is_holder && !was_holder {
            *Arc::make_mut(&mut self.view.counters.transitions).entry(lease.clone()).or_default() += 1;
            self.write(now, lease.as_str(), "this node holds the Lease".to_owned());
        } else if !is_holder {
            if was_holder {
                self.write(now, lease.as_str(), "this node no longer holds the Lease".to_owned());
            }
            if former.holder != state.holder {
                let text = state.holder.as_ref().map_or("nobody holds the Lease".to_owned(), |holder| {
                    format!("{holder} holds the Lease")
                });
                self.write(now, lease.as_str(), text);
            }
        }
        let class = |state: &ElectionState| state.trouble.as_ref().map(|failure| failure.class);
        if class(former) != class(state) {
            match &state.trouble {
                Some(failure) => {
                    tracing::warn!(lease = %lease, class = failure.class.as_str(), error = failure.text, "the API does not answer");
                    self.record(now, lease.to_string(), format!("the API does not answer: {}", failure.text));
                }
                None => self.write(now, lease.as_str(), "the API answers again".to_owned()),
            }
        }
    }

    /// The addresses of everything that we hold are announced: take-overs are over.
    fn took(&mut self, now: Instant, members: &Members) {
        for (lease, state) in &members.elections {
            if let (Role::Holder { .. }, Some(since)) = (state.role, self.taking.remove(lease))
                && self.view.counters.takeover_seconds.len() < TAKEOVER_LIMIT
            {
                self.view.counters.takeover_seconds.push((now - since).as_secs_f64());
            }
        }
    }

    fn services(&self, plan: &NodePlan, members: &Members) -> Arc<[ServiceView]> {
        let of = |(subject, (verdict, since)): (&Subject, &(Verdict, Instant))| {
            let Subject::Service(service) = subject else { return None };
            if *verdict == Verdict::Skip(Reason::NotALoadBalancer) {
                return None;
            }
            let planned = plan.services.get(service);
            let lease = planned.and_then(|planned| planned.lease.clone());
            let holder = lease
                .as_ref()
                .and_then(|lease| members.elections.get(lease))
                .and_then(|state| state.holder.clone());
            Some(ServiceView {
                service: service.clone(),
                addrs: planned.map(|planned| planned.addrs.clone()).unwrap_or_default(),
                verdict: verdict.clone(),
                lease,
                holder,
                since: *since,
                endpoints: planned.map(|planned| planned.endpoints).unwrap_or_default(),
            })
        };
        self.verdicts.iter().filter_map(of).collect()
    }

    fn vips(&self, plan: &NodePlan, members: &Members, actual: Option<&Actual>) -> Vec<VipView> {
        let Some(lease) = &self.control_plane else { return Vec::new() };
        let holder = members.elections.get(lease).and_then(|state| state.holder.clone());
        let of = |(subject, (verdict, since)): (&Subject, &(Verdict, Instant))| {
            let Subject::ControlPlane(vip) = subject else { return None };
            let interface =
                plan.places.get(subject).and_then(|link| Some(actual?.links.get(link)?.name.clone()));
            Some(VipView {
                subject: subject.clone(),
                vip: *vip,
                interface,
                verdict: verdict.clone(),
                lease: lease.clone(),
                holder: holder.clone(),
                since: *since,
            })
        };
        self.verdicts.iter().filter_map(of).collect()
    }

    /// Logs and keeps a transition.
    fn write(&mut self, now: Instant, subject: &str, change: String) {
        tracing::info!(subject, "{change}");
        self.record(now, subject.to_owned(), change);
    }

    fn record(&mut self, at: Instant, subject: String, change: String) {
        self.has_written = true;
        if self.journal.len() == JOURNAL_LIMIT {
            self.journal.pop_front();
        }
        self.journal.push_back(Transition { at, subject, change });
    }
}

/// Whether what the view shows of Services is another thing: their addresses or the elections that decide.
fn shows_other(
    former: &BTreeMap<ServiceName, ServicePlan>,
    new: &BTreeMap<ServiceName, ServicePlan>,
) -> bool {
    let is_same = |((_, one), (_, other)): ((_, &ServicePlan), (_, &ServicePlan))| {
        one.addrs == other.addrs && one.lease == other.lease && one.endpoints == other.endpoints
    };
    former.len() != new.len() || !former.iter().zip(new).all(is_same)
}

fn control_plane(config: &Config) -> Option<LeaseName> {
    config.control_plane.as_ref().map(|control_plane| control_plane.election.lease.clone())
}

fn configured(config: &Config) -> Vec<LeaseName> {
    let global = config.services.as_ref().and_then(|services| match &services.election {
        ServiceElection::Global(election) => Some(election.lease.clone()),
        ServiceElection::PerService(_) => None,
    });
    control_plane(config).into_iter().chain(global).collect()
}

fn about(change: &Change) -> String {
    match change {
        Change::SetAddress(set) => set.net.addr().to_string(),
        Change::DelAddress { net, .. } => net.addr().to_string(),
        Change::SetFilter { .. } => "packet filter".to_owned(),
    }
}

fn gate_text(gate: &Gate) -> String {
    match gate {
        Gate::Open => "open".to_owned(),
        Gate::Green => "green: the local health check succeeds".to_owned(),
        Gate::Red { reason } => format!("closed: the local health check fails: {reason}"),
    }
}
