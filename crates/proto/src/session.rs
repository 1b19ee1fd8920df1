//! Election in mode `session`: one machine owns all address groups of a node.
//!
//! The store is the truth: a *session* Lease per node proves its life, a *claim* Lease per group names the session that
//! owns it and is written only when it changes hands. *Jurors* (up to five other members) lend a session its right in
//! slices of a few heartbeats, so that it lives through an outage of the store and is deposed in a blink when it dies.
//! Nobody infers death from silence alone: who would take looks at the address itself. A holder in *doubt* looks for
//! proof of its own connection before it lets go.
//!
//! ```text
//!            recall, Sessions, claims              heartbeats            frames
//!                   │                                  │                    │
//!   own (session, jury) ◄──── trust (may we serve?) ◄─ peers ─► tracks    looks
//!                   │                                  │  (as juror: grants)│
//!                   ▼                                  ▼                    │
//!                groups (whose is each?) ◄──────── bids (as heir) ◄─────────┘
//!                   │
//!            ElectionState per claim, questions, heartbeats, frames
//! ```
//!
//! Fed by the node with what is wanted and what happened; it gives back questions, heartbeats and unicast probes, and
//! publishes an `ElectionState` for every claim as the mode `lease` does, so that the plan knows one kind of election.

mod beat;
mod bequest;
mod bid;
mod calls;
mod drill;
mod elsewhere;
mod group;
mod hand;
mod juror;
mod lineage;
mod look;
mod members;
mod memory;
mod own;
mod peer;
mod spread;
mod step;
#[cfg(test)]
mod tests;
mod trust;
mod unseen;
mod view;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use vip_model::config::{PeerMode, SessionSettings};
use vip_model::kernel::{FrameIn, FrameOut};
use vip_model::members::ElectionState;
use vip_model::peers::{DoorState, DoorWant, Fitness, InstanceTag, KeyId, PeerHeard, PeerSend};
use vip_model::plan::{ElectionWant, Look};
use vip_model::session::{BootId, Memory, Recall, SessionId, SessionSeen, Sessions, Site, session_lease};
use vip_model::store::{Answer, Ask, LeaseSeen};
use vip_model::{InstanceName, Instant, LeaseName, NodeName, Random};

use crate::{Machine, Rest};
use bequest::Bequest;
use bid::{Bid, Deposal};
use calls::Calls;
use drill::Drills;
use group::Group;
use lineage::Lineage;
use look::Looks;
use members::Member;
use own::Own;
use peer::{Peer, Track};
use trust::Trust;

/// All that is wanted of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnershipWant {
    /// The user's settings.
    pub settings: SessionSettings,
    /// The claims that this node takes part in.
    pub elections: BTreeMap<LeaseName, ElectionWant>,
    /// The networks of this node.
    pub sites: Vec<Site>,
    /// How much nodes are preferred, but for those that are not at all.
    pub preferences: BTreeMap<NodeName, u32>,
    /// Whether this node could hold VIPs.
    pub fitness: Fitness,
    /// Whether the agent stops: its session ends with the last claim.
    pub life: Life,
}

/// Whether the agent runs or stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Runs,
    /// It stops, and gives everything away.
    Stops,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum OwnershipInput {
    /// A claim was seen.
    Claim(LeaseSeen),
    /// All session Leases, as the store shows them.
    Sessions(Arc<Sessions>),
    /// A heartbeat.
    Peer(PeerHeard),
    /// The door for heartbeats.
    Door(DoorState),
    /// What an earlier life left behind.
    Recall(Recall),
    /// The answer to a question.
    Answer(Ticket, Answer),
    /// A frame.
    Frame(FrameIn),
}

/// One thing to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnershipOutput {
    /// Ask the store.
    Ask(Ticket, Ask, Duration),
    /// Send a heartbeat.
    Peer(PeerSend),
    /// Send a frame.
    Frame(FrameOut),
    /// Keep this for a next life.
    Remember(Memory),
}

/// Names a question of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Who this machine is.
#[derive(Clone, Debug)]
struct Identity {
    node: NodeName,
    instance: InstanceName,
}

impl Identity {
    fn tag(&self) -> InstanceTag {
        InstanceTag(self.instance.address_tag())
    }
}

/// What a question was about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// The own session.
    Own,
    /// The same, of a server on another node.
    Elsewhere,
    /// The session Lease of a node that shall be deposed.
    Deposal(SessionId),
    /// A claim.
    Claim(LeaseName),
}

/// The machine.
#[derive(Debug)]
pub struct Ownership {
    id: Identity,
    random: Random,
    started: Instant,
    want: OwnershipWant,
    recall: Option<Recall>,
    own: Option<Own>,
    trust: Trust,
    /// When the store's list of sessions was seen for the first time.
    listed_at: Option<Instant>,
    /// The last list of sessions; none when something else was seen since.
    listing: Option<Arc<Sessions>>,
    /// The own Lease, seen before it was known which boot this is.
    early: Option<SessionSeen>,
    members: BTreeMap<NodeName, Member>,
    peers: BTreeMap<NodeName, Peer>,
    /// Who was sent heartbeats, and when.
    calls: Calls,
    /// Peers that ask for votes.
    askers: BTreeSet<NodeName>,
    tracks: BTreeMap<SessionId, Track>,
    /// Those of them of which a vote was given.
    granted: BTreeSet<SessionId>,
    bids: BTreeMap<SessionId, Bid>,
    lineage: Lineage,
    door: DoorState,
    /// The door that is wanted, and whether it must be found again: it hangs on the keys of all members.
    door_want: Option<DoorWant>,
    is_door_old: bool,
    looks: Looks,
    /// Until when the wishes to look at what living sessions serve are renewed.
    watched_until: Instant,
    groups: BTreeMap<LeaseName, Group>,
    /// The groups that are ours.
    held: BTreeSet<LeaseName>,
    /// The shortest lifetime of their addresses, and whether it must be looked for again.
    shortest_lifetime: Option<Duration>,
    lifetimes_changed: bool,
    /// To whom everything was left when the node stopped and the store could not be told.
    bequest: Option<Bequest>,
    /// By network: some look at an address of ours there, if there is one.
    looks_on: BTreeMap<IpNet, Option<Look>>,
    /// The groups that other sessions own.
    holdings: BTreeMap<SessionId, BTreeSet<LeaseName>>,
    deposals: BTreeMap<SessionId, Deposal>,
    /// Groups in motion: handed over by us or to us.
    handed: BTreeSet<LeaseName>,
    tidied: Instant,
    stepped: Instant,
    /// When a group was last given away although nothing forced it.
    gave_at: Option<Instant>,
    /// Groups that came with what a dead node had, and may be better elsewhere.
    spreading: BTreeSet<LeaseName>,
    ventures: group::Ventures,
    rewrites: group::Rewrites,
    drills: Drills,
    /// What heartbeats say of the own groups, until something of them changes.
    list: Option<std::sync::Arc<words::OwnList>>,
    /// Groups that must be looked at again, and when.
    due: BTreeSet<(Instant, LeaseName)>,
    /// When the lifetime of addresses was last renewed.
    refreshed: Instant,
    /// The newest sequence that was sent.
    sequence: Instant,
    asked: BTreeMap<Ticket, Asked>,
    tickets: u64,
    memory: Remembered,
    states: BTreeMap<LeaseName, ElectionState>,
    changed: BTreeSet<LeaseName>,
    out: VecDeque<OwnershipOutput>,
    rest: Rest,
}

/// What was last kept for a next life.
#[derive(Debug, Default)]
struct Remembered {
    last: Option<Memory>,
    due: Option<Instant>,
}

impl Ownership {
    /// A machine that knows nothing yet.
    pub fn new(
        now: Instant,
        (node, instance): (NodeName, InstanceName),
        want: OwnershipWant,
        random: Random,
    ) -> Self {
        let mut machine = Self {
            id: Identity { node, instance },
            random,
            started: now,
            want: OwnershipWant { elections: BTreeMap::new(), ..want.clone() },
            recall: None,
            own: None,
            trust: Trust::default(),
            listed_at: None,
            listing: None,
            early: None,
            members: BTreeMap::new(),
            peers: BTreeMap::new(),
            calls: Calls::default(),
            askers: BTreeSet::new(),
            tracks: BTreeMap::new(),
            granted: BTreeSet::new(),
            bids: BTreeMap::new(),
            lineage: Lineage::default(),
            door: DoorState::default(),
            door_want: None,
            is_door_old: true,
            looks: Looks::default(),
            watched_until: now,
            groups: BTreeMap::new(),
            held: BTreeSet::new(),
            shortest_lifetime: None,
            lifetimes_changed: false,
            bequest: None,
            looks_on: BTreeMap::new(),
            holdings: BTreeMap::new(),
            deposals: BTreeMap::new(),
            handed: BTreeSet::new(),
            tidied: now,
            stepped: now,
            gave_at: None,
            spreading: BTreeSet::new(),
            ventures: group::Ventures::default(),
            rewrites: group::Rewrites::default(),
            drills: Drills::default(),
            list: None,
            due: BTreeSet::new(),
            refreshed: now,
            sequence: now,
            asked: BTreeMap::new(),
            tickets: 0,
            memory: Remembered::default(),
            states: BTreeMap::new(),
            changed: BTreeSet::new(),
            out: VecDeque::new(),
            rest: Rest::No,
        };
        machine.want(now, want);
        machine
    }

    /// The state of a claim's election.
    pub fn state(&self, claim: &LeaseName) -> Option<&ElectionState> {
        self.states.get(claim)
    }

    /// The claims whose state changed since this was last called.
    pub fn take_changed(&mut self) -> BTreeSet<LeaseName> {
        std::mem::take(&mut self.changed)
    }

    /// Whether nothing is left to do for a node that stops: no claim names its session, no question about one is under way,
    /// and whoever was left everything serves it.
    pub fn is_finished(&self) -> bool {
        let is_asking = self.asked.values().any(|asked| !matches!(asked, Asked::Own | Asked::Elsewhere));
        !is_asking
            && !self.awaits_heir()
            && self.held.is_empty()
            && self.own.as_ref().is_none_or(Own::has_left)
    }

    /// The door that heartbeats need. Sealed with the newest key that all members can read, so that a new key locks nobody
    /// out.
    pub fn door(&mut self) -> Option<&DoorWant> {
        if std::mem::take(&mut self.is_door_old) {
            self.door_want = self.find_door();
        }
        self.door_want.as_ref()
    }

    fn find_door(&self) -> Option<DoorWant> {
        let PeerMode::On { port, .. } = self.want.settings.peers else { return None };
        let others = || self.members.values().filter(|member| member.listed && member.record.end.is_none());
        let is_known = |key: &KeyId| others().all(|member| member.record.keys.contains(key));
        let newest = self.door.newest.filter(|key| self.door.keys.contains(key));
        let common = newest.filter(is_known).or_else(|| self.door.keys.iter().copied().find(is_known));
        Some(DoorWant { port, seal: common.or(newest), accept: self.door.keys.clone() })
    }

    /// Heartbeats are sent this often.
    fn interval(&self) -> Duration {
        match self.want.settings.peers {
            PeerMode::On { interval, .. } => interval,
            PeerMode::Off => Duration::from_millis(50),
        }
    }

    fn own_id(&self) -> Option<SessionId> {
        self.own.as_ref().map(|own| own.record.id)
    }

    fn boot(&self) -> BootId {
        self.recall.as_ref().map(|recall| recall.boot).unwrap_or_default()
    }

    fn own_lease(&self) -> LeaseName {
        self.lease_of(&self.id.node)
    }

    fn lease_of(&self, node: &NodeName) -> LeaseName {
        session_lease(&self.want.settings.namespace, &self.id.instance, node)
    }

    fn ask(&mut self, about: Asked, ask: Ask, timeout: Duration) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked.insert(ticket, about);
        self.out.push_back(OwnershipOutput::Ask(ticket, ask, timeout));
        ticket
    }

    /// A group must be looked at.
    fn mark(&mut self, at: Instant, claim: &LeaseName) {
        self.list = None;
        let Some(group) = self.groups.get_mut(claim) else { return };
        if group.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(former) = group.due.replace(at) {
            self.due.remove(&(former, claim.clone()));
        }
        self.due.insert((at, claim.clone()));
    }

    /// Something changed that all groups hang on.
    fn mark_all(&mut self, now: Instant) {
        let claims: Vec<LeaseName> = self.groups.keys().cloned().collect();
        for claim in claims {
            self.mark(now, &claim);
        }
    }

    fn answered(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        match self.asked.remove(&ticket) {
            Some(Asked::Own) => self.own_answered(now, ticket, answer),
            Some(Asked::Elsewhere) => self.elsewhere_answered(now, ticket, answer),
            Some(Asked::Deposal(of)) => self.deposal_answered(now, of, answer),
            Some(Asked::Claim(claim)) => self.claim_answered(now, &claim, answer),
            None => {}
        }
    }
}

impl Machine for Ownership {
    type Want = OwnershipWant;
    type Input = OwnershipInput;
    type Output = OwnershipOutput;

    fn want(&mut self, now: Instant, want: OwnershipWant) {
        self.rest = Rest::No;
        self.is_door_old = true;
        self.want_groups(now, &want.elections);
        if self.want.sites != want.sites || self.want.fitness != want.fitness {
            self.speak_soon(now);
            self.renew_soon(now);
        }
        self.want = OwnershipWant { elections: BTreeMap::new(), ..want };
        self.looks_on.clear();
    }

    fn handle(&mut self, now: Instant, input: OwnershipInput) {
        let rest = std::mem::take(&mut self.rest);
        match input {
            OwnershipInput::Claim(seen) => self.saw_claim(now, seen),
            OwnershipInput::Sessions(sessions) => {
                // With many nodes most lists show that one of the others was renewed, which only moves times to later ones.
                if !self.saw_sessions(now, &sessions) && !self.is_busy(now) && rest.lasts(now) {
                    self.rest = Rest::Until(self.first_due());
                }
            }
            OwnershipInput::Peer(heard) => {
                // Most heartbeats only move times to later ones: nobody shall wake up because the one before would be late by now.
                if !self.heard(now, heard) && rest.lasts(now) {
                    self.rest = Rest::Until(self.first_due());
                }
            }
            OwnershipInput::Door(door) => self.saw_door(now, door),
            OwnershipInput::Recall(recall) => self.recalled(now, recall),
            OwnershipInput::Answer(ticket, answer) => self.answered(now, ticket, answer),
            OwnershipInput::Frame(frame) => {
                // Whatever neighbours say to each other passes here, and most of it is nothing that was asked.
                if !(self.looks.hear(now, &frame) | self.hear_for_drill(now, &frame)) {
                    self.rest = rest;
                }
            }
        }
    }

    fn poll(&mut self, now: Instant) -> Option<OwnershipOutput> {
        if self.out.is_empty() && !self.rests(now) {
            self.step(now);
            self.rest = self.rest_after_step();
        }
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        match self.rest {
            Rest::Until(due) if self.out.is_empty() => due,
            Rest::Until(_) | Rest::No => self.next_step(),
        }
    }
}
