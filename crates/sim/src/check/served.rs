//! `served`: when a world is calm, every address of a Service that can be served answers from exactly the node that holds
//! its Lease, that node may have it, and an address that nobody may serve is silent. Addresses that an outsider put
//! somewhere, or that a Node lists as its own, are excused.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::calm::Calm;
use super::{Check, Verdict, nodes_of};
use crate::client::Mask;
use crate::kernel::{FakeKernel, Origin};
use crate::process::Life;
use crate::setup::node_number;
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
    node_number(world.store.holder(&group.lease)?).filter(|node| *node < world.nodes.len())
}

/// Addresses that an outsider put somewhere, or that a Node lists as its own.
pub(super) struct Planted(BTreeSet<IpAddr>);

impl Planted {
    pub(super) fn of(world: &World) -> Self {
        let kernels = world.nodes.iter().filter_map(|node| node.kernel.as_ref());
        let held = kernels.flat_map(FakeKernel::addresses);
        let planted = held.filter(|held| held.origin == Origin::Outsider).map(|held| held.net.addr());
        let nodes = world.store.objects.nodes.now();
        Self(planted.chain(nodes.values().flat_map(|facts| facts.addresses.iter().copied())).collect())
    }

    /// Whether one of them keeps a group from being judged.
    pub(super) fn is_in(&self, number: usize, ought: &Ought) -> bool {
        let parts = ought.groups[number].services.iter().filter_map(|name| ought.part(name));
        parts.flat_map(|part| &part.addrs).any(|addr| self.0.contains(addr))
    }
}

fn judge(world: &World) -> Verdict {
    let ought = world.ought();
    let planted = Planted::of(world);
    let running = running(world);
    for (number, group) in ought.groups.iter().enumerate() {
        if !planted.is_in(number, &ought) {
            judge_group(&ought, (group, running), world)?;
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

fn judge_group(ought: &Ought, (group, running): (&Group, Mask), world: &World) -> Verdict {
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
    let parts = names.iter().filter_map(|name| ought.part(name));
    for addr in parts.flat_map(|part| &part.addrs) {
        let (Some(at), Some((_, nodes))) = (world.number_of(*addr), ought.addrs.get(addr)) else { continue };
        if world.vips[at].purpose == Purpose::ControlPlane {
            continue; // `liveness` judges it
        }
        let due = holder.map_or(0, |node| nodes & running & (1 << node));
        if world.owning[at] != due {
            let says = holder.map(|node| verdicts(node, *addr, world)).unwrap_or_default();
            let (is, due) = (nodes_of(world.owning[at]), nodes_of(due));
            return Err(format!("{is} answers for {addr} of {names:?}, {due} should{says}"));
        }
    }
    Ok(())
}

/// What the agents of a node say of an address.
fn verdicts(node: usize, addr: IpAddr, world: &World) -> String {
    let views = world.processes.iter().filter(|process| process.node == node).map(|process| &process.view);
    let services =
        views.flat_map(|view| view.services.iter()).filter(|service| service.addrs.contains(&addr));
    let says = services.map(|service| format!("; {} says {:?}", service.service, service.verdict));
    says.collect::<Vec<_>>().concat()
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
