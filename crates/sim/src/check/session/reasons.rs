//! `reasons` in the mode `session`: the view speaks of every VIP; it says "announced" only for a holder; and in quiet
//! times everybody names the node that owns the claim.

use vip_model::members::Role;
use vip_model::verdict::Verdict as Decision;
use vip_model::view::View;

use crate::check::{Check, Verdict, settled_at};
use crate::process::{Life, ProcessId};
use crate::world::{Fact, World};

pub(in crate::check) struct Reasons;

fn judge(id: ProcessId, view: &View, world: &World) -> Verdict {
    let process = &world.processes[id];
    let wanted = world.setup.agents[process.number].vips.len();
    if view.verdicts.len() != wanted {
        return Err(format!("the view speaks of {} VIPs, {wanted} are wanted", view.verdicts.len()));
    }
    let lease = world.setup.lease(process.number);
    let role = view.elections.get(&lease).map(|election| election.role);
    for vip in &view.verdicts {
        if vip.verdict == Decision::Announce && !matches!(role, Some(Role::Holder { .. })) {
            return Err(format!("{} is announced, but the election says {role:?}", vip.vip));
        }
    }
    Ok(())
}

fn judge_end(world: &World) -> Verdict {
    for process in world.processes.iter().filter(|process| process.life == Life::Running) {
        let owner = world.owner(process.number, &world.setup.lease(process.number));
        for vip in &process.view.verdicts {
            if vip.holder.as_deref() != owner.as_ref().map(vip_model::NodeName::as_str) {
                let node = &process.config.node;
                return Err(format!("{node} says that {:?} holds {}, it is {owner:?}", vip.holder, vip.vip));
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
            Fact::View(id, view) => judge(*id, view, world),
            Fact::End if world.now > settled_at(world) => judge_end(world),
            _ => Ok(()),
        }
    }
}
