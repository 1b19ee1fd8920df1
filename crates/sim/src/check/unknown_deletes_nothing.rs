//! `unknown_deletes_nothing`: an agent that has not heard of a Lease since it started removes no address that the
//! Lease decides on, unless it was told to stop, or cannot serve (gate closed, link down).

use vip_agent::Input;
use vip_model::kernel::{Change, LinkState};
use vip_model::store::Answer;

use super::{Check, Verdict};
use crate::process::ProcessId;
use crate::setup::Setup;
use crate::world::{Fact, World};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// The Lease, or something else that permits to let go.
    Enough,
}

pub(super) struct UnknownDeletesNothing {
    heard: Vec<Heard>,
}

impl UnknownDeletesNothing {
    pub(super) fn new(setup: &Setup) -> Self {
        Self { heard: vec![Heard::Nothing; setup.nodes() * setup.agents.len()] }
    }

    fn judge(&self, id: ProcessId, change: &Change, world: &World) -> Verdict {
        let Change::DelAddress { link, net } = change else { return Ok(()) };
        let process = &world.processes[id];
        let vip = world.vips.iter().find(|(agent, vip)| *agent == process.number && vip.0 == *net);
        let Some(kernel) = &world.nodes[process.node].kernel else { return Ok(()) };
        let on_its_link = kernel
            .vip_link()
            .is_some_and(|vip_link| vip_link.index == *link && vip_link.state == LinkState::Up);
        if vip.is_some() && on_its_link && self.heard[id] == Heard::Nothing {
            return Err(format!("{net} is removed, but nothing was heard of its Lease yet"));
        }
        Ok(())
    }
}

impl Check for UnknownDeletesNothing {
    fn name(&self) -> &'static str {
        "unknown_deletes_nothing"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Born(id) => self.heard[*id] = Heard::Nothing,
            Fact::Input(
                id,
                Input::Lease(_) | Input::Sessions(_) | Input::Answer(_, Answer::Lease(_)) | Input::Stop,
            ) => {
                self.heard[*id] = Heard::Enough;
            }
            Fact::Input(id, Input::Errand(answer)) if answer.result.is_err() => {
                self.heard[*id] = Heard::Enough;
            }
            Fact::Step(id, change, _) => return self.judge(*id, change, world),
            _ => {}
        }
        Ok(())
    }
}
