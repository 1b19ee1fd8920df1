//! The elector of mode `session`: carries what happened to the machine that owns all groups, and what it wants done to
//! the outside. Nothing that grants something leaves the node with a longer right than the machine has at this moment.

use vip_model::config::{Config, ElectionMode, OnStop, ServiceElection};
use vip_model::kernel::{Actual, Address, Change, Lifetime, LinkKind, LinkState};
use vip_model::members::Role;
use vip_model::observed::Gate;
use vip_model::peers::Fitness;
use vip_model::plan::{Footprint, NodePlan};
use vip_model::session::Site;
use vip_model::store::{NodeFacts, Question, SessionWatch};
use vip_model::{Instant, LinkIndex};
use vip_plan::Life;
use vip_proto::Machine;
use vip_proto::session::{Ownership, OwnershipInput, OwnershipOutput, OwnershipWant};

use super::{Agent, Asker, Urgency};
use crate::Output;

impl Agent {
    /// Makes the machine of mode `session`, or ends it.
    pub(super) fn choose_elector(&mut self, now: Instant) {
        let ElectionMode::Session(settings) = &self.config.election_mode else {
            self.ownership = None;
            return;
        };
        if self.ownership.is_some() {
            return;
        }
        let want = OwnershipWant {
            settings: settings.clone(),
            elections: std::collections::BTreeMap::new(),
            sites: Vec::new(),
            preferences: std::collections::BTreeMap::new(),
            fitness: Fitness::Fit,
            life: vip_proto::session::Life::Runs,
        };
        let id = (self.config.node.clone(), self.config.instance.clone());
        let random = vip_model::Random::new(self.random.next_u64());
        self.ownership = Some(Box::new(Ownership::new(now, id, want, random)));
    }

    /// Something happened that concerns it.
    pub(super) fn own(&mut self, now: Instant, input: OwnershipInput) {
        if let Some(ownership) = &mut self.ownership {
            ownership.handle(now, input);
        }
    }

    /// Until when what is done now is surely right. None in mode `lease`: there the plan says it.
    pub(super) fn horizon(&self, now: Instant) -> Option<Instant> {
        self.ownership.as_ref().map(|ownership| ownership.horizon(now))
    }

    pub(super) fn want_ownership(&mut self, now: Instant, plan: &NodePlan) {
        let ElectionMode::Session(settings) = &self.config.election_mode else { return };
        let want = OwnershipWant {
            settings: settings.clone(),
            elections: plan.elections.clone(),
            sites: self.sites(plan),
            preferences: plan.preferences.clone(),
            fitness: self.fitness(),
            life: match self.life {
                Life::Running => vip_proto::session::Life::Runs,
                Life::Stopping => vip_proto::session::Life::Stops,
            },
        };
        let footprint = self.unplanned_footprint(plan);
        if let Some(ownership) = &mut self.ownership {
            ownership.want(now, want);
            ownership.leave(now, footprint);
        }
        self.members.elections.retain(|lease, _| {
            plan.elections.contains_key(lease)
                || self.ownership.as_ref().is_some_and(|ownership| ownership.state(lease).is_some())
        });
    }

    /// Whether something that is not planned may still be in the kernel.
    fn unplanned_footprint(&self, plan: &NodePlan) -> Footprint {
        let Some(actual) = self.actual.get() else { return Footprint::Present };
        let tag = self.config.instance.address_tag();
        let changes = vip_plan::diff::addresses(&plan.addresses, actual, self.desk.lifetimes(), tag);
        let is_removing = changes.iter().any(|change| matches!(change, Change::DelAddress { .. }));
        if is_removing || !self.desk.is_idle() { Footprint::Present } else { Footprint::Clear }
    }

    fn fitness(&self) -> Fitness {
        let own = self.snapshot.nodes.get().and_then(|nodes| nodes.get(&self.config.node));
        let is_drained = own.is_some_and(NodeFacts::is_drained);
        let is_excluded = own.is_some_and(|facts| facts.excluded.is_some()) && self.config.services.is_some();
        match (self.life, &self.observed.control_plane_gate) {
            (Life::Running, _) if self.stopping_since.is_some() => Fitness::BackSoon,
            (Life::Stopping, _) => Fitness::Leaving,
            (Life::Running, _) if is_excluded || is_drained => Fitness::Leaving,
            (Life::Running, Gate::Red { .. }) => Fitness::Unhealthy,
            (Life::Running, Gate::Open | Gate::Green) => Fitness::Fit,
        }
    }

    /// Whether a stop leaves what is held where it is.
    pub(super) fn stays(&self) -> bool {
        matches!(&self.config.election_mode, ElectionMode::Session(settings) if settings.on_stop == OnStop::Stay)
    }

    /// The node's own places on the networks of VIPs, and those where its peers reach it.
    fn sites(&self, plan: &NodePlan) -> Vec<Site> {
        let Some(actual) = self.actual.get() else { return Vec::new() };
        let own = self.snapshot.nodes.get().and_then(|nodes| nodes.get(&self.config.node));
        let is_known = |addr| own.is_some_and(|facts| facts.addresses.contains(&addr));
        let is_place = |link| plan.places.values().any(|place| *place == link);
        let site = |address: &Address| {
            let link = actual.links.get(&address.link)?;
            let usable = link.state == LinkState::Up
                && matches!(link.kind, LinkKind::Broadcast | LinkKind::Infiniband);
            Some((address.link, Site { net: address.net, addr: link.addr.clone().filter(|_| usable)? }))
        };
        let found: Vec<(LinkIndex, Site)> = actual
            .addresses
            .iter()
            .filter(|address| address.tag == 0 && !is_vip(&self.config, address.addr()))
            .filter(|address| address.net.prefix_len() < address.net.max_prefix_len())
            .filter(|address| is_known(address.addr()) || is_place(address.link))
            .filter_map(site)
            .collect();
        // A link that has nothing else is known by what every link has.
        let has_other = |link| found.iter().any(|(place, site)| *place == link && !site.is_link_local());
        let counts = |(link, site): &&(LinkIndex, Site)| !site.is_link_local() || !has_other(*link);
        let mut sites: Vec<Site> = found.iter().filter(counts).map(|(_, site)| site.clone()).collect();
        sites.sort_unstable();
        sites.dedup();
        sites
    }

    /// Lets the machine act on the time, and collects what it wants done.
    pub(super) fn poll_ownership(&mut self, now: Instant) {
        let Some(mut ownership) = self.ownership.take_if(|ownership| !ownership.rests(now)) else { return };
        while let Some(output) = ownership.poll(now) {
            match output {
                OwnershipOutput::Ask(ticket, ask, timeout) => {
                    let id = self.next_id();
                    self.chronicle.asked(&ask);
                    self.questions.insert(id, Asker::Ownership(ticket));
                    self.outputs.push_back(Output::Ask(Question { id, timeout, ask }));
                }
                OwnershipOutput::Peer(sent) => self.outputs.push_back(Output::Peer(Box::new(sent))),
                OwnershipOutput::Frame(frame) => self.outputs.push_back(Output::Frame(frame)),
                OwnershipOutput::Remember(memory) => {
                    self.outputs.push_back(Output::Remember(Box::new(memory)));
                }
            }
        }
        for claim in ownership.take_changed() {
            let Some(state) = ownership.state(&claim) else { continue };
            let former = self.members.elections.get(&claim);
            if former == Some(state) {
                continue;
            }
            // Thousands of claims that change hands one by one must not be as many plans; what is lost goes at once.
            let was_held = former.is_some_and(|former| matches!(former.role, Role::Holder { .. }));
            let is_held = matches!(state.role, Role::Holder { .. });
            let urgency = if was_held && !is_held { Urgency::AtOnce } else { Urgency::Brisk };
            self.members.elections.insert(claim, state.clone());
            self.mark(now, urgency);
        }
        self.ownership = Some(ownership);
        self.want_door();
    }

    /// The door for heartbeats, when it is another one than before.
    pub(super) fn want_door(&mut self) {
        let door = self.ownership.as_mut().and_then(|ownership| ownership.door());
        if self.door.as_ref() != door {
            self.door = door.cloned();
            self.outputs.push_back(Output::Door(self.door.clone()));
        }
    }

    pub(super) fn wanted_sessions(&self) -> Option<SessionWatch> {
        let namespace = match &self.config.election_mode {
            ElectionMode::Session(settings) => settings.namespace.clone(),
            // Who looks after claims of the other mode is seen while there are any.
            ElectionMode::Lease if self.elections.have_claims() => first_namespace(&self.config).to_owned(),
            ElectionMode::Lease => return None,
        };
        Some(SessionWatch { namespace, instance: self.config.instance.clone() })
    }
}

/// Nothing that grants something may be done later than the right to it is sure: the first instant is for addresses that
/// are there, the second for others.
pub(super) fn bound(now: Instant, changes: &mut [Change], (keep, add): (Instant, Instant), actual: &Actual) {
    for change in changes {
        if let Change::SetAddress(set) = change {
            // A process that was stopped has an old picture: what has run out meanwhile is not there any more.
            let lives = |valid: Lifetime| {
                valid == Lifetime::Forever || matches!(valid, Lifetime::Until(until) if now < until)
            };
            let is_there = |address: &Address| {
                address.link == set.link && address.net == set.net.0 && lives(address.valid)
            };
            let horizon = if actual.addresses.iter().any(is_there) { keep } else { add };
            set.not_after = set.not_after.min(horizon);
        }
    }
}

/// Where agents of the mode `session` with the same settings keep their sessions: in the namespace of their first election.
fn first_namespace(config: &Config) -> &str {
    let control_plane = config.control_plane.as_ref().map(|it| &it.election);
    let global = config.services.as_ref().and_then(|services| match &services.election {
        ServiceElection::Global(election) => Some(election),
        ServiceElection::PerService(_) => None,
    });
    control_plane.or(global).map_or("kube-system", |election| election.lease.namespace())
}

fn is_vip(config: &Config, addr: std::net::IpAddr) -> bool {
    config.control_plane.iter().flat_map(|it| &it.vips).any(|vip| vip.addr() == addr)
}
