//! The world in a box: real agents, each on a fake kernel with a clock of its own, one fake API, one fake wire. Fed
//! with a set-up and a schedule of faults; gives facts to checkers and stops at the first one that objects.

mod deeds;
mod fabric;
mod fact;
mod faults;
mod kernel_gate;
mod node;
mod ought;
mod ownership;
mod peer_gate;
mod session_faults;
mod session_gate;
mod snapshots;
mod store_gate;
mod trap;
mod turn;
mod vips;
mod wire_gate;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use vip_agent::Agent;
use vip_model::{Instant, Random};

use crate::budget::Asks;
use crate::check::Checkers;
use crate::client::{Eye, Mask};
use crate::clock::Moment;
use crate::deed::Deed;
use crate::fault::Fault;
use crate::look::Look;
use crate::mutation::Mutation;
use crate::peers::NodeNet;
use crate::process::{Dumping, Life, Process, ProcessId};
use crate::queue::{Event, Own, Queue};
use crate::run::Case;
use crate::setup::{Setup, session_leases};
use crate::store::{Store, Swap};
use crate::trace::Trace;
use crate::wire::Wire;

pub use fact::{Fact, Objection};
pub use node::Node;
pub use ought::{Duty, Group, Ought, Part};
pub use vips::{Purpose, Vip};

pub(crate) use fact::Voice;
pub(crate) use store_gate::lease_of;

/// The world.
pub struct World {
    /// What it is made of.
    pub setup: Setup,
    /// What goes wrong.
    pub schedule: Vec<Fault>,
    /// What users and the cluster do.
    pub deeds: Vec<Deed>,
    /// What is told of who answers when, and who did at the last look.
    looks: (Vec<Look>, Mask),
    /// True time.
    pub now: Moment,
    /// Nodes by number.
    pub nodes: Vec<Node>,
    /// Processes: those of node 0 first, in the order of its agents.
    pub processes: Vec<Process>,
    /// The API.
    pub store: Store,
    /// The segment.
    pub wire: Wire,
    /// The node network and the ways to API servers.
    pub node_net: NodeNet,
    /// How many heartbeats agents have sent.
    pub sent_peers: u64,
    /// What each process has asked the API for.
    pub asks: Vec<Asks>,
    /// How often a session was ended by another node.
    pub depositions: u32,
    /// Each VIP in the eyes of the client.
    pub eyes: Vec<Eye>,
    /// Every address that is looked after.
    pub vips: Vec<Vip>,
    numbers: BTreeMap<IpAddr, usize>,
    ought: RefCell<Option<Rc<Ought>>>,
    /// For each VIP: on which nodes the kernel answers for it, one bit each, whoever put it there.
    pub answering: Vec<Mask>,
    /// As above, for addresses that agents put there.
    pub owning: Vec<Mask>,
    /// When all that heals is healed.
    pub healed: Moment,
    /// The last fault that asked for the holder: when, and who that was.
    holder: (Moment, usize),
    /// When somebody last deleted the Leases; never, most of the time.
    pub deleted: Moment,
    /// The rule that is broken on purpose.
    pub mutation: Option<Mutation>,
    /// The longest time for which a VIP that had answered once did not.
    pub gap: Duration,
    pub(crate) voices: Vec<Voice>,
    /// How many inputs agents have taken.
    pub inputs: u64,
    /// The first objection.
    pub objection: Option<Objection>,
    pub(crate) trace: Trace,
    dice: Random,
    queue: Queue,
    checkers: Option<Box<Checkers>>,
}

impl World {
    /// A world at its beginning.
    pub fn new(case: &Case, trace: Trace) -> Self {
        let Case { setup, schedule, deeds, mutation, looks, .. } = case.clone();
        let mut dice = Random::new(setup.seed ^ 0xd1ce);
        let nodes: Vec<Node> = (0..setup.nodes()).map(|node| Node::boot(&setup, node, &mut dice)).collect();
        let processes: Vec<Process> = (0..setup.nodes())
            .flat_map(|node| (0..setup.agents.len()).map(move |number| (node, number)))
            .map(|(node, number)| Process::new(node, number, setup.config(node, number)))
            .collect();
        let vips = vips::of_control_planes(&setup);
        let mut store = Store::new(setup.nodes());
        if mutation == Some(Mutation::BlindWrites) {
            store.swap = Swap::Blind;
        }
        if mutation == Some(Mutation::BlindServiceWrites) {
            store.service_swap = Swap::Blind;
        }
        for write in session_leases(&setup) {
            store.write_session(&write, Moment::START, Instant::ZERO);
        }
        let schedule = faults::expand(schedule, setup.nodes());
        let mut healed = faults::healed(&schedule);
        let acted = deeds.iter().map(|deed| deed.at).chain(looks.iter().map(|look| look.at)).max();
        healed = acted.unwrap_or(Moment::START).max(healed);
        if setup.services().is_some() {
            healed = healed.max(deeds::kubelets_settled(&schedule));
        }
        let mut world = Self {
            now: Moment::START,
            nodes,
            asks: vec![Asks::default(); processes.len()],
            processes,
            store,
            wire: Wire::new(setup.nodes(), vips.len()),
            node_net: NodeNet::new(setup.nodes()),
            sent_peers: 0,
            depositions: 0,
            eyes: vec![Eye::default(); vips.len()],
            answering: vec![0; vips.len()],
            owning: vec![0; vips.len()],
            healed,
            numbers: vips.iter().enumerate().map(|(number, vip)| (vip.addr(), number)).collect(),
            ought: RefCell::new(None),
            holder: (Moment::NEVER, 0),
            deleted: Moment::NEVER,
            gap: Duration::ZERO,
            voices: vec![Voice::NotYet; vips.len()],
            mutation,
            inputs: 0,
            objection: None,
            trace,
            dice,
            queue: Queue::default(),
            checkers: Some(Box::new(Checkers::new(&setup))),
            setup,
            schedule,
            deeds,
            looks: (looks, 0),
            vips,
        };
        world.plan();
        world
    }

    /// A world in which nobody objects to anything.
    pub fn unjudged(case: &Case, trace: Trace) -> Self {
        Self { checkers: None, ..Self::new(case, trace) }
    }

    fn plan(&mut self) {
        for id in 0..self.processes.len() {
            let at = Moment::START + self.up_to(Duration::from_millis(100));
            self.queue.push(at, Event::Start(id));
        }
        for (number, fault) in self.schedule.iter().enumerate() {
            self.queue.push(fault.at, Event::Begin(number));
            if let Some(end) = fault.end() {
                self.queue.push(end, Event::Heal(number));
            }
        }
        for (number, deed) in self.deeds.iter().enumerate() {
            self.queue.push(deed.at, Event::Deed(number));
        }
        for (number, look) in self.looks.0.iter().enumerate() {
            self.queue.push(look.at, Event::Look(number));
        }
        self.queue.push(self.healed, Event::Healed);
        self.queue.push(Moment::from_millis(500), Event::Client);
    }

    /// Lets the world run until `end`, or until a checker objects.
    pub fn run(&mut self, end: Moment) {
        self.run_on(end);
        if self.objection.is_none() {
            for id in 0..self.processes.len() {
                self.look_at(id);
            }
            for eye in &mut self.eyes {
                eye.close(end);
            }
            self.tell(&Fact::End);
        }
    }

    /// The same without an end: it can run on.
    pub fn run_on(&mut self, end: Moment) {
        while self.objection.is_none() {
            match self.queue.pop_until(end) {
                Some((at, event)) => {
                    self.now = at;
                    self.happen(event);
                }
                None => break,
            }
        }
        if self.objection.is_none() {
            self.now = end;
        }
    }

    /// A number that is the same for two runs exactly when the same happened in both.
    pub fn hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Tells the checkers a fact.
    pub(crate) fn tell(&mut self, fact: &Fact<'_>) {
        let Some(mut checkers) = self.checkers.take() else { return };
        let verdict = checkers.see(fact, self);
        self.checkers = Some(checkers);
        if let Err((checker, sentence)) = verdict
            && self.objection.is_none()
        {
            self.objection = Some(Objection { checker, sentence, at: self.now });
        }
    }

    /// What is told of this moment must be so.
    fn look(&mut self, number: usize) {
        let (look, before) = (self.looks.0[number], self.looks.1);
        let found = self.number_of(look.addr).map_or(0, |vip| self.answering[vip]);
        self.looks.1 = found;
        self.trace.world(self.now, || format!("LOOK {look}: {}", crate::check::nodes_of(found)));
        if let Err(sentence) = look.judge(before, found)
            && self.objection.is_none()
        {
            self.objection = Some(Objection { checker: "story", sentence, at: self.now });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Process { id, generation, own } => self.happen_to(id, generation, own),
            Event::Serve { id, generation, question, endpoint } => {
                self.serve(id, generation, &question, endpoint);
            }
            Event::Frame { to, frame } => self.frame_arrives(to, &frame),
            Event::Datagram { to, sealed } => self.datagram_arrives(to, sealed),
            Event::Replay => self.replay(),
            Event::Expire(node) => self.expire(node),
            Event::Begin(number) => self.fault_begins(number),
            Event::Heal(number) => self.fault_ends(number),
            Event::Healed => {
                self.trace.note(self.now, None, || "everything is healed".to_owned());
                self.tell(&Fact::Healed);
            }
            Event::Deed(number) => self.deed(number),
            Event::Look(number) => self.look(number),
            Event::Kubelet(node) => self.kubelet_is_looked_at(node),
            Event::Start(id) => self.start(id),
            Event::Outsider(node) => self.outsider_acts(node),
            Event::Doubt(endpoint) => self.doubt_watches(endpoint),
            Event::Stranger(until) => self.stranger_renews(until),
            Event::LateRemoval(node) => self.late_removal(node),
            Event::Client => self.client_asks(),
        }
    }

    fn happen_to(&mut self, id: ProcessId, generation: u32, own: Own) {
        let process = &mut self.processes[id];
        if process.generation != generation || process.life == Life::Dead {
            return;
        }
        if process.life == Life::Paused || self.nodes[process.node].suspended.is_some() {
            process.frozen.push(Event::Process { id, generation, own });
            return;
        }
        match own {
            Own::Wake => {
                if self.processes[id].wake <= self.now {
                    self.processes[id].wake = Moment::NEVER;
                    self.turn(id);
                }
            }
            Own::Input(input) => self.input(id, *input),
            Own::DumpBegin => self.dump_begins(id),
            Own::DumpEnd(actual, picture) => self.dump_ends(id, *actual, picture),
            Own::Apply => self.apply(id),
            Own::Send(question) => self.send_question(id, question),
            Own::Answer(question, answer) => self.answer_arrives(id, question, *answer),
            Own::Timeout(question) => self.question_times_out(id, question),
            Own::Connect(number) => self.watch_opens(id, number),
            Own::News(number, event) => self.watch_tells(id, number, event),
            Own::List(number, event) => self.list_arrives(id, number, event),
            Own::Tell => self.tell_snapshot(id),
            Own::Frame(frame) => self.frame_leaves(id, *frame),
            Own::Datagram(sealed) => self.datagram_is_read(id, sealed),
            Own::DoorMoves => self.door_moves(id),
            Own::ReadKeys => self.keys_are_read(id),
            Own::Recall => self.recalled(id),
            Own::Keep(memory) => self.kept(id, memory),
        }
    }

    /// A random span below `limit`.
    pub(crate) fn up_to(&mut self, limit: Duration) -> Duration {
        Duration::from_nanos(self.dice.below(crate::clock::nanos(limit)))
    }

    /// A random span between two limits.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        low + self.up_to(high.saturating_sub(low))
    }

    /// Whether something that happens in so many per cent of cases happens.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        percent > 0 && self.dice.below(100) < u64::from(percent)
    }

    /// Something will happen to a process, after `delay`.
    pub(crate) fn later(&mut self, id: ProcessId, delay: Duration, own: Own) {
        let generation = self.processes[id].generation;
        self.queue.push(self.now + delay, Event::Process { id, generation, own });
    }

    /// What the clock of a process shows.
    pub fn local(&self, id: ProcessId) -> Instant {
        self.nodes[self.processes[id].node].clock.read(self.now)
    }

    /// Starts a process, if its node has power and it does not run.
    pub(crate) fn start(&mut self, id: ProcessId) {
        let process = &self.processes[id];
        let node = &self.nodes[process.node];
        if process.life != Life::Dead || node.kernel.is_none() || node.trouble.for_ever {
            return;
        }
        if node.suspended.is_some() {
            self.queue.push(self.now + Duration::from_secs(1), Event::Start(id));
            return;
        }
        let now = self.agent_time(id, None);
        let process = &mut self.processes[id];
        let mut config = process.config.clone();
        if let Some(mutation) = self.mutation {
            mutation.config(&mut config);
        }
        process.generation += 1;
        let seed = self.setup.seed ^ ((id as u64) << 32) ^ (u64::from(process.generation) << 48);
        let seed = self.mutation.map_or(seed, |mutation| mutation.seed(seed));
        process.agent = Some(Box::new(Agent::new(now, seed, config)));
        process.life = Life::Running;
        process.born = self.now;
        process.dumping = Dumping::Idle;
        self.trace.note(self.now, Some(id), || "starts".to_owned());
        self.tell(&Fact::Born(id));
        if self.mutation == Some(Mutation::DeletesBeforeKnowing) {
            self.delete_vips(id);
        }
        if let Some(mutation) = self.mutation {
            mutation.starts(self, id);
        }
        self.kernel_changed_for(id);
        self.recall_soon(id);
        self.turn(id);
    }

    /// Ends a process at once.
    pub(crate) fn end(&mut self, id: ProcessId) {
        if self.processes[id].life == Life::Dead {
            return;
        }
        self.trace.note(self.now, Some(id), || "ends".to_owned());
        self.processes[id].end();
        self.excuse(self.processes[id].node);
    }

    /// Lets a stopped process go on: what came meanwhile arrives in its old order.
    pub(crate) fn go_on(&mut self, id: ProcessId) {
        let process = &mut self.processes[id];
        if process.life == Life::Paused {
            process.life = Life::Running;
            let node = process.node;
            self.excuse(node);
        }
        let process = &self.processes[id];
        if process.life != Life::Running || self.nodes[process.node].suspended.is_some() {
            return;
        }
        let mut at = self.now;
        self.processes[id].frames_waiting = 0;
        for event in std::mem::take(&mut self.processes[id].frozen) {
            at = at + self.up_to(Duration::from_micros(30));
            self.queue.push(at, event);
        }
    }

    /// The processes of a node.
    pub(crate) fn processes_of(&self, node: usize) -> std::ops::Range<ProcessId> {
        let agents = self.setup.agents.len();
        node * agents..(node + 1) * agents
    }
}
