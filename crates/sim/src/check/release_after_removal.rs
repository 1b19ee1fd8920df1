//! `release_after_removal`: a Lease is released only when the releasing node's kernel holds none of its addresses. An
//! address of Services belongs to the Lease that the agent's plan says, else to the one under which it was installed.
//! Judged when the agent asks, so that nothing in between can help. Addresses that an outsider put there are excused:
//! nobody can know of them before the next dump.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vip_agent::Output;
use vip_model::config::OnLoss;
use vip_model::kernel::Change;
use vip_model::session::{End, SessionWrite};
use vip_model::store::{Ask, LeaseWrite, Purpose};
use vip_model::{LeaseName, VipNet};

use super::{Check, Verdict};
use crate::kernel::Origin;
use crate::process::ProcessId;
use crate::world::{Fact, Purpose as For, Vip, World};

const CONTROL_PLANE: For = For::ControlPlane;

#[derive(Default)]
pub(super) struct ReleaseAfterRemoval {
    /// Under which Lease a process installed an address of Services.
    under: BTreeMap<(ProcessId, IpAddr), LeaseName>,
}

impl ReleaseAfterRemoval {
    fn judge_services(&self, id: ProcessId, write: &LeaseWrite, world: &World) -> Verdict {
        let process = &world.processes[id];
        let Some(kernel) = &world.nodes[process.node].kernel else { return Ok(()) };
        if write.purpose != Purpose::Release {
            return Ok(());
        }
        let tag = process.config.instance.address_tag();
        for held in kernel.addresses().iter().filter(|held| held.tag == tag) {
            let addr = held.net.addr();
            let under = planned(id, addr, world).or_else(|| self.under.get(&(id, addr)).cloned());
            if under.as_ref() == Some(&write.lease) && held.origin == Origin::Agent {
                return Err(format!("{} is released while {} is still in the kernel", write.lease, held.net));
            }
        }
        Ok(())
    }
}

/// The Lease that decides about an address of Services, as the process's last plan has it.
fn planned(id: ProcessId, addr: IpAddr, world: &World) -> Option<LeaseName> {
    let plan = world.processes[id].agent.as_ref()?.plan();
    plan.services.values().find(|it| it.addrs.contains(&addr))?.lease.clone()
}

fn judge(id: ProcessId, write: &LeaseWrite, world: &World) -> Verdict {
    if write.purpose != Purpose::Release || world.setup.on_loss == OnLoss::Preserve {
        return Ok(());
    }
    if write.lease != world.setup.lease(world.processes[id].number) {
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
    let is_of_lease = |vip: &&Vip| vip.agent == process.number && vip.purpose == CONTROL_PLANE;
    for vip in world.vips.iter().filter(is_of_lease) {
        let mut held = kernel.addresses().iter();
        if held.any(|held| held.net.addr() == vip.addr() && held.origin == Origin::Agent) {
            return Err(vip.net);
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
                Ask::WriteLease(write) => {
                    judge(*id, write, world)?;
                    self.judge_services(*id, write, world)
                }
                Ask::WriteSession(write) => judge_session(*id, write, world),
                _ => Ok(()),
            },
            Fact::Step(id, Change::SetAddress(set), _) => {
                if let Some(lease) = planned(*id, set.net.addr(), world) {
                    self.under.insert((*id, set.net.addr()), lease);
                }
                Ok(())
            }
            Fact::Born(id) => {
                self.under.retain(|(of, _), _| of != id);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
