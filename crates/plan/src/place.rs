//! Which link carries an address, and how: its scope, its prefix length, what its announcements look like. Made once
//! for a plan from the kernel's picture, asked for every VIP.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vip_model::config::{Config, InterfaceChoice, LinkDown, Scope};
use vip_model::kernel::{Actual, Address, Link, LinkKind, LinkState};
use vip_model::verdict::Reason;
use vip_model::{Family, LinkAddr};

/// The links of this node, to be chosen from.
pub(crate) struct Links<'a> {
    actual: &'a Actual,
    by_name: BTreeMap<&'a str, &'a Link>,
    /// Addresses that tell a network. Our own addresses and bare host addresses tell nothing.
    networks: Vec<&'a Address>,
}

impl<'a> Links<'a> {
    pub(crate) fn new(config: &Config, actual: &'a Actual) -> Self {
        let tag = config.instance.address_tag();
        let tells = |address: &&Address| {
            address.tag != tag && address.net.prefix_len() != address.net.max_prefix_len()
        };
        Self {
            actual,
            by_name: actual.links.values().map(|link| (link.name.as_str(), link)).collect(),
            networks: actual.addresses.iter().filter(tells).collect(),
        }
    }

    /// The link for a VIP: the named one, else the one whose network contains the VIP, else the one of the default
    /// route (IPv4 first, then IPv6). `Err` says why there is none, or why it cannot serve.
    pub(crate) fn choose(
        &self,
        choice: &InterfaceChoice,
        down: LinkDown,
        vip: IpAddr,
    ) -> Result<&'a Link, Reason> {
        match choice {
            InterfaceChoice::Named(name) => self.named(name, down),
            InterfaceChoice::Auto => self.around(vip, down),
        }
    }

    /// The link with this name, if it can serve.
    pub(crate) fn named(&self, name: &str, down: LinkDown) -> Result<&'a Link, Reason> {
        let link = self.by_name.get(name).copied().ok_or_else(|| Reason::LinkMissing(name.to_owned()))?;
        usable(link, down)
    }

    /// The link whose network contains the VIP, else the one of the default route, if it can serve.
    pub(crate) fn around(&self, vip: IpAddr, down: LinkDown) -> Result<&'a Link, Reason> {
        let link = self.of_network(vip).or_else(|| self.of_default_route()).ok_or(Reason::NoLinkFits)?;
        usable(link, down)
    }

    /// The length of the longest prefix on a link that contains the VIP.
    pub(crate) fn prefix_around(&self, link: &Link, vip: IpAddr) -> Option<u8> {
        let around =
            self.networks.iter().filter(|address| address.link == link.index && contains(address, vip));
        around.map(|address| address.net.prefix_len()).max()
    }

    fn of_network(&self, vip: IpAddr) -> Option<&'a Link> {
        let longest = self
            .networks
            .iter()
            .filter(|address| contains(address, vip))
            .max_by_key(|address| (address.net.prefix_len(), std::cmp::Reverse(address.link)))?;
        self.actual.links.get(&longest.link)
    }

    fn of_default_route(&self) -> Option<&'a Link> {
        let of = |family| self.actual.default_routes.iter().find(|route| route.family == family);
        let route = of(Family::V4).or_else(|| of(Family::V6))?;
        self.actual.links.get(&route.link)
    }
}

fn usable(link: &Link, down: LinkDown) -> Result<&Link, Reason> {
    match (link.state, down) {
        (LinkState::Down, LinkDown::Yield) => Err(Reason::LinkDown(link.name.clone())),
        _ => Ok(link),
    }
}

fn contains(address: &Address, vip: IpAddr) -> bool {
    address.addr() != vip && address.net.contains(&vip)
}

/// The scope of an address on a link, when the one on loopback is `on_loopback`.
pub(crate) fn scope(on_loopback: Scope, link: &Link) -> Scope {
    match link.kind {
        LinkKind::Loopback => on_loopback,
        LinkKind::Broadcast | LinkKind::Infiniband | LinkKind::Other => Scope::Global,
    }
}

/// The link's own and its broadcast address, when addresses on it can be announced.
pub fn link_addresses(link: &Link) -> Option<(LinkAddr, LinkAddr)> {
    match link.kind {
        LinkKind::Broadcast => Some((link.addr.clone()?, LinkAddr::BROADCAST)),
        LinkKind::Infiniband => Some((link.addr.clone()?, link.broadcast.clone()?)),
        LinkKind::Loopback | LinkKind::Other => None,
    }
}
