//! The frames of the announcer: which packet goes where.

use std::net::IpAddr;

use vip_model::kernel::{ETHERTYPE_ARP, ETHERTYPE_IPV6, FrameOut};
use vip_model::plan::Claim;
use vip_model::{Instant, LinkAddr, ScopedAddr};

use super::ProbeTarget;
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
pub(super) fn probe(at: ScopedAddr, target: &ProbeTarget, not_after: Instant) -> Written {
    let ProbeTarget { addr, broadcast } = target;
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
