//! The picture: links, default routes, what wakes the gateway and what does not.

use std::io::Write;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use vip_kernel::{Accepted, Gateway, KernelEvent, Sink, missing_capabilities};
use vip_model::kernel::{DefaultRoute, LinkKind, LinkState};
use vip_model::{Family, LinkAddr};

use crate::namespace::{Node, cable, in_namespace, index, ip};

#[test]
fn links_are_shown_with_kind_state_and_address() {
    in_namespace(|| {
        cable();
        ip("link set near address 02:00:00:00:00:0a");
        ip("tuntap add mode tun name t");
        let mut node = Node::start();
        node.settle(|actual| actual.link_named("near").is_some_and(|link| link.state == LinkState::Up));
        let link = node.actual.link_named("near").unwrap();
        assert_eq!((link.index, link.kind), (index("near"), LinkKind::Broadcast));
        assert_eq!(link.addr, Some(LinkAddr::Ethernet([2, 0, 0, 0, 0, 10])));
        assert_eq!(link.broadcast, Some(LinkAddr::BROADCAST));
        let lo = node.actual.link_named("lo").unwrap();
        assert_eq!((lo.kind, lo.state), (LinkKind::Loopback, LinkState::Up));
        assert_eq!(lo.addr, Some(LinkAddr::Ethernet([0; 6])));
        let tunnel = node.actual.link_named("t").unwrap();
        assert_eq!(
            (tunnel.kind, tunnel.state, tunnel.addr.as_ref()),
            (LinkKind::Other, LinkState::Down, None)
        );
        // The other end goes: no carrier. Then it comes back.
        for (action, state) in [("down", LinkState::Down), ("up", LinkState::Up)] {
            ip(&format!("link set far {action}"));
            node.settle(|actual| actual.link_named("near").is_some_and(|link| link.state == state));
        }
        ip("link set near name c");
        node.settle(|actual| actual.link_named("near").is_none() && actual.link_named("c").is_some());
        ip("link del c");
        node.settle(|actual| actual.links.len() == 2);
    });
}

#[test]
fn default_routes_of_the_main_table_come_best_first() {
    in_namespace(|| {
        cable();
        ip("addr add 192.0.2.1/24 dev near");
        ip("addr add 2001:db8::1/64 dev far nodad");
        let mut node = Node::start();
        let (a, b) = (index("near"), index("far"));
        ip("route add default via 192.0.2.254 dev near metric 200");
        ip("route add default nexthop dev far nexthop dev near");
        ip("route add default dev far table 198");
        ip("route add 10.0.0.0/8 dev far");
        ip("-6 route add default via 2001:db8::fe dev far metric 50");
        ip("route add unreachable default metric 900");
        let route = |family, link, metric| DefaultRoute { family, link, metric };
        let expected = [route(Family::V4, b, 0), route(Family::V6, b, 50), route(Family::V4, a, 200)];
        node.settle(|actual| actual.default_routes == expected);
        ip("-6 route del default");
        node.settle(|actual| actual.default_routes.len() == 2);
    });
}

#[test]
fn other_peoples_routes_cost_no_dump() {
    in_namespace(|| {
        cable();
        ip("addr add 192.0.2.1/24 dev near");
        let mut node = Node::start();
        node.settle(|actual| actual.link_named("far").is_some_and(|link| link.state == LinkState::Up));
        // Let the IPv6 addresses of the links settle.
        sleep(Duration::from_millis(2500));
        let before = node.gateway.counters();
        batch(0..200, |at| {
            format!(
                "route add 10.{at}.0.0/16 via 192.0.2.254\n\
                 route add 2001:db8:{at:x}::/48 dev near\n\
                 route add default dev near table {}",
                300 + at
            )
        });
        sleep(Duration::from_millis(50));
        assert_eq!(node.gateway.counters().dumps, before.dumps);
        ip("route add default via 192.0.2.254");
        node.settle(|actual| actual.default_routes.len() == 1);
        assert!(node.gateway.counters().dumps > before.dumps);
    });
}

#[test]
fn a_burst_becomes_few_dumps_and_silence_none() {
    in_namespace(|| {
        cable();
        let mut node = Node::start();
        sleep(Duration::from_millis(2500));
        let before = node.gateway.counters().dumps;
        sleep(Duration::from_millis(500));
        assert_eq!(node.gateway.counters().dumps, before);
        batch(0..200, |at| format!("addr add 203.0.113.{at}/32 dev near"));
        node.settle(|actual| {
            actual.addresses.iter().filter(|address| address.net.prefix_len() == 32).count() == 200
        });
        let dumps = node.gateway.counters().dumps - before;
        assert!(dumps < 20, "{dumps} dumps for 200 changes");
    });
}

#[test]
fn a_lost_notification_is_answered_by_a_dump() {
    in_namespace(|| {
        cable();
        let stuck = Arc::new(AtomicBool::new(false));
        let gate = stuck.clone();
        // A sink that does what it must not: wait. Meanwhile the socket's buffer fills up.
        let mut node = Node::start_with(move |event| {
            while matches!(event, KernelEvent::Actual(_)) && gate.load(Ordering::Acquire) {
                sleep(Duration::from_millis(5));
            }
            Accepted::Yes
        });
        stuck.store(true, Ordering::Release);
        let lines =
            |at| format!("addr add 203.0.113.{at}/32 dev near\naddr del 203.0.113.{at}/32 dev near\n");
        batch(0..250, |at| lines(at).repeat(3));
        ip("addr add 192.0.2.9/32 dev near");
        stuck.store(false, Ordering::Release);
        node.settle(|actual| {
            actual.addresses.iter().any(|address| address.net.to_string() == "192.0.2.9/32")
        });
        sleep(Duration::from_millis(50));
        let counters = node.gateway.counters();
        assert!(counters.overruns >= 1, "{counters:?}");
    });
}

#[test]
fn a_gateway_that_is_dropped_ends_its_threads() {
    in_namespace(|| {
        let sink: Sink = Arc::new(|_| Accepted::Yes);
        for _ in 0..2 {
            let gateway = Gateway::start(sink.clone()).unwrap();
            assert!(Arc::strong_count(&sink) > 1, "the threads hold the sink");
            drop(gateway);
            assert_eq!(Arc::strong_count(&sink), 1);
        }
        assert_eq!(missing_capabilities(), Vec::<&str>::new());
    });
}

/// Gives many lines to one `ip` process, some for each of the numbers.
fn batch(numbers: Range<u32>, lines: impl Fn(u32) -> String) {
    let mut child = Command::new("ip").args(["-force", "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for number in numbers {
        writeln!(input, "{}", lines(number)).unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}
