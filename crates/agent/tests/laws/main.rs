//! The laws of every machine, and the node's own, on random walks through a world of dice.

mod world;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vip_agent::{Agent, Input, Output};
use vip_model::config::{Config, OnLoss};
use vip_model::kernel::{
    Actual, Batch, BatchId, Change, ETHERTYPE_ARP, FrameOut, Lifetime, Report, SetAddress,
};
use vip_model::members::Role;
use vip_model::observed::{Errand, ErrandAnswer};
use vip_model::store::{Ask, Question};
use vip_model::{Instant, QuestionId, Random};
use vip_proto::Machine;
use vip_proto::rig::{Bounds, Script, Step, check_laws};

use world::{Store, lease};

const FROM: Instant = Instant::from_millis(1_000_000);
/// The longest wait is six seconds; the shortest steps are those of bursts, probes and refusals.
const BOUNDS: Bounds = Bounds { outputs_per_turn: 40, turns_per_wait: 600 };
/// How long after a question's timeout the node may ask again on its own.
const GRACE: Duration = Duration::from_secs(1);

fn agent() -> Agent {
    Agent::new(FROM, 1, world::first_config())
}

/// How a walk treats the node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It runs to the end.
    Running,
    /// It is told to stop half way.
    Stopped,
}

struct Walk {
    agent: Agent,
    now: Instant,
    random: Random,
    config: Config,
    kernel: Actual,
    /// What the node was shown of the kernel.
    pictures: Vec<Actual>,
    store: Store,
    batch: Option<Batch>,
    last_batch: BatchId,
    questions: Vec<(Instant, Question)>,
    errands: Vec<Errand>,
    stopped: bool,
    exited: bool,
    tally: Tally,
}

/// How often what happened: a walk that reaches nothing proves nothing.
#[derive(Default)]
struct Tally {
    sets: usize,
    announcements: usize,
    holder_steps: usize,
    exits: usize,
}

impl Walk {
    fn new(seed: u64) -> Self {
        Self {
            agent: agent(),
            now: FROM,
            random: Random::new(seed),
            config: world::first_config(),
            kernel: world::first_kernel(),
            pictures: Vec::new(),
            store: Store::new(),
            batch: None,
            last_batch: BatchId(0),
            questions: Vec::new(),
            errands: Vec::new(),
            stopped: false,
            exited: false,
            tally: Tally::default(),
        }
    }

    fn run(&mut self, steps: usize, ending: Ending) -> Script<Agent> {
        self.turn();
        let mut script = Vec::with_capacity(steps);
        for at in 0..steps {
            let step = match ending {
                Ending::Stopped if at == steps / 2 => Step::Input(Input::Stop),
                _ => self.next_step(),
            };
            self.take(&step);
            script.push(step);
        }
        script
    }

    fn next_step(&mut self) -> Step<Config, Input> {
        match self.random.below(100) {
            0 => Step::Want(world::any_config(&mut self.random)),
            1..35 => Step::Input(self.honest_input()),
            35..50 => Step::Input(self.disturbance()),
            50..55 => Step::Input(self.stray()),
            55..60 => Step::Wait(Duration::from_millis(self.random.below(6_000))),
            60..75 => Step::Wait(Duration::from_millis(self.random.below(100))),
            _ => {
                let due = self.agent.deadline().unwrap_or(self.now + Duration::from_secs(1));
                Step::Wait(due - self.now)
            }
        }
    }

    /// What a working world says next.
    fn honest_input(&mut self) -> Input {
        if let Some(batch) = &self.batch {
            return Input::Report(world::apply(&mut self.kernel, self.now, batch, &mut self.random));
        }
        if let Some((_, question)) = self.questions.pop() {
            let answer = if self.random.chance(0.9) {
                self.store.answer(&question.ask)
            } else {
                world::bad_answer(&mut self.random)
            };
            return Input::Answer(question.id, answer);
        }
        if let Some(errand) = self.errands.pop() {
            let result = if self.random.chance(0.7) { Ok(()) } else { Err("refused".to_owned()) };
            return Input::Errand(ErrandAnswer { id: errand.id, result });
        }
        world::expire(&mut self.kernel, self.now);
        Input::Actual(self.kernel.clone())
    }

    /// What others do.
    fn disturbance(&mut self) -> Input {
        match self.random.below(5) {
            0 => {
                world::disturb(&mut self.kernel, self.now, &mut self.random);
                Input::Actual(self.kernel.clone())
            }
            1 => {
                if self.random.chance(0.3) {
                    self.store.disturb(&mut self.random);
                }
                Input::Lease(self.store.seen(lease()))
            }
            2 => Input::Snapshot(world::any_snapshot(&mut self.random)),
            _ => Input::Frame(world::any_frame(&mut self.random)),
        }
    }

    /// What nobody asked for.
    fn stray(&mut self) -> Input {
        let id = QuestionId(self.random.below(2) * 1_000_000);
        match self.random.below(4) {
            0 => Input::Report(Report { batch: BatchId(self.last_batch.0 + 1), outcomes: Vec::new() }),
            1 => Input::Errand(ErrandAnswer { id, result: Ok(()) }),
            2 => Input::Answer(id, self.store.answer(&Ask::ReadLease(lease()))),
            _ => Input::Actual(Actual { after: BatchId(0), ..self.kernel.clone() }),
        }
    }

    fn take(&mut self, step: &Step<Config, Input>) {
        match step {
            Step::Want(config) => {
                let lease =
                    |config: &Config| config.control_plane.as_ref().map(|it| it.election.lease.clone());
                if lease(config) != lease(&self.config) {
                    // Its election is gone, and with it whoever waited for the answer.
                    self.questions.retain(|(_, question)| lease_of(&question.ask).is_none());
                }
                self.config = config.clone();
                self.agent.want(self.now, config.clone());
            }
            Step::Input(input) => {
                match input {
                    Input::Stop => self.stopped = true,
                    Input::Report(report) => {
                        self.batch.take_if(|batch| batch.id == report.batch);
                    }
                    Input::Actual(actual) => self.pictures.push(actual.clone()),
                    _ => {}
                }
                self.agent.handle(self.now, input.clone());
            }
            Step::Wait(span) => self.now = self.now + *span,
        }
        self.turn();
        self.tally.holder_steps += usize::from(matches!(self.role(), Some(Role::Holder { .. })));
    }

    fn turn(&mut self) {
        let mut outputs = Vec::new();
        while let Some(output) = self.agent.poll(self.now) {
            outputs.push(output);
            assert!(outputs.len() <= BOUNDS.outputs_per_turn, "a turn does not end: {outputs:?}");
        }
        for output in outputs {
            self.check(output);
        }
    }

    /// Where we stand in the election that is configured now; a former one may still be on its way out.
    fn role(&mut self) -> Option<Role> {
        let lease = self.config.control_plane.as_ref()?.election.lease.clone();
        self.agent.view().elections.get(&lease).map(|election| election.role)
    }

    fn check(&mut self, output: Output) {
        assert!(!self.exited, "after the end: {output:?}");
        match output {
            Output::Kernel(batch) => self.check_batch(batch),
            Output::Frame(frame) => self.check_frame(&frame),
            Output::Ask(question) => self.check_question(question),
            Output::Errand(errand) => {
                self.errands.clear();
                self.errands.push(errand);
            }
            Output::Exit => {
                assert!(self.stopped, "an end that nobody asked for");
                self.exited = true;
                self.tally.exits += 1;
            }
            Output::Peer(_) | Output::Door(_) | Output::Remember(_) => {
                panic!("mode lease has no peers: {output:?}")
            }
            Output::Listen(_) | Output::Watch(_) => {}
        }
    }

    fn check_batch(&mut self, batch: Batch) {
        assert!(self.batch.is_none(), "two batches in flight");
        assert_eq!(batch.id, BatchId(self.last_batch.0 + 1));
        assert!(!batch.changes.is_empty(), "an empty batch");
        for change in &batch.changes {
            if let Change::SetAddress(set) = change {
                self.check_set(set);
            }
        }
        self.last_batch = batch.id;
        self.batch = Some(batch);
    }

    fn check_set(&mut self, set: &SetAddress) {
        self.tally.sets += 1;
        assert!(!self.stopped, "an address is set while stopping: {set:?}");
        assert!(set.not_after > self.now, "too late already: {set:?}");
        let on_loss = self.config.control_plane.as_ref().map(|control_plane| control_plane.on_loss);
        match self.role() {
            Some(Role::Holder { fence_until, serve_until, .. }) => {
                assert!(set.not_after <= serve_until, "longer than the right: {set:?}");
                let is_fenced = set.valid <= Lifetime::Until(fence_until);
                assert!(is_fenced || on_loss == Some(OnLoss::Preserve), "longer than the fence: {set:?}");
            }
            role => {
                let is_shorter = self.pictures.last().is_some_and(|picture| {
                    let mut found = picture.addresses.iter();
                    found.any(|it| it.link == set.link && it.net == set.net.0 && it.valid > set.valid)
                });
                assert!(role == Some(Role::Undecided) && is_shorter, "set as {role:?}: {set:?}");
            }
        }
    }

    fn check_frame(&mut self, frame: &FrameOut) {
        assert!(frame.not_after >= self.now, "too late already: {frame:?}");
        let Some(addr) = announced(frame) else { return };
        self.tally.announcements += 1;
        let role = self.role();
        assert!(matches!(role, Some(Role::Holder { .. })), "announced as {role:?}: {addr}");
    }

    fn check_question(&mut self, question: Question) {
        let is_rival = |(since, open): &&(Instant, Question)| {
            lease_of(&open.ask) == lease_of(&question.ask) && self.now < *since + open.timeout + GRACE
        };
        let rival = self.questions.iter().find(is_rival);
        assert!(rival.is_none(), "{question:?} while this is open: {rival:?}");
        self.questions.push((self.now, question));
    }
}

/// The Lease that a question is about; none for a label.
fn lease_of(ask: &Ask) -> Option<&vip_model::LeaseName> {
    match ask {
        Ask::ReadLease(lease) => Some(lease),
        Ask::WriteLease(write) => Some(&write.lease),
        Ask::ReadSession(lease) => Some(lease),
        Ask::WriteSession(write) => Some(&write.lease),
        Ask::LabelNode { .. } | Ask::WriteService(_) | Ask::WriteServiceStatus(_) | Ask::PostEvent(_) => None,
    }
}

/// The address that a frame announces; none for a probe (RFC 5227 §2.1.1: sender 0.0.0.0; a neighbour solicitation).
fn announced(frame: &FrameOut) -> Option<IpAddr> {
    if frame.ethertype == ETHERTYPE_ARP {
        let sender: [u8; 4] = frame.payload.get(14..18)?.try_into().ok()?;
        return (sender != [0; 4]).then(|| Ipv4Addr::from(sender).into());
    }
    let target: [u8; 16] = frame.payload.get(48..64)?.try_into().ok()?;
    (frame.payload[40] == 136).then(|| Ipv6Addr::from(target).into())
}

#[test]
fn the_laws_hold_on_random_walks_and_their_replays() {
    for seed in 0..100 {
        let ending = if seed % 3 == 0 { Ending::Stopped } else { Ending::Running };
        let script = Walk::new(seed).run(250, ending);
        check_laws(agent, FROM, &script, BOUNDS);
    }
}

#[test]
fn random_walks_hold_set_announce_and_end() {
    let mut all = Tally::default();
    for seed in 1000..1060 {
        let mut walk = Walk::new(seed);
        walk.run(250, Ending::Stopped);
        all.sets += walk.tally.sets;
        all.announcements += walk.tally.announcements;
        all.holder_steps += walk.tally.holder_steps;
        all.exits += walk.tally.exits;
    }
    assert!(all.sets > 300, "{}", all.sets);
    assert!(all.announcements > 300, "{}", all.announcements);
    assert!(all.holder_steps > 1000, "{}", all.holder_steps);
    assert!(all.exits > 50, "{}", all.exits);
}
