//! `converged`: in quiet times, what a node's kernel holds of its VIPs is what its agent says: announced and there, or
//! skipped and not there; what it plans is there, and nothing else carries its tag.

use vip_model::ScopedAddr;
use vip_model::kernel::{Address, Dad};
use vip_model::plan::Presence;
use vip_model::verdict::Verdict as Decision;

use super::{Check, Verdict, quiet_for, settled_at};
use crate::process::{Life, Process};
use crate::world::{Fact, World};

pub(super) struct Converged;

fn judge(process: &Process, world: &World) -> Verdict {
    let node = &world.nodes[process.node];
    let Some(kernel) = &node.kernel else { return Ok(()) };
    let name = &process.config.node;
    let actual = kernel.dump(world.now, node.clock.read(world.now), vip_model::kernel::BatchId(0));
    let tag = process.config.instance.address_tag();
    let view = &process.view;
    for vip in &view.verdicts {
        let there: Vec<_> = actual.addresses.iter().filter(|held| held.addr() == vip.vip).collect();
        let good = there.iter().all(|held| held.tag == tag && held.dad == Dad::Ready);
        match (&vip.verdict, there.len()) {
            (Decision::Announce, 1) if good => {}
            (Decision::Skip(_), 0) => {}
            (verdict, _) => {
                return Err(format!("{name} says {verdict:?} of {}, its kernel holds {there:?}", vip.vip));
            }
        }
    }
    let planned = process.agent.as_ref().map(|agent| &agent.plan().addresses.set);
    let is_planned = |held: &Address| {
        let at = ScopedAddr { addr: held.addr(), link: held.link };
        planned.is_some_and(|planned| planned.get(&at).is_some_and(|planned| planned.net.0 == held.net))
    };
    let stray = actual.addresses.iter().find(|held| held.tag == tag && !is_planned(held));
    let missing = planned.into_iter().flatten().find(|(at, planned)| {
        let is_here = |held: &&Address| held.tag == tag && held.net == planned.net.0 && held.link == at.link;
        matches!(planned.presence, Presence::Install { .. })
            && !actual.addresses.iter().any(|it| is_here(&it))
    });
    if let Some((at, _)) = missing {
        return Err(format!("{name} wants {at}, its kernel does not hold it"));
    }
    match stray {
        Some(stray) => Err(format!("{name} left {} in its kernel", stray.net)),
        None => Ok(()),
    }
}

impl Check for Converged {
    fn name(&self) -> &'static str {
        "converged"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        if !matches!(fact, Fact::End)
            || world.now <= settled_at(world)
            || !quiet_for(world, std::time::Duration::ZERO)
        {
            return Ok(());
        }
        world
            .processes
            .iter()
            .filter(|process| process.life == Life::Running)
            .try_for_each(|p| judge(p, world))
    }
}
