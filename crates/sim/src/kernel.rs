//! A fake Linux kernel, as far as VIPs care: links, addresses with lifetimes, what it answers for. It models what
//! hurts: expiry up to a second late, whole seconds, secondary addresses that go with their primary, what a replacement
//! does not change, links that come back with another index. `kernel_contract` in `vip-lab` holds it against the real
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use vip_model::config::Scope;
use vip_model::kernel::{
    Actual, Address, BatchId, Change, Dad, DefaultRoute, Lifetime, Link, LinkKind, LinkState, Outcome,
    Premise, SetAddress,
};
use vip_model::plan::PacketFilter;
use vip_model::{Family, InstanceName, Instant, Known, LinkAddr, LinkIndex};

use crate::clock::{Clock, Moment};
use crate::setup::{Secondaries, VIP_LINK, own_addresses};

mod list;

/// Who put an address where it is: checkers excuse what outsiders do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An agent.
    Agent,
    /// Somebody else.
    Outsider,
}

/// One address in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The link that carries it.
    pub link: LinkIndex,
    /// Address and prefix length.
    pub net: IpNet,
    /// Its scope.
    pub scope: Scope,
    /// `IFA_PROTO`.
    pub tag: u8,
    /// When it should go by itself, on the node's clock; none: never.
    pub valid: Option<Instant>,
    /// When it really goes, up to a second late.
    pub purge: Moment,
    /// When duplicate address detection ends; the beginning when it was not needed, never when it failed.
    pub tentative_until: Moment,
    /// `IFA_F_SECONDARY`.
    pub secondary: bool,
    /// Who put it there.
    pub origin: Origin,
}

/// The fake kernel of one node.
#[derive(Clone, Debug)]
pub struct FakeKernel {
    /// The node's number.
    node: usize,
    /// Links by index.
    links: BTreeMap<LinkIndex, Link>,
    /// Addresses in the kernel's order.
    addresses: Vec<Held>,
    /// Default routes over the VIP link.
    default_routes: Vec<DefaultRoute>,
    /// Index that the next link gets.
    next_index: u32,
    /// What becomes of secondary addresses.
    secondaries: Secondaries,
    /// The packet filter of each instance.
    filters: BTreeMap<InstanceName, PacketFilter>,
}

/// How long IPv6 duplicate address detection takes (`retrans_time`, one solicitation).
const DAD_TIME: Duration = Duration::from_secs(1);
/// `ENODEV`.
const ENODEV: i32 = 19;
/// `EINVAL`.
const EINVAL: i32 = 22;
/// The index of `lo`.
const LOOPBACK: LinkIndex = LinkIndex(1);

/// An address as an outsider adds it.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// Address and prefix length.
    pub net: IpNet,
    /// `IFA_PROTO`.
    pub tag: u8,
}

/// Whether another node already answers for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicate {
    /// Nobody does.
    No,
    /// Somebody does: IPv6 duplicate address detection fails.
    Yes,
}

impl FakeKernel {
    /// A kernel as it is after booting: `lo` and the VIP link with the node's own addresses.
    pub fn boot(node: usize, secondaries: Secondaries) -> Self {
        let loopback = Link {
            index: LOOPBACK,
            name: "lo".to_owned(),
            addr: Some(LinkAddr::Ethernet([0; 6])),
            broadcast: Some(LinkAddr::Ethernet([0; 6])),
            state: LinkState::Up,
            kind: LinkKind::Loopback,
        };
        let mut kernel = Self {
            node,
            links: BTreeMap::from([(LOOPBACK, loopback)]),
            addresses: Vec::new(),
            default_routes: Vec::new(),
            next_index: 2,
            secondaries,
            filters: BTreeMap::new(),
        };
        let local = IpNet::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8).expect("a prefix length");
        kernel.insert(LOOPBACK, Outside { net: local, tag: 0 }, Moment::START);
        kernel.add_vip_link();
        kernel
    }

    /// The link-layer address of node number `node`.
    pub fn mac(node: usize) -> LinkAddr {
        LinkAddr::Ethernet([2, 0, 0, 0, 0, u8::try_from(node + 1).expect("few nodes")])
    }

    /// The node with this link-layer address.
    pub fn node_with(addr: &LinkAddr) -> Option<usize> {
        match addr.as_bytes() {
            [2, 0, 0, 0, 0, number] => usize::from(*number).checked_sub(1),
            _ => None,
        }
    }

    /// Adds the VIP link with a new index, up, with the node's own addresses.
    pub fn add_vip_link(&mut self) {
        if self.vip_link().is_some() {
            return;
        }
        let index = LinkIndex(self.next_index);
        self.next_index += 1;
        let link = Link {
            index,
            name: VIP_LINK.to_owned(),
            addr: Some(Self::mac(self.node)),
            broadcast: Some(LinkAddr::BROADCAST),
            state: LinkState::Up,
            kind: LinkKind::Broadcast,
        };
        self.links.insert(index, link);
        for net in own_addresses(self.node) {
            self.insert(index, Outside { net, tag: 0 }, Moment::START);
            self.route_over(index, net);
        }
    }

    /// Whoever gives the node its own address gives it the default route of that family too.
    fn route_over(&mut self, link: LinkIndex, own: IpNet) {
        let family = Family::of(own.addr());
        if own_addresses(self.node).contains(&own)
            && self.default_routes.iter().all(|route| route.family != family)
        {
            self.default_routes.push(DefaultRoute { family, link, metric: 100 });
            self.default_routes.sort_by_key(|route| route.family);
        }
    }

    /// The VIP link.
    pub fn vip_link(&self) -> Option<&Link> {
        self.links.values().find(|link| link.kind == LinkKind::Broadcast)
    }

    /// Removes the VIP link with its addresses.
    pub fn remove_vip_link(&mut self) {
        if let Some(index) = self.vip_link().map(|link| link.index) {
            self.links.remove(&index);
            self.addresses.retain(|held| held.link != index);
            self.default_routes.clear();
        }
    }

    /// Sets the state of the VIP link.
    pub fn set_link(&mut self, state: LinkState) {
        if let Some(link) = self.links.values_mut().find(|link| link.kind == LinkKind::Broadcast) {
            link.state = state;
        }
    }

    /// What `ip link set down` does besides: IPv6 addresses and routes go. A lost carrier takes neither.
    pub fn flush_v6(&mut self) {
        let Some(index) = self.vip_link().map(|link| link.index) else { return };
        self.addresses.retain(|held| held.link != index || Family::of(held.net.addr()) == Family::V4);
        self.default_routes.clear();
    }

    /// All addresses.
    pub fn addresses(&self) -> &[Held] {
        &self.addresses
    }

    /// The address as it is on that link.
    pub fn find(&self, link: LinkIndex, net: IpNet) -> Option<&Held> {
        self.position(link, net).map(|at| &self.addresses[at])
    }

    /// Whether it answers for `addr` on the segment: installed on a link that is up (the kernel answers for addresses
    /// of its other links too, `arp_ignore` 0), and not tentative. Who put it there comes along.
    pub fn answers(&self, addr: IpAddr, now: Moment) -> Option<&Held> {
        if self.vip_link().is_none_or(|link| link.state == LinkState::Down) {
            return None;
        }
        self.addresses.iter().find(|held| held.net.addr() == addr && held.tentative_until <= now)
    }

    /// All addresses that it answers for, and by whose hand.
    pub fn answered(&self, now: Moment) -> impl Iterator<Item = (IpAddr, Origin)> + '_ {
        let is_up = self.vip_link().is_some_and(|link| link.state != LinkState::Down);
        let usable = move |held: &&Held| is_up && held.tentative_until <= now;
        self.addresses.iter().filter(usable).map(|held| (held.net.addr(), held.origin))
    }

    /// Whether the address `net` on `link` is the one at this position; IPv6 knows an address by itself, IPv4 with its
    /// prefix length.
    fn position(&self, link: LinkIndex, net: IpNet) -> Option<usize> {
        let same = |held: &Held| {
            held.link == link
                && held.net.addr() == net.addr()
                && (Family::of(net.addr()) == Family::V6 || held.net == net)
        };
        self.addresses.iter().position(same)
    }

    /// Carries out one step as the gateway does: what grants something is looked at right before. `late` is by how much
    /// the kernel will miss an expiry.
    pub fn carry_out(&mut self, now: Moment, clock: &Clock, change: &Change, late: Duration) -> Outcome {
        match change {
            Change::SetAddress(set) if clock.read(now) > set.not_after || !self.holds_premise(set) => {
                Outcome::TooLate
            }
            Change::SetAddress(set) => self.set(now, clock, set, late),
            Change::DelAddress { link, net } => self.remove(*link, *net),
            Change::SetFilter { instance, filter } => {
                self.filters.remove(instance);
                self.filters.extend(filter.clone().map(|filter| (instance.clone(), filter)));
                Outcome::Done
            }
        }
    }

    fn holds_premise(&self, set: &SetAddress) -> bool {
        let is_it = |held: &Held| held.link == set.link && held.net == set.net.0;
        set.premise == Premise::None || self.addresses.iter().any(is_it)
    }

    /// Carries out `SetAddress`; `late` is by how much the kernel will miss its expiry.
    pub fn set(&mut self, now: Moment, clock: &Clock, set: &SetAddress, late: Duration) -> Outcome {
        let local = clock.read(now);
        let valid = match set.valid {
            Lifetime::Forever => None,
            Lifetime::Until(end) => Some(local + Duration::from_secs(end.since(local).as_secs())),
        };
        if valid.is_some_and(|end| end == local) {
            return Outcome::TooLate;
        }
        if !self.links.contains_key(&set.link) {
            return failed(ENODEV, "RTM_NEWADDR: no such device");
        }
        // As the gateway: what a replacement would not change is removed first.
        while let Some(at) = self.addresses.iter().position(|held| is_in_the_way(held, set)) {
            self.remove_at(at);
        }
        let purge = valid.map_or(Moment::NEVER, |end| clock.moment_of(end) + late);
        if let Some(at) = self.position(set.link, set.net.0) {
            let held = &mut self.addresses[at];
            (held.valid, held.purge, held.tag) = (valid, purge, set.tag);
            return Outcome::Done;
        }
        let held = Held {
            link: set.link,
            net: set.net.0,
            scope: scope_of(set.net.0, set.scope),
            tag: set.tag,
            valid,
            purge,
            tentative_until: Moment::START,
            secondary: false,
            origin: Origin::Agent,
        };
        match list::insert(&mut self.addresses, held) {
            Ok(()) => Outcome::Done,
            Err(list::WrongScope) => failed(EINVAL, "RTM_NEWADDR: invalid scope value"),
        }
    }

    /// Says who is responsible for an address.
    pub fn claim(&mut self, link: LinkIndex, net: IpNet, origin: Origin) {
        if let Some(at) = self.position(link, net) {
            self.addresses[at].origin = origin;
        }
    }

    /// Removes an address; that it is not there is success.
    pub fn remove(&mut self, link: LinkIndex, net: IpNet) -> Outcome {
        let same = |held: &Held| held.link == link && held.net == net;
        if let Some(at) = self.addresses.iter().position(same) {
            self.remove_at(at);
        }
        Outcome::Done
    }

    fn remove_at(&mut self, at: usize) {
        list::remove(&mut self.addresses, at, self.secondaries);
        // With its last IPv4 address a link loses its IPv4 routes (`fib_disable_ip`).
        let v4 = |held: &Held| Family::of(held.net.addr()) == Family::V4;
        let left: BTreeSet<LinkIndex> =
            self.addresses.iter().filter(|held| v4(held)).map(|held| held.link).collect();
        self.default_routes.retain(|route| route.family == Family::V6 || left.contains(&route.link));
    }

    /// Removes the addresses whose time has come; whether there were any.
    pub fn purge(&mut self, now: Moment) -> bool {
        let mut gone = false;
        while let Some(at) = self.addresses.iter().position(|held| held.purge <= now) {
            self.remove_at(at);
            gone = true;
        }
        gone
    }

    /// Whether duplicate address detection of any address has just ended.
    pub fn became_usable(&self, now: Moment) -> bool {
        let recent = now.before(Duration::from_millis(2));
        self.addresses.iter().any(|held| held.tentative_until > recent && held.tentative_until <= now)
    }

    /// The next expiry, if any.
    pub fn next_purge(&self) -> Moment {
        self.addresses.iter().map(|held| held.purge).min().unwrap_or(Moment::NEVER)
    }

    /// After a suspension: lifetimes did not run meanwhile (`jiffies` stand still), the boot-time clock did.
    pub fn resume(&mut self, clock: &Clock, slept: Duration) {
        for held in &mut self.addresses {
            if let Some(valid) = &mut held.valid {
                *valid = clock.read(clock.moment_of(*valid) + slept);
                held.purge = held.purge + slept;
            }
        }
    }

    /// An outsider adds an address to the VIP link, for ever; over one that is there, as `ip addr replace` does.
    pub fn outsider_adds(&mut self, now: Moment, address: Outside, duplicate: Duplicate) {
        let Some(index) = self.vip_link().map(|link| link.index) else { return };
        let tentative = match (Family::of(address.net.addr()), duplicate) {
            (Family::V4, _) => Moment::START,
            (Family::V6, Duplicate::No) => now + DAD_TIME,
            (Family::V6, Duplicate::Yes) => Moment::NEVER,
        };
        self.insert(index, address, tentative);
        self.route_over(index, address.net);
    }

    fn insert(&mut self, link: LinkIndex, address: Outside, tentative_until: Moment) {
        if let Some(at) = self.position(link, address.net) {
            let held = &mut self.addresses[at];
            (held.valid, held.purge, held.tag) = (None, Moment::NEVER, address.tag);
            held.origin = Origin::Outsider;
            return;
        }
        let held = Held {
            link,
            net: address.net,
            scope: scope_of(address.net, if link == LOOPBACK { Scope::Host } else { Scope::Global }),
            tag: address.tag,
            valid: None,
            purge: Moment::NEVER,
            tentative_until,
            secondary: false,
            origin: Origin::Outsider,
        };
        // What the kernel refuses to an outsider is his affair.
        list::insert(&mut self.addresses, held).ok();
    }

    /// An outsider removes every form of an address from the VIP link.
    pub fn outsider_removes(&mut self, addr: IpAddr) {
        let Some(index) = self.vip_link().map(|link| link.index) else { return };
        let same = |held: &Held| held.link == index && held.net.addr() == addr;
        while let Some(at) = self.addresses.iter().position(same) {
            self.remove_at(at);
        }
    }

    /// The packet filter that an instance has set; none when it has none.
    pub fn filter(&self, instance: &InstanceName) -> Option<&PacketFilter> {
        self.filters.get(instance)
    }

    /// What a dump shows, on a clock that shows `local`.
    pub fn dump(&self, now: Moment, local: Instant, after: BatchId) -> Actual {
        Actual {
            after,
            links: self.links.clone(),
            addresses: self.addresses.iter().map(|held| shown(held, now, local)).collect(),
            default_routes: self.default_routes.clone(),
            filter: Known::Unknown,
        }
    }
}

/// The scope that the kernel gives: to IPv6 one that follows from the address, whatever was asked for.
fn scope_of(net: IpNet, asked: Scope) -> Scope {
    match net.addr() {
        IpAddr::V4(_) => asked,
        IpAddr::V6(addr) if addr.is_loopback() => Scope::Host,
        IpAddr::V6(addr) if addr.is_unicast_link_local() => Scope::Link,
        IpAddr::V6(_) => Scope::Global,
    }
}

/// Whether replacing an address would leave it as it is: the kernel knows an IPv6 address without its prefix length,
/// does not end a failed duplicate address detection, and changes no scope.
fn is_in_the_way(held: &Held, set: &SetAddress) -> bool {
    let same = held.link == set.link && held.net.addr() == set.net.addr();
    same && match Family::of(held.net.addr()) {
        Family::V4 => held.net == set.net.0 && held.scope != set.scope,
        Family::V6 => held.net != set.net.0 || held.tentative_until == Moment::NEVER,
    }
}

/// An address as a dump shows it: what is left of its lifetime in whole seconds, rounded up.
fn shown(held: &Held, now: Moment, local: Instant) -> Address {
    let valid = match held.valid {
        None => Lifetime::Forever,
        Some(end) => {
            let left = end.since(local);
            let secs = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            Lifetime::Until(local + Duration::from_secs(secs))
        }
    };
    Address {
        link: held.link,
        net: held.net,
        scope: held.scope,
        tag: held.tag,
        valid,
        dad: match held.tentative_until {
            Moment::NEVER => Dad::Failed,
            until if until > now => Dad::Tentative,
            _ => Dad::Ready,
        },
        secondary: held.secondary,
    }
}

/// A failure with an errno.
pub(crate) fn failed(errno: i32, text: &str) -> Outcome {
    Outcome::Failed { errno, text: text.to_owned() }
}
