//! `status_true`: what is written into a status was in the writer's kernel a moment ago; and when a world is calm, a
//! Service shows exactly what a node serves, names that node, and says that it is announced exactly when it is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vip_agent::{Input, Output};
use vip_model::Known;
use vip_model::service::{Service, ServiceName};
use vip_model::store::{Ask, ServiceStatusWrite};

use super::calm::Calm;
use super::served::{Planted, holder_of, running};
use super::{Check, Verdict};
use crate::client::Mask;
use crate::clock::Moment;
use crate::process::ProcessId;
use crate::setup::{Writes, node_name};
use crate::world::{Duty, Fact, Ought, Part, World};

/// For how long an agent may believe that an address is there which somebody else took away: a dump that is late or lost.
const BELIEF: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct StatusTrue {
    calm: Calm,
    /// Who answered for each address at the last change, and since when each node does not any more.
    answered: Vec<Mask>,
    had: BTreeMap<(usize, IpAddr), Moment>,
    /// What each agent was told of Services; its gateway may have heard more.
    told: BTreeMap<ProcessId, Told>,
}

type Told = Known<Arc<BTreeMap<ServiceName, Arc<Service>>>>;

impl StatusTrue {
    fn note(&mut self, world: &World) {
        for (number, before) in self.answered.iter().enumerate() {
            let gone = before & !world.answering[number];
            for node in (0..world.nodes.len()).filter(|node| gone & (1 << node) != 0) {
                self.had.insert((node, world.vips[number].addr()), world.now);
            }
        }
        self.answered.clone_from(&world.answering);
    }

    fn write(&self, id: ProcessId, write: &ServiceStatusWrite, world: &World) -> Verdict {
        let node = world.processes[id].node;
        let known = self.told.get(&id).and_then(Known::get).and_then(|all| all.get(&write.service));
        let shown = |addr| known.is_some_and(|it| it.ingress.iter().any(|ingress| ingress.ip == Some(addr)));
        let kernel = world.nodes[node].kernel.as_ref();
        for addr in write.ingress.iter().filter_map(|ingress| ingress.ip).filter(|addr| !shown(*addr)) {
            let has = kernel.is_some_and(|it| it.addresses().iter().any(|held| held.net.addr() == addr));
            let had = self.had.get(&(node, addr)).is_some_and(|at| world.now <= *at + BELIEF);
            if !has && !had {
                return Err(format!("n{} shows {addr} for {} and does not have it", node + 1, write.service));
            }
        }
        Ok(())
    }
}

fn judge(world: &World) -> Verdict {
    let Some((_, services)) = world.setup.services() else { return Ok(()) };
    if services.updates == Writes::Off {
        return Ok(());
    }
    let ought = world.ought();
    let planted = Planted::of(world);
    for (name, service) in world.store.objects.services.now().iter() {
        match &ought.duties[name] {
            Duty::NotOurs => {}
            Duty::NoAddress if condition(service) == Some("True") => {
                return Err(format!("{name} says that it is announced, and has no address"));
            }
            Duty::NoAddress => {}
            Duty::Impossible | Duty::Clash => says(name, service, "False")?,
            Duty::Part(part) if planted.is_in(part.group, &ought) => {}
            Duty::Part(part) => judge_part((name, service), (part, &ought), world)?,
        }
    }
    Ok(())
}

fn judge_part(
    (name, service): (&ServiceName, &Service),
    (part, ought): (&Part, &Ought),
    world: &World,
) -> Verdict {
    let holder = holder_of(&ought.groups[part.group], world);
    let Some(node) = holder.filter(|node| part.nodes & running(world) & (1 << node) != 0) else {
        return match condition(service) {
            Some("True") => Err(format!("{name} says that it is announced, and nobody serves it")),
            _ => Ok(()),
        };
    };
    says(name, service, "True")?;
    let shown: Vec<IpAddr> = service.ingress.iter().filter_map(|ingress| ingress.ip).collect();
    let is_whole = service.ingress.iter().all(|ingress| {
        ingress.hostname.is_none() && ingress.mode.as_deref() == Some("VIP") && ingress.ports == service.ports
    });
    if shown != part.addrs || !is_whole || shown.len() != service.ingress.len() {
        return Err(format!("{name} shows {:?}, n{} serves {:?}", service.ingress, node + 1, part.addrs));
    }
    let host = service.annotations.get("kube-vip.io/vipHost").map(String::as_str);
    if host != Some(node_name(node).as_str()) {
        return Err(format!("{name} names {host:?} as its node, n{} serves it", node + 1));
    }
    Ok(())
}

fn condition(service: &Service) -> Option<&str> {
    service.conditions.get("kube-vip.io/Announced").map(|condition| condition.status.as_str())
}

fn says(name: &ServiceName, service: &Service, status: &str) -> Verdict {
    match condition(service) {
        Some(found) if found == status => Ok(()),
        found => Err(format!("{name} says {found:?} of being announced, {status} is true")),
    }
}

impl Check for StatusTrue {
    fn name(&self) -> &'static str {
        "status_true"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Answering => self.note(world),
            Fact::Input(id, Input::Snapshot(snapshot)) => {
                self.told.insert(*id, snapshot.services.clone());
            }
            Fact::Output(id, Output::Ask(question)) => {
                if let Ask::WriteServiceStatus(write) = &question.ask {
                    return self.write(*id, write, world);
                }
            }
            Fact::Turn(..) | Fact::End if self.calm.is(world) => return judge(world),
            _ => {}
        }
        Ok(())
    }
}
