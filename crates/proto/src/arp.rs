//! ARP for IPv4 over Ethernet (RFC 826) and over `InfiniBand` (RFC 4391 §9.2): bytes to a `Packet` and back. Fed by the
//! announcer with frames that arrived; gives back what they say, or the reason why they say nothing to us.

mod wire;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use vip_model::LinkAddr;

pub use wire::{decode, encode};

/// What an ARP packet is (RFC 826; the numbers are those of the wire).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// 1, "who has".
    Request,
    /// 2, "is at".
    Reply,
}

/// The two link-layer addresses of a packet. One type per kind of link, because a packet never mixes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// Hardware type 1, 6-byte addresses (RFC 826).
    Ethernet {
        /// Who sends.
        sender: [u8; 6],
        /// Who is asked, or told.
        target: [u8; 6],
    },
    /// Hardware type 32, 20-byte addresses (RFC 4391 §9.1.1, §9.2).
    Infiniband {
        /// Who sends.
        sender: [u8; 20],
        /// Who is asked, or told.
        target: [u8; 20],
    },
}

impl Hardware {
    /// The pair of two addresses; none when one is of Ethernet and the other of `InfiniBand`.
    pub fn pair(sender: &LinkAddr, target: &LinkAddr) -> Option<Self> {
        match (sender, target) {
            (&LinkAddr::Ethernet(sender), &LinkAddr::Ethernet(target)) => {
                Some(Self::Ethernet { sender, target })
            }
            (&LinkAddr::Infiniband(sender), &LinkAddr::Infiniband(target)) => {
                Some(Self::Infiniband { sender, target })
            }
            _ => None,
        }
    }

    /// `addr` as sender, and a target of zeroes: "not known" (RFC 5227 §2.1.1).
    fn towards_nobody(addr: &LinkAddr) -> Self {
        match *addr {
            LinkAddr::Ethernet(sender) => Self::Ethernet { sender, target: [0; 6] },
            LinkAddr::Infiniband(sender) => Self::Infiniband { sender, target: [0; 20] },
        }
    }

    /// `addr` as sender and target.
    fn towards_itself(addr: &LinkAddr) -> Self {
        match *addr {
            LinkAddr::Ethernet(sender) => Self::Ethernet { sender, target: sender },
            LinkAddr::Infiniband(sender) => Self::Infiniband { sender, target: sender },
        }
    }

    /// The sender's address.
    pub const fn sender(&self) -> LinkAddr {
        match self {
            Self::Ethernet { sender, .. } => LinkAddr::Ethernet(*sender),
            Self::Infiniband { sender, .. } => LinkAddr::Infiniband(*sender),
        }
    }

    /// The target's address.
    pub const fn target(&self) -> LinkAddr {
        match self {
            Self::Ethernet { target, .. } => LinkAddr::Ethernet(*target),
            Self::Infiniband { target, .. } => LinkAddr::Infiniband(*target),
        }
    }
}

/// An ARP packet for IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// Both link-layer addresses.
    pub hardware: Hardware,
    /// The sender's IPv4 address; 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// The IPv4 address that is asked for, or told to.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// The announcement in request form: sender and target address are `vip`, the target hardware address is the
    /// link's broadcast address as upstream sends it (§4.2; RFC 5227 §2.3 leaves it open). Every neighbour cache that
    /// has an entry takes it at once. None when the two addresses are of different kinds of link.
    pub fn announcement_request(addr: &LinkAddr, broadcast: &LinkAddr, vip: Ipv4Addr) -> Option<Self> {
        let hardware = Hardware::pair(addr, broadcast)?;
        Some(Self { operation: Operation::Request, hardware, sender_ip: vip, target_ip: vip })
    }

    /// The announcement in reply form: as the request, with our own address as target (upstream §4.2). For devices that
    /// learn from replies only.
    pub fn announcement_reply(addr: &LinkAddr, vip: Ipv4Addr) -> Self {
        let hardware = Hardware::towards_itself(addr);
        Self { operation: Operation::Reply, hardware, sender_ip: vip, target_ip: vip }
    }

    /// The probe "does anybody have `vip`?", which spoils no neighbour cache (RFC 5227 §2.1.1).
    pub fn probe(addr: &LinkAddr, vip: Ipv4Addr) -> Self {
        let hardware = Hardware::towards_nobody(addr);
        Self { operation: Operation::Request, hardware, sender_ip: Ipv4Addr::UNSPECIFIED, target_ip: vip }
    }

    /// The address that the sender says is its own, in a request as in a reply (RFC 5227 §2.4); none in a probe, which
    /// merely asks.
    pub fn claimed(&self) -> Option<Ipv4Addr> {
        (!self.sender_ip.is_unspecified()).then_some(self.sender_ip)
    }
}

/// Why bytes are no ARP packet that says something to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Ignored {
    /// Fewer bytes than its own length fields announce, or fewer than the 8 of the fixed part.
    #[error("cut short")]
    Truncated,
    /// Not hardware type 1 with 6-byte addresses, nor 32 with 20-byte addresses.
    #[error("hardware type {kind} with {length}-byte addresses, neither Ethernet nor IPoIB")]
    Hardware {
        /// The hardware type.
        kind: u16,
        /// Length of a hardware address in bytes.
        length: u8,
    },
    /// Not IPv4 with 4-byte addresses.
    #[error("protocol {kind:#06x} with {length}-byte addresses, not IPv4")]
    Protocol {
        /// The protocol, an ethertype.
        kind: u16,
        /// Length of a protocol address in bytes.
        length: u8,
    },
    /// Neither request nor reply: reverse ARP and others (RFC 826, IANA "ARP operation codes").
    #[error("operation {0}, neither request nor reply")]
    Operation(u16),
}
