//! What must hold, whatever goes wrong: one file per rule, each with a name and a sentence when it is broken. Fed with
//! the facts of a world, as they happen.

mod api_budget;
mod assigned_once;
mod bounded_turns;
mod calm;
mod converged;
mod eligible;
mod filtered;
mod liveness;
mod one_owner;
mod only_ours_written;
mod quiet;
mod reasons;
mod release_after_removal;
mod restart_same_plan;
mod served;
mod session;
mod status_true;
mod unknown_deletes_nothing;
mod untouched;
mod verdicts;

use std::time::Duration;

use crate::clock::Moment;
use crate::setup::Setup;
use crate::world::{Fact, World};

pub use liveness::settle_time;

/// What a checker says to a fact: nothing, or a sentence.
pub(crate) type Verdict = Result<(), String>;

/// One rule.
pub(crate) trait Check {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Looks at a fact.
    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict;
}

/// Names of all checkers; `gap`, `spread` and `story` judge cases that promise something, `deterministic` compares two
/// runs and `panic` is any panic.
pub const NAMES: [&str; 26] = [
    "one_owner",
    "liveness",
    "quiet",
    "converged",
    "untouched",
    "unknown_deletes_nothing",
    "release_after_removal",
    "restart_same_plan",
    "reasons",
    "bounded_turns",
    "api_budget",
    "served",
    "eligible",
    "filtered",
    "status_true",
    "assigned_once",
    "only_ours_written",
    "verdicts",
    "drills",
    "handed_over",
    "replays",
    "gap",
    "spread",
    "story",
    "deterministic",
    "panic",
];

/// All rules.
pub(crate) struct Checkers {
    all: Vec<Box<dyn Check>>,
}

impl Checkers {
    pub(crate) fn new(setup: &Setup) -> Self {
        if setup.session.is_some() {
            return Self::of_session(setup);
        }
        let mut all: Vec<Box<dyn Check>> = vec![
            Box::new(one_owner::OneOwner::new(setup)),
            Box::new(untouched::Untouched::new(setup)),
            Box::new(unknown_deletes_nothing::UnknownDeletesNothing::new(setup)),
            Box::new(release_after_removal::ReleaseAfterRemoval::default()),
            Box::new(bounded_turns::BoundedTurns::new(setup)),
            Box::new(reasons::Reasons::new(setup)),
            Box::new(quiet::Quiet::new(setup)),
            Box::new(api_budget::ApiBudget::new(setup)),
            Box::new(liveness::Liveness::new(setup)),
            Box::new(converged::Converged),
            Box::new(restart_same_plan::RestartSamePlan),
        ];
        if setup.services().is_some() {
            all.extend(of_services());
        }
        Self { all }
    }

    /// Those of the mode `session`.
    fn of_session(setup: &Setup) -> Self {
        Self {
            all: vec![
                Box::new(session::OneOwner::new(setup)),
                Box::new(untouched::Untouched::new(setup)),
                Box::new(unknown_deletes_nothing::UnknownDeletesNothing::new(setup)),
                Box::new(release_after_removal::ReleaseAfterRemoval::default()),
                Box::new(bounded_turns::BoundedTurns::new(setup)),
                Box::new(session::Reasons),
                Box::new(session::Quiet::new()),
                Box::new(session::ApiBudget::new(setup)),
                Box::new(session::Liveness::new()),
                Box::new(session::Drills::new(setup)),
                Box::new(session::HandedOver::new()),
                Box::new(session::Replays::new(setup)),
                Box::new(converged::Converged),
            ],
        }
    }

    /// Shows a fact to all; the first objection with its checker's name.
    pub(crate) fn see(&mut self, fact: &Fact<'_>, world: &World) -> Result<(), (&'static str, String)> {
        for check in &mut self.all {
            check.see(fact, world).map_err(|sentence| (check.name(), sentence))?;
        }
        Ok(())
    }
}

/// Rules about Services.
fn of_services() -> [Box<dyn Check>; 7] {
    [
        Box::new(only_ours_written::OnlyOursWritten::default()),
        Box::new(assigned_once::AssignedOnce::default()),
        Box::new(eligible::Eligible::default()),
        Box::new(served::Served::default()),
        Box::new(filtered::Filtered::default()),
        Box::new(status_true::StatusTrue::default()),
        Box::new(verdicts::Verdicts::default()),
    ]
}

/// Whether everything was healed at least `span` ago.
pub(crate) fn quiet_for(world: &World, span: Duration) -> bool {
    world.now >= world.healed + span
}

/// The nodes of a mask, for people.
pub(crate) fn nodes_of(mask: u64) -> String {
    let names: Vec<String> =
        (0..64).filter(|bit| mask & (1_u64 << bit) != 0).map(|bit| format!("n{}", bit + 1)).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") }
}

/// When the quiet part of a world begins for checkers that wait for things to settle.
pub(crate) fn settled_at(world: &World) -> Moment {
    world.healed + settle_time(&world.setup)
}
