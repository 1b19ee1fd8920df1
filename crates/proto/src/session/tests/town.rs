//! A few machines, a store, two networks and kernels that forget, as small as the rules allow.

mod store;
mod want;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use vip_model::config::{ApiLoss, Failback, LeaseTimings, OnStop, PeerMode, SessionSettings};
use vip_model::kernel::{ETHERTYPE_ARP, FrameIn, FrameOut};
use vip_model::members::Role;
use vip_model::peers::{DoorState, Fitness, KeyId, PeerHeard, PeerSend};
use vip_model::session::{
    BootId, CLAIM, CLAIM_DURATION, HAND_OVER_TO, Memory, Recall, SessionId, SessionRecord, Via,
};
use vip_model::store::{Answer, Ask, Failure, FailureClass, LeaseRecord, Version};
use vip_model::view::SessionView;
use vip_model::{InstanceName, Instant, LeaseName, LinkAddr, LinkIndex, NodeName, Random};

use self::store::Store;
use crate::session::{Ownership, OwnershipInput, OwnershipOutput, OwnershipWant, Ticket};
use crate::{Machine, arp};

pub(super) const CLAIM_NAME: &str = "plndr-cp-lock";
const HOP: Duration = Duration::from_micros(300);
const API: Duration = Duration::from_millis(2);
const KERNEL: Duration = Duration::from_micros(500);
const HEARS_AGAIN: Duration = Duration::from_millis(5);
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const LIFETIME: Duration = Duration::from_secs(3);

/// The town.
pub(super) struct Town {
    now: Instant,
    homes: Vec<Home>,
    store: Store,
    events: BTreeMap<(Instant, u64), Event>,
    /// Who has just heard a heartbeat, or seen the sessions in the store.
    heard: Option<usize>,
    count: u64,
    heartbeats: bool,
    failback: Failback,
    /// Time between two moves that nothing forces.
    pub(super) move_pause: Duration,
    /// Whether nodes have ranks for the groups beside the VIP.
    is_ranked: bool,
    /// How long the prefix of the nodes' network is: with 28 bits the VIP lies outside of it.
    prefix: u8,
    /// How much nodes are preferred.
    pub(super) preferences: BTreeMap<NodeName, u32>,
    /// Nodes that the group shall not be on while another one can have it.
    pub(super) avoid: BTreeSet<NodeName>,
    /// The longest time without anybody who answers, and all time with two.
    pub(super) gap: Duration,
    pub(super) overlap: Duration,
    silent_since: Option<Instant>,
    pub(super) claim_writes: u64,
    pub(super) session_writes: u64,
    /// Turns that came because something was due, and gave nothing.
    pub(super) idle_turns: u64,
    /// How many groups there are more, which have no address to look at.
    others: usize,
    /// How much later than sessions claims are shown.
    pub(super) claim_lag: Duration,
    /// Nodes whose kernel refuses the VIP.
    pub(super) unable: BTreeSet<usize>,
}

struct Home {
    machine: Option<Ownership>,
    power: bool,
    isolated: bool,
    /// Its watch of sessions is silent.
    blind: bool,
    /// Until when its agent does nothing.
    stalled: Instant,
    /// Until when the kernel has the VIP.
    vip: Option<Instant>,
    announced: bool,
    fitness: Fitness,
    memory: Option<Memory>,
    lives: u64,
}

enum Event {
    Heard(usize, Box<OwnershipInput>, u64),
    Served(usize, Ticket, Box<Ask>, u64),
    Installed(usize),
    Removed(usize),
}

fn name(node: usize) -> NodeName {
    NodeName::new(&format!("n{}", node + 1))
}

fn mac(node: usize) -> LinkAddr {
    LinkAddr::Ethernet([2, 0, 0, 0, 0, node as u8 + 1])
}

fn addr(node: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, node as u8 + 1).into()
}

fn claim() -> LeaseName {
    LeaseName::new("kube-system", CLAIM_NAME)
}

fn other_claim(number: usize) -> LeaseName {
    LeaseName::new("kube-system", format!("kubevip-web-{number}"))
}

fn settings() -> SessionSettings {
    SessionSettings {
        namespace: "kube-system".to_owned(),
        timings: LeaseTimings {
            duration: Duration::from_secs(5),
            renew_deadline: Duration::from_secs(3),
            retry_period: Duration::from_secs(1),
        },
        peers: PeerMode::On { port: 7949, interval: Duration::from_millis(50) },
        control_plane_lifetime: LIFETIME,
        service_lifetime: Duration::from_secs(8),
        api_loss: ApiLoss::HoldIfPeersAgree,
        failback: Failback::Never,
        move_pause: Duration::from_millis(500),
        on_stop: OnStop::HandOver,
    }
}

/// A door that reads these keys.
pub(super) fn door(keys: &[u32]) -> OwnershipInput {
    let keys: BTreeSet<KeyId> = keys.iter().copied().map(KeyId).collect();
    let newest = keys.last().copied();
    OwnershipInput::Door(DoorState { port: Some(7949), keys, newest, trouble: None })
}

impl Town {
    pub(super) fn new(size: usize) -> Self {
        Self::on(24, size)
    }

    /// A town whose nodes' network has a prefix of this length.
    pub(super) fn on(prefix: u8, size: usize) -> Self {
        let home = |_| Home {
            machine: None,
            power: true,
            isolated: false,
            blind: false,
            stalled: Instant::ZERO,
            vip: None,
            announced: false,
            fitness: Fitness::Fit,
            memory: None,
            lives: 0,
        };
        let mut town = Self {
            now: Instant::from_millis(1_000_000),
            homes: (0..size).map(home).collect(),
            store: Store { up: true, ..Store::default() },
            events: BTreeMap::new(),
            heard: None,
            count: 0,
            heartbeats: true,
            failback: Failback::Never,
            move_pause: Duration::from_millis(500),
            prefix,
            is_ranked: false,
            preferences: BTreeMap::new(),
            avoid: BTreeSet::new(),
            gap: Duration::ZERO,
            overlap: Duration::ZERO,
            silent_since: None,
            claim_writes: 0,
            session_writes: 0,
            idle_turns: 0,
            others: 0,
            claim_lag: Duration::ZERO,
            unable: BTreeSet::new(),
        };
        (0..size).for_each(|node| town.start(node));
        town
    }

    /// Gap, overlap and writes count from now.
    pub(super) fn forget(&mut self) {
        (self.gap, self.overlap, self.silent_since) = (Duration::ZERO, Duration::ZERO, None);
        (self.claim_writes, self.session_writes, self.idle_turns) = (0, 0, 0);
    }

    pub(super) fn start(&mut self, node: usize) {
        self.homes[node].lives += 1;
        let random = Random::new(node as u64 * 1000 + self.homes[node].lives);
        let id = (name(node), InstanceName::new("control-plane"));
        // The plan is made when it is known what an earlier life left behind.
        let want = OwnershipWant { elections: BTreeMap::new(), ..self.want_of(node) };
        self.homes[node].machine = Some(Ownership::new(self.now, id, want, random));
        let recall =
            Recall { boot: BootId(SessionId(node as u64 + 1)), memory: self.homes[node].memory.clone() };
        self.hear(node, OwnershipInput::Recall(recall), KERNEL);
        self.hear(node, door(&[1]), KERNEL);
        if self.store.up {
            self.show_all(node);
        }
    }

    pub(super) fn kill(&mut self, node: usize) {
        self.homes[node].machine = None;
        self.homes[node].lives += 1;
    }

    /// What an agent has kept for its next life.
    pub(super) fn memory(&self, node: usize) -> Option<Memory> {
        self.homes[node].memory.clone()
    }

    pub(super) fn remember(&mut self, node: usize, memory: Option<Memory>) {
        self.homes[node].memory = memory;
    }

    /// The agent stands still for so long; the threads that hear for it go on a little later than it.
    pub(super) fn stall(&mut self, node: usize, span: Duration) {
        self.homes[node].stalled = self.now + span;
    }

    /// A node is no longer shown what becomes of sessions.
    pub(super) fn blind(&mut self, node: usize) {
        self.homes[node].blind = true;
    }

    pub(super) fn power_on(&mut self, node: usize) {
        self.homes[node].power = true;
        self.homes[node].memory = None;
        self.start(node);
    }

    pub(super) fn power_off(&mut self, node: usize) {
        self.kill(node);
        self.homes[node].power = false;
    }

    pub(super) fn isolate(&mut self, node: usize, isolated: bool) {
        self.homes[node].isolated = isolated;
        if !isolated {
            self.show_all(node);
        }
    }

    pub(super) fn api(&mut self, up: bool) {
        self.store.up = up;
        if up {
            (0..self.homes.len()).for_each(|node| self.show_all(node));
        }
    }

    pub(super) const fn heartbeats(&mut self, pass: bool) {
        self.heartbeats = pass;
    }

    /// Which keys the door of a node reads.
    pub(super) fn keys(&mut self, node: usize, keys: &[u32]) {
        self.hear(node, door(keys), Duration::ZERO);
    }

    pub(super) fn fitness(&mut self, node: usize, fitness: Fitness) {
        self.homes[node].fitness = fitness;
        self.want(node);
    }

    pub(super) fn ask_for_hand_over(&mut self, to: &str) {
        self.annotate(HAND_OVER_TO, to);
    }

    /// What the claim says under a key.
    pub(super) fn annotation(&self, key: &str) -> &str {
        let record = self.store.claims.get(&claim()).map(|(_, record)| record);
        record.and_then(|record| record.annotations.get(key)).map_or("", String::as_str)
    }

    /// The session record of a node, as the store has it.
    pub(super) fn record(&self, node: usize) -> Option<&SessionRecord> {
        self.store.sessions.values().map(|seen| &seen.record).find(|record| record.node == name(node))
    }

    /// Somebody annotates the claim.
    pub(super) fn annotate(&mut self, key: &str, text: &str) {
        self.store.version += 1;
        let version = Version(self.store.version.to_string());
        if let Some((old, record)) = self.store.claims.get_mut(&claim()) {
            *old = version;
            record.annotations.insert(key.to_owned(), text.to_owned());
        }
        (0..self.homes.len()).for_each(|node| self.show_claim(node));
    }

    /// A group more, which `node` owns, as its claim says.
    pub(super) fn own_another(&mut self, node: usize) {
        self.others += 1;
        let session = self.view(node).id.expect("it has a session");
        let record = LeaseRecord {
            holder: Some(name(node).to_string()),
            duration: Some(CLAIM_DURATION),
            transitions: 0,
            acquired: None,
            renewed: None,
            annotations: BTreeMap::from([(CLAIM.to_owned(), session.to_string())]),
        };
        self.store.version += 1;
        let version = Version(self.store.version.to_string());
        self.store.claims.insert(other_claim(self.others), (version, record));
        for home in 0..self.homes.len() {
            self.want(home);
            self.show_claim(home);
        }
    }

    pub(super) fn failback(&mut self, wait: Option<Duration>) {
        self.failback = wait.map_or(Failback::Never, Failback::After);
        (0..self.homes.len()).for_each(|node| self.want(node));
    }

    /// On which nodes the VIP answers.
    pub(super) fn holders(&self) -> Vec<usize> {
        let answers = |node: &usize| {
            let home = &self.homes[*node];
            home.power && !home.isolated && home.vip.is_some_and(|until| self.now < until)
        };
        (0..self.homes.len()).filter(answers).collect()
    }

    pub(super) fn holder(&self) -> Option<usize> {
        self.holders().first().copied()
    }

    pub(super) fn role(&self, node: usize) -> Option<Role> {
        self.homes[node].machine.as_ref()?.state(&claim()).map(|state| state.role)
    }

    /// How long ago a node heard that nobody else answers any more.
    pub(super) fn cleared(&self, node: usize) -> Option<Duration> {
        let cleared = self.homes[node].machine.as_ref()?.state(&claim())?.cleared?;
        Some(self.now - cleared)
    }

    pub(super) fn view(&self, node: usize) -> SessionView {
        self.homes[node].machine.as_ref().expect("it runs").view()
    }

    pub(super) fn is_finished(&self, node: usize) -> bool {
        self.homes[node].machine.as_ref().is_some_and(Ownership::is_finished)
    }

    pub(super) fn owner_in_store(&self) -> Option<String> {
        self.store.claims.get(&claim())?.1.holder.clone()
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let due = |home: &Home| Some(home.machine.as_ref()?.deadline()?.max(home.stalled));
            let deadlines = self.homes.iter().filter_map(due);
            let expiry = self.homes.iter().filter_map(|home| home.vip).filter(|until| *until > self.now);
            let event = self.events.keys().next().map(|(at, _)| *at);
            let next = deadlines.chain(expiry).chain(event).min().unwrap_or(end).max(self.now).min(end);
            self.count_time(next);
            if next == end && event.is_none_or(|at| at > end) {
                return;
            }
            let due: Vec<Event> = std::iter::from_fn(|| {
                let first = self.events.first_entry()?;
                (first.key().0 <= next).then(|| first.remove())
            })
            .collect();
            for event in due {
                self.happen(event);
            }
            (0..self.homes.len()).for_each(|node| self.turn(node));
            // A machine that is late by less than a scheduler's tick would be polled for ever at one instant.
            self.now = self.now.max(next) + Duration::from_micros(1);
        }
    }

    fn count_time(&mut self, next: Instant) {
        let span = next - self.now;
        if self.holders().len() > 1 {
            self.overlap += span;
        }
        self.now = self.now.max(next);
        if self.holders().is_empty() {
            let since = *self.silent_since.get_or_insert(next);
            self.gap = self.gap.max(next - since);
        } else if let Some(since) = self.silent_since.take() {
            self.gap = self.gap.max(next - since);
        }
    }

    fn later(&mut self, delay: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }

    fn hear(&mut self, node: usize, input: OwnershipInput, delay: Duration) {
        let life = self.homes[node].lives;
        self.later(delay, Event::Heard(node, Box::new(input), life));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Heard(node, input, life) => {
                let now = self.now;
                let home = &mut self.homes[node];
                if now < home.stalled {
                    let wait = home.stalled - now + HEARS_AGAIN;
                    return self.later(wait, Event::Heard(node, input, life));
                }
                if home.lives == life
                    && let Some(machine) = &mut home.machine
                {
                    let is_recall = matches!(*input, OwnershipInput::Recall(_));
                    let is_news_of_others = matches!(
                        *input,
                        OwnershipInput::Peer(_) | OwnershipInput::Sessions(_) | OwnershipInput::Frame(_)
                    );
                    self.heard = is_news_of_others.then_some(node);
                    machine.handle(now, *input);
                    if is_recall {
                        self.want(node);
                    }
                }
            }
            Event::Served(node, ticket, ask, life) => {
                let answer = self.serve(&ask);
                if self.homes[node].lives == life {
                    self.hear(node, OwnershipInput::Answer(ticket, answer), API / 2);
                }
            }
            Event::Installed(node) => {
                if let Some(Role::Holder { fence_until, .. }) = self.role(node)
                    && !self.unable.contains(&node)
                {
                    let home = &mut self.homes[node];
                    home.vip = Some(fence_until);
                    home.announced = true;
                    self.want(node);
                }
            }
            Event::Removed(node) => {
                if !matches!(self.role(node), Some(Role::Holder { .. } | Role::Undecided) | None) {
                    self.homes[node].vip = None;
                    self.homes[node].announced = false;
                    self.want(node);
                }
            }
        }
    }

    fn turn(&mut self, node: usize) {
        let now = self.now;
        if now < self.homes[node].stalled {
            return;
        }
        let Some(mut machine) = self.homes[node].machine.take() else { return };
        let is_due = machine.deadline().is_some_and(|due| due <= now);
        let mut polls = 0;
        while let Some(output) = machine.poll(now) {
            polls += 1;
            assert!(polls < 1000, "a turn that does not end");
            self.carry(node, output);
        }
        self.idle_turns += u64::from(is_due && polls == 0);
        let due = machine.deadline();
        assert!(
            due.is_none_or(|due| due > now),
            "n{}: a deadline that stays in the past: {}",
            node + 1,
            machine.dues()
        );
        // Most heartbeats and renewals of others are not followed by a step: it would find nothing.
        if self.heard.take_if(|heard| *heard == node).is_some() {
            let missed = machine.missed(now);
            assert!(missed.is_empty(), "n{} rests, and a step finds {missed:?}", node + 1);
        }
        let changed = !machine.take_changed().is_empty();
        self.homes[node].machine = Some(machine);
        if changed && self.others > 0 {
            self.want(node); // what it serves beside the VIP is there at once
        }
        if changed {
            match self.role(node) {
                Some(Role::Holder { .. }) => self.later(KERNEL, Event::Installed(node)),
                Some(Role::Follower | Role::Leaving) => self.later(KERNEL, Event::Removed(node)),
                Some(Role::Undecided) | None => {}
            }
        }
    }

    fn carry(&mut self, node: usize, output: OwnershipOutput) {
        match output {
            OwnershipOutput::Ask(ticket, ask, timeout) => self.ask(node, ticket, ask, timeout),
            OwnershipOutput::Peer(sent) => self.fly(node, &sent),
            OwnershipOutput::Frame(frame) => self.look(node, &frame),
            OwnershipOutput::Remember(memory) => self.homes[node].memory = Some(memory),
        }
    }

    fn ask(&mut self, node: usize, ticket: Ticket, ask: Ask, timeout: Duration) {
        let via = match &ask {
            Ask::WriteSession(write) => write.via,
            _ => Via::Any,
        };
        let has_power = |other: &usize| *other != node && self.homes[*other].power;
        let is_alone = via == Via::Elsewhere && !(0..self.homes.len()).any(|other| has_power(&other));
        if !self.store.up || self.homes[node].isolated || is_alone {
            let failure = Failure { class: FailureClass::Timeout, text: "nobody answers".to_owned() };
            return self.hear(node, OwnershipInput::Answer(ticket, Answer::Failed(failure)), timeout);
        }
        let life = self.homes[node].lives;
        self.later(API / 2, Event::Served(node, ticket, Box::new(ask), life));
    }

    fn fly(&mut self, node: usize, sent: &PeerSend) {
        let Some(to) = (0..self.homes.len()).find(|to| sent.to.ip() == addr(*to)) else { return };
        if self.heartbeats && !self.homes[node].isolated && !self.homes[to].isolated && self.homes[to].power {
            let from = SocketAddr::new(addr(node), 7949);
            let heard = PeerHeard { at: self.now + HOP, from, datagram: sent.datagram.clone() };
            self.hear(to, OwnershipInput::Peer(heard), HOP);
        }
    }

    /// A unicast probe: the kernel that it reaches answers for its own address and for the VIP.
    fn look(&mut self, node: usize, frame: &FrameOut) {
        let asked = arp::decode(&frame.payload).expect("IPv4 alone is played").target_ip;
        let Some(to) = (0..self.homes.len()).find(|to| mac(*to) == frame.to) else { return };
        let home = &self.homes[to];
        let has_vip = asked == VIP && home.vip.is_some_and(|until| self.now < until);
        let reached = home.power && !home.isolated && !self.homes[node].isolated;
        if reached && (has_vip || IpAddr::from(asked) == addr(to)) {
            let packet = arp::Packet::announcement_reply(&mac(to), asked);
            let payload = arp::encode(&packet);
            let frame =
                FrameIn { link: LinkIndex(2), from: Some(mac(to)), ethertype: ETHERTYPE_ARP, payload };
            self.hear(node, OwnershipInput::Frame(frame), HOP);
        }
    }
}
