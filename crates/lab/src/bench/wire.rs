//! ARP and NDP frames of the instruments, written by hand so that the agent's own codec is never its own judge.
//! The detector builds questions with it and reads every frame that the watcher's link sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::net::{self, Mac};

/// Ethernet type of ARP.
pub const ARP: u16 = 0x0806;
/// Ethernet type of IPv6.
pub const IPV6: u16 = 0x86dd;

/// What kind of announcement a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// An ARP request for one's own address (RFC 5227 §3 "ARP Announcement").
    Request,
    /// An ARP reply that nobody asked for.
    Reply,
    /// An unsolicited neighbour advertisement (RFC 4861 §7.2.6).
    Advertisement,
}

/// What a frame says about a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// "The VIP is at this MAC", in answer to the question with this slot.
    Answer {
        /// Who says so.
        mac: Mac,
        /// The question's slot.
        slot: u8,
    },
    /// "The VIP is at this MAC", to everybody.
    Announcement {
        /// Who says so.
        mac: Mac,
        /// In which form.
        form: Form,
    },
}

/// The question "who has `vip`?" to everybody, asked from the address of this slot.
pub fn question(vip: IpAddr, asker: Mac, slot: u8) -> Vec<u8> {
    let number = net::QUESTIONS + slot % net::QUESTION_SLOTS;
    match vip {
        IpAddr::V4(vip) => arp(1, (asker, net::v4(number)), (Mac([0; 6]), vip), Mac::BROADCAST),
        IpAddr::V6(vip) => solicitation(vip, asker, net::v6(number)),
    }
}

/// An announcement of `vip` at `mac` to everybody: an ARP request for IPv4, an unsolicited NA with override for IPv6.
pub fn announcement(vip: IpAddr, mac: Mac, source: Ipv6Addr) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => arp(1, (mac, vip), (Mac::BROADCAST, vip), Mac::BROADCAST),
        IpAddr::V6(vip) => {
            let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let mut body = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
            body.extend(vip.octets());
            body.extend([2, 1]);
            body.extend(mac.0);
            icmp6(mac, (source, all_nodes), body)
        }
    }
}

/// What `frame` says about `vip`, if anything.
pub fn read(frame: &[u8], vip: IpAddr) -> Option<Said> {
    let kind = u16::from_be_bytes(*frame.get(12..14)?.first_chunk()?);
    match (vip, kind) {
        (IpAddr::V4(vip), ARP) => read_arp(frame.get(14..42)?, vip),
        (IpAddr::V6(vip), IPV6) => read_advertisement(frame, vip),
        _ => None,
    }
}

/// The address that the sender of an ARP packet says is its own (RFC 826), if the frame is one.
pub fn sender(frame: &[u8]) -> Option<IpAddr> {
    let kind = u16::from_be_bytes(*frame.get(12..14)?.first_chunk()?);
    let addr = frame.get(28..32).filter(|_| kind == ARP)?;
    Some(Ipv4Addr::from(*addr.first_chunk::<4>()?).into())
}

fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr), to: Mac) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(to.0);
    frame.extend(sender.0.0);
    frame.extend(ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    for (mac, addr) in [sender, target] {
        frame.extend(mac.0);
        frame.extend(addr.octets());
    }
    frame
}

/// RFC 826: hardware type, protocol type, lengths, operation, sender, target.
fn read_arp(body: &[u8], vip: Ipv4Addr) -> Option<Said> {
    if body[..6] != [0, 1, 8, 0, 6, 4] || body[14..18] != vip.octets() {
        return None;
    }
    let mac = Mac(*body[8..14].first_chunk()?);
    let target = Ipv4Addr::from(*body[24..28].first_chunk::<4>()?);
    match (body[7], target == vip) {
        (1, true) => Some(Said::Announcement { mac, form: Form::Request }),
        (2, true) => Some(Said::Announcement { mac, form: Form::Reply }),
        (2, false) => Some(Said::Answer { mac, slot: slot_of(target.octets()[3])? }),
        _ => None,
    }
}

fn slot_of(number: u8) -> Option<u8> {
    number.checked_sub(net::QUESTIONS).filter(|slot| *slot < net::QUESTION_SLOTS)
}

/// RFC 4861 §4.3, with the source link-layer address option, to the solicited-node group.
fn solicitation(vip: Ipv6Addr, asker: Mac, from: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = vip.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
    body.extend(vip.octets());
    body.extend([1, 1]);
    body.extend(asker.0);
    icmp6(asker, (from, group), body)
}

/// Wraps an ICMPv6 message for a multicast group: Ethernet (RFC 2464 §7), IPv6 with hop limit 255, checksum.
fn icmp6(from: Mac, (source, group): (Ipv6Addr, Ipv6Addr), mut body: Vec<u8>) -> Vec<u8> {
    let length = body.len() as u16;
    let mut pseudo = Vec::new();
    pseudo.extend(source.octets());
    pseudo.extend(group.octets());
    pseudo.extend(u32::from(length).to_be_bytes());
    pseudo.extend([0, 0, 0, 58]);
    pseudo.extend(&body);
    body[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let [.., a, b, c, d] = group.octets();
    let mut frame = vec![0x33, 0x33, a, b, c, d];
    frame.extend(from.0);
    frame.extend(IPV6.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(body);
    frame
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// RFC 4861 §4.4: an advertisement for `vip` that names a MAC in its option, else by its Ethernet source.
fn read_advertisement(frame: &[u8], vip: Ipv6Addr) -> Option<Said> {
    let packet = frame.get(14..)?;
    let message = packet.get(40..)?;
    if packet[6] != 58 || message.len() < 24 || message[0] != 136 || message[8..24] != vip.octets() {
        return None;
    }
    let option = message.get(24..32).filter(|option| option[..2] == [2, 1]);
    let mac = Mac(*option.map_or(&frame[6..12], |option| &option[2..8]).first_chunk()?);
    let to = Ipv6Addr::from(*packet[24..40].first_chunk::<16>()?);
    if to.is_multicast() {
        return Some(Said::Announcement { mac, form: Form::Advertisement });
    }
    (0..net::QUESTION_SLOTS)
        .find(|slot| net::v6(net::QUESTIONS + slot) == to)
        .map(|slot| Said::Answer { mac, slot })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_read_back() {
        for vip in net::vips() {
            let mac = Mac::of(11);
            let frame = announcement(vip, mac, net::link_local(11));
            let form = if vip.is_ipv4() { Form::Request } else { Form::Advertisement };
            assert_eq!(read(&frame, vip), Some(Said::Announcement { mac, form }));
            assert_eq!(read(&frame, net::v4(9).into()), None, "another address");
        }
    }

    #[test]
    fn an_arp_reply_names_the_question() {
        let (vip, mac) = (net::v4(net::VIP), Mac::of(12));
        let asked = (Mac::of(net::WATCH), net::v4(net::QUESTIONS + 7));
        let frame = arp(2, (mac, vip), asked, Mac::of(net::WATCH));
        assert_eq!(read(&frame, vip.into()), Some(Said::Answer { mac, slot: 7 }));
        assert_eq!(sender(&frame), Some(vip.into()));
    }

    #[test]
    fn questions_say_nothing_about_the_vip() {
        for vip in net::vips() {
            assert_eq!(read(&question(vip, Mac::of(net::WATCH), 3), vip), None);
        }
    }

    #[test]
    fn no_cut_frame_is_read_or_panics() {
        for vip in net::vips() {
            let frame = announcement(vip, Mac::of(11), net::link_local(11));
            for length in 0..frame.len().min(60) {
                let _ = (read(&frame[..length], vip), sender(&frame[..length]));
            }
        }
    }

    #[test]
    fn the_checksum_makes_the_sum_all_ones() {
        let frame = announcement(net::v6(net::VIP).into(), Mac::of(11), net::link_local(11));
        let mut pseudo = frame[22..54].to_vec();
        pseudo.extend([0, 0, 0, 32, 0, 0, 0, 58]);
        pseudo.extend(&frame[54..]);
        assert_eq!(checksum(&pseudo), 0);
    }
}
