//! Frames over a real cable between two links.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use vip_kernel::{Accepted, KernelEvent, Sent, boot_now};
use vip_model::kernel::{ETHERTYPE_ARP, ETHERTYPE_IPV6, FrameOut};
use vip_model::{LinkAddr, LinkIndex};

use crate::namespace::{Node, cable, in_namespace, index, ip};

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 10];
const ALL_NODES: LinkAddr = LinkAddr::Ethernet([0x33, 0x33, 0, 0, 0, 1]);

fn quiet_cable() -> (LinkIndex, LinkIndex) {
    cable();
    ip("link set near address 02:00:00:00:00:0a");
    // The links' own neighbour discovery would be heard too.
    for link in ["near", "far"] {
        crate::namespace::sysctl(&format!("net.ipv6.conf.{link}.disable_ipv6"), "1");
    }
    (index("near"), index("far"))
}

fn frame(link: LinkIndex, ethertype: u16, payload: Vec<u8>) -> FrameOut {
    let to = if ethertype == ETHERTYPE_ARP { LinkAddr::BROADCAST } else { ALL_NODES };
    FrameOut { link, to, ethertype, payload, not_after: boot_now() + Duration::from_secs(1) }
}

/// RFC 826 with the fields of a gratuitous request for 192.0.2.9.
fn gratuitous() -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 1];
    payload.extend(MAC_A);
    payload.extend([192, 0, 2, 9]);
    payload.extend([0xff; 6]);
    payload.extend([192, 0, 2, 9]);
    payload
}

/// An IPv6 header with this next header, and a first byte after it.
fn ipv6(next_header: u8, first: u8) -> Vec<u8> {
    let mut payload = vec![0x60, 0, 0, 0, 0, 24, next_header, 255];
    payload.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10]);
    payload.extend([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    payload.push(first);
    payload.extend([0; 23]);
    payload
}

fn listening(node: &Node, links: &[LinkIndex]) {
    node.gateway.listen(links.iter().copied().collect::<BTreeSet<_>>());
    sleep(Duration::from_millis(50));
}

#[test]
fn arp_and_neighbour_discovery_arrive_at_the_other_end_and_nothing_else_does() {
    in_namespace(|| {
        let (a, b) = quiet_cable();
        let mut node = Node::start();
        listening(&node, &[a, b]);
        let udp = frame(a, ETHERTYPE_IPV6, ipv6(17, 136));
        let router_advertisement = frame(a, ETHERTYPE_IPV6, ipv6(58, 134));
        let sent = [
            frame(a, ETHERTYPE_ARP, gratuitous()),
            frame(a, ETHERTYPE_IPV6, ipv6(58, 135)),
            frame(a, ETHERTYPE_IPV6, ipv6(58, 136)),
        ];
        for unheard in [&udp, &router_advertisement] {
            assert_eq!(node.gateway.send(unheard), Sent::Done);
        }
        for out in &sent {
            assert_eq!(node.gateway.send(out), Sent::Done);
            let heard = node.await_frame();
            // Heard on b only: the sender's own socket hears nothing of it.
            assert_eq!((heard.link, heard.ethertype), (b, out.ethertype));
            assert_eq!(heard.from, Some(LinkAddr::Ethernet(MAC_A)));
            assert_eq!(heard.payload, out.payload);
        }
        // A frame is counted after it was given to the sink.
        sleep(Duration::from_millis(20));
        let counters = node.gateway.counters().frames;
        assert_eq!((counters[&a].sent, counters[&a].received), (5, 0));
        assert_eq!(counters[&b].received, 3);
    });
}

#[test]
fn frames_that_are_late_or_have_no_link_are_counted_and_stop_nothing() {
    in_namespace(|| {
        let (a, b) = quiet_cable();
        let mut node = Node::start();
        listening(&node, &[a, LinkIndex(9999), b]);
        let late = FrameOut {
            not_after: boot_now().before(Duration::from_millis(1)),
            ..frame(a, ETHERTYPE_ARP, gratuitous())
        };
        assert_eq!(node.gateway.send(&late), Sent::TooLate);
        let lost = frame(LinkIndex(9999), ETHERTYPE_ARP, gratuitous());
        assert!(matches!(node.gateway.send(&lost), Sent::Failed(6 | 19)), "ENXIO or ENODEV");
        assert_eq!(node.gateway.send(&frame(a, ETHERTYPE_ARP, gratuitous())), Sent::Done);
        assert_eq!(node.await_frame().link, b);
        // A frame is counted after it was given to the sink.
        sleep(Duration::from_millis(20));
        let counters = node.gateway.counters().frames;
        assert_eq!((counters[&a].late, counters[&a].sent), (1, 1));
        assert_eq!(counters[&LinkIndex(9999)].send_errors, 1);
        assert!(counters[&LinkIndex(9999)].receive_errors >= 1);
        assert_eq!(counters[&b].received, 1);
    });
}

#[test]
fn a_destination_of_twenty_bytes_goes_through_the_system_call() {
    in_namespace(|| {
        let (a, b) = quiet_cable();
        let mut node = Node::start();
        listening(&node, &[b]);
        let mut octets = [0xff; 20];
        octets[6..].fill(7);
        // Ethernet takes the first six bytes; that the kernel takes the longer address at all is the point.
        let out = FrameOut { to: LinkAddr::Infiniband(octets), ..frame(a, ETHERTYPE_ARP, gratuitous()) };
        assert_eq!(node.gateway.send(&out), Sent::Done);
        assert_eq!(node.await_frame().payload, gratuitous());
    });
}

#[test]
fn a_full_sink_refuses_frames_and_they_are_counted() {
    in_namespace(|| {
        let (a, b) = quiet_cable();
        let full = Arc::new(AtomicBool::new(true));
        let gate = full.clone();
        let mut node = Node::start_with(move |event| match event {
            KernelEvent::Frame(_) if gate.load(Ordering::Acquire) => Accepted::No,
            _ => Accepted::Yes,
        });
        listening(&node, &[b]);
        for _ in 0..10 {
            assert_eq!(node.gateway.send(&frame(a, ETHERTYPE_ARP, gratuitous())), Sent::Done);
        }
        sleep(Duration::from_millis(50));
        full.store(false, Ordering::Release);
        assert_eq!(node.gateway.send(&frame(a, ETHERTYPE_ARP, gratuitous())), Sent::Done);
        node.await_frame();
        sleep(Duration::from_millis(20));
        let counters = node.gateway.counters().frames[&b];
        assert_eq!((counters.refused, counters.received), (10, 1));
    });
}

#[test]
fn a_link_that_goes_down_or_away_and_comes_back_is_heard_again() {
    in_namespace(|| {
        let (a, b) = quiet_cable();
        let mut node = Node::start();
        listening(&node, &[b]);
        let heard_again = |node: &mut Node, what: &str| {
            sleep(Duration::from_millis(100));
            let sent = node.gateway.send(&frame(a, ETHERTYPE_ARP, gratuitous()));
            assert_eq!(sent, Sent::Done, "{what}");
            assert_eq!(node.await_frame().link, b, "{what}");
        };
        heard_again(&mut node, "at first");
        for _ in 0..3 {
            ip("link set far down");
            ip("link set far up");
            heard_again(&mut node, "after down and up");
        }
        ip("link set far down");
        sleep(Duration::from_millis(50));
        ip("link set far up");
        heard_again(&mut node, "after a longer time down");
        ip("link del far");
        ip(&format!("link add name near index {} type veth peer name far index {}", a.0, b.0));
        ip("link set near up");
        ip("link set far up");
        heard_again(&mut node, "after it was made anew with the same index");
        // And no busy loop while it is down.
        ip("link set far down");
        sleep(Duration::from_millis(100));
        let before = node.gateway.counters().frames[&b].receive_errors;
        sleep(Duration::from_millis(300));
        assert_eq!(node.gateway.counters().frames[&b].receive_errors, before);
    });
}
