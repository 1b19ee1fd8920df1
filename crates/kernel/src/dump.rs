//! The whole picture of the kernel: links, addresses of both families, default routes of the main table → `Actual`.
//!
//! The netlink thread calls [`dump`] at start, after every batch and after every burst of notifications. Addresses
//! are listed before links, and an address of a link that is not listed is left out: it is on its way out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use vip_model::config::Scope;
use vip_model::kernel::{Actual, Address, BatchId, Dad, DefaultRoute, Lifetime, Link, LinkKind, LinkState};
use vip_model::{Family, Instant, LinkAddr, LinkIndex};

use crate::netlink_socket::{Listing, NetlinkSocket, Query};
use crate::wire::{Attributes, read_u16, read_u32};
use crate::{Error, boot_now};

/// How often a torn dump is read again before it is left for later.
const TRIES: u32 = 4;

// linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
// linux/if.h, RFC 2863 ifOperStatus
const IF_OPER_UNKNOWN: u8 = 0;
const IF_OPER_UP: u8 = 6;
// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_SECONDARY: u32 = 0x01;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
/// A lifetime that never ends (`INFINITY_LIFE_TIME` of `net/addrconf.h`).
pub(crate) const FOREVER: u32 = u32::MAX;
// linux/rtnetlink.h
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;

/// `sizeof(struct ifinfomsg)`, `ifaddrmsg`, `rtmsg`.
const IFINFO: usize = 16;
const IFADDR: usize = 8;
const RTMSG: usize = 12;

/// Takes the picture. `after` is the last batch that was applied before.
pub(crate) fn dump(socket: &mut NetlinkSocket, after: BatchId) -> Result<Actual, Error> {
    let now = boot_now();
    let mut actual = Actual { after, ..Actual::default() };
    actual.addresses = addresses(socket, now)?;
    let mask = RTEXT_FILTER_SKIP_STATS.to_ne_bytes();
    let attribute = Some((IFLA_EXT_MASK, &mask[..]));
    let query = Query { what: "links", kind: libc::RTM_GETLINK, fixed: &[0; IFINFO], attribute };
    actual.links = list(socket, &query, link)?.into_iter().map(|link| (link.index, link)).collect();
    actual.addresses.retain(|address| actual.links.contains_key(&address.link));
    for (what, family) in [("IPv4 routes", libc::AF_INET), ("IPv6 routes", libc::AF_INET6)] {
        let mut fixed = [0; RTMSG];
        fixed[0] = family as u8;
        fixed[4] = libc::RT_TABLE_MAIN;
        let query = Query { what, kind: libc::RTM_GETROUTE, fixed: &fixed, attribute: None };
        // A kernel without the family may list the other one instead.
        let same_family = |body: &[u8]| body.first() == Some(&(family as u8));
        let routes = list(socket, &query, |body| route(body).filter(|_| same_family(body)))?;
        actual.default_routes.extend(routes);
    }
    actual.default_routes.sort_by_key(|route| (route.metric, route.family));
    Ok(actual)
}

/// All addresses of both families, with ends counted from `now`.
pub(crate) fn addresses(socket: &mut NetlinkSocket, now: Instant) -> Result<Vec<Address>, Error> {
    let query = Query { what: "addresses", kind: libc::RTM_GETADDR, fixed: &[0; IFADDR], attribute: None };
    list(socket, &query, |body| address(body, now))
}

fn list<T>(
    socket: &mut NetlinkSocket,
    query: &Query<'_>,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let what = query.what;
    for _ in 0..TRIES {
        let mut found = Vec::new();
        match socket.list(query, |body| found.extend(read(body))) {
            Ok(Listing::Whole) => return Ok(found),
            Ok(Listing::Torn) => {}
            // A kernel without this family has nothing of it.
            Err(error) if without_family(&error) => return Ok(Vec::new()),
            Err(source) => return Err(Error::Dump { what, source }),
        }
    }
    Err(Error::Unsettled { what, tries: TRIES })
}

fn without_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT))
}

/// `struct ifinfomsg`: family, type at 2, index at 4, flags at 8.
fn link(body: &[u8]) -> Option<Link> {
    let hardware = read_u16(body, 2)?;
    let flags = read_u32(body, 8)?.cast_signed();
    let mut link = Link {
        index: LinkIndex(read_u32(body, 4)?),
        name: String::new(),
        addr: None,
        broadcast: None,
        state: LinkState::Down,
        kind: link_kind(hardware, flags),
    };
    let mut operational = IF_OPER_UNKNOWN;
    for (kind, value) in Attributes(body.get(IFINFO..)?) {
        match kind {
            IFLA_IFNAME => String::from_utf8_lossy(value).trim_end_matches('\0').clone_into(&mut link.name),
            IFLA_ADDRESS => link.addr = LinkAddr::from_bytes(value).ok(),
            IFLA_BROADCAST => link.broadcast = LinkAddr::from_bytes(value).ok(),
            IFLA_OPERSTATE => operational = value.first().copied().unwrap_or(IF_OPER_UNKNOWN),
            _ => {}
        }
    }
    if flags & libc::IFF_UP != 0 && matches!(operational, IF_OPER_UP | IF_OPER_UNKNOWN) {
        link.state = LinkState::Up;
    }
    Some(link)
}

fn link_kind(hardware: u16, flags: i32) -> LinkKind {
    if flags & libc::IFF_LOOPBACK != 0 {
        LinkKind::Loopback
    } else if hardware == libc::ARPHRD_INFINIBAND {
        LinkKind::Infiniband
    } else if hardware == libc::ARPHRD_ETHER && flags & (libc::IFF_NOARP | libc::IFF_POINTOPOINT) == 0 {
        LinkKind::Broadcast
    } else {
        LinkKind::Other
    }
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index at 4.
fn address(body: &[u8], now: Instant) -> Option<Address> {
    let &[family, prefix, low_flags, scope, ..] = body else { return None };
    let (mut local, mut shown, mut flags, mut valid, mut tag) =
        (None, None, u32::from(low_flags), FOREVER, 0);
    for (kind, value) in Attributes(body.get(IFADDR..)?) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => shown = ip(value),
            IFA_FLAGS => flags = read_u32(value, 0)?,
            IFA_CACHEINFO => valid = read_u32(value, 4)?,
            IFA_PROTO => tag = *value.first()?,
            _ => {}
        }
    }
    Some(Address {
        link: LinkIndex(read_u32(body, 4)?),
        // On a point-to-point link IFA_ADDRESS is the peer's; IPv6 has no IFA_LOCAL without a peer.
        net: IpNet::new(local.or(shown)?, prefix).ok()?,
        scope: match i32::from(scope) {
            253 => Scope::Link,
            254 | 255 => Scope::Host,
            _ => Scope::Global,
        },
        tag,
        valid: match valid {
            FOREVER => Lifetime::Forever,
            secs => Lifetime::Until(now + Duration::from_secs(secs.into())),
        },
        dad: match flags {
            _ if i32::from(family) == libc::AF_INET => Dad::Ready,
            flags if flags & IFA_F_DADFAILED != 0 => Dad::Failed,
            flags if flags & IFA_F_TENTATIVE != 0 => Dad::Tentative,
            _ => Dad::Ready,
        },
        // The same bit means "temporary" for IPv6 (RFC 8981).
        secondary: i32::from(family) == libc::AF_INET && flags & IFA_F_SECONDARY != 0,
    })
}

/// `struct rtmsg`: family, destination length, …, table at 4, protocol, scope, type at 7. Default routes only.
fn route(body: &[u8]) -> Option<DefaultRoute> {
    let &[family, 0, 0, _, table, _, _, libc::RTN_UNICAST, ..] = body else { return None };
    let family = match i32::from(family) {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return None,
    };
    let (mut link, mut metric, mut table) = (None, 0, u32::from(table));
    for (kind, value) in Attributes(body.get(RTMSG..)?) {
        match kind {
            RTA_OIF => link = read_u32(value, 0),
            // struct rtnexthop: length, flags, hops, index at 4. The first next hop is the one that counts.
            RTA_MULTIPATH => link = link.or(read_u32(value, 4)),
            RTA_PRIORITY => metric = read_u32(value, 0)?,
            RTA_TABLE => table = read_u32(value, 0)?,
            _ => {}
        }
    }
    let main = table == u32::from(libc::RT_TABLE_MAIN);
    main.then_some(DefaultRoute { family, link: LinkIndex(link?), metric })
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(*value.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*value.first_chunk::<16>()?).into()),
        _ => None,
    }
}
