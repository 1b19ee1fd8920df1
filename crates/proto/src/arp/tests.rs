//! What the ARP decoder accepts and refuses, beside the vectors of `tests/wire.rs`.

use vip_model::Random;

use super::*;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const MAC: LinkAddr = LinkAddr::Ethernet([2, 0, 0, 0, 0, 1]);

fn probe() -> Vec<u8> {
    encode(&Packet::probe(&MAC, VIP))
}

#[test]
fn padding_of_short_frames_is_no_part_of_the_packet() {
    let mut bytes = probe();
    bytes.resize(46, 0);
    assert_eq!(decode(&bytes), Ok(Packet::probe(&MAC, VIP)));
}

#[test]
fn a_packet_of_another_kind_is_ignored_with_its_reason() {
    let with = |at: usize, byte: u8| {
        let mut bytes = probe();
        bytes[at] = byte;
        bytes.resize(64, 0);
        decode(&bytes)
    };
    assert_eq!(with(1, 6), Err(Ignored::Hardware { kind: 6, length: 6 }));
    assert_eq!(with(1, 32), Err(Ignored::Hardware { kind: 32, length: 6 }), "20 bytes belong to type 32");
    assert_eq!(with(4, 8), Err(Ignored::Hardware { kind: 1, length: 8 }));
    assert_eq!(with(2, 0x86), Err(Ignored::Protocol { kind: 0x8600, length: 4 }));
    assert_eq!(with(5, 16), Err(Ignored::Protocol { kind: 0x0800, length: 16 }));
    assert_eq!(with(7, 3), Err(Ignored::Operation(3)));
    assert_eq!(decode(&[]), Err(Ignored::Truncated));
}

#[test]
fn an_announcement_cannot_mix_ethernet_and_infiniband() {
    let ib = LinkAddr::Infiniband([7; 20]);
    assert_eq!(Packet::announcement_request(&MAC, &ib, VIP), None);
    assert_eq!(Packet::announcement_request(&ib, &LinkAddr::BROADCAST, VIP), None);
}

#[test]
fn any_packet_comes_back_from_its_bytes() {
    let mut random = Random::new(1);
    for _ in 0..2_000 {
        let bytes: Vec<u8> = (0..40).map(|_| random.below(256) as u8).collect();
        let (left, right) = bytes.split_at(20);
        let hardware = if random.chance(0.5) {
            Hardware::Ethernet {
                sender: left[..6].try_into().unwrap(),
                target: right[..6].try_into().unwrap(),
            }
        } else {
            Hardware::Infiniband { sender: left.try_into().unwrap(), target: right.try_into().unwrap() }
        };
        let operation = if random.chance(0.5) { Operation::Request } else { Operation::Reply };
        let [sender_ip, target_ip] = [random.next_u64() as u32, random.next_u64() as u32].map(Ipv4Addr::from);
        let packet = Packet { operation, hardware, sender_ip, target_ip };
        assert_eq!(decode(&encode(&packet)), Ok(packet));
    }
}
