//! The packet filter's table: how `nft` reads it, how large it may be, who else touches it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant as Moment};

use vip_kernel::boot_now;
use vip_model::kernel::{Change, FilterState, Outcome};
use vip_model::plan::PacketFilter;
use vip_model::service::{Protocol, ServicePort};
use vip_model::{InstanceName, Known};

use crate::namespace::{Node, cable, in_namespace_with_nft, index, nft, try_nft, vip};

const AS_SET: Known<FilterState> = Known::Known(FilterState::AsSet);
const ABSENT: Known<FilterState> = Known::Known(FilterState::Absent);
const FOREIGN: Known<FilterState> = Known::Known(FilterState::Foreign);
/// How soon a change by others must be noticed.
const NOTICED: Duration = Duration::from_millis(20);

pub(crate) fn filter(open: &[(&str, &[(Protocol, u16)])]) -> PacketFilter {
    let port = |&(protocol, port): &(Protocol, u16)| ServicePort { protocol, port };
    let entries = open.iter().map(|(addr, ports)| (addr.parse().unwrap(), ports.iter().map(port).collect()));
    PacketFilter { open: entries.collect() }
}

pub(crate) fn set(instance: &str, filter: Option<PacketFilter>) -> Vec<Change> {
    vec![Change::SetFilter { instance: InstanceName::new(instance), filter }]
}

fn small() -> PacketFilter {
    filter(&[
        ("192.0.2.9", &[(Protocol::Tcp, 80), (Protocol::Udp, 53), (Protocol::Sctp, 9)]),
        ("192.0.2.10", &[]),
        ("2001:db8::9", &[(Protocol::Tcp, 443)]),
    ])
}

#[test]
fn nft_reads_the_table_as_it_was_meant() {
    in_namespace_with_nft(|| {
        let mut node = Node::start();
        assert_eq!(node.actual.filter, Known::Unknown);
        assert_eq!(node.apply(set("control-plane", Some(small()))), [Outcome::Done]);
        assert_eq!(node.actual.filter, AS_SET);
        let shown = nft("list table inet kube_vip_control-plane");
        let expected = include_str!("filter/table.nft");
        assert_eq!(words(&shown), words(expected), "\n{shown}");
        let with_handles = nft("-a list tables");
        assert!(with_handles.contains("table inet kube_vip_control-plane"), "{with_handles}");
        // An outsider who feeds it back to nft gets the same table: nothing in it is beyond nft's understanding.
        nft("delete table inet kube_vip_control-plane");
        let mut child =
            Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("the command nft");
        child.stdin.take().unwrap().write_all(shown.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{shown}");
        assert_eq!(nft("list table inet kube_vip_control-plane"), shown);
        node.settle(|actual| actual.filter == FOREIGN);
    });
}

/// Words without order inside of sets: the kernel lists elements by their hashes.
fn words(text: &str) -> (Vec<String>, BTreeSet<String>) {
    let (mut lines, mut elements, mut inside) = (Vec::new(), BTreeSet::new(), false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        inside |= line.starts_with("elements = {");
        if inside {
            let list = line.trim_start_matches("elements = {").trim_end_matches('}');
            elements.extend(list.split(',').map(|element| element.trim().to_owned()));
            inside = !line.ends_with('}');
        } else {
            lines.push(line.to_owned());
        }
    }
    (lines, elements)
}

#[test]
fn a_filter_is_replaced_whole_and_none_removes_the_table() {
    in_namespace_with_nft(|| {
        let mut node = Node::start();
        // Nothing was there: still done, and now it is known that nothing is there.
        assert_eq!(node.apply(set("services", None)), [Outcome::Done]);
        assert_eq!(node.actual.filter, ABSENT);
        node.apply(set("services", Some(small())));
        let next = filter(&[("192.0.2.11", &[(Protocol::Tcp, 8443)])]);
        assert_eq!(node.apply(set("services", Some(next))), [Outcome::Done]);
        let shown = nft("list table inet kube_vip_services");
        assert!(shown.contains("192.0.2.11 . tcp . 8443") && !shown.contains("192.0.2.9"), "{shown}");
        assert_eq!(shown.matches("drop").count(), 1, "{shown}");
        assert_eq!(node.apply(set("services", Some(PacketFilter::default()))), [Outcome::Done]);
        assert_eq!(node.actual.filter, AS_SET);
        assert_eq!(node.apply(set("services", None)), [Outcome::Done]);
        assert_eq!(node.actual.filter, ABSENT);
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn what_others_do_to_the_table_is_noticed_at_once() {
    in_namespace_with_nft(|| {
        let mut node = Node::start();
        let table = "inet kube_vip_services";
        let cases = [
            (format!("flush table {table}"), FOREIGN),
            ("flush ruleset".to_owned(), ABSENT),
            (format!("delete table {table}"), ABSENT),
            (format!("add rule {table} judge accept"), FOREIGN),
            (format!("insert rule {table} arriving accept"), FOREIGN),
            (format!("add chain {table} arriving {{ policy drop ; }}"), FOREIGN),
            (format!("add chain {table} another"), FOREIGN),
            (format!("add table {table} {{ flags dormant ; }}"), FOREIGN),
        ];
        for (command, state) in cases {
            let mut delays = Vec::new();
            // Other tests run at the same time, so one of a few attempts must be as quick as promised.
            while delays.len() < 8 && delays.iter().all(|delay| *delay > NOTICED) {
                // It is repaired each time.
                assert_eq!(node.apply(set("services", Some(small()))), [Outcome::Done]);
                assert_eq!(node.actual.filter, AS_SET, "before {command}");
                nft(&command);
                let ended = boot_now();
                let noticed = node.await_picture(|actual| actual.filter == state);
                delays.push(noticed.since(ended));
            }
            println!("{command}: noticed {:?} after its end", delays.last());
            assert!(delays.iter().any(|delay| *delay <= NOTICED), "{command}: {delays:?}");
        }
    });
}

#[test]
fn nobody_can_change_the_elements_while_the_rules_stand() {
    in_namespace_with_nft(|| {
        let mut node = Node::start();
        node.apply(set("services", Some(small())));
        let before = nft("list table inet kube_vip_services");
        for command in [
            "add element inet kube_vip_services open4 { 192.0.2.9 . tcp . 22 }",
            "delete element inet kube_vip_services addresses4 { 192.0.2.9 }",
            "flush set inet kube_vip_services addresses4",
            "delete set inet kube_vip_services addresses4",
        ] {
            assert!(!try_nft(command).status.success(), "{command}");
        }
        assert_eq!(nft("list table inet kube_vip_services"), before);
        assert_eq!(node.apply(Vec::new()), []);
        assert_eq!(node.actual.filter, AS_SET);
    });
}

#[test]
fn other_peoples_tables_cost_no_dump() {
    in_namespace_with_nft(|| {
        cable();
        let mut node = Node::start();
        node.apply(set("services", Some(small())));
        // Let the IPv6 addresses of the links settle.
        sleep(Duration::from_millis(2500));
        let before = node.gateway.counters();
        nft("add table ip other");
        nft("add set ip other many { type inet_service ; }");
        for at in 0..20 {
            let mut elements = String::new();
            for port in at * 500..(at + 1) * 500 {
                write!(elements, "{port},").unwrap();
            }
            nft(&format!("add element ip other many {{ {} }}", elements.trim_end_matches(',')));
        }
        nft("delete table ip other");
        sleep(Duration::from_millis(50));
        assert_eq!(node.gateway.counters(), before);
        node.apply(Vec::new());
        assert_eq!(node.actual.filter, AS_SET);
    });
}

#[test]
fn two_instances_do_not_touch_each_other() {
    in_namespace_with_nft(|| {
        let (mut one, mut other) = (Node::start(), Node::start());
        one.apply(set("control-plane", Some(small())));
        other.apply(set("services", Some(small())));
        let before = nft("-a list table inet kube_vip_control-plane");
        let dumps = one.gateway.counters().dumps;
        let next = filter(&[("192.0.2.11", &[(Protocol::Tcp, 8443)])]);
        for filter in [Some(next), None, Some(small()), None] {
            assert_eq!(other.apply(set("services", filter)), [Outcome::Done]);
        }
        nft("add table ip kube_vip_v4");
        assert_eq!(nft("-a list table inet kube_vip_control-plane"), before);
        sleep(Duration::from_millis(50));
        assert_eq!(one.gateway.counters().dumps, dumps);
        one.apply(Vec::new());
        assert_eq!((one.actual.filter, other.actual.filter), (AS_SET, ABSENT));
        // A name that no table can have still has a table of its own.
        one.apply(set("a b;c", Some(small())));
        other.apply(set("a_b_c", Some(small())));
        let tables = nft("list tables");
        assert_eq!(tables.matches("inet kube_vip_a_b_c").count(), 2, "{tables}");
    });
}

#[test]
fn a_thousand_addresses_with_five_ports_go_in_one_transaction() {
    in_namespace_with_nft(|| {
        let mut node = Node::start();
        for family in ["IPv4", "IPv6"] {
            let addr = |at: u16| -> IpAddr {
                let [high, low] = at.to_be_bytes();
                match family {
                    "IPv4" => [10, 9, high, low].into(),
                    _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, at].into(),
                }
            };
            let ports =
                |at: u16| (0..5).map(move |port| ServicePort { protocol: Protocol::Tcp, port: at + port });
            let open = (0..1000).map(|at| (addr(at), ports(at + 1).collect())).collect();
            let began = Moment::now();
            let outcomes = node.apply(set("services", Some(PacketFilter { open })));
            let took = began.elapsed();
            assert_eq!(outcomes, [Outcome::Done]);
            assert_eq!(node.actual.filter, AS_SET);
            let shown = nft("list table inet kube_vip_services");
            assert_eq!(shown.matches(" . tcp . ").count(), 5000);
            assert!(took < Duration::from_secs(1), "{took:?}");
            println!("1,000 {family} addresses with 5 ports each: {took:?}, report and picture included");
        }
    });
}

#[test]
fn far_more_than_a_default_buffer_holds_goes_in_one_transaction() {
    in_namespace_with_nft(|| {
        let mut node = Node::start();
        let ports =
            |first: u16| (first..first + 20).map(|port| ServicePort { protocol: Protocol::Udp, port });
        let addr = |at: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, at]);
        let open = (0..3000).map(|at| (addr(at), ports(at + 1).collect())).collect();
        let began = Moment::now();
        assert_eq!(node.apply(set("services", Some(PacketFilter { open }))), [Outcome::Done]);
        println!("3,000 addresses with 20 ports each: {:?}", began.elapsed());
        assert_eq!(node.actual.filter, AS_SET);
        assert_eq!(nft("list table inet kube_vip_services").matches(" . udp . ").count(), 60_000);
    });
}

#[test]
fn a_refused_filter_says_why_and_nothing_else_suffers() {
    in_namespace_with_nft(|| {
        let mut node = Node::start();
        // A table that another program owns, for as long as it runs.
        let mut owner =
            Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = owner.stdin.take().unwrap();
        writeln!(input, "add table inet kube_vip_services {{ flags owner ; }}").unwrap();
        input.flush().unwrap();
        let end = Moment::now() + Duration::from_secs(5);
        while !nft("list tables").contains("kube_vip_services") {
            assert!(Moment::now() < end, "nft -i did not make the table");
            sleep(Duration::from_millis(10));
        }
        let (first, second) = (vip(index("lo"), "192.0.2.9/32", 13), vip(index("lo"), "192.0.2.10/32", 13));
        let mut changes = vec![Change::SetAddress(first.clone())];
        changes.extend(set("services", Some(small())));
        changes.push(Change::SetAddress(second.clone()));
        let outcomes = node.apply(changes.clone());
        assert!(node.address(first.net).is_some() && node.address(second.net).is_some());
        assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Done, &Outcome::Done));
        let Outcome::Failed { text, .. } = &outcomes[1] else { panic!("{outcomes:?}") };
        for part in
            ["cannot set the packet filter", "table inet kube_vip_services", "Operation not permitted"]
        {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        assert_eq!(node.actual.filter, Known::Unknown);
        drop(input);
        owner.wait().unwrap();
        assert_eq!(node.apply(changes), [Outcome::Done, Outcome::Done, Outcome::Done]);
        assert_eq!(node.actual.filter, AS_SET);
    });
}
