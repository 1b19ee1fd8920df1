//! The frames of the announcer: which packet goes where, and what one that arrived claims.

use std::net::{IpAddr, Ipv6Addr};

use vip_model::kernel::{ETHERTYPE_ARP, ETHERTYPE_IPV6, FrameIn, FrameOut};
use vip_model::plan::Claim;
use vip_model::{Instant, LinkAddr, ScopedAddr};

use crate::{arp, ndp};

/// A frame, or that it could not be written: link and broadcast address are of different kinds of link.
pub(super) enum Written {
    /// The frame.
    Frame(FrameOut),
    /// None.
    Not,
}

/// The parts of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// IPv4: the request form. IPv6: the only one.
    First,
    /// IPv4: the reply form.
    Second,
}

/// One part of the announcement of `at`.
pub(super) fn announcement(at: ScopedAddr, claim: &Claim, part: Part) -> Written {
    let Claim { addr, broadcast, not_after, .. } = claim;
    match at.addr {
        IpAddr::V4(vip) => {
            let packet = match part {
                Part::First => arp::Packet::announcement_request(addr, broadcast, vip),
                Part::Second => Some(arp::Packet::announcement_reply(addr, vip)),
            };
            packet.map_or(Written::Not, |packet| arp_frame(at, &packet, broadcast, *not_after))
        }
        IpAddr::V6(_) if arp::Hardware::pair(addr, broadcast).is_none() => Written::Not,
        IpAddr::V6(vip) => {
            let message = ndp::Message::Advertisement(ndp::Advertisement::announcement(addr, vip));
            ndp_frame(at, &message, broadcast, *not_after)
        }
    }
}

/// The probe for `at`.
pub(super) fn probe(
    at: ScopedAddr,
    (addr, broadcast): (&LinkAddr, &LinkAddr),
    not_after: Instant,
) -> Written {
    match at.addr {
        _ if arp::Hardware::pair(addr, broadcast).is_none() => Written::Not,
        IpAddr::V4(vip) => arp_frame(at, &arp::Packet::probe(addr, vip), broadcast, not_after),
        IpAddr::V6(vip) => {
            let message = ndp::Message::Solicitation(ndp::Solicitation::probe(vip));
            ndp_frame(at, &message, broadcast, not_after)
        }
    }
}

fn arp_frame(at: ScopedAddr, packet: &arp::Packet, broadcast: &LinkAddr, not_after: Instant) -> Written {
    let (to, payload) = (broadcast.clone(), arp::encode(packet));
    Written::Frame(FrameOut { link: at.link, to, ethertype: ETHERTYPE_ARP, payload, not_after })
}

fn ndp_frame(at: ScopedAddr, message: &ndp::Message, broadcast: &LinkAddr, not_after: Instant) -> Written {
    let (to, payload) = (ndp::link_group(message.destination(), broadcast), ndp::encode(message));
    Written::Frame(FrameOut { link: at.link, to, ethertype: ETHERTYPE_IPV6, payload, not_after })
}

/// What a frame that arrived says about addresses.
pub(crate) enum Heard {
    /// It is neither ARP for IPv4 nor neighbour discovery.
    Nothing,
    /// It claims no address.
    NoClaim,
    /// Somebody says that an address is its own.
    Claim(IpAddr, LinkAddr),
}

/// What a frame claims. A neighbour advertisement may leave its link-layer address out; then the frame's source stands
/// for it.
pub(crate) fn claimed(frame: &FrameIn) -> Heard {
    let said = match frame.ethertype {
        ETHERTYPE_ARP => arp::decode(&frame.payload)
            .map(|packet| packet.claimed().map(|addr| (addr.into(), Some(packet.hardware.sender()))))
            .ok(),
        ETHERTYPE_IPV6 => ndp::decode(&frame.payload)
            .map(|message| message.claimed().map(|(addr, from)| (addr.into(), from.cloned())))
            .ok(),
        _ => None,
    };
    match said {
        None => Heard::Nothing,
        Some(None) => Heard::NoClaim,
        Some(Some((addr, from))) => match from.or_else(|| frame.from.clone()) {
            Some(from) => Heard::Claim(addr, from),
            None => Heard::NoClaim,
        },
    }
}

/// The question "do you have this address?" to one link-layer address, by who is at `source`, the own address on that
/// network, and `own`. It spoils no neighbour cache, and nobody answers for the one that is asked.
///
/// With IPv6 the answer to a question without a source goes to all nodes, and overrides: each such look at a VIP told
/// all its clients to go where it was just looked at, in the middle of a move to another node, too.
pub(crate) fn ask_one(
    at: ScopedAddr,
    (source, own): (Option<Ipv6Addr>, &LinkAddr),
    whom: &LinkAddr,
    not_after: Instant,
) -> FrameOut {
    let (ethertype, payload) = match at.addr {
        IpAddr::V4(vip) => (ETHERTYPE_ARP, arp::encode(&arp::Packet::probe(own, vip))),
        IpAddr::V6(vip) => {
            let asked = source.map_or(ndp::Solicitation::probe(vip), |source| {
                ndp::Solicitation::question(vip, source, own)
            });
            (ETHERTYPE_IPV6, ndp::encode(&ndp::Message::Solicitation(asked)))
        }
    };
    FrameOut { link: at.link, to: whom.clone(), ethertype, payload, not_after }
}
