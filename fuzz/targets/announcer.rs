//! The announcer: the laws of every machine hold on any script of wants, frames and passing time.
#![no_main]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vip_model::kernel::{ETHERTYPE_ARP, ETHERTYPE_IPV6, FrameIn};
use vip_model::plan::Claim;
use vip_model::{Instant, LinkAddr, LinkIndex, ScopedAddr};
use vip_proto::announce::{AnnounceWant, Announcer, FRAMES_AT_ONCE, ProbeTarget};
use vip_proto::rig::{Bounds, Step, check_laws};
use vip_proto::{arp, ndp};

const T0: Instant = Instant::from_millis(1_000_000);
const BOUNDS: Bounds = Bounds { outputs_per_turn: FRAMES_AT_ONCE as usize, turns_per_wait: 1_000_000 };

/// Bytes that are taken from the front; zeroes when they are used up.
struct Tape<'a>(&'a [u8]);

impl Tape<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn bytes(&mut self, count: u8) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// Four IPv4 and four IPv6 addresses on two links.
    fn address(&mut self) -> ScopedAddr {
        let byte = self.byte();
        address(byte & 7, byte >> 7)
    }

    fn link_addr(&mut self) -> LinkAddr {
        match self.byte() {
            byte @ 0..0xf0 => LinkAddr::Ethernet([2, 0, 0, 0, 0, byte & 7]),
            byte => LinkAddr::Infiniband([byte; 20]),
        }
    }

    fn broadcast(&mut self) -> LinkAddr {
        if self.byte() < 0xf0 { LinkAddr::BROADCAST } else { LinkAddr::Infiniband([0xff; 20]) }
    }

    fn want(&mut self) -> AnnounceWant {
        let (mut claims, mut probes) = (BTreeMap::new(), BTreeMap::new());
        let (claimed, probed) = (self.byte(), self.byte());
        for n in 0..8 {
            let at = address(n, 0);
            if claimed >> n & 1 == 1 {
                let (addr, broadcast) = (self.link_addr(), self.broadcast());
                let interval = Duration::from_millis(u64::from(self.byte()) * 20);
                let not_after = T0 + Duration::from_millis(u64::from(self.byte()) * 100);
                let millis = self.byte();
                let cleared = (millis < 0x80).then_some(T0 + Duration::from_millis(u64::from(millis) * 20));
                claims.insert(at, Claim { addr, broadcast, interval, not_after, cleared });
            }
            if probed >> n & 1 == 1 {
                let (addr, broadcast) = (self.link_addr(), self.broadcast());
                let repeat = Duration::from_millis(50);
                probes.insert(at, ProbeTarget::Station { addr, broadcast, repeat, until: None });
            }
        }
        AnnounceWant { claims, probes, own: [self.link_addr()].into() }
    }

    /// A frame in which somebody claims an address, or any bytes.
    fn frame(&mut self) -> FrameIn {
        let at = self.address();
        let from = self.link_addr();
        let count = self.byte();
        if count > 0 {
            let ethertype = if count & 1 == 0 { ETHERTYPE_ARP } else { ETHERTYPE_IPV6 };
            let payload = self.bytes(count);
            return FrameIn { link: at.link, from: Some(from), ethertype, payload };
        }
        let (ethertype, payload) = match at.addr {
            std::net::IpAddr::V4(vip) => {
                (ETHERTYPE_ARP, arp::encode(&arp::Packet::announcement_reply(&from, vip)))
            }
            std::net::IpAddr::V6(vip) => {
                let message = ndp::Message::Advertisement(ndp::Advertisement::announcement(&from, vip));
                (ETHERTYPE_IPV6, ndp::encode(&message))
            }
        };
        FrameIn { link: at.link, from: Some(from), ethertype, payload }
    }
}

fn address(n: u8, link: u8) -> ScopedAddr {
    let addr = match n {
        0..4 => Ipv4Addr::new(192, 0, 2, n).into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into(),
    };
    ScopedAddr { addr, link: LinkIndex(u32::from(link) + 1) }
}

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape(bytes);
    let mut script = Vec::new();
    while !tape.0.is_empty() {
        script.push(match tape.byte() & 3 {
            0 => Step::Want(tape.want()),
            1 => Step::Input(tape.frame()),
            2 => Step::Wait(Duration::from_micros(u64::from(tape.byte()) * 100)),
            _ => Step::Wait(Duration::from_millis(u64::from(tape.byte()) * 10)),
        });
    }
    check_laws(Announcer::new, T0, &script, BOUNDS);
});
