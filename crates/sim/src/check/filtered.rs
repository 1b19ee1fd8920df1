//! `filtered`: when a world is calm, the packet filter in the kernel of a node opens exactly the ports of the Services on
//! each address that the node serves for them; an address that one of them opts out for is left out as a whole, and so
//! are the control plane's. Without `enable_service_security` there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vip_model::config::ServiceSecurity;
use vip_model::service::ServicePort;

use super::calm::Calm;
use super::served::{Planted, holder_of};
use super::{Check, Verdict};
use crate::process::{Life, Process};
use crate::world::{Duty, Fact, Ought, Purpose, World};

#[derive(Default)]
pub(super) struct Filtered {
    calm: Calm,
}

type Open = BTreeMap<IpAddr, BTreeSet<ServicePort>>;

/// The annotation by which a Service opts out.
const OPT_OUT: &str = "kube-vip.io/ignore-service-security";

/// What a node's filter ought to open, and the addresses that are not judged.
fn due(node: usize, ought: &Ought, world: &World) -> (Open, BTreeSet<IpAddr>) {
    let planted = Planted::of(world);
    let services = world.store.objects.services.now();
    let (mut open, mut opted_out, mut excused) = (Open::new(), BTreeSet::new(), BTreeSet::new());
    for (name, duty) in &ought.duties {
        let Duty::Part(part) = duty else { continue };
        if planted.is_in(part.group, ought) {
            excused.extend(&part.addrs);
            continue;
        }
        let is_held = holder_of(&ought.groups[part.group], world) == Some(node);
        let is_ours = |addr: &&IpAddr| {
            let is_of_services = |number: usize| world.vips[number].purpose == Purpose::Services;
            let may = ought.addrs.get(*addr).is_some_and(|(_, nodes)| nodes & (1 << node) != 0);
            is_held && may && world.number_of(**addr).is_some_and(is_of_services)
        };
        for addr in part.addrs.iter().filter(is_ours) {
            open.entry(*addr).or_default().extend(&services[name].ports);
            if services[name].annotations.get(OPT_OUT).is_some_and(|value| value == "true") {
                opted_out.insert(*addr);
            }
        }
    }
    open.retain(|addr, _| !opted_out.contains(addr));
    (open, excused)
}

fn judge(process: &Process, (ought, security): (&Ought, ServiceSecurity), world: &World) -> Verdict {
    let Some(kernel) = &world.nodes[process.node].kernel else { return Ok(()) };
    let node = &process.config.node;
    let filter = match (kernel.filter(&process.config.instance), security) {
        (None, ServiceSecurity::Off) => return Ok(()),
        (Some(filter), ServiceSecurity::On) => filter,
        (found, security) => {
            return Err(format!("{node} has the packet filter {found:?}, it is {security:?}"));
        }
    };
    let (mut due, excused) = due(process.node, ought, world);
    let mut open = filter.open.clone();
    for addr in excused {
        due.remove(&addr);
        open.remove(&addr);
    }
    if open == due { Ok(()) } else { Err(format!("{node} opens {open:?}, {due:?} is right")) }
}

impl Check for Filtered {
    fn name(&self) -> &'static str {
        "filtered"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        let Some((agent, services)) = world.setup.services() else { return Ok(()) };
        if !matches!(fact, Fact::Turn(..) | Fact::End) || !self.calm.is(world) {
            return Ok(());
        }
        let ought = world.ought();
        let runs = |it: &&Process| it.number == agent && it.life == Life::Running && it.agent.is_some();
        let mut running = world.processes.iter().filter(runs);
        running.try_for_each(|process| judge(process, (&ought, services.security), world))
    }
}
