//! Which link carries an address.

use std::net::IpAddr;

use vip_model::Family;
use vip_model::config::{Config, ControlPlane, InterfaceChoice, LinkDown, Scope};
use vip_model::kernel::{Actual, Link, LinkKind, LinkState};
use vip_model::verdict::Reason;

/// The link for a control-plane VIP: the named one, else the one whose network contains the VIP, else the one of the
/// default route (IPv4 first, then IPv6). `Err` says why there is none, or why it cannot serve.
pub(crate) fn control_plane_link<'a>(
    config: &Config,
    control_plane: &ControlPlane,
    actual: &'a Actual,
    vip: IpAddr,
) -> Result<&'a Link, Reason> {
    let link = match &control_plane.interface {
        InterfaceChoice::Named(name) => {
            actual.link_named(name).ok_or_else(|| Reason::LinkMissing(name.clone()))?
        }
        InterfaceChoice::Auto => link_of_network(config, actual, vip)
            .or_else(|| link_of_default_route(actual))
            .ok_or(Reason::NoLinkFits)?,
    };
    match (link.state, control_plane.link_down) {
        (LinkState::Down, LinkDown::Yield) => Err(Reason::LinkDown(link.name.clone())),
        _ => Ok(link),
    }
}

/// The scope of an address on a link.
pub(crate) fn scope(control_plane: &ControlPlane, link: &Link) -> Scope {
    match link.kind {
        LinkKind::Loopback => control_plane.loopback_scope,
        LinkKind::Broadcast | LinkKind::Infiniband | LinkKind::Other => Scope::Global,
    }
}

/// The link with the longest prefix around the VIP. Our own addresses and bare host addresses tell nothing.
fn link_of_network<'a>(config: &Config, actual: &'a Actual, vip: IpAddr) -> Option<&'a Link> {
    let tag = config.instance.address_tag();
    let networks = actual.addresses.iter().filter(|address| {
        let is_host = address.net.prefix_len() == address.net.max_prefix_len();
        address.tag != tag && !is_host && address.addr() != vip && address.net.contains(&vip)
    });
    let longest =
        networks.max_by_key(|address| (address.net.prefix_len(), std::cmp::Reverse(address.link)))?;
    actual.links.get(&longest.link)
}

fn link_of_default_route(actual: &Actual) -> Option<&Link> {
    let of = |family| actual.default_routes.iter().find(|route| route.family == family);
    let route = of(Family::V4).or_else(|| of(Family::V6))?;
    actual.links.get(&route.link)
}
