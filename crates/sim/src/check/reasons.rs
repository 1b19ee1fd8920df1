//! `reasons`: the view speaks of every VIP; it says "announced" only for a holder; and in quiet times it says who
//! holds, the same on every node as in the store.

use vip_model::members::Role;
use vip_model::verdict::{Reason, Verdict as Decision};
use vip_model::view::View;

use super::{Check, Verdict, settled_at};
use crate::process::{Life, ProcessId};
use crate::setup::Setup;
use crate::world::{Fact, World};

pub(super) struct Reasons {
    vips: Vec<usize>,
}

impl Reasons {
    pub(super) fn new(setup: &Setup) -> Self {
        Self { vips: setup.agents.iter().map(|agent| agent.vips.len()).collect() }
    }

    fn judge(&self, id: ProcessId, view: &View, world: &World) -> Verdict {
        let process = &world.processes[id];
        let wanted = self.vips[process.number];
        if view.verdicts.len() != wanted {
            return Err(format!("the view speaks of {} VIPs, {wanted} are wanted", view.verdicts.len()));
        }
        let lease = world.setup.lease(process.number);
        let role = view.elections.get(&lease).map(|election| election.role);
        for vip in &view.verdicts {
            let holds = matches!(role, Some(Role::Holder { .. }));
            if vip.verdict == Decision::Announce && !holds && process.config_removes_on_loss() {
                return Err(format!("{} is announced, but the election says {role:?}", vip.vip));
            }
        }
        Ok(())
    }
}

fn judge_end(world: &World) -> Verdict {
    for process in world.processes.iter().filter(|process| process.life == Life::Running) {
        let lease = world.setup.lease(process.number);
        let truth = world.store.holder(&lease);
        // An agent without a control plane has no view of one: `verdicts` judges what it says of Services.
        for vip in &process.view.verdicts {
            let holder = vip.holder.as_deref();
            if holder != truth {
                let node = &process.config.node;
                return Err(format!("{node} says that {holder:?} holds {}, it is {truth:?}", vip.vip));
            }
            let held_by = matches!(&vip.verdict, Decision::Skip(Reason::HeldBy(other)) if Some(other.as_str()) == truth);
            let own = truth == Some(process.config.node.as_str());
            let is_drained = world.ought().open & (1 << process.node) == 0
                && matches!(&vip.verdict, Decision::Skip(Reason::NodeExcluded(_)));
            if !own && !held_by && !is_drained {
                let node = &process.config.node;
                return Err(format!("{node} does not hold {}, and says {:?}", vip.vip, vip.verdict));
            }
        }
    }
    Ok(())
}

impl Check for Reasons {
    fn name(&self) -> &'static str {
        "reasons"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::View(id, view) => self.judge(*id, view, world),
            Fact::End if world.now > settled_at(world) => judge_end(world),
            _ => Ok(()),
        }
    }
}
