//! `served`: when a world is calm, every address of a Service that can be served answers from exactly the node that holds
//! its Lease, that node may have it, and an address that nobody may serve is silent. Addresses that an outsider put
//! somewhere are excused.

use super::calm::Calm;
use super::{Check, Verdict, nodes_of};
use crate::client::Mask;
use crate::kernel::Origin;
use crate::process::Life;
use crate::setup::node_name;
use crate::world::{Fact, Group, Ought, Purpose, World};

#[derive(Default)]
pub(super) struct Served {
    calm: Calm,
}

/// The nodes whose agents for Services run.
pub(super) fn running(world: &World) -> Mask {
    let agent = world.setup.services().map(|(agent, _)| agent);
    let runs = |it: &&crate::process::Process| Some(it.number) == agent && it.life == Life::Running;
    world.processes.iter().filter(runs).map(|process| 1 << process.node).sum()
}

/// The node that a group's Lease names.
pub(super) fn holder_of(group: &Group, world: &World) -> Option<usize> {
    let holder = world.store.holder(&group.lease)?;
    (0..world.nodes.len()).find(|node| node_name(*node).as_str() == holder)
}

/// Whether an outsider's address keeps a group from being judged.
pub(super) fn is_planted(ought: &Ought, number: usize, world: &World) -> bool {
    let of_group = |addr| ought.addrs.get(&addr).is_some_and(|(group, _)| *group == number);
    let mut kernels = world.nodes.iter().filter_map(|node| node.kernel.as_ref());
    kernels.any(|kernel| {
        let mut planted = kernel.addresses().iter().filter(|held| held.origin == Origin::Outsider);
        planted.any(|held| of_group(held.net.addr()))
    })
}

fn judge(world: &World) -> Verdict {
    let ought = world.ought();
    for (number, group) in ought.groups.iter().enumerate() {
        if !is_planted(&ought, number, world) {
            judge_group(&ought, (number, group), world)?;
        }
    }
    for (number, vip) in world.vips.iter().enumerate() {
        let mask = world.owning[number];
        if vip.purpose == Purpose::Services && mask != 0 && !ought.addrs.contains_key(&vip.addr()) {
            return Err(format!("{} answers for {}, which no Service has", nodes_of(mask), vip.addr()));
        }
    }
    Ok(())
}

fn judge_group(ought: &Ought, (number, group): (usize, &Group), world: &World) -> Verdict {
    let running = running(world);
    let names = &group.services;
    let candidates = group.holders & running;
    let holder = holder_of(group, world);
    match holder {
        Some(node) if candidates & (1 << node) == 0 && running & (1 << node) != 0 => {
            return Err(format!("n{} holds {} for {names:?} and may not", node + 1, group.lease));
        }
        holder if candidates != 0 && holder.is_none_or(|node| candidates & (1 << node) == 0) => {
            let could = nodes_of(candidates);
            return Err(format!("{holder:?} holds {} for {names:?}, {could} could", group.lease));
        }
        _ => {}
    }
    for (addr, (of, nodes)) in &ought.addrs {
        let Some(at) = world.number_of(*addr).filter(|_| *of == number) else { continue };
        if world.vips[at].purpose == Purpose::ControlPlane {
            continue; // `liveness` judges it
        }
        let due = holder.map_or(0, |node| nodes & running & (1 << node));
        if world.owning[at] != due {
            let (is, due) = (nodes_of(world.owning[at]), nodes_of(due));
            return Err(format!("{is} answers for {addr} of {names:?}, {due} should"));
        }
    }
    Ok(())
}

impl Check for Served {
    fn name(&self) -> &'static str {
        "served"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Answering | Fact::Turn(..) | Fact::End if self.calm.is(world) => judge(world),
            _ => Ok(()),
        }
    }
}
