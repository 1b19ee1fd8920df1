//! Between hosts: frames with their troubles, kernels that answer for what they hold, the client that asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use vip_agent::Input;
use vip_model::LinkAddr;
use vip_model::kernel::{ETHERTYPE_ARP, ETHERTYPE_IPV6, FrameIn, FrameOut, LinkState};
use vip_proto::{arp, ndp};

use super::World;
use super::fabric::is_announcement;
use crate::kernel::FakeKernel;
use crate::mutation::Mutation;
use crate::process::{Life, ProcessId};
use crate::queue::{Event, Host, Wired};
use crate::wire::Path;

/// How long a frame is on its way on a good day.
const HOP: Duration = Duration::from_micros(300);
/// Frames that wait in the packet socket of a process that does not read: the kernel's default of 208 kB, 768 bytes for
/// each; what comes after is lost.
const FRAMES_BUFFER: usize = 277;
/// How often the client asks who has each VIP.
const CLIENT_ASKS: Duration = Duration::from_secs(2);
/// The client's addresses.
const CLIENT_MAC: LinkAddr = LinkAddr::Ethernet([2, 0, 0, 0, 1, 0]);
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 250);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x999);

impl World {
    /// A frame of an agent reaches its system call.
    pub(super) fn frame_leaves(&mut self, id: ProcessId, frame: FrameOut) {
        if self.local(id) > frame.not_after && self.mutation != Some(Mutation::IgnoresNotAfter) {
            return;
        }
        let node = self.processes[id].node;
        let link = self.nodes[node].kernel.as_ref().and_then(|kernel| kernel.vip_link());
        if link.is_none_or(|link| link.index != frame.link) {
            return;
        }
        let from = Host::Node(node);
        let source = FakeKernel::mac(node);
        let wired = Wired { from, source, ethertype: frame.ethertype, payload: frame.payload };
        // What an agent says to everybody is an announcement, or a probe, which claims nothing.
        if is_announcement(&wired, &frame.to) && self.chance(self.wire.lost_announcements) {
            return;
        }
        self.send(wired, &frame.to);
    }

    fn can_pass(&self, host: Host) -> bool {
        let Host::Node(node) = host else { return true };
        let place = &self.nodes[node];
        let link = place.kernel.as_ref().and_then(|kernel| kernel.vip_link());
        place.suspended.is_none() && link.is_some_and(|link| link.state == LinkState::Up)
    }

    fn send(&mut self, frame: Wired, to: &LinkAddr) {
        if !self.can_pass(frame.from) {
            return;
        }
        let frame = Rc::new(frame);
        self.fabric_learns(&frame);
        if self.fabric_answers(&frame, to) {
            return;
        }
        self.deliver(&frame, to);
    }

    /// A frame goes to everybody whom it is for.
    pub(super) fn deliver(&mut self, frame: &Rc<Wired>, to: &LinkAddr) {
        if to.as_bytes().first().is_some_and(|first| first & 1 == 1) {
            for node in 0..self.nodes.len() {
                self.deliver_to(Host::Node(node), frame);
            }
            self.deliver_to(Host::Client, frame);
        } else if *to == CLIENT_MAC {
            self.deliver_to(Host::Client, frame);
        } else if let Some(node) = FakeKernel::node_with(to).filter(|node| *node < self.nodes.len()) {
            self.deliver_to(Host::Node(node), frame);
        }
    }

    fn deliver_to(&mut self, host: Host, frame: &Rc<Wired>) {
        if host != frame.from && self.wire.path(frame.from, host) == Path::Open {
            self.fly(host, frame);
        }
    }

    fn fly(&mut self, to: Host, frame: &Rc<Wired>) {
        let copies = if self.chance(self.wire.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            if self.chance(self.wire.loss) {
                continue;
            }
            let delay = Duration::from_micros(10) + self.up_to(HOP + self.wire.delay);
            self.queue.push(self.now + delay, Event::Frame { to, frame: Rc::clone(frame) });
        }
    }

    pub(super) fn frame_arrives(&mut self, to: Host, frame: &Wired) {
        if !self.can_pass(to) {
            return;
        }
        match to {
            Host::Fabric => {}
            Host::Client => self.client_learns(frame),
            Host::Node(node) => {
                self.kernel_answers(node, frame);
                self.agents_hear(node, frame);
            }
        }
    }

    fn agents_hear(&mut self, node: usize, frame: &Wired) {
        let link = self.nodes[node].kernel.as_ref().and_then(|kernel| kernel.vip_link());
        let Some(link) = link.map(|link| link.index) else { return };
        for id in self.processes_of(node) {
            let process = &mut self.processes[id];
            if process.life == Life::Paused {
                if process.frames_waiting >= FRAMES_BUFFER {
                    continue;
                }
                process.frames_waiting += 1;
            }
            if process.listening.contains(&link) {
                let input = FrameIn {
                    link,
                    from: Some(frame.source.clone()),
                    ethertype: frame.ethertype,
                    payload: frame.payload.clone(),
                };
                if self.mutation.is_some_and(|mutation| mutation.hides(&input, self, id)) {
                    continue;
                }
                self.later(id, Duration::ZERO, crate::queue::Own::Input(Box::new(Input::Frame(input))));
            }
        }
    }

    /// The kernel answers for what it holds, whatever its agents do.
    fn kernel_answers(&mut self, node: usize, frame: &Wired) {
        let Some(kernel) = &self.nodes[node].kernel else { return };
        let mac = FakeKernel::mac(node);
        let (payload, to) = match frame.ethertype {
            ETHERTYPE_ARP => {
                let Ok(packet) = arp::decode(&frame.payload) else { return };
                let target = IpAddr::V4(packet.target_ip);
                let gratuitous = packet.sender_ip == packet.target_ip;
                if packet.operation != arp::Operation::Request
                    || gratuitous
                    || kernel.answers(target, self.now).is_none()
                {
                    return;
                }
                let Some(reply) = arp_reply(&packet, &mac) else { return };
                reply
            }
            ETHERTYPE_IPV6 => {
                let Ok(ndp::Message::Solicitation(asked)) = ndp::decode(&frame.payload) else { return };
                if kernel.answers(IpAddr::V6(asked.target), self.now).is_none() {
                    return;
                }
                advertisement(&asked, &mac, &frame.source)
            }
            _ => return,
        };
        let from = Host::Node(node);
        self.send(Wired { from, source: mac, ethertype: frame.ethertype, payload }, &to);
    }

    /// The client asks for every VIP, and asks again later.
    pub(super) fn client_asks(&mut self) {
        for number in 0..self.vips.len() {
            let (ethertype, payload) = match self.vips[number].addr() {
                IpAddr::V4(vip) => {
                    let mut packet = arp::Packet::probe(&CLIENT_MAC, vip);
                    packet.sender_ip = CLIENT_V4;
                    (ETHERTYPE_ARP, arp::encode(&packet))
                }
                IpAddr::V6(vip) => {
                    let mut asked = ndp::Solicitation::probe(vip);
                    (asked.source, asked.addr) = (CLIENT_V6, Some(CLIENT_MAC));
                    (ETHERTYPE_IPV6, ndp::encode(&ndp::Message::Solicitation(asked)))
                }
            };
            let frame = Wired { from: Host::Client, source: CLIENT_MAC, ethertype, payload };
            self.send(frame, &LinkAddr::BROADCAST);
        }
        self.queue.push(self.now + CLIENT_ASKS, Event::Client);
    }

    fn client_learns(&mut self, frame: &Wired) {
        let (addr, mac) = match frame.ethertype {
            ETHERTYPE_ARP => {
                let Ok(packet) = arp::decode(&frame.payload) else { return };
                let Some(claimed) = packet.claimed() else { return };
                (IpAddr::V4(claimed), packet.hardware.sender())
            }
            ETHERTYPE_IPV6 => {
                let Ok(message) = ndp::decode(&frame.payload) else { return };
                let Some((claimed, mac)) = message.claimed() else { return };
                (IpAddr::V6(claimed), mac.unwrap_or(&frame.source).clone())
            }
            _ => return,
        };
        if let Some(number) = self.number_of(addr) {
            self.wire.client[number] = Some(mac);
            self.client_looks(number);
        }
    }
}

/// What the station `mac` replies to an ARP request, and to whom.
pub(super) fn arp_reply(packet: &arp::Packet, mac: &LinkAddr) -> Option<(Vec<u8>, LinkAddr)> {
    let asker = packet.hardware.sender();
    let reply = arp::Packet {
        operation: arp::Operation::Reply,
        hardware: arp::Hardware::pair(mac, &asker)?,
        sender_ip: packet.target_ip,
        target_ip: packet.sender_ip,
    };
    Some((arp::encode(&reply), asker))
}

/// What the station `mac` advertises to a neighbour solicitation that `source` sent, and to whom.
pub(super) fn advertisement(
    asked: &ndp::Solicitation,
    mac: &LinkAddr,
    source: &LinkAddr,
) -> (Vec<u8>, LinkAddr) {
    let probe = asked.source.is_unspecified();
    let (destination, to) = if probe {
        (ndp::ALL_NODES, LinkAddr::Ethernet([0x33, 0x33, 0, 0, 0, 1]))
    } else {
        (asked.source, source.clone())
    };
    let reply = ndp::Advertisement {
        source: asked.target,
        destination,
        target: asked.target,
        flags: ndp::Flags { router: false, solicited: !probe, overriding: true },
        addr: Some(mac.clone()),
    };
    (ndp::encode(&ndp::Message::Advertisement(reply)), to)
}
