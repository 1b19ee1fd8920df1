//! Frames against bytes that another implementation printed (`vectors/print.py`), both ways.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use vip_model::LinkAddr;
use vip_proto::arp::{self, Packet};
use vip_proto::ndp::{self, Advertisement, Flags, Message, Solicitation};

const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x1234, 0x5678);
const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20);
const MAC: LinkAddr = LinkAddr::Ethernet([2, 0, 0, 0, 0, 1]);
const OTHER: LinkAddr = LinkAddr::Ethernet([2, 0, 0, 0, 0, 2]);
const IB: LinkAddr =
    LinkAddr::Infiniband([0, 0, 0, 0x48, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd]);
const IB_ALL: LinkAddr = LinkAddr::Infiniband([
    0, 255, 255, 255, 255, 0x12, 0x40, 0x1b, 255, 255, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255,
]);

fn vectors() -> BTreeMap<&'static str, Vec<u8>> {
    read(include_str!("vectors/frames.hex"))
}

fn read(vectors: &'static str) -> BTreeMap<&'static str, Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    vectors
        .lines()
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("a name and hex");
            (name, hex.trim().as_bytes().chunks(2).map(byte).collect())
        })
        .collect()
}

fn holds_both_ways(name: &str, packet: Option<Packet>) {
    let (packet, bytes) = (packet.expect("both of one kind"), &vectors()[name]);
    assert_eq!(&arp::encode(&packet), bytes, "{name}, encoded");
    assert_eq!(arp::decode(bytes), Ok(packet), "{name}, decoded");
}

fn message_holds_both_ways(name: &str, message: &Message) {
    let bytes = &vectors()[name];
    assert_eq!(&ndp::encode(message), bytes, "{name}, encoded");
    assert_eq!(ndp::decode(bytes).as_ref(), Ok(message), "{name}, decoded");
}

/// F-L2-1, F-L2-3
#[test]
fn gratuitous_arp_has_the_bytes_of_another_implementation_in_both_forms() {
    holds_both_ways(
        "arp-announcement-request",
        Packet::announcement_request(&MAC, &LinkAddr::BROADCAST, VIP4),
    );
    holds_both_ways("arp-announcement-reply", Some(Packet::announcement_reply(&MAC, VIP4)));
    holds_both_ways("arp-probe", Some(Packet::probe(&MAC, VIP4)));
}

/// F-L2-5
#[test]
fn arp_over_infiniband_has_twenty_byte_addresses() {
    holds_both_ways("ib-arp-announcement-request", Packet::announcement_request(&IB, &IB_ALL, VIP4));
    holds_both_ways("ib-arp-announcement-reply", Some(Packet::announcement_reply(&IB, VIP4)));
    holds_both_ways("ib-arp-probe", Some(Packet::probe(&IB, VIP4)));
}

#[test]
fn an_answer_claims_the_address_and_a_question_claims_only_its_own() {
    let answer = arp::decode(&vectors()["arp-answer"]).unwrap();
    assert_eq!((answer.claimed(), answer.hardware.sender()), (Some(VIP4), OTHER));
    let question = arp::decode(&vectors()["arp-question"]).unwrap();
    assert_eq!(question.claimed(), Some(Ipv4Addr::new(192, 0, 2, 20)));
    assert_eq!(arp::decode(&vectors()["arp-probe"]).unwrap().claimed(), None);
}

/// F-L2-4
#[test]
fn the_unsolicited_advertisement_has_the_bytes_of_another_implementation() {
    message_holds_both_ways(
        "ndp-announcement",
        &Message::Advertisement(Advertisement::announcement(&MAC, VIP6)),
    );
    message_holds_both_ways("ndp-probe", &Message::Solicitation(Solicitation::probe(VIP6)));
}

/// F-L2-5
#[test]
fn the_advertisement_over_infiniband_carries_a_twenty_byte_address() {
    message_holds_both_ways(
        "ib-ndp-announcement",
        &Message::Advertisement(Advertisement::announcement(&IB, VIP6)),
    );
}

#[test]
fn advertisements_and_solicitations_of_others_are_read_with_their_flags() {
    let advertisement = |destination, flags, addr| {
        Message::Advertisement(Advertisement { source: VIP6, destination, target: VIP6, flags, addr })
    };
    let overriding = Flags { overriding: true, ..Flags::default() };
    let by_router = Flags { router: true, ..overriding };
    let solicited = Flags { solicited: true, ..Flags::default() };
    message_holds_both_ways("ndp-answer", &advertisement(ndp::ALL_NODES, by_router, Some(OTHER)));
    message_holds_both_ways("ndp-solicited", &advertisement(PEER6, solicited, Some(OTHER)));
    message_holds_both_ways("ndp-bare", &advertisement(ndp::ALL_NODES, overriding, None));
    let destination = ndp::solicited_node(VIP6);
    let question = Solicitation { source: PEER6, destination, target: VIP6, addr: Some(OTHER) };
    message_holds_both_ways("ndp-question", &Message::Solicitation(question));
}

/// What a Linux 6.18 kernel that has the address answered to `arp-probe` and `ndp-probe`, captured on a veth pair
/// (`AF_PACKET`, so without link-layer headers); it took 0.3 ms and 0.1 ms.
#[test]
fn a_kernels_answers_to_our_probes_claim_the_address() {
    let kernel = read(include_str!("vectors/kernel.hex"));
    let mac = LinkAddr::Ethernet([0x76, 0xd3, 0xe6, 0xc7, 0x0d, 0xcf]);
    let answer = arp::decode(&kernel["arp-answer-to-probe"]).expect("a reply");
    assert_eq!((answer.claimed(), answer.hardware.sender()), (Some(VIP4), mac.clone()));
    let answer = ndp::decode(&kernel["ndp-answer-to-probe"]).expect("an advertisement");
    assert_eq!(answer.claimed(), Some((VIP6, Some(&mac))));
}

#[test]
fn every_prefix_of_every_frame_is_refused_without_a_panic() {
    for (name, bytes) in vectors() {
        for len in 0..bytes.len() {
            let cut = &bytes[..len];
            if name.contains("ndp") {
                assert_eq!(ndp::decode(cut), Err(ndp::Ignored::Truncated), "{name} cut to {len}");
            } else {
                assert_eq!(arp::decode(cut), Err(arp::Ignored::Truncated), "{name} cut to {len}");
            }
        }
    }
}
