//! `bounded_turns`: a turn ends, an agent does not spin, at most one question per Lease and one batch are in flight,
//! ids are never used twice.

use vip_agent::Output;
use vip_model::QuestionId;
use vip_model::kernel::BatchId;
use vip_model::store::Ask;

use super::{Check, Verdict};
use crate::fault::What;
use crate::process::{Open, ProcessId};
use crate::setup::Setup;
use crate::world::{Fact, World, lease_of};

/// Outputs of one turn. A burst for two VIPs, in two forms, with everything else, is far below.
const POLLS: u32 = 100;
/// As many more for each Service: its Lease, its status, an Event, frames for two addresses.
const POLLS_PER_SERVICE: u32 = 10;
/// As many more for each node beyond five in mode `session`: a heartbeat, and looks at its own addresses and for two VIPs.
const POLLS_PER_NODE: u32 = 6;
/// Turns of one process within one second. Fault windows bring dumps every few milliseconds; a spin brings more.
const TURNS_PER_SECOND: u32 = 3000;

/// Batches of one process within one second: outsiders who meddle all the time bring some, a change without an effect
/// that is tried again and again brings hundreds.
const BATCHES_PER_SECOND: u32 = 100;

pub(super) struct BoundedTurns {
    seen: Vec<Seen>,
}

#[derive(Clone, Default)]
struct Seen {
    batch: BatchId,
    question: QuestionId,
    second: u64,
    turns: u32,
    batches: u32,
}

impl BoundedTurns {
    pub(super) fn new(setup: &Setup) -> Self {
        Self { seen: vec![Seen::default(); setup.nodes() * setup.agents.len()] }
    }

    /// Frames that come twice are turns twice; and in mode `session` every node may look at every other one.
    fn most(world: &World) -> u32 {
        let doubles = world.schedule.iter().any(|fault| fault.what == What::Duplicate);
        let nodes = u32::try_from(world.nodes.len()).unwrap_or(u32::MAX).max(3);
        TURNS_PER_SECOND / 3 * nodes * if doubles { 2 } else { 1 }
    }

    fn output(&mut self, id: ProcessId, output: &Output, world: &World) -> Verdict {
        let process = &world.processes[id];
        let seen = &mut self.seen[id];
        match output {
            Output::Kernel(batch) => {
                if !process.batches.is_empty() {
                    return Err(format!("batch {} leaves while another one is in flight", batch.id.0));
                }
                if batch.id <= seen.batch {
                    return Err(format!("batch {} leaves after batch {}", batch.id.0, seen.batch.0));
                }
                if batch.changes.is_empty() {
                    return Err(format!("batch {} is empty", batch.id.0));
                }
                seen.batch = batch.id;
                seen.batches += 1;
            }
            Output::Ask(question) => {
                if question.id <= seen.question {
                    return Err(format!("question {} comes after {}", question.id, seen.question));
                }
                seen.question = question.id;
                // After a suspension the agent may notice before its gateway that the time is up.
                let now = world.local(id);
                let lease = lease_of(&question.ask);
                let same = |open: &Open| open.due > now && open.lease.as_ref() == lease;
                let mut others = process.questions.iter().filter(|(_, open)| lease.is_some() && same(open));
                // In doubt a session asks other nodes' servers every 400 ms, whatever else is under way, and each is waited
                // for up to 5 s.
                let allowed =
                    if matches!(question.ask, Ask::WriteSession(_) | Ask::ReadSession(_)) { 13 } else { 0 };
                if let Some((other, _)) = others.nth(allowed) {
                    return Err(format!("question {} leaves while {other} is open", question.id));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn turn(&mut self, id: ProcessId, polls: u32, world: &World) -> Verdict {
        let seen = &mut self.seen[id];
        let second = world.now.as_millis() / 1000;
        if second != seen.second {
            (seen.second, seen.turns, seen.batches) = (second, 0, 0);
        }
        seen.turns += 1;
        if seen.batches > BATCHES_PER_SECOND {
            return Err(format!("{} batches within one second", seen.batches));
        }
        if polls > POLLS {
            return Err(format!("a turn gave {polls} outputs"));
        }
        if seen.turns > Self::most(world) {
            return Err(format!("{} turns within one second", seen.turns));
        }
        Ok(())
    }
}

impl Check for BoundedTurns {
    fn name(&self) -> &'static str {
        "bounded_turns"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Born(id) => self.seen[*id] = Seen::default(),
            Fact::Output(id, output) => return self.output(*id, output, world),
            Fact::Turn(id, polls) => {
                let services = world.processes[*id].heard.services.get().map_or(0, |all| all.len());
                let services = u32::try_from(services).unwrap_or(u32::MAX);
                let many = u32::try_from(world.nodes.len().saturating_sub(5)).unwrap_or(u32::MAX);
                let more = POLLS_PER_SERVICE * services + POLLS_PER_NODE * many;
                return self.turn(*id, polls.saturating_sub(more), world);
            }
            _ => {}
        }
        Ok(())
    }
}
