//! Runs: a set-up and a schedule in, an outcome out. A run depends on nothing but them, so that a number is enough to
//! see it again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::check::settle_time;
use crate::clock::Moment;
use crate::fault::Fault;
use crate::generate::generate;
use crate::mutation::Mutation;
use crate::setup::Setup;
use crate::trace::{Lines, Trace};
use crate::world::{Objection, World};

/// How long a world is watched after it has settled.
const QUIET: Duration = Duration::from_secs(45);

/// One world to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it is made of.
    pub setup: Setup,
    /// What goes wrong.
    pub schedule: Vec<Fault>,
    /// A rule to break.
    pub mutation: Option<Mutation>,
    /// The longest time for which a VIP may be silent, where the case promises one.
    pub gap: Option<Duration>,
    /// The longest time for which two nodes may answer, where the case promises one.
    pub overlap: Option<Duration>,
}

/// What came out of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first objection of a checker.
    pub objection: Option<Objection>,
    /// The same for two runs exactly when the same happened.
    pub hash: u64,
    /// The longest time for which a VIP that had answered once did not.
    pub gap: Duration,
    /// How many inputs agents took.
    pub inputs: u64,
    /// How much time passed in the world.
    pub simulated: Duration,
    /// The end of the timeline, when asked for.
    pub lines: Vec<String>,
}

impl Case {
    /// The world of a seed with `minutes` minutes of faults.
    pub fn of_seed(seed: u64, minutes: u32) -> Self {
        let setup = Setup::draw(seed);
        let schedule = generate(&setup, minutes);
        Self { setup, schedule, mutation: None, gap: None, overlap: None }
    }

    /// Runs it. A panic inside is an objection of the checker `panic`.
    pub fn run(&self, lines: Lines) -> Outcome {
        let names = (0..self.setup.nodes()).flat_map(|node| {
            let agents = self.setup.agents.iter().enumerate();
            agents.map(move |(number, agent)| match number {
                0 => format!("n{}", node + 1),
                _ => format!("n{}/{}", node + 1, agent.name),
            })
        });
        let trace = Trace::new(lines, names.collect());
        let mut world = World::new(self.setup.clone(), self.schedule.clone(), self.mutation, trace);
        let end = world.healed + settle_time(&self.setup) + QUIET;
        let ran = catch_unwind(AssertUnwindSafe(|| world.run(end)));
        if let Err(panic) = ran {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without a text");
            let at = world.now;
            world.objection = Some(Objection { checker: "panic", sentence: text.to_owned(), at });
        }
        if let (None, Some(bound)) = (&world.objection, self.gap)
            && world.gap > bound
        {
            let sentence = format!("a VIP was silent for {:?}, {bound:?} is promised", world.gap);
            world.objection = Some(Objection { checker: "gap", sentence, at: world.now });
        }
        Outcome {
            hash: world.hash(),
            gap: world.gap,
            inputs: world.inputs,
            simulated: world.now.since(Moment::START),
            lines: world.trace.lines().map(str::to_owned).collect(),
            objection: world.objection,
        }
    }

    /// Runs it twice: when no checker objects, both runs must be the same.
    pub fn run_twice(&self) -> Outcome {
        let (first, mut second) = (self.run(Lines::None), self.run(Lines::None));
        if first.objection.is_none() && first.hash != second.hash {
            second.objection = Some(Objection {
                checker: "deterministic",
                sentence: format!("two runs differ: {:016x} and {:016x}", first.hash, second.hash),
                at: Moment::START,
            });
        }
        second
    }

    /// The same failure with fewer faults: drops what is not needed, in halves first, then one by one.
    #[must_use]
    pub fn shrink(&self) -> Self {
        let Some(wanted) = self.run(Lines::None).objection.map(|objection| objection.checker) else {
            return self.clone();
        };
        let still = |case: &Self| {
            case.run(Lines::None).objection.is_some_and(|objection| objection.checker == wanted)
        };
        let mut best = self.clone();
        let mut chunk = best.schedule.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let before = best.schedule.len();
            while at < best.schedule.len() {
                let mut less = best.clone();
                let end = (at + chunk).min(less.schedule.len());
                less.schedule.drain(at..end);
                if still(&less) {
                    best = less;
                } else {
                    at += chunk;
                }
            }
            match chunk {
                1 if best.schedule.len() == before => return best,
                1 => {}
                _ => chunk = chunk.div_ceil(2),
            }
        }
    }
}
