//! One turn: machines act on the time; if a fact changed, plan, tell every machine what is wanted, and compare with
//! what is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vip_model::kernel::{Actual, Address, Change, Dad, Lifetime, Outcome, Report};
use vip_model::observed::Overdue;
use vip_model::plan::{Doubt, Footprint, NodePlan, Unsaid};
use vip_model::store::{Ask, Question, ServiceStatusWrite, ServiceWatch, ServiceWrite, Watches};
use vip_model::{Instant, Known, ScopedAddr};
use vip_plan::{KernelWork, World};
use vip_proto::Machine;
use vip_proto::announce::{AnnounceWant, PROBE_REPEAT, PROBE_REPEAT_MAX, ProbeTarget};
use vip_proto::lease::LeaseElection;

use super::chronicle::Listing;
use super::{Agent, Asker, Urgency, elector, outbox, sooner, trails};
use crate::Output;

/// How often plan and machines may answer each other within one turn. Two rounds settle everything known today (a want
/// changes a role, the role changes the plan); the rest is for safety, and what is left waits for the next turn.
const ROUNDS: usize = 4;
/// How long a label write may take.
const LABEL_TIMEOUT: Duration = Duration::from_secs(5);

impl Agent {
    /// Runs one turn and queues its outputs.
    pub(super) fn turn(&mut self, now: Instant) {
        self.notice_expiry(now);
        self.poll_deciders(now);
        // In mode `session` a right grows without a plan: what came too late before may be done now.
        let may_have_room = self.awaits_right || self.is_submission_due(now);
        let mut is_news = std::mem::take(&mut self.must_submit) || may_have_room;
        for _ in 0..ROUNDS {
            if !self.is_unsettled(now) {
                // Only when nothing is left to decide: what has just lost its right is not announced once more.
                self.poll_announcer(now);
            }
            if !self.is_unsettled(now) {
                break;
            }
            (self.settle_due, self.refresh_due) = (None, None);
            self.settled_at = now;
            self.settle(now);
            self.poll_deciders(now);
            is_news = true;
        }
        if is_news {
            self.submit(now);
        }
        self.chronicle.turned(now);
        if self.has_left(now) {
            self.chronicle.exited(now);
            self.outputs.push_back(Output::Exit);
        }
    }

    /// An address whose time is over in our picture of the kernel may be gone, as after a stop of the process: it is
    /// neither announced nor written about until the next picture. Whoever waits for its removal goes on waiting.
    fn notice_expiry(&mut self, now: Instant) {
        let Known::Known(actual) = &mut self.actual else { return };
        if self.desk.first_end().is_none_or(|end| now < end) {
            return;
        }
        let tag = self.config.instance.address_tag();
        for address in actual.addresses.iter_mut().filter(|address| address.tag == tag) {
            if address.dad == Dad::Ready && address.valid <= Lifetime::Until(now) {
                address.dad = Dad::Tentative;
            }
        }
        self.desk.saw(actual, tag);
        self.mark(now, Urgency::AtOnce);
    }

    /// The same for what was just removed: it might be wanted again before the next picture, and is not there to be served.
    /// Whoever waits for its removal waits for that picture.
    pub(super) fn notice_removed(&mut self, report: &Report) {
        let (Known::Known(actual), Some(batch)) = (&mut self.actual, self.desk.in_flight()) else { return };
        for (change, outcome) in batch.changes.iter().zip(&report.outcomes) {
            let (Change::DelAddress { link, net }, Outcome::Done) = (change, outcome) else { continue };
            let is_it = |address: &&mut Address| (address.link, address.net) == (*link, *net);
            actual.addresses.iter_mut().filter(is_it).for_each(|address| address.dad = Dad::Tentative);
        }
    }

    fn is_unsettled(&self, now: Instant) -> bool {
        self.settle_due.into_iter().chain(self.refresh_due).any(|due| now >= due)
    }

    /// Whether a pause of a gateway is over: what waited for it may be handed over now.
    fn is_submission_due(&self, now: Instant) -> bool {
        self.desk.deadline().into_iter().chain(self.outbox.deadline()).any(|due| now >= due)
    }

    fn settle(&mut self, now: Instant) {
        self.planned_work = if self.desk.is_idle() { KernelWork::Settled } else { KernelWork::InFlight };
        if let Some(trails) = &mut self.observed.trails {
            trails.turn = now;
            trails::forget(now, trails);
        }
        if let Some(overdue) = &mut self.observed.unsaid {
            overdue.turn = now;
        }
        let plan = vip_plan::plan(&self.world());
        self.want_elections(now, &plan);
        self.gate.want(now, plan.health.clone());
        self.announcer.want(now, announce_want(&plan, self.actual.get()));
        self.want_sockets(&plan);
        self.chronicle.planned(now, (&self.plan, &plan), (&self.members, &self.observed), self.actual.get());
        self.chronicle.judge(self.listing(), &self.members, self.actual.get());
        self.observed.promised.clone_from(&plan.promised);
        self.wait_for_others(now, plan.unsaid.as_ref());
        let moment = (now, self.snapshot.services_at.revision());
        let trails = self.observed.trails.as_mut();
        let moved = trails.map(|trails| trails::note(moment, trails, (&self.plan, &plan)));
        self.plan = plan;
        if moved == Some(trails::Moved::Yes) {
            self.mark(now, Urgency::AtOnce);
        }
    }

    /// Remembers since when a word about a Service is left to others, and plans again when they had time enough.
    fn wait_for_others(&mut self, now: Instant, unsaid: Option<&Unsaid>) {
        let former = self.observed.unsaid.take();
        self.observed.unsaid = unsaid.map(|unsaid| {
            let known = former.filter(|former| former.service == unsaid.service);
            let since = known.map_or(now, |known| known.since);
            if now < since + unsaid.wait {
                self.refresh_due = Some(sooner(self.refresh_due, since + unsaid.wait));
            }
            Overdue { service: unsaid.service.clone(), since, turn: now }
        });
    }

    /// What is known, as the plan takes it.
    pub(super) fn world(&self) -> World<'_> {
        World {
            config: &self.config,
            life: self.life,
            snapshot: &self.snapshot,
            members: &self.members,
            observed: &self.observed,
            actual: &self.actual,
            kernel_work: self.planned_work,
            former: Some(&self.plan),
            adopt_until: self.adopt_until,
        }
    }

    fn listing(&self) -> Listing {
        let snapshot = &self.snapshot;
        let is_listed = snapshot.services.get().is_some() && snapshot.endpoints.get().is_some();
        if is_listed || self.config.services.is_none() { Listing::Done } else { Listing::Awaited }
    }

    fn want_elections(&mut self, now: Instant, plan: &NodePlan) {
        if self.ownership.is_some() {
            return self.want_ownership(now, plan);
        }
        let (node, random) = (&self.config.node, &mut self.random);
        self.elections.have_acted(plan.acted);
        self.elections.want(now, &plan.elections, |lease, want| {
            let random = vip_model::Random::new(random.next_u64());
            LeaseElection::new(now, node.clone(), lease.clone(), want.clone(), random)
        });
        if self.elections.has_other(&plan.elections) {
            self.leave_elections(now, plan);
        }
    }

    /// An election that is no longer planned is left in good order: what hangs on it goes first, then its Lease.
    fn leave_elections(&mut self, now: Instant, plan: &NodePlan) {
        let Some(actual) = self.actual.get() else { return };
        let tag = self.config.instance.address_tag();
        let changes = vip_plan::diff::addresses(&plan.addresses, actual, self.desk.lifetimes(), tag);
        let is_removing = changes.iter().any(|change| matches!(change, Change::DelAddress { .. }))
            || vip_plan::diff::has_leaving(&plan.addresses, actual, (tag, &self.config));
        let footprint =
            if is_removing || !self.desk.is_idle() { Footprint::Present } else { Footprint::Clear };
        self.elections.leave_others(now, &plan.elections, (footprint, &self.snapshot.services_at));
        self.members.elections.retain(|lease, _| self.elections.get(lease).is_some());
    }

    /// What is watched and listened to, as whole sets.
    fn want_sockets(&mut self, plan: &NodePlan) {
        let services = self.config.services.as_ref();
        let rest = Watches {
            leases: BTreeSet::new(),
            nodes: !plan.elections.is_empty() || services.is_some(),
            services: services.map(|services| ServiceWatch {
                namespace: services.namespace.clone(),
                endpoints: services.endpoints,
            }),
            pools: services
                .and_then(|services| services.ipam.as_ref())
                .map(|ipam| (ipam.namespace.clone(), ipam.config_map.clone())),
            sessions: self.wanted_sessions(),
        };
        let leases = std::mem::take(&mut self.watches.leases);
        if self.watches == rest && leases.iter().eq(plan.elections.keys()) {
            self.watches.leases = leases;
        } else {
            self.watches = Watches { leases: plan.elections.keys().cloned().collect(), ..rest };
            self.outputs.push_back(Output::Watch(self.watches.clone()));
        }
        self.want_door();
        let looked_at = plan.places.values().filter(|_| self.ownership.is_some()).copied();
        let links = plan
            .claims
            .keys()
            .chain(&plan.probes)
            .chain(plan.doubts.keys())
            .chain(plan.addresses.set.keys())
            .map(|at| at.link)
            .chain(looked_at)
            .collect();
        if self.listening != links {
            self.listening.clone_from(&links);
            self.outputs.push_back(Output::Listen(links));
        }
    }

    /// Hands the difference between plan and world to the gateways, if they are free.
    fn submit(&mut self, now: Instant) {
        if let Some(actual) = self.actual.get()
            && self.desk.is_idle()
        {
            let tag = self.config.instance.address_tag();
            let mut changes =
                vip_plan::diff::addresses(&self.plan.addresses, actual, self.desk.lifetimes(), tag);
            let instance = &self.config.instance;
            let filter = self.plan.filter.as_ref();
            changes.extend(vip_plan::diff::filter(filter, actual.filter.get(), self.desk.filter(), instance));
            if let Some(ownership) = &self.ownership {
                let horizons = (ownership.horizon(now), ownership.horizon_to_add(now));
                elector::bound(now, &mut changes, horizons, actual);
            }
            let is_wanted = !changes.is_empty();
            let batch = self.desk.submit(now, changes);
            self.awaits_right = self.ownership.is_some() && is_wanted && batch.is_none();
            if let Some(batch) = batch {
                self.chronicle.removing(now, &batch, actual);
                self.outputs.push_back(Output::Kernel(batch));
            }
        }
        // A plan that is older than what is known may want what nobody asks for any more: only the kernel, where
        // lifetimes run, does not wait for the next one.
        if self.settle_due.is_none() {
            self.submit_labels(now);
            self.submit_services(now);
        }
    }

    /// Writes the labels of our own Node that differ.
    fn submit_labels(&mut self, now: Instant) {
        let node = self.snapshot.nodes.get().and_then(|nodes| nodes.get(&self.config.node));
        let labels = vip_plan::diff::node_labels(&self.plan.node_labels, node);
        if let Some(node) = node
            && self.desk.may_label(now, &node.labels)
            && !labels.is_empty()
        {
            self.desk.labelling(node.labels.clone());
            let id = self.next_id();
            self.questions.insert(id, Asker::NodeLabels);
            let ask = Ask::LabelNode { node: self.config.node.clone(), labels };
            self.chronicle.asked(&ask);
            self.outputs.push_back(Output::Ask(Question { id, timeout: LABEL_TIMEOUT, ask }));
        }
    }

    /// Writes to Services what differs, oldest Service first.
    fn submit_services(&mut self, now: Instant) {
        self.outbox.saw(now, &self.snapshot);
        if self.plan.services.is_empty() || self.outbox.room() == 0 {
            return;
        }
        let mut writes = vip_plan::diff::services(&self.plan, &self.snapshot, &self.outbox.busy());
        writes.truncate(self.outbox.room());
        let Some(services) = self.snapshot.services.get().cloned() else { return };
        for ask in writes {
            let (Ask::WriteService(ServiceWrite { service, .. })
            | Ask::WriteServiceStatus(ServiceStatusWrite { service, .. })) = &ask
            else {
                continue;
            };
            let seen = services.get(service).map(|seen| &**seen);
            let Some(name) = self.outbox.sent(&ask, seen) else { continue };
            self.ask(Asker::Service(name), ask);
        }
    }

    pub(super) fn ask(&mut self, asker: Asker, ask: Ask) {
        let id = self.next_id();
        self.questions.insert(id, asker);
        self.chronicle.asked(&ask);
        self.outputs.push_back(Output::Ask(Question { id, timeout: outbox::WRITE_TIMEOUT, ask }));
    }
}

fn announce_want(plan: &NodePlan, actual: Option<&Actual>) -> AnnounceWant {
    let ask = |at: &ScopedAddr, repeat, until| {
        let link = actual?.links.get(&at.link)?;
        let (addr, broadcast) = vip_plan::link_addresses(link)?;
        Some((*at, ProbeTarget::Station { addr, broadcast, repeat, until }))
    };
    let news = plan.probes.iter().filter_map(|at| ask(at, PROBE_REPEAT_MAX, None));
    let doubts = plan.doubts.iter().filter_map(|(at, doubt)| match doubt {
        Doubt::Ask(until) => ask(at, PROBE_REPEAT, *until),
        Doubt::Wait(until) => Some((*at, ProbeTarget::Time(*until))),
    });
    let probes: BTreeMap<_, _> = news.chain(doubts).collect();
    let own = actual.map(|actual| actual.links.values().filter_map(|link| link.addr.clone()).collect());
    AnnounceWant { claims: plan.claims.clone(), probes, own: own.unwrap_or_default() }
}
