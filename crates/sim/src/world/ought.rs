//! What ought to become of each Service, read from the truth and from the rules as users are told them. It shares no
//! line with the plan that it judges, and knows no kernel, no election and no time: who may serve, not who does.
//!
//! ```text
//! Service ─► ours? ─► addresses ─► clash? ─► groups (an address or a Lease in common) ─► which nodes
//! ```

mod addresses;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use vip_model::LeaseName;
use vip_model::config::{InterfaceChoice, UnsetClass};
use vip_model::service::{
    Endpoint, EndpointState, ObjectLife, Protocol, Service, ServiceKind, ServiceName, ServicePort,
    TrafficPolicy,
};

use super::World;
use crate::client::Mask;
use crate::setup::{API_PORT, CLASS, ServicesSetup, Setup, Switch, VIP_LINK, node_name};
use crate::store::{Matter, Objects};

/// What becomes of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It is somebody else's, or nobody's: it is not touched.
    NotOurs,
    /// It has no address.
    NoAddress,
    /// It asks for what nobody can have.
    Impossible,
    /// An older Service, or the control plane, has its port.
    Clash,
    /// It takes part in this group.
    Part(Part),
}

/// A Service that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its group, an index into `Ought::groups`.
    pub group: usize,
    /// Its addresses, in the order in which its status shows them.
    pub addrs: Vec<IpAddr>,
    /// The nodes that can serve it, one bit each, as far as its endpoints and its interface say.
    pub nodes: Mask,
    /// The Lease that it asks for.
    pub lease: LeaseName,
    /// Whether there is a link for one of its addresses.
    pub is_linked: bool,
}

/// Services that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its Services in the order of their names.
    pub services: Vec<ServiceName>,
    /// The Lease that decides about it.
    pub lease: LeaseName,
    /// Who may hold that, one bit for each node, as far as Services say.
    pub holders: Mask,
    /// Whether that Lease is the group's own.
    pub kind: Kind,
}

/// Whose the Lease of a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The control plane's.
    ControlPlane,
    /// All Services'.
    Global,
    /// Its own.
    Own,
}

/// What ought to be.
#[derive(Clone, Debug, Default)]
pub struct Ought {
    /// What was looked at: the numbers of Services, endpoints, Nodes.
    from: [usize; 3],
    /// Every Service.
    pub duties: BTreeMap<ServiceName, Duty>,
    /// All groups.
    pub groups: Vec<Group>,
    /// Nodes that are not taken out of load balancing, one bit each.
    pub open: Mask,
    /// For each address of a group: the group, and the nodes that may have it.
    pub addrs: BTreeMap<IpAddr, (usize, Mask)>,
}

impl Ought {
    /// Whether there is a node that shall serve this address.
    pub fn is_wanted(&self, addr: IpAddr) -> bool {
        self.addrs.get(&addr).is_some_and(|(_, nodes)| *nodes != 0)
    }

    /// The part of a Service, when it has one.
    pub fn part(&self, name: &ServiceName) -> Option<&Part> {
        match self.duties.get(name) {
            Some(Duty::Part(part)) => Some(part),
            _ => None,
        }
    }

    /// The Lease that decides about an address.
    pub fn lease_of(&self, addr: IpAddr) -> Option<&LeaseName> {
        self.addrs.get(&addr).map(|(group, _)| &self.groups[*group].lease)
    }
}

impl World {
    /// What ought to be, by the truth of now.
    pub fn ought(&self) -> Rc<Ought> {
        let objects = &self.store.objects;
        let from = [Matter::Services, Matter::Endpoints, Matter::Nodes].map(|matter| objects.newest(matter));
        let mut kept = self.ought.borrow_mut();
        if let Some(ought) = kept.as_ref().filter(|ought| ought.from == from) {
            return Rc::clone(ought);
        }
        let mut ought = match self.setup.services() {
            Some((agent, services)) => Rules { setup: &self.setup, agent, services, objects }.judge(),
            None => Ought { open: (1 << self.nodes.len()) - 1, ..Ought::default() },
        };
        ought.from = from;
        let ought = Rc::new(ought);
        *kept = Some(Rc::clone(&ought));
        ought
    }
}

/// The rules of a world.
struct Rules<'a> {
    setup: &'a Setup,
    agent: usize,
    services: &'a ServicesSetup,
    objects: &'a Objects,
}

impl Rules<'_> {
    fn judge(&self) -> Ought {
        let open = ((1 << self.setup.nodes()) - 1) & !self.excluded();
        let mut ought = Ought { open, ..Ought::default() };
        let mut parts = BTreeMap::new();
        for (name, service) in self.objects.services.now().iter() {
            let duty = match self.alone(name, service) {
                Ok(part) => {
                    parts.insert(name.clone(), part);
                    continue;
                }
                Err(duty) => duty,
            };
            ought.duties.insert(name.clone(), duty);
        }
        for name in self.clashes(&parts) {
            parts.remove(&name);
            ought.duties.insert(name, Duty::Clash);
        }
        self.group(parts, &mut ought);
        if self.setup.interface == InterfaceChoice::Auto {
            unlinked(&mut ought);
        }
        ought
    }

    /// What can be said of a Service alone.
    fn alone(&self, name: &ServiceName, service: &Service) -> Result<Part, Duty> {
        if !self.is_ours(name, service) {
            return Err(Duty::NotOurs);
        }
        let lease = self.lease(name, service)?;
        let addrs = addresses::of(service)?;
        Ok(Part { group: 0, addrs, nodes: self.nodes(name, service), lease, is_linked: false })
    }

    fn is_ours(&self, name: &ServiceName, service: &Service) -> bool {
        let is_of_class = match service.class.as_deref() {
            Some(class) => class == CLASS,
            None => self.services.unset == UnsetClass::Ours,
        };
        let is_seen = self.services.namespace.as_ref().is_none_or(|only| *only == name.namespace());
        is_seen
            && service.kind == ServiceKind::LoadBalancer
            && service.life == ObjectLife::Alive
            && is_of_class
            && !says(service, "ignore")
    }

    /// The Lease that a Service asks for.
    fn lease(&self, name: &ServiceName, service: &Service) -> Result<LeaseName, Duty> {
        let global = self.services.global_lease(self.setup, self.agent);
        let is_forced = self.services.on_demand == Switch::On && says(service, "forcePerServiceElection");
        if let (Some(global), false) = (&global, is_forced) {
            return Ok(global.clone());
        }
        let Some(text) = service.annotations.get("kube-vip.io/leaseName") else {
            return Ok(LeaseName::new(name.namespace(), format!("kubevip-{}", name.name())));
        };
        if service.traffic == TrafficPolicy::Local {
            return Err(Duty::Impossible);
        }
        let (namespace, lease) = text.split_once('/').unwrap_or((name.namespace(), text));
        Ok(LeaseName::new(namespace, lease))
    }

    /// The nodes that can serve a Service, as far as its endpoints say.
    fn nodes(&self, name: &ServiceName, service: &Service) -> Mask {
        let all = (1 << self.setup.nodes()) - 1;
        if service.traffic == TrafficPolicy::Cluster && says(service, "allow-reconcile-without-endpoints") {
            return all;
        }
        let endpoints = self.objects.endpoints.now();
        let endpoints: &[Endpoint] = endpoints.get(name).map(Vec::as_slice).unwrap_or_default();
        let is_ready = endpoints.iter().any(|endpoint| endpoint.state == EndpointState::Ready);
        let best = if is_ready { EndpointState::Ready } else { EndpointState::ServingTerminating };
        let mut takers = endpoints.iter().filter(|endpoint| endpoint.state == best).peekable();
        if service.traffic == TrafficPolicy::Cluster {
            return if takers.peek().is_some() { all } else { 0 };
        }
        let is_on = |endpoint: &Endpoint, node: usize| {
            let name = node_name(node);
            endpoint.node.as_ref() == Some(&name)
                || (endpoint.node.is_none() && endpoint.host.as_deref() == Some(name.as_str()))
        };
        let mut mask = 0;
        for endpoint in takers {
            let here = (0..self.setup.nodes()).filter(|node| is_on(endpoint, *node));
            mask |= here.map(|node| 1 << node).sum::<Mask>();
        }
        mask
    }

    /// Services that want a port which an older one has.
    fn clashes(&self, parts: &BTreeMap<ServiceName, Part>) -> Vec<ServiceName> {
        let all = self.objects.services.now();
        let mut order: Vec<_> = parts.keys().collect();
        order.sort_by_key(|name| &all[*name].created); // stable: then by name
        let api = ServicePort { protocol: Protocol::Tcp, port: API_PORT };
        let mut taken: BTreeSet<(IpAddr, ServicePort)> =
            self.vips().into_iter().map(|addr| (addr, api)).collect();
        let mut clashes = Vec::new();
        for name in order {
            let wanted = || {
                let ports = &all[name].ports;
                parts[name].addrs.iter().flat_map(|addr| ports.iter().map(|port| (*addr, *port)))
            };
            if wanted().any(|pair| taken.contains(&pair)) {
                clashes.push(name.clone());
            } else {
                taken.extend(wanted());
            }
        }
        clashes
    }

    /// The control plane's VIPs of this agent.
    fn vips(&self) -> Vec<IpAddr> {
        self.setup.agents[self.agent].vips.iter().map(|vip| vip.addr()).collect()
    }

    fn group(&self, mut parts: BTreeMap<ServiceName, Part>, ought: &mut Ought) {
        let mut rest: BTreeSet<ServiceName> = parts.keys().cloned().collect();
        while let Some(first) = rest.pop_first() {
            let mut services = BTreeSet::from([first.clone()]);
            let mut frontier = vec![first];
            while let Some(name) = frontier.pop() {
                let near: Vec<_> =
                    rest.iter().filter(|other| self.belong(&parts[&name], &parts[*other])).cloned().collect();
                for other in near {
                    rest.remove(&other);
                    services.insert(other.clone());
                    frontier.push(other);
                }
            }
            let number = ought.groups.len();
            let group = self.settle(&services, &parts);
            let linked = self.linked(&services, &parts);
            for name in services {
                let mut part = parts.remove(&name).expect("each is in one group");
                part.group = number;
                for addr in &part.addrs {
                    let at = ought.addrs.entry(*addr).or_insert((number, 0));
                    at.1 |= if linked.contains(addr) { part.nodes & group.holders } else { 0 };
                }
                part.is_linked = part.addrs.iter().any(|addr| linked.contains(addr));
                if !part.addrs.iter().all(|addr| linked.contains(addr)) {
                    part.nodes = 0;
                }
                ought.duties.insert(name, Duty::Part(part));
            }
            ought.groups.push(group);
        }
    }

    /// Whether two Services move together.
    fn belong(&self, one: &Part, other: &Part) -> bool {
        let is_own = self.kind(&one.lease) == Kind::Own;
        one.addrs.iter().any(|addr| other.addrs.contains(addr)) || (is_own && one.lease == other.lease)
    }

    fn kind(&self, lease: &LeaseName) -> Kind {
        let setup = self.setup;
        if !setup.agents[self.agent].vips.is_empty() && *lease == setup.lease(self.agent) {
            Kind::ControlPlane
        } else if Some(lease) == self.services.global_lease(setup, self.agent).as_ref() {
            Kind::Global
        } else {
            Kind::Own
        }
    }

    fn settle(&self, names: &BTreeSet<ServiceName>, parts: &BTreeMap<ServiceName, Part>) -> Group {
        let members = || names.iter().map(|name| &parts[name]);
        let vips = self.vips();
        let shares_vip = members().any(|part| part.addrs.iter().any(|addr| vips.contains(addr)));
        let mut kind = members().map(|part| self.kind(&part.lease)).min().expect("never empty");
        if shares_vip {
            kind = Kind::ControlPlane;
        }
        let lease = match kind {
            Kind::ControlPlane => self.setup.lease(self.agent),
            Kind::Global => self.services.global_lease(self.setup, self.agent).expect("it is somebody's"),
            Kind::Own => members().next().expect("never empty").lease.clone(),
        };
        let all = (1 << self.setup.nodes()) - 1;
        let linked = self.linked(names, parts);
        let has_link = |name: &ServiceName| parts[name].addrs.iter().any(|addr| linked.contains(addr));
        // The mistake of one Service takes nobody down that shares its Lease.
        let lead = names.iter().find(|name| parts[*name].nodes != 0 && has_link(name));
        let holders = match kind {
            // A node that a user drained gives the control plane's VIP away, too.
            Kind::ControlPlane | Kind::Global => all & !self.excluded(),
            Kind::Own => lead.map_or(0, |name| parts[name].nodes) & !self.excluded(),
        };
        Group { services: names.iter().cloned().collect(), lease, holders, kind }
    }

    /// Nodes that are taken out of load balancing.
    fn excluded(&self) -> Mask {
        let nodes = self.objects.nodes.now();
        let is_out = |node: &usize| nodes.get(&node_name(*node)).is_some_and(|it| it.excluded.is_some());
        (0..self.setup.nodes()).filter(is_out).map(|node| 1 << node).sum()
    }

    /// The addresses for which a Service of a group names an interface that there is, or none. The control plane's VIP is
    /// where the control plane has it.
    fn linked(&self, names: &BTreeSet<ServiceName>, parts: &BTreeMap<ServiceName, Part>) -> BTreeSet<IpAddr> {
        let services = self.objects.services.now();
        let named = |name: &&ServiceName| services[*name].annotations.get("kube-vip.io/serviceInterface");
        let is_there =
            |name: &&ServiceName| matches!(named(name).map(String::as_str), None | Some("auto" | VIP_LINK));
        let vips = self.vips();
        let of = |name: &ServiceName| parts[name].addrs.clone();
        let shared = names.iter().flat_map(of).filter(|addr| vips.contains(addr));
        names.iter().filter(is_there).flat_map(of).chain(shared).collect()
    }
}

/// Where links are looked for, nobody stands for the global election whose Services all name one that is not there.
fn unlinked(ought: &mut Ought) {
    let of_global = |group: &Group| group.kind == Kind::Global;
    let is_linked = |duty: &Duty| match duty {
        Duty::Part(part) => part.is_linked && of_global(&ought.groups[part.group]),
        _ => false,
    };
    if !ought.duties.values().any(is_linked) {
        ought.groups.iter_mut().filter(|group| of_global(group)).for_each(|group| group.holders = 0);
    }
}

/// Whether an annotation of a Service is `true`.
fn says(service: &Service, key: &str) -> bool {
    service.annotations.get(&format!("kube-vip.io/{key}")).is_some_and(|value| value == "true")
}
