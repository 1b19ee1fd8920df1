//! What turns of a node with many Services cost: `cargo run --release -p vip-agent --example turn_bench [SERVICES]`. The
//! world around the node answers everything at once and costs nothing; printed is the time that the node itself took, for
//! each kind of thing that happens: the least, the median and the largest.
#![allow(clippy::disallowed_types, reason = "a measurement needs a clock; nothing of it is in the crate")]
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

#[path = "../../plan/examples/plan_bench/scene.rs"]
mod scene;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vip_agent::{Agent, Input, Output};
use vip_model::kernel::{Actual, Address, Batch, Change, Dad, FilterState, FrameIn, Outcome, Report};
use vip_model::store::{Acquired, Answer, Ask, LeaseRecord, LeaseSeen, LeaseWrite, Sight, Snapshot, Version};
use vip_model::{Instant, Known, LeaseName};
use vip_proto::Machine;

use scene::{ETH0, Mode, at};

const ROUNDS: usize = 40;
/// How long the consequences of an event are waited for.
const AFTERMATH: Duration = Duration::from_millis(60);
const SECOND: Duration = Duration::from_secs(1);

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5000);
    println!("{count} Services x 3 endpoints, 3 nodes, {ROUNDS} rounds");
    for (name, mode) in [("one election", Mode::Global), ("an election each", Mode::Each)] {
        let mut bench = Bench::new(count, mode);
        let wanted = if mode == Mode::Global { count } else { count.div_ceil(3) };
        let start = bench.start(wanted);
        println!(
            "{name}: start until all is installed {:.2} s, of which {:.1} ms in {} turns",
            bench.now.since(at(1)).as_secs_f64(),
            millis(start),
            bench.turns
        );
        bench.measure("a foreign frame", Bench::frame);
        bench.measure("60 ms without an event", Bench::nothing);
        bench.measure("60 ms in which a Service changes", Bench::change);
        let (time, turns) = bench.live(SECOND * 10);
        println!("  ten seconds of its own life: {:.1} ms in {turns} turns", millis(time));
    }
}

/// A node and the world around it.
struct Bench {
    agent: Agent,
    now: Instant,
    store: BTreeMap<LeaseName, Sight>,
    version: u64,
    kernel: Actual,
    snapshot: Snapshot,
    inbox: VecDeque<Input>,
    turns: u64,
}

impl Bench {
    fn new(count: usize, mode: Mode) -> Self {
        let snapshot = scene::snapshot(count);
        let held = |holder: &str| Sight::Present {
            version: Version("1".to_owned()),
            record: LeaseRecord {
                holder: Some(holder.to_owned()),
                duration: Some(Duration::from_secs(15)),
                transitions: 1,
                acquired: None,
                renewed: None,
                annotations: BTreeMap::new(),
            },
        };
        let leases = (0..count).map(|index| scene::lease(mode, index));
        let mut bench = Self {
            agent: Agent::new(at(1), 7, scene::config(mode)),
            now: at(1),
            store: leases.map(|(lease, holder)| (lease, held(holder))).collect(),
            version: 1,
            kernel: scene::empty_kernel(),
            snapshot,
            inbox: VecDeque::new(),
            turns: 0,
        };
        bench.inbox.push_back(Input::Actual(bench.kernel.clone()));
        bench.inbox.push_back(Input::Snapshot(bench.snapshot.clone()));
        bench
    }

    fn measure(&mut self, name: &str, step: impl Fn(&mut Self) -> Duration) {
        let mut times: Vec<_> = (0..ROUNDS).map(|_| step(self)).collect();
        times.sort_unstable();
        let at = |index: usize| millis(times[index]);
        println!("  {name}: {:.3} {:.3} {:.3} ms", at(0), at(ROUNDS / 2), at(ROUNDS - 1));
    }

    /// One turn of the program's loop: all inputs, all outputs, the view, the deadline. Gives back the node's own time.
    fn turn(&mut self) -> Duration {
        self.turns += 1;
        let mut outputs = Vec::new();
        let start = std::time::Instant::now();
        for input in self.inbox.drain(..) {
            self.agent.handle(self.now, input);
        }
        while let Some(output) = self.agent.poll(self.now) {
            outputs.push(output);
        }
        std::hint::black_box((self.agent.view(), self.agent.deadline()));
        let time = start.elapsed();
        for output in outputs {
            self.carry(output);
        }
        time
    }

    /// Turns until every address that this node shall have is installed; its own time passes for it, too.
    fn start(&mut self, wanted: usize) -> Duration {
        let mut time = self.turn();
        while self.agent.plan().claims.len() < wanted {
            let turn = self.next_turn();
            self.now = self.now + turn;
            time += turn;
        }
        time
    }

    /// The turn that comes next: at once when something waits, else when the node is due.
    fn next_turn(&mut self) -> Duration {
        if self.inbox.is_empty() {
            self.now = self.now.max(self.agent.deadline().expect("elections always have one"));
        }
        self.turn()
    }

    /// Lets time pass.
    fn live(&mut self, span: Duration) -> (Duration, u64) {
        let (end, before) = (self.now + span, self.turns);
        let mut time = Duration::ZERO;
        while self.now < end || !self.inbox.is_empty() {
            time += self.next_turn();
        }
        (time, self.turns - before)
    }

    fn frame(&mut self) -> Duration {
        self.now = self.now + Duration::from_micros(100);
        let payload = vec![0; 28];
        self.inbox.push_back(Input::Frame(FrameIn { link: ETH0, from: None, ethertype: 0x0806, payload }));
        self.turn()
    }

    /// A Service gets a new version; the time counts until everything that follows is done.
    fn change(&mut self) -> Duration {
        let Known::Known(services) = &mut self.snapshot.services else {
            unreachable!("the scene knows them")
        };
        self.version += 1;
        let service = Arc::make_mut(services).values_mut().nth(17).expect("there are more");
        Arc::make_mut(service).version = Version(format!("9{}", self.version));
        self.inbox.push_back(Input::Snapshot(self.snapshot.clone()));
        self.live(AFTERMATH).0
    }

    /// Nothing happens but what is due anyway.
    fn nothing(&mut self) -> Duration {
        self.live(AFTERMATH).0
    }

    fn carry(&mut self, output: Output) {
        match output {
            Output::Kernel(batch) => self.apply(&batch),
            Output::Ask(question) => {
                let answer = self.answer(question.ask);
                self.inbox.push_back(Input::Answer(question.id, answer));
            }
            _ => {}
        }
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        match ask {
            Ask::ReadLease(lease) => {
                let sight = self.store.get(&lease).cloned().unwrap_or(Sight::Absent(None));
                Answer::Lease(LeaseSeen { lease, sight })
            }
            Ask::WriteLease(write) => {
                self.version += 1;
                let sight =
                    Sight::Present { version: Version(self.version.to_string()), record: record(&write) };
                self.store.insert(write.lease.clone(), sight.clone());
                Answer::Lease(LeaseSeen { lease: write.lease, sight })
            }
            _ => Answer::Done,
        }
    }

    fn apply(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::SetAddress(set) => {
                    self.kernel.addresses.retain(|address| address.net != set.net.0);
                    self.kernel.addresses.push(Address {
                        link: set.link,
                        net: set.net.0,
                        scope: set.scope,
                        tag: set.tag,
                        valid: set.valid,
                        dad: Dad::Ready,
                        secondary: false,
                    });
                }
                Change::DelAddress { net, .. } => self.kernel.addresses.retain(|address| address.net != *net),
                Change::SetFilter { .. } => self.kernel.filter = Known::Known(FilterState::AsSet),
            }
        }
        self.kernel.after = batch.id;
        let outcomes = vec![Outcome::Done; batch.changes.len()];
        self.inbox.push_back(Input::Report(Report { batch: batch.id, outcomes }));
        self.inbox.push_back(Input::Actual(self.kernel.clone()));
    }
}

fn record(write: &LeaseWrite) -> LeaseRecord {
    LeaseRecord {
        holder: write.holder.as_ref().map(ToString::to_string),
        duration: Some(write.duration),
        transitions: write.transitions,
        acquired: match &write.acquired {
            Acquired::Now => Some("now".to_owned()),
            Acquired::Keep(text) => Some(text.clone()),
        },
        renewed: None,
        annotations: write.annotations.clone(),
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
