//! What the decoder of neighbour discovery accepts and refuses, beside the vectors of `tests/wire.rs`; and the
//! link-layer addresses of groups.

use super::*;

const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x1234, 0x5678);
const MAC: LinkAddr = LinkAddr::Ethernet([2, 0, 0, 0, 0, 1]);

/// Offset of the ICMPv6 message in the packet.
const ICMP: usize = 40;

fn announcement() -> Advertisement {
    Advertisement::announcement(&MAC, VIP)
}

/// The bytes with the ICMPv6 checksum set right, computed here again and in the plainest way (RFC 1071).
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[ICMP + 2..ICMP + 4].fill(0);
    let mut pseudo = bytes[8..].to_vec();
    pseudo.extend(((bytes.len() - ICMP) as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, 58]);
    let mut sum: u32 = pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[ICMP + 2..ICMP + 4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes
}

fn altered(message: &Message, change: impl FnOnce(&mut Vec<u8>)) -> Result<Message, Ignored> {
    let mut bytes = encode(message);
    change(&mut bytes);
    decode(&with_checksum(bytes))
}

#[test]
fn the_packet_has_hop_limit_255_and_a_right_checksum() {
    let bytes = encode(&Message::Advertisement(announcement()));
    assert_eq!(bytes[7], 255);
    assert_eq!(with_checksum(bytes.clone()), bytes);
}

#[test]
fn a_message_that_breaks_a_rule_of_rfc_4861_is_ignored_with_its_reason() {
    let na = Message::Advertisement(announcement());
    assert_eq!(altered(&na, |b| b[0] = 0x45), Err(Ignored::NotIpv6));
    assert_eq!(altered(&na, |b| b[6] = 0), Err(Ignored::NotIcmpv6(0)));
    assert_eq!(altered(&na, |b| b[7] = 64), Err(Ignored::HopLimit(64)));
    assert_eq!(altered(&na, |b| b[ICMP] = 134), Err(Ignored::OtherMessage { kind: 134, code: 0 }));
    assert_eq!(altered(&na, |b| b[ICMP + 1] = 1), Err(Ignored::OtherMessage { kind: 136, code: 1 }));
    assert_eq!(altered(&na, |b| b[ICMP + 4] = 0x60), Err(Ignored::SolicitedMulticast));
    assert_eq!(altered(&na, |b| b[ICMP + 8] = 0xff), Err(Ignored::MulticastTarget));
    assert_eq!(altered(&na, |b| b[ICMP + 25] = 0), Err(Ignored::Option), "an option of length 0");
    assert_eq!(altered(&na, |b| b[ICMP + 25] = 2), Err(Ignored::Option), "an option past the end");
    let mut flipped = encode(&na);
    flipped[ICMP + 31] ^= 1;
    assert_eq!(decode(&flipped), Err(Ignored::Checksum));
}

#[test]
fn a_probe_names_no_link_layer_address_and_goes_to_the_solicited_node_group() {
    let probe = Solicitation::probe(VIP);
    let named = Solicitation { addr: Some(MAC), ..probe.clone() };
    assert_eq!(decode(&encode(&Message::Solicitation(named))), Err(Ignored::ImproperProbe));
    let unicast = Solicitation { destination: VIP, ..probe };
    assert_eq!(decode(&encode(&Message::Solicitation(unicast))), Err(Ignored::ImproperProbe));
}

#[test]
fn padding_of_short_frames_is_no_part_of_the_packet() {
    let message = Message::Solicitation(Solicitation::probe(VIP));
    let mut bytes = encode(&message);
    bytes.extend([0; 9]);
    assert_eq!(decode(&bytes), Ok(message));
}

#[test]
fn unknown_options_are_walked_over_and_an_odd_address_length_counts_as_absent() {
    let na = Message::Advertisement(announcement());
    // A nonce option (RFC 3971 §5.3.2) before the address.
    let with_nonce = altered(&na, |b| {
        b[5] += 8;
        b.splice(ICMP + 24..ICMP + 24, [14, 1, 1, 2, 3, 4, 5, 6]);
    });
    assert_eq!(with_nonce, Ok(na.clone()));
    // 14 bytes of address: no link of ours has such.
    let odd = altered(&na, |b| {
        b[5] += 8;
        b[ICMP + 25] = 2;
        b.extend([0; 8]);
    });
    assert_eq!(odd, Ok(Message::Advertisement(Advertisement { addr: None, ..announcement() })));
}

#[test]
fn a_solicitation_claims_its_source_and_a_probe_claims_nothing() {
    let mut question =
        Solicitation { source: VIP, addr: Some(MAC), ..Solicitation::probe(announcement().target) };
    question.target = "2001:db8::99".parse().unwrap();
    assert_eq!(Message::Solicitation(question).claimed(), Some((VIP, Some(&MAC))));
    assert_eq!(Message::Solicitation(Solicitation::probe(VIP)).claimed(), None);
}

#[test]
fn groups_map_to_link_layer_addresses() {
    // RFC 4291 §2.7.1: the example.
    let addr = "4037::1:800:200e:8c6c".parse().unwrap();
    assert_eq!(solicited_node(addr), "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
    // RFC 2464 §7.
    assert_eq!(
        link_group(solicited_node(VIP), &LinkAddr::BROADCAST).to_string(),
        "33:33:ff:34:56:78",
        "on Ethernet"
    );
    // RFC 4391 §4: scope and partition key 0x8001 of the broadcast group, signature 601b.
    let broadcast = "00:ff:ff:ff:ff:15:40:1b:80:01:00:00:00:00:00:00:ff:ff:ff:ff".parse().unwrap();
    assert_eq!(
        link_group(ALL_NODES, &broadcast).to_string(),
        "00:ff:ff:ff:ff:15:60:1b:80:01:00:00:00:00:00:00:00:00:00:01",
        "on InfiniBand"
    );
}
