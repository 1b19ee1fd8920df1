//! `drills`: one that would be unsafe is refused, each is answered once, and one that nothing else disturbs costs no more
//! than a death does. A crash is unsafe when fewer than two others live, who follow it, or none of these may have the
//! addresses. Fed with what owners decide, and with who answers.

use std::collections::BTreeSet;
use std::time::Duration;

use vip_agent::Output;
use vip_model::drill::{DRILL, Drill, DrillKind, DrillStage};
use vip_model::store::{Ask, LeaseWrite};

use crate::check::{Check, Verdict};
use crate::clock::Moment;
use crate::fault::What;
use crate::process::ProcessId;
use crate::setup::{GateSetup, Setup};
use crate::world::{Fact, World};

/// Who had no turn for so long was not heard when the owner decided; a member that lives has one a second.
const GONE: Duration = Duration::from_secs(4);
/// A gate that is red for so long is known to be red.
const KNOWN_RED: Duration = Duration::from_secs(8);
/// A drill that begins so long after the last fault ended is disturbed by none.
const UNDISTURBED: Duration = Duration::from_secs(10);
/// How long a drill can be what takes addresses away: a slow answer, the absence, and some time to come back.
const LASTS: Duration = Duration::from_secs(6);
/// Jurors without the other members, who follow a crash.
const JURORS: usize = 2;

pub(in crate::check) struct Drills {
    /// When each process last had a turn.
    turned: Vec<Moment>,
    /// Since when the gate of each node is red.
    red: Vec<Option<Moment>>,
    /// Since when each VIP is silent.
    silent: Vec<Option<Moment>>,
    /// The last drill that began: when, and by an agent of which number.
    begun: Option<(Moment, usize)>,
    /// The requests that were answered.
    used: BTreeSet<String>,
    /// The longest silence.
    bound: Duration,
}

/// The drill that a write says has begun.
fn begins(write: &LeaseWrite) -> Option<Drill> {
    answers(write).filter(|drill| drill.stage == DrillStage::Begun)
}

/// The drill that a write says has begun or is refused.
fn answers(write: &LeaseWrite) -> Option<Drill> {
    let drill: Drill = write.annotations.get(DRILL)?.parse().ok()?;
    (drill.stage != DrillStage::Asked).then_some(drill)
}

impl Drills {
    pub(in crate::check) fn new(setup: &Setup) -> Self {
        let beat = setup.session.as_ref().map_or(Duration::ZERO, crate::setup::SessionSetup::beat);
        Self {
            turned: vec![Moment::START; setup.nodes() * setup.agents.len()],
            red: vec![None; setup.nodes()],
            silent: vec![None; setup.vips().len()],
            begun: None,
            used: BTreeSet::new(),
            // As after a power-off: three intervals, two looks, a rank or two; and a first answer.
            bound: beat * 6 + Duration::from_millis(50),
        }
    }

    /// An owner says that a drill begins: somebody must be there to follow.
    fn begins(&mut self, id: ProcessId, drill: &Drill, world: &World) -> Verdict {
        let process = &world.processes[id];
        self.begun = Some((world.now, process.number));
        if drill.kind == DrillKind::Planned {
            return Ok(());
        }
        let is_green = |node: usize| {
            world.setup.gate == GateSetup::Off
                || self.red[node].is_none_or(|since| world.now < since + KNOWN_RED)
        };
        let others: Vec<&crate::process::Process> = world
            .processes
            .iter()
            .enumerate()
            .filter(|(other, it)| it.number == process.number && *other != id)
            .filter(|(other, _)| world.now < self.turned[*other] + GONE)
            .map(|(_, it)| it)
            .collect();
        let fit = others.iter().filter(|other| is_green(other.node)).count();
        if others.len() < JURORS || fit == 0 {
            return Err(format!(
                "{} begins drill {} while {} others live, {fit} of them fit to follow",
                process.config.node,
                drill.id,
                others.len()
            ));
        }
        Ok(())
    }

    fn listen(&mut self, world: &World) {
        for (number, silent) in self.silent.iter_mut().enumerate() {
            match world.answering[number] {
                0 => _ = silent.get_or_insert(world.now),
                _ => *silent = None,
            }
        }
    }

    /// Whether a VIP is silent for too long, and by nothing but a drill.
    fn look(&self, world: &World) -> Verdict {
        let Some((begun, agent)) = self.begun else { return Ok(()) };
        if world.now > begun + LASTS {
            return Ok(());
        }
        let is_silent = |since: &Option<Moment>| {
            since.is_some_and(|since| since >= begun && world.now.since(since) > self.bound)
        };
        let of_agent = |number: usize| world.vips[number].agent == agent;
        let Some(number) = (0..self.silent.len()).find(|it| of_agent(*it) && is_silent(&self.silent[*it]))
        else {
            return Ok(());
        };
        let disturbs = world.schedule.iter().any(|fault| {
            fault.what != What::Drill
                && fault.at <= world.now
                && fault.end().is_none_or(|end| end + UNDISTURBED >= begun)
        });
        if disturbs {
            return Ok(());
        }
        let vip = world.vips[number].addr();
        Err(format!("{vip} is silent for {:?} in a drill that nothing disturbs", self.bound))
    }
}

impl Check for Drills {
    fn name(&self) -> &'static str {
        "drills"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Turn(id, _) => {
                self.turned[*id] = world.now;
                let node = world.processes[*id].node;
                let red = &mut self.red[node];
                *red = world.nodes[node].trouble.gate_red.then(|| red.unwrap_or(world.now));
                self.look(world)
            }
            Fact::Written(_, write) => match answers(write) {
                Some(drill) if !self.used.insert(drill.id.clone()) => {
                    Err(format!("the drill {} is answered twice", drill.id))
                }
                Some(_) | None => Ok(()),
            },
            Fact::Answering => {
                self.listen(world);
                Ok(())
            }
            Fact::Output(id, Output::Ask(question)) => match &question.ask {
                Ask::WriteLease(write) => {
                    begins(write).map_or(Ok(()), |drill| self.begins(*id, &drill, world))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
