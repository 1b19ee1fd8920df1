//! Neighbour discovery for IPv6 (RFC 4861): advertisements and solicitations as whole IPv6 packets, on Ethernet
//! (RFC 2464) and on `InfiniBand` (RFC 4391). Fed by the announcer with frames that arrived; gives back what they say,
//! or the reason why they say nothing to us. Whole packets, because the kernel adds no more than the link-layer header
//! to what we send.

mod group;
mod wire;

#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;

use vip_model::LinkAddr;

pub use group::{ALL_NODES, link_group, solicited_node};
pub use wire::{decode, encode};

/// A message of neighbour discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// "`target` is at this link-layer address" (RFC 4861 §4.4).
    Advertisement(Advertisement),
    /// "Who has `target`?" (RFC 4861 §4.3).
    Solicitation(Solicitation),
}

/// A neighbour advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// The address that it speaks of.
    pub target: Ipv6Addr,
    /// R, S and O.
    pub flags: Flags,
    /// The target link-layer address option.
    pub addr: Option<LinkAddr>,
}

/// The flags of an advertisement (RFC 4861 §4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// R: the sender is a router.
    pub router: bool,
    /// S: it answers a solicitation.
    pub solicited: bool,
    /// O: it replaces the link-layer address in the neighbour's cache.
    pub overriding: bool,
}

/// A neighbour solicitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// IPv6 source; `::` while the sender tests whether the address is free.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// The address that is asked for.
    pub target: Ipv6Addr,
    /// The source link-layer address option.
    pub addr: Option<LinkAddr>,
}

impl Advertisement {
    /// The unsolicited announcement of `vip` at `addr`: to all nodes, override set (RFC 4861 §7.2.6). Not a router's:
    /// the R flag would make hosts take us for one, and clearing it on a router's address is none of our VIPs' case.
    ///
    /// Its IPv6 source is `vip` itself. RFC 4861 §4.4 asks for an address of the sending interface, which the VIP is
    /// when it is announced, and Linux neighbours take it (tried with 6.18). Upstream uses
    /// the link-local address (§4.2) and so stays silent on links without one.
    pub fn announcement(addr: &LinkAddr, vip: Ipv6Addr) -> Self {
        let flags = Flags { overriding: true, ..Flags::default() };
        Self { source: vip, destination: ALL_NODES, target: vip, flags, addr: Some(addr.clone()) }
    }
}

impl Solicitation {
    /// The probe "does anybody have `vip`?" of duplicate address detection (RFC 4862 §5.4.2): source `::`, to the
    /// solicited-node group, without a link-layer address. It spoils no neighbour cache; who has the address answers to
    /// all nodes.
    pub const fn probe(vip: Ipv6Addr) -> Self {
        Self { source: Ipv6Addr::UNSPECIFIED, destination: solicited_node(vip), target: vip, addr: None }
    }

    /// The question "do you have `vip`?" by who is at `source` and `addr`: the answer goes there, and to nobody else.
    pub fn question(vip: Ipv6Addr, source: Ipv6Addr, addr: &LinkAddr) -> Self {
        Self { source, destination: solicited_node(vip), target: vip, addr: Some(addr.clone()) }
    }
}

impl Message {
    /// Its IPv6 destination.
    pub const fn destination(&self) -> Ipv6Addr {
        match self {
            Self::Advertisement(it) => it.destination,
            Self::Solicitation(it) => it.destination,
        }
    }

    /// The address that the sender says is its own, with the link-layer address that it names: the target of an
    /// advertisement, or the source of a solicitation. None for a probe, which merely asks.
    pub fn claimed(&self) -> Option<(Ipv6Addr, Option<&LinkAddr>)> {
        match self {
            Self::Advertisement(it) => Some((it.target, it.addr.as_ref())),
            Self::Solicitation(it) if it.source.is_unspecified() => None,
            Self::Solicitation(it) => Some((it.source, it.addr.as_ref())),
        }
    }
}

/// Why bytes are no neighbour discovery message that says something to us. The rules are those of RFC 4861 §7.1.1 and
/// §7.1.2; a message that breaks one must be dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Ignored {
    /// Fewer bytes than the headers announce.
    #[error("cut short")]
    Truncated,
    /// The IP version is not 6.
    #[error("not IPv6")]
    NotIpv6,
    /// Something else than ICMPv6 right after the IPv6 header. Extension headers before neighbour discovery are not
    /// read: nobody sends them, and fragments are forbidden (RFC 6980).
    #[error("next header {0}, not ICMPv6")]
    NotIcmpv6(u8),
    /// An ICMPv6 message that is no neighbour solicitation or advertisement.
    #[error("ICMPv6 type {kind} code {code}, no neighbour solicitation or advertisement")]
    OtherMessage {
        /// ICMPv6 type.
        kind: u8,
        /// ICMPv6 code.
        code: u8,
    },
    /// It was forwarded by a router, so it is not from this link.
    #[error("hop limit {0}, not 255")]
    HopLimit(u8),
    /// The ICMPv6 checksum is wrong.
    #[error("wrong checksum")]
    Checksum,
    /// An option of length 0, or one that reaches past the end.
    #[error("malformed option")]
    Option,
    /// The target is a multicast address.
    #[error("the target is a multicast address")]
    MulticastTarget,
    /// An advertisement to a multicast address that claims to be solicited.
    #[error("solicited, but to a multicast address")]
    SolicitedMulticast,
    /// A probe (source `::`) that is not for a solicited-node group or names a link-layer address.
    #[error("source is unspecified, but it is no probe")]
    ImproperProbe,
}
