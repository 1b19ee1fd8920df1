//! The switches of the segment: they know which station said last that it has a VIP. With ARP suppression they answer
//! broadcast questions for it themselves, for the living and the dead.

use std::net::IpAddr;
use std::rc::Rc;

use vip_model::LinkAddr;
use vip_model::kernel::{ETHERTYPE_ARP, ETHERTYPE_IPV6};
use vip_proto::{arp, ndp};

use super::World;
use super::wire_gate::{advertisement, arp_reply};
use crate::queue::{Host, Wired};
use crate::wire::Fabric;

fn is_group(to: &LinkAddr) -> bool {
    to.as_bytes().first().is_some_and(|first| first & 1 == 1)
}

/// The address that a frame claims, and for which station.
fn claimed(frame: &Wired) -> Option<(IpAddr, LinkAddr)> {
    match frame.ethertype {
        ETHERTYPE_ARP => {
            let packet = arp::decode(&frame.payload).ok()?;
            Some((IpAddr::V4(packet.claimed()?), packet.hardware.sender()))
        }
        ETHERTYPE_IPV6 => {
            let message = ndp::decode(&frame.payload).ok()?;
            let (addr, mac) = message.claimed()?;
            Some((IpAddr::V6(addr), mac.unwrap_or(&frame.source).clone()))
        }
        _ => None,
    }
}

/// Whether a frame tells everybody that its sender has an address.
pub(super) fn is_announcement(frame: &Wired, to: &LinkAddr) -> bool {
    is_group(to) && claimed(frame).is_some()
}

impl World {
    /// The fabric remembers who says that he has a VIP.
    pub(super) fn fabric_learns(&mut self, frame: &Rc<Wired>) {
        if self.wire.fabric == Fabric::Plain {
            return;
        }
        if let Some((addr, mac)) = claimed(frame)
            && let Some(number) = self.vip_number(addr)
        {
            self.wire.stations[number] = Some(mac);
        }
    }

    /// With ARP suppression, a broadcast question for a known station is answered and goes no further.
    pub(super) fn fabric_answers(&mut self, frame: &Rc<Wired>, to: &LinkAddr) -> bool {
        if self.wire.fabric == Fabric::Plain || !is_group(to) {
            return false;
        }
        let asked = match frame.ethertype {
            ETHERTYPE_ARP => arp::decode(&frame.payload).ok().and_then(|packet| {
                let asks =
                    packet.operation == arp::Operation::Request && packet.sender_ip != packet.target_ip;
                asks.then_some(IpAddr::V4(packet.target_ip))
            }),
            ETHERTYPE_IPV6 => match ndp::decode(&frame.payload) {
                Ok(ndp::Message::Solicitation(asked)) => Some(IpAddr::V6(asked.target)),
                _ => None,
            },
            _ => None,
        };
        let number = asked.and_then(|addr| self.vip_number(addr));
        let Some(station) = number.and_then(|number| self.wire.stations[number].clone()) else {
            return false;
        };
        if station == frame.source {
            return false;
        }
        let reply = match frame.ethertype {
            ETHERTYPE_ARP => arp::decode(&frame.payload).ok().and_then(|packet| arp_reply(&packet, &station)),
            _ => match ndp::decode(&frame.payload) {
                Ok(ndp::Message::Solicitation(asked)) => Some(advertisement(&asked, &station, &frame.source)),
                _ => None,
            },
        };
        if let Some((payload, to)) = reply {
            let reply = Wired { from: Host::Fabric, source: station, ethertype: frame.ethertype, payload };
            self.deliver(&Rc::new(reply), &to);
        }
        true
    }

    fn vip_number(&self, addr: IpAddr) -> Option<usize> {
        self.number_of(addr)
    }
}
