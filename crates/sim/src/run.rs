//! Runs: a set-up and a schedule in, an outcome out. A run depends on nothing but them, so that a number is enough to
//! see it again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::check::settle_time;
use crate::clock::Moment;
use crate::deed::Deed;
use crate::fault::Fault;
use crate::generate::{deeds, episode, generate};
use crate::look::Look;
use crate::mutation::Mutation;
use crate::setup::Setup;
use crate::spread::Spread;
use crate::trace::{Lines, Trace};
use crate::world::{Objection, World};

/// How long a world is watched after it has settled.
const QUIET: Duration = Duration::from_secs(45);

/// How long in the mode `session`.
const QUIET_SESSION: Duration = Duration::from_secs(10);

/// One world to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it is made of.
    pub setup: Setup,
    /// What goes wrong.
    pub schedule: Vec<Fault>,
    /// What users and the cluster do.
    pub deeds: Vec<Deed>,
    /// A rule to break.
    pub mutation: Option<Mutation>,
    /// The longest time for which a VIP may be silent, where the case promises one.
    pub gap: Option<Duration>,
    /// Who answers for an address when, where the case tells it.
    pub looks: Vec<Look>,
    /// What else the case promises.
    pub promises: Promises,
}

/// What a named world promises beside its longest silence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    /// The longest time for which two nodes may answer a client.
    pub overlap: Option<Duration>,
    /// The middle one of the longest silences of many runs.
    pub median: Option<Duration>,
    /// Silence counts from here on only.
    pub count_from: Option<Moment>,
    /// How often a session may be ended by another node.
    pub depositions: Option<u32>,
    /// How much more than the mean a node may hold at the end, where the case promises it.
    pub spread: Option<Spread>,
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
    /// The longest time for which two nodes answered the client.
    pub overlap: Duration,
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
        let deeds = deeds(&setup, minutes);
        Self { deeds, ..Self::new(setup, schedule) }
    }

    /// A world where nobody does anything, and nothing is promised.
    pub fn new(setup: Setup, schedule: Vec<Fault>) -> Self {
        let promises = Promises::default();
        Self { setup, schedule, deeds: Vec::new(), mutation: None, gap: None, looks: Vec::new(), promises }
    }

    /// The episode of a seed, in the mode `session`; so many nodes, or drawn.
    pub fn of_episode(seed: u64, nodes: Option<usize>) -> Self {
        let setup = Setup::draw_session(seed, nodes);
        let schedule = episode(&setup);
        Self::new(setup, schedule)
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
        let mut world = World::new(self, trace);
        let quiet = if self.setup.session.is_some() { QUIET_SESSION } else { QUIET };
        if let Some(from) = self.promises.count_from {
            for eye in &mut world.eyes {
                eye.count_from = from;
            }
        }
        let end = world.healed + settle_time(&self.setup) + quiet;
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
        let (gap, overlap) = self.measured(&world);
        let over = |bound: Option<Duration>, span| bound.filter(|bound| span > *bound);
        let deposed = self.promises.depositions.filter(|most| world.depositions > *most);
        let sentence = match (over(self.gap, gap), over(self.promises.overlap, overlap)) {
            (Some(bound), _) => Some(format!("a VIP was silent for {gap:?}, {bound:?} is promised")),
            (_, Some(bound)) => Some(format!("two answered for {overlap:?}, {bound:?} is promised")),
            _ => deposed.map(|most| {
                format!("{} sessions were ended by others, {most} are promised", world.depositions)
            }),
        };
        if let (None, Some(sentence)) = (&world.objection, sentence) {
            world.objection = Some(Objection { checker: "gap", sentence, at: world.now });
        }
        if let (None, Some(bound)) = (&world.objection, self.promises.spread)
            && let Err(sentence) = bound.judge(&world)
        {
            world.objection = Some(Objection { checker: "spread", sentence, at: world.now });
        }
        Outcome {
            hash: world.hash(),
            gap,
            overlap,
            inputs: world.inputs,
            simulated: world.now.since(Moment::START),
            lines: world.trace.lines().map(str::to_owned).collect(),
            objection: world.objection,
        }
    }

    /// The longest silence and the longest overlap: in the mode `session` as the client sees them.
    fn measured(&self, world: &World) -> (Duration, Duration) {
        let most = |spans: &mut dyn Iterator<Item = Duration>| spans.max().unwrap_or_default();
        let overlap = most(&mut world.eyes.iter().map(|eye| eye.overlap));
        match self.setup.session {
            Some(_) => (most(&mut world.eyes.iter().map(|eye| eye.gap)), overlap),
            None => (world.gap, overlap),
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

    /// The same failure with fewer faults and deeds: drops what is not needed, in halves first, then one by one.
    #[must_use]
    pub fn shrink(&self) -> Self {
        let Some(wanted) = self.run(Lines::None).objection.map(|objection| objection.checker) else {
            return self.clone();
        };
        let still = |case: &Self| {
            case.run(Lines::None).objection.is_some_and(|objection| objection.checker == wanted)
        };
        let mut best = self.clone();
        let mut chunk = best.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let before = best.len();
            while at < best.len() {
                let less = best.without(at..at + chunk);
                if still(&less) {
                    best = less;
                } else {
                    at += chunk;
                }
            }
            match chunk {
                1 if best.len() == before => return best,
                1 => {}
                _ => chunk = chunk.div_ceil(2),
            }
        }
    }

    /// How many faults and deeds there are.
    fn len(&self) -> usize {
        self.schedule.len() + self.deeds.len()
    }

    /// The same without those at these places, faults first.
    fn without(&self, places: std::ops::Range<usize>) -> Self {
        let mut less = self.clone();
        let mut place = 0;
        let mut stays = || {
            place += 1;
            !places.contains(&(place - 1))
        };
        less.schedule.retain(|_| stays());
        less.deeds.retain(|_| stays());
        less
    }
}
