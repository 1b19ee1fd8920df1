//! What a plan of many Services costs: `cargo run --release -p vip-plan --example plan_bench [SERVICES [WORLD]]`. Prints, for
//! some worlds, the least, the median and the largest time of one plan, of its differences, and of both with the
//! freeing of it all. The least says what it costs on a machine that does nothing else.
#![allow(clippy::disallowed_types, reason = "a measurement needs a clock; nothing of it is in the crate")]
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

mod scene;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;

use vip_model::config::Config;
use vip_model::kernel::{Actual, Lifetime};
use vip_model::members::{ElectionState, History, Members, Role};
use vip_model::observed::Observed;
use vip_model::store::Snapshot;
use vip_model::{Known, ScopedAddr};
use vip_plan::diff::{self, Applied};
use vip_plan::{KernelWork, Life, World};

use scene::{ETH0, Mode, at};

const ROUNDS: usize = 60;

struct Bench {
    config: Config,
    snapshot: Snapshot,
    members: Members,
    actual: Known<Actual>,
    applied: Applied,
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5000);
    let only = std::env::args().nth(2);
    println!("{count} Services x 3 endpoints, 3 nodes; plan + differences, {ROUNDS} rounds");
    for (name, election, installed) in [
        ("one election, all served here", Mode::Global, true),
        ("one election, all to be installed", Mode::Global, false),
        ("an election each, a third served here", Mode::Each, true),
        ("an election each, a third to be installed", Mode::Each, false),
    ] {
        if only.as_ref().is_none_or(|only| name.starts_with(only)) {
            Bench::new(count, election, installed.into()).run(name);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kernel {
    Filled,
    Empty,
}

impl From<bool> for Kernel {
    fn from(installed: bool) -> Self {
        if installed { Self::Filled } else { Self::Empty }
    }
}

fn state(node: &str) -> ElectionState {
    let role = if node == "node-1" {
        Role::Holder { since: at(1), fence_until: at(15), serve_until: at(11) }
    } else {
        Role::Follower
    };
    ElectionState { role, holder: Some(node.to_owned()), history: History::Held, ..ElectionState::default() }
}

impl Bench {
    fn new(count: usize, mode: Mode, kernel: Kernel) -> Self {
        let config = scene::config(mode);
        let tag = config.instance.address_tag();
        let leases: Vec<_> = (0..count).map(|index| scene::lease(mode, index)).collect();
        let elections = leases.iter().map(|(lease, holder)| (lease.clone(), state(holder))).collect();
        let mut actual = scene::empty_kernel();
        if kernel == Kernel::Filled {
            let ours = (0..count).filter(|index| leases[*index].1 == "node-1");
            let ours = ours.map(|index| scene::address(tag, &format!("{}/32", scene::addr(index))));
            actual.addresses.extend(ours);
        }
        let ours = actual.addresses.iter().filter(|address| address.tag == tag);
        let applied =
            ours.map(|address| (ScopedAddr { addr: address.addr(), link: ETH0 }, address.valid)).collect();
        let snapshot = scene::snapshot(count);
        Self { config, snapshot, members: Members { elections }, actual: Known::Known(actual), applied }
    }

    fn run(&self, name: &str) {
        let observed = Observed::default();
        let world = World {
            config: &self.config,
            life: Life::Running,
            snapshot: &self.snapshot,
            members: &self.members,
            observed: &observed,
            actual: &self.actual,
            kernel_work: KernelWork::Settled,
            former: None,
            adopt_until: Lifetime::Forever,
        };
        let actual = self.actual.get().expect("the bench has a kernel");
        let tag = self.config.instance.address_tag();
        let (mut plans, mut diffs, mut totals) = (Vec::new(), Vec::new(), Vec::new());
        let mut changes = 0;
        for _ in 0..ROUNDS {
            let start = std::time::Instant::now();
            let plan = vip_plan::plan(black_box(&world));
            plans.push(start.elapsed());
            let addresses = diff::addresses(&plan.addresses, actual, &self.applied, tag);
            let writes = diff::services(&plan, &self.snapshot, &BTreeSet::new());
            diffs.push(start.elapsed().saturating_sub(plans[plans.len() - 1]));
            changes = addresses.len();
            drop(black_box((plan, addresses, writes)));
            totals.push(start.elapsed());
        }
        let line = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            format!(
                "{:5.2} {:5.2} {:5.2} ms",
                millis(times[0]),
                millis(times[ROUNDS / 2]),
                millis(times[ROUNDS - 1])
            )
        };
        let (plan, diff, total) = (line(&mut plans), line(&mut diffs), line(&mut totals));
        println!("{name}: plan {plan}, differences {diff}, with freeing {total} ({changes} address changes)");
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
