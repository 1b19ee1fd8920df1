//! Multicast groups of neighbour discovery and their link-layer addresses.

use std::net::Ipv6Addr;

use vip_model::LinkAddr;

/// All nodes of the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group in which every holder of `addr` listens: the last three bytes under `ff02::1:ff00:0/104` (RFC 4291 §2.7.1).
pub const fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let last = addr.octets();
    Ipv6Addr::from_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, last[13], last[14], last[15]])
}

/// The link-layer address of a multicast group on the link with this broadcast address.
///
/// Ethernet: 33:33 and the last four bytes (RFC 2464 §7). `InfiniBand`: the multicast queue pair, then a GID with the
/// scope and partition key of the broadcast GID, the signature of IPv6, and the last ten bytes (RFC 4391 §4, §9.1.1).
pub const fn link_group(group: Ipv6Addr, broadcast: &LinkAddr) -> LinkAddr {
    let g = group.octets();
    match broadcast {
        LinkAddr::Ethernet(_) => LinkAddr::Ethernet([0x33, 0x33, g[12], g[13], g[14], g[15]]),
        LinkAddr::Infiniband(b) => LinkAddr::Infiniband([
            0,
            0xff,
            0xff,
            0xff, // reserved, queue pair of multicast
            0xff,
            0x10 | (b[5] & 0x0f), // transient group, scope of the link's broadcast group
            0x60,
            0x1b, // signature of IPv6
            b[8],
            b[9], // partition key
            g[6],
            g[7],
            g[8],
            g[9],
            g[10],
            g[11],
            g[12],
            g[13],
            g[14],
            g[15],
        ]),
    }
}
