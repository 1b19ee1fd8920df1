//! `release_after_removal`: a Lease is released only when the releasing node's kernel holds none of its addresses.
//! Judged when the agent asks, so that nothing in between can help. Addresses that an outsider put there are excused:
//! nobody can know of them before the next dump.

use vip_agent::Output;
use vip_model::VipNet;
use vip_model::config::OnLoss;
use vip_model::session::{End, SessionWrite};
use vip_model::store::{Ask, LeaseWrite, Purpose};

use super::{Check, Verdict};
use crate::kernel::Origin;
use crate::process::ProcessId;
use crate::world::{Fact, World};

pub(super) struct ReleaseAfterRemoval;

fn judge(id: ProcessId, write: &LeaseWrite, world: &World) -> Verdict {
    if write.purpose != Purpose::Release || world.setup.on_loss == OnLoss::Preserve {
        return Ok(());
    }
    is_clear(id, world)
        .map_err(|vip| format!("{} is released while {vip} is still in the kernel", write.lease))
}

/// A session that ends releases all that it has.
fn judge_session(id: ProcessId, write: &SessionWrite, world: &World) -> Verdict {
    if write.record.end != Some(End::Released) || write.record.node != world.processes[id].config.node {
        return Ok(());
    }
    is_clear(id, world).map_err(|vip| format!("{} ends while {vip} is still in the kernel", write.lease))
}

fn is_clear(id: ProcessId, world: &World) -> Result<(), VipNet> {
    let process = &world.processes[id];
    let Some(kernel) = &world.nodes[process.node].kernel else { return Ok(()) };
    for (_, vip) in world.vips.iter().filter(|(agent, _)| *agent == process.number) {
        let mut held = kernel.addresses().iter();
        if held.any(|held| held.net.addr() == vip.addr() && held.origin == Origin::Agent) {
            return Err(*vip);
        }
    }
    Ok(())
}

impl Check for ReleaseAfterRemoval {
    fn name(&self) -> &'static str {
        "release_after_removal"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Output(id, Output::Ask(question)) => match &question.ask {
                Ask::WriteLease(write) => judge(*id, write, world),
                Ask::WriteSession(write) => judge_session(*id, write, world),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
