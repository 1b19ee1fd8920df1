//! `unknown_deletes_nothing`: an agent that has not heard of a Lease since it started removes no address that the
//! Lease decides on, unless it was told to stop, or cannot serve (gate closed, link down, node drained); nor one of a Service before it
//! has heard of Services. In mode `session` other members may have said whose it is, and who has heard them and hears
//! them no more falls silent.

use vip_agent::Input;
use vip_model::kernel::{Change, LinkState};
use vip_model::store::{Answer, NodeFacts};

use super::{Check, Verdict};
use crate::process::ProcessId;
use crate::setup::Setup;
use crate::world::{Fact, Purpose, Vip, World};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// The Lease, or something else that permits to let go.
    Enough,
}

pub(super) struct UnknownDeletesNothing {
    heard: Vec<Heard>,
    services: Vec<Heard>,
}

impl UnknownDeletesNothing {
    pub(super) fn new(setup: &Setup) -> Self {
        let nothing = vec![Heard::Nothing; setup.nodes() * setup.agents.len()];
        Self { heard: nothing.clone(), services: nothing }
    }

    fn judge(&self, id: ProcessId, change: &Change, world: &World) -> Verdict {
        let Change::DelAddress { link, net } = change else { return Ok(()) };
        let process = &world.processes[id];
        let is_it = |vip: &Vip| vip.agent == process.number && vip.net.0 == *net;
        let Some(number) = world.vips.iter().position(is_it) else { return Ok(()) };
        let is_answered = world.owning[number] & !(1 << process.node) != 0;
        if is_answered && !process.config.election_mode.is_lease() {
            return Ok(()); // an owner in doubt looks at the others, and sees that one of them answers
        }
        let vip = world.vips.get(number);
        let Some(kernel) = &world.nodes[process.node].kernel else { return Ok(()) };
        let on_its_link = kernel
            .vip_link()
            .is_some_and(|vip_link| vip_link.index == *link && vip_link.state == LinkState::Up);
        let Some(vip) = vip.filter(|_| on_its_link) else { return Ok(()) };
        match vip.purpose {
            Purpose::ControlPlane if self.heard[id] == Heard::Nothing => {
                Err(format!("{net} is removed, but nothing was heard of its Lease yet"))
            }
            Purpose::Services if self.services[id] == Heard::Nothing => {
                Err(format!("{net} is removed, but nothing was heard of Services yet"))
            }
            Purpose::ControlPlane | Purpose::Services => Ok(()),
        }
    }
}

impl Check for UnknownDeletesNothing {
    fn name(&self) -> &'static str {
        "unknown_deletes_nothing"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Born(id) => {
                self.heard[*id] = Heard::Nothing;
                self.services[*id] = Heard::Nothing;
            }
            Fact::Input(
                id,
                Input::Lease(_) | Input::Sessions(_) | Input::Peer(_) | Input::Answer(_, Answer::Lease(_)),
            ) => {
                self.heard[*id] = Heard::Enough;
            }
            Fact::Input(id, Input::Stop) => {
                self.heard[*id] = Heard::Enough;
                self.services[*id] = Heard::Enough;
            }
            Fact::Input(id, Input::Snapshot(snapshot)) => {
                if snapshot.services.is_known() {
                    self.services[*id] = Heard::Enough;
                }
                let own = snapshot.nodes.get().and_then(|nodes| nodes.get(&world.processes[*id].config.node));
                if own.is_some_and(NodeFacts::is_drained) {
                    self.heard[*id] = Heard::Enough;
                }
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
