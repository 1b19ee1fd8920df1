//! The bytes of neighbour discovery. Headers, checksums and the walk over options are `etherparse`'s; the link-layer
//! address options are filled by hand, because the library cannot write them.

use std::net::Ipv6Addr;

use etherparse::icmpv6::{
    NdpOptionType, NdpOptionsIterator, NeighborAdvertisementHeader, TYPE_NEIGHBOR_ADVERTISEMENT,
    TYPE_NEIGHBOR_SOLICITATION,
};
use etherparse::{Icmpv6Slice, Icmpv6Type, IpNumber, Ipv6Header};
use vip_model::LinkAddr;

use super::{Advertisement, Flags, Ignored, Message, Solicitation};

/// Hop limit of every neighbour discovery packet (RFC 4861 §4): proof that no router forwarded it.
const HOP_LIMIT: u8 = 255;

/// Bytes of an IPv6 address.
const ADDRESS: usize = 16;

/// Reads the bytes that followed the link-layer header. Bytes after the IPv6 packet are allowed: Ethernet pads.
pub fn decode(payload: &[u8]) -> Result<Message, Ignored> {
    match payload.first().map(|byte| byte >> 4) {
        Some(6) => {}
        Some(_) => return Err(Ignored::NotIpv6),
        None => return Err(Ignored::Truncated),
    }
    let (ip, rest) = Ipv6Header::from_slice(payload).map_err(|_| Ignored::Truncated)?;
    if ip.next_header != IpNumber::IPV6_ICMP {
        return Err(Ignored::NotIcmpv6(ip.next_header.0));
    }
    let body = rest.get(..usize::from(ip.payload_length)).ok_or(Ignored::Truncated)?;
    let icmp = Icmpv6Slice::from_slice(body).map_err(|_| Ignored::Truncated)?;
    let (kind, code) = (icmp.type_u8(), icmp.code_u8());
    if code != 0 || !matches!(kind, TYPE_NEIGHBOR_ADVERTISEMENT | TYPE_NEIGHBOR_SOLICITATION) {
        return Err(Ignored::OtherMessage { kind, code });
    }
    if ip.hop_limit != HOP_LIMIT {
        return Err(Ignored::HopLimit(ip.hop_limit));
    }
    if !icmp.is_checksum_valid(ip.source, ip.destination) {
        return Err(Ignored::Checksum);
    }
    message(&ip, &icmp)
}

fn message(ip: &Ipv6Header, icmp: &Icmpv6Slice<'_>) -> Result<Message, Ignored> {
    let (target, options) = icmp.payload().split_first_chunk::<ADDRESS>().ok_or(Ignored::Truncated)?;
    let (source, destination) = (Ipv6Addr::from(ip.source), Ipv6Addr::from(ip.destination));
    let target = Ipv6Addr::from(*target);
    if target.is_multicast() {
        return Err(Ignored::MulticastTarget);
    }
    if icmp.type_u8() == TYPE_NEIGHBOR_SOLICITATION {
        let addr = link_addr(options, NdpOptionType::SOURCE_LINK_LAYER_ADDRESS)?;
        // RFC 4861 §7.1.1: the last two rules.
        let to_group = destination.octets()[..13] == super::solicited_node(target).octets()[..13];
        if source.is_unspecified() && (addr.is_some() || !to_group) {
            return Err(Ignored::ImproperProbe);
        }
        return Ok(Message::Solicitation(Solicitation { source, destination, target, addr }));
    }
    let raw = NeighborAdvertisementHeader::from_bytes(icmp.bytes5to8());
    let flags = Flags { router: raw.router, solicited: raw.solicited, overriding: raw.r#override };
    // RFC 4861 §7.1.2.
    if flags.solicited && destination.is_multicast() {
        return Err(Ignored::SolicitedMulticast);
    }
    let addr = link_addr(options, NdpOptionType::TARGET_LINK_LAYER_ADDRESS)?;
    Ok(Message::Advertisement(Advertisement { source, destination, target, flags, addr }))
}

/// The first link-layer address option of this type. All options are walked, because one malformed option spoils the
/// message (RFC 4861 §7.1.2). An option of a length that no link of ours has counts as absent.
fn link_addr(options: &[u8], wanted: NdpOptionType) -> Result<Option<LinkAddr>, Ignored> {
    let mut found = None;
    for option in NdpOptionsIterator::from_slice(options) {
        let option = option.map_err(|_| Ignored::Option)?;
        if option.option_type() == wanted && found.is_none() {
            found = from_option(option.as_bytes());
        }
    }
    Ok(found)
}

fn from_option(option: &[u8]) -> Option<LinkAddr> {
    match option.len() {
        8 => LinkAddr::from_bytes(&option[2..]).ok(),
        // RFC 4391 §9.3: two reserved bytes before the 20 of the address.
        24 => LinkAddr::from_bytes(&option[4..]).ok(),
        _ => None,
    }
}

/// Appends a link-layer address option: length in units of 8 bytes (RFC 4861 §4.6.1), `InfiniBand` with two reserved
/// bytes before the address (RFC 4391 §9.3).
fn push_option(bytes: &mut Vec<u8>, kind: NdpOptionType, addr: &LinkAddr) {
    match addr {
        LinkAddr::Ethernet(_) => bytes.extend([kind.0, 1]),
        LinkAddr::Infiniband(_) => bytes.extend([kind.0, 3, 0, 0]),
    }
    bytes.extend(addr.as_bytes());
}

/// The whole IPv6 packet, with hop limit 255 and checksum.
pub fn encode(message: &Message) -> Vec<u8> {
    let (kind, source, destination, target) = match message {
        Message::Advertisement(it) => {
            let Flags { router, solicited, overriding } = it.flags;
            let flags = NeighborAdvertisementHeader { router, solicited, r#override: overriding };
            (Icmpv6Type::NeighborAdvertisement(flags), it.source, it.destination, it.target)
        }
        Message::Solicitation(it) => (Icmpv6Type::NeighborSolicitation, it.source, it.destination, it.target),
    };
    let mut body = target.octets().to_vec();
    match message {
        Message::Advertisement(Advertisement { addr: Some(addr), .. }) => {
            push_option(&mut body, NdpOptionType::TARGET_LINK_LAYER_ADDRESS, addr);
        }
        Message::Solicitation(Solicitation { addr: Some(addr), .. }) => {
            push_option(&mut body, NdpOptionType::SOURCE_LINK_LAYER_ADDRESS, addr);
        }
        _ => {}
    }
    let icmp = kind
        .to_header(source.octets(), destination.octets(), &body)
        .expect("at most 48 bytes, far below the limit of an ICMPv6 packet");
    let ip = Ipv6Header {
        payload_length: (icmp.header_len() + body.len()) as u16,
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: HOP_LIMIT,
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv6Header::default()
    };
    [&ip.to_bytes()[..], &icmp.to_bytes()[..], &body[..]].concat()
}
