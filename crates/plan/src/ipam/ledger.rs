//! Which addresses are in use, by whom and with which ports. The allocator fills it with what Services already have,
//! then with what it gives; it answers whether an address is free or can be shared.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vip_model::Family;
use vip_model::service::ServicePort;

use super::space::number;

/// Who uses an address, as far as sharing cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    /// A Service of ours, in this namespace.
    Namespace(&'a str),
    /// Several namespaces have Services on it.
    Several,
    /// It is reserved, or a Service that is not ours has it: nobody shares it.
    Outsider,
}

/// What is known of one address in use.
#[derive(Debug)]
pub(super) struct Use<'a> {
    owner: Owner<'a>,
    ports: Ports<'a>,
}

/// The ports that are taken on an address.
#[derive(Debug)]
enum Ports<'a> {
    /// All: some Service on it names no port and so takes it as a whole.
    All,
    /// Those of the only Service on it.
    OfOne(&'a [ServicePort]),
    /// Those of several Services.
    OfMany(BTreeSet<ServicePort>),
}

impl<'a> Ports<'a> {
    fn of(ports: &'a [ServicePort]) -> Self {
        if ports.is_empty() { Self::All } else { Self::OfOne(ports) }
    }

    fn contains(&self, port: ServicePort) -> bool {
        match self {
            Self::All => true,
            Self::OfOne(ports) => ports.contains(&port),
            Self::OfMany(ports) => ports.contains(&port),
        }
    }
}

impl<'a> Use<'a> {
    /// Whether one more Service with these ports fits on it. `within`: only beside Services of this namespace.
    pub(super) fn admits(&self, ports: &[ServicePort], within: Option<&str>) -> bool {
        let is_allowed = match (self.owner, within) {
            (Owner::Outsider, _) | (Owner::Several, Some(_)) => false,
            (Owner::Several, None) => true,
            (Owner::Namespace(owner), within) => within.is_none_or(|namespace| namespace == owner),
        };
        is_allowed && !self.clashes(ports)
    }

    /// Whether one more Service with these ports does no harm, wherever it is from.
    pub(super) fn bears(&self, ports: &[ServicePort]) -> bool {
        self.owner != Owner::Outsider && !self.clashes(ports)
    }

    /// Whether a Service with these ports and those that are here get in each other's way.
    fn clashes(&self, ports: &[ServicePort]) -> bool {
        ports.is_empty()
            || matches!(self.ports, Ports::All)
            || ports.iter().any(|port| self.ports.contains(*port))
    }

    fn join(&mut self, owner: Owner<'a>, ports: &'a [ServicePort]) {
        self.owner = match (self.owner, owner) {
            (Owner::Outsider, _) | (_, Owner::Outsider) => Owner::Outsider,
            (one, other) if one == other => one,
            _ => Owner::Several,
        };
        match &mut self.ports {
            Ports::All => {}
            _ if ports.is_empty() => self.ports = Ports::All,
            Ports::OfMany(taken) => taken.extend(ports),
            Ports::OfOne(taken) => self.ports = Ports::OfMany(taken.iter().chain(ports).copied().collect()),
        }
    }
}

/// All addresses in use, by family and number.
#[derive(Debug, Default)]
pub(super) struct Ledger<'a> {
    v4: BTreeMap<u128, Use<'a>>,
    v6: BTreeMap<u128, Use<'a>>,
    /// Addresses in the order in which they came into use.
    log: Vec<(Family, u128)>,
}

impl<'a> Ledger<'a> {
    /// The addresses of a family that are in use.
    pub(super) fn of(&self, family: Family) -> &BTreeMap<u128, Use<'a>> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    pub(super) fn get(&self, addr: IpAddr) -> Option<&Use<'a>> {
        let (family, number) = number(addr);
        self.of(family).get(&number)
    }

    /// Notes that an address is in use.
    pub(super) fn enter(&mut self, addr: IpAddr, owner: Owner<'a>, ports: &'a [ServicePort]) {
        let (family, number) = number(addr);
        let uses = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        match uses.entry(number) {
            Entry::Occupied(mut found) => found.get_mut().join(owner, ports),
            Entry::Vacant(place) => {
                place.insert(Use { owner, ports: Ports::of(ports) });
                self.log.push((family, number));
            }
        }
    }

    /// Whether an address is in use by a Service whose ports get in the way of these.
    pub(super) fn clashes(&self, addr: IpAddr, ports: &[ServicePort]) -> bool {
        self.get(addr).is_some_and(|found| found.clashes(ports))
    }

    /// Addresses in the order in which they came into use.
    pub(super) fn log(&self) -> &[(Family, u128)] {
        &self.log
    }
}
