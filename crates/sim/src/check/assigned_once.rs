//! `assigned_once`: the address management gives no address to two Services that get in each other's way, takes none away
//! without a cause, overwrites nothing that a user wrote, and leaves no Service without an address while there is one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vip_agent::{Input, Output};
use vip_model::service::{Service, ServiceKind, ServiceName};
use vip_model::store::Ask;
use vip_model::{Family, Known};

use super::served::running;
use super::{Check, Verdict, settled_at};
use crate::clock::Moment;
use crate::process::ProcessId;
use crate::setup::{ServicesSetup, Switch, Writes};
use crate::store::Rewrite;
use crate::world::{Duty, Fact, World};

const ADDRESSES: &str = "kube-vip.io/loadbalancerIPs";
const ALLOCATED: &str = "kube-vip.io/allocatedIPs";

/// For how long an allocator may not know what is true.
const IGNORANCE: Duration = Duration::from_mins(2);

type Told = Known<Arc<BTreeMap<ServiceName, Arc<Service>>>>;

#[derive(Default)]
pub(super) struct AssignedOnce {
    /// Which life of which process gave a Service (by its uid) an address.
    given: BTreeMap<(String, IpAddr), (ProcessId, u32)>,
    /// What each agent was told of Services.
    told: BTreeMap<ProcessId, Told>,
    /// The same when it last asked for a write of this Service, which the store may carry out later.
    asked: BTreeMap<(ProcessId, ServiceName), Told>,
    /// When a Service (by its uid) last had an address.
    seen: BTreeMap<(IpAddr, String), Moment>,
}

fn list(service: &Service, key: &str) -> Vec<IpAddr> {
    let text = service.annotations.get(key).map_or("", String::as_str);
    text.split(',').filter_map(|word| word.trim().parse().ok()).collect()
}

/// Addresses that were given to a Service and that it still asks for: once its user has named others, the note of what
/// was given says nothing any more.
fn in_use(service: &Service) -> Vec<IpAddr> {
    let asked = list(service, ADDRESSES);
    list(service, ALLOCATED).into_iter().filter(|addr| asked.contains(addr)).collect()
}

/// Every address that a Service asks for or shows.
fn all_of(service: &Service) -> Vec<IpAddr> {
    let mut addrs = list(service, ADDRESSES);
    addrs.extend(service.spec_ip.as_ref().and_then(|text| text.trim().parse::<IpAddr>().ok()));
    addrs.extend(service.ingress.iter().filter_map(|ingress| ingress.ip));
    addrs
}

/// What the condition says of having an address.
fn assigned(service: &Service) -> Option<&str> {
    service.conditions.get("kube-vip.io/AddressAssigned").map(|condition| condition.status.as_str())
}

fn share_a_port(one: &Service, other: &Service) -> bool {
    one.ports.iter().any(|port| other.ports.contains(port))
}

impl AssignedOnce {
    fn note(&mut self, world: &World) {
        for service in world.store.objects.services.now().values() {
            for addr in all_of(service) {
                self.seen.insert((addr, service.uid.clone()), world.now);
            }
        }
    }

    fn rewritten(
        &mut self,
        id: ProcessId,
        (name, rewrite): (&ServiceName, &Rewrite),
        world: &World,
    ) -> Verdict {
        let Rewrite { before, after, .. } = rewrite;
        let of_user = before.annotations.get(ADDRESSES) != before.annotations.get(ALLOCATED);
        if of_user
            && before.annotations.contains_key(ADDRESSES)
            && list(before, ADDRESSES) != list(after, ADDRESSES)
        {
            let was = before.annotations.get(ADDRESSES);
            return Err(format!(
                "{name} asked for {was:?}, its user's wish, and gets {:?}",
                list(after, ADDRESSES)
            ));
        }
        if before.annotations.get(ALLOCATED) == after.annotations.get(ALLOCATED) {
            return Ok(());
        }
        let life = (id, world.processes[id].generation);
        for addr in list(before, ALLOCATED) {
            if !list(after, ALLOCATED).contains(&addr) && !self.has_cause(addr, before, world) && !of_user {
                return Err(format!("{name} loses {addr} without a cause"));
            }
        }
        for addr in list(after, ALLOCATED) {
            for (other, service) in world.store.objects.services.now().iter() {
                let is_other = other != name && service.kind == ServiceKind::LoadBalancer;
                let has = all_of(service).contains(&addr);
                let gave = self.given.get(&(service.uid.clone(), addr)) == Some(&life);
                if is_other
                    && has
                    && gave
                    && share_a_port(service, after)
                    && !self.is_given_up((id, name), other)
                {
                    return Err(format!("{addr} is given to {name} and {other} by one allocator"));
                }
            }
            self.given.insert((after.uid.clone(), addr), life);
        }
        Ok(())
    }

    /// Whether another Service was no load balancer any more as far as an allocator had been told when it asked for the
    /// write: then its addresses are anybody's, and when it becomes one again before the store has carried that out, the
    /// older of two has the address in the end.
    fn is_given_up(&self, (id, written): (ProcessId, &ServiceName), name: &ServiceName) -> bool {
        let told = self.asked.get(&(id, written.clone())).and_then(Known::get);
        told.is_some_and(|told| told.get(name).is_none_or(|it| it.kind != ServiceKind::LoadBalancer))
    }

    /// Whether another Service had the address, as far as an allocator may know, or the Service has that family no longer.
    fn has_cause(&self, addr: IpAddr, service: &Service, world: &World) -> bool {
        if !service.families.is_empty() && !service.families.contains(&Family::of(addr)) {
            return true;
        }
        let mut of_addr = self.seen.range((addr, String::new())..).take_while(|((of, _), _)| *of == addr);
        of_addr.any(|((_, uid), at)| *uid != service.uid && world.now <= *at + IGNORANCE)
    }
}

fn judge(world: &World) -> Verdict {
    let services = world.store.objects.services.now();
    let ought = world.ought();
    let is_ours = |name: &ServiceName| ought.duties[name] != Duty::NotOurs;
    for (name, service) in services.iter().filter(|(name, _)| is_ours(name)) {
        for (other, rival) in services.range(name.clone()..).skip(1).filter(|(name, _)| is_ours(name)) {
            let both = in_use(service);
            let twice = in_use(rival).into_iter().find(|addr| both.contains(addr));
            // Where the pool has no other, the younger one keeps it in name only, and says so.
            let is_refused = assigned(service) == Some("False") || assigned(rival) == Some("False");
            let twice = twice.filter(|_| share_a_port(service, rival) && !is_refused);
            if let Some(addr) = twice {
                return Err(format!("{addr} is given to {name} and to {other}"));
            }
        }
    }
    // A node that is taken out of load balancing does not allocate either.
    if ought.open & running(world) == 0 {
        return Ok(());
    }
    for (name, _) in ought.duties.iter().filter(|(_, duty)| **duty == Duty::NoAddress) {
        let said = assigned(&services[name]);
        if said != Some("False") {
            return Err(format!("{name} has no address and says {said:?}"));
        }
        let left = left_for(name, world);
        if !left.is_empty() {
            return Err(format!("{name} has no address, and {left:?} are left"));
        }
    }
    Ok(())
}

/// IPv4 addresses of the pool of a Service that nobody has; none when the pool has other entries than one range.
fn left_for(name: &ServiceName, world: &World) -> Vec<IpAddr> {
    let pools = world.store.objects.pools.now();
    let services = world.store.objects.services.now();
    let of = |key: &str| pools.get(&format!("range-{key}"));
    let has_cidr = pools.keys().any(|key| key.starts_with("cidr-"));
    let range = of(name.namespace()).or_else(|| of("global")).filter(|_| !has_cidr);
    let ends = range.and_then(|range| range.split_once('-'));
    let (Some((first, last)), false) = (ends, services[name].families.contains(&vip_model::Family::V6))
    else {
        return Vec::new();
    };
    let (Ok(first), Ok(last)) = (first.parse::<std::net::Ipv4Addr>(), last.parse::<std::net::Ipv4Addr>())
    else {
        return Vec::new();
    };
    let is_used = |addr: &IpAddr| services.values().any(|service| all_of(service).contains(addr));
    let is_vip = |addr: &IpAddr| world.setup.vips().iter().any(|(_, vip)| vip.addr() == *addr);
    let is_held = |addr: &IpAddr| {
        let mut kernels = world.nodes.iter().filter_map(|node| node.kernel.as_ref());
        kernels.any(|kernel| kernel.addresses().iter().any(|held| held.net.addr() == *addr))
    };
    let all = (u32::from(first)..=u32::from(last)).map(|bits| IpAddr::V4(bits.into()));
    all.filter(|addr| !is_used(addr) && !is_vip(addr) && !is_held(addr)).collect()
}

impl Check for AssignedOnce {
    fn name(&self) -> &'static str {
        "assigned_once"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        let Some((_, ServicesSetup { ipam: Switch::On, updates: Writes::On, .. })) = world.setup.services()
        else {
            return Ok(());
        };
        match fact {
            Fact::Deed(_) => self.note(world),
            Fact::Input(id, Input::Snapshot(snapshot)) => {
                self.told.insert(*id, snapshot.services.clone());
            }
            Fact::Output(id, Output::Ask(question)) => {
                if let (Ask::WriteService(write), Some(told)) = (&question.ask, self.told.get(id)) {
                    self.asked.insert((*id, write.service.clone()), told.clone());
                }
            }
            Fact::Rewritten(id, name, rewrite) => {
                let verdict = self.rewritten(*id, (name, rewrite), world);
                self.note(world);
                return verdict;
            }
            Fact::End if world.now > settled_at(world) => return judge(world),
            _ => {}
        }
        Ok(())
    }
}
