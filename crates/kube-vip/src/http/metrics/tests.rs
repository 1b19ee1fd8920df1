use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::sync::Arc;

use vip_model::kernel::{ETHERTYPE_ARP, FrameIn};
use vip_model::peers::{DoorWant, PeerSend};
use vip_model::service::{EndpointCount, ServiceName};
use vip_model::verdict::{Reason, Subject};
use vip_model::view::{ServiceView, VipView};
use vip_model::{Instant, LeaseName, LinkIndex, NodeName};

use super::*;
use crate::board::boot_now;
use crate::run::inbox::{FRAMES_WAITING, Inbox};
use crate::run::peers::{Peers, heartbeat};

fn board() -> Arc<Board> {
    Arc::new(Board::new(Arc::new(Inbox::new().unwrap())))
}

fn vip(text: &str, verdict: Verdict) -> VipView {
    let vip = text.parse().unwrap();
    VipView {
        subject: Subject::ControlPlane(vip),
        vip,
        interface: Some("eth0".to_owned()),
        verdict,
        lease: LeaseName::new("kube-system", "plndr-cp-lock"),
        holder: None,
        since: Instant::ZERO,
    }
}

fn lock() -> LeaseName {
    LeaseName::new("kube-system", "plndr-cp-lock")
}

fn service(name: &str, verdict: Verdict) -> ServiceView {
    let (namespace, name) = name.split_once('/').unwrap();
    ServiceView {
        service: ServiceName::new(namespace, name),
        addrs: Vec::new(),
        verdict,
        lease: None,
        holder: None,
        since: Instant::ZERO,
        endpoints: EndpointCount::NONE,
    }
}

/// A node before anything happened.
fn quiet() -> View {
    let verdicts = vec![
        vip("192.0.2.1", Verdict::Skip(Reason::LeaseUnknown)),
        vip("2001:db8::1", Verdict::Skip(Reason::LeaseUnknown)),
    ];
    let elections = Arc::new(BTreeMap::from([(lock(), ElectionState::default())]));
    let services = Arc::new([service("shop/web", Verdict::Skip(Reason::LeaseFree))]);
    let mut view = View { node: "n1".to_owned(), verdicts, elections, services, ..View::default() };
    view.counters.questions.insert("renew".to_owned(), 0);
    view
}

/// The same node after everything happened.
fn busy() -> View {
    let mut view = quiet();
    view.verdicts = vec![vip("192.0.2.1", Verdict::Announce), vip("2001:db8::1", Verdict::Announce)];
    let web = ServiceView {
        endpoints: EndpointCount { all: 3, taking: 2, here: 1 },
        ..service("shop/web", Verdict::Announce)
    };
    let bad = service("shop/bad", Verdict::Skip(Reason::Invalid("no address".to_owned())));
    let foreign = service("other/x", Verdict::Skip(Reason::OtherClass(None)));
    view.services = Arc::new([foreign, bad, web]);
    // Beyond what is listed.
    let leases =
        (0..LEASES_LIMIT).map(|n| (LeaseName::new("a", format!("kubevip-{n}")), ElectionState::default()));
    view.elections = Arc::new(
        view.elections.iter().map(|(lease, state)| (lease.clone(), state.clone())).chain(leases).collect(),
    );
    let role = Role::Holder { since: Instant::ZERO, fence_until: Instant::ZERO, serve_until: Instant::ZERO };
    Arc::make_mut(&mut view.elections).get_mut(&lock()).unwrap().role = role;
    let one = |key: &str| BTreeMap::from([(key.to_owned(), 1)]);
    view.counters.transitions = Arc::new(BTreeMap::from([(lock(), 1)]));
    view.counters.foreign_claims = one("192.0.2.1");
    view.counters.questions = one("renew");
    view.counters.changes = one("too_late");
    view.counters.announcements = 3;
    view.counters.takeover_seconds = vec![0.02, 3.0];
    for class in FailureClass::ALL {
        view.counters.count_failure(class);
    }
    view
}

/// Checks the whole text against the exposition format and gives back family → (type, its sample lines).
fn lint(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut families: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut current = String::new();
    let mut seen = BTreeSet::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, about) = help.split_once(' ').expect("a help text");
            assert!(about.ends_with('.'), "help is a sentence: {line}");
            let kind =
                lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).expect("TYPE follows HELP");
            let known = ["counter", "gauge", "histogram"].contains(&kind);
            assert!(known && (kind != "counter" || name.ends_with("_total")), "{name} {kind}");
            assert!(
                families.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_none(),
                "{name} twice"
            );
            current = name.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample");
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
        assert!(seen.insert(series.to_owned()), "series twice: {series}");
        lint_series(series, &current);
        families.get_mut(&current).unwrap().1.push(line.to_owned());
    }
    families
}

fn lint_series(series: &str, family: &str) {
    let (name, labels) = series.split_once('{').map_or((series, None), |(name, rest)| (name, Some(rest)));
    let suffix = name.strip_prefix(family).expect("a sample belongs to the family above it");
    assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{series}");
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
    let Some(labels) = labels else { return };
    for label in labels.strip_suffix('}').expect("closed").split("\",") {
        let (key, text) = label.split_once("=\"").expect("key=\"value\"");
        assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{series}");
        assert!(!text.trim_end_matches('"').contains(['"', '\n']), "{series}");
    }
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn the_text_is_well_formed_and_has_exactly_the_promised_names() {
    let board = board();
    board.publish(Arc::new(busy()));
    let families = lint(&render(&board));
    let names: Vec<&str> = families.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "kube_vip_active_services",
            "kube_vip_announcements_total",
            "kube_vip_api_errors_total",
            "kube_vip_api_requests_total",
            "kube_vip_build_info",
            "kube_vip_foreign_claims_total",
            "kube_vip_frames_dropped_total",
            "kube_vip_heartbeats_received_total",
            "kube_vip_heartbeats_sent_total",
            "kube_vip_is_leader",
            "kube_vip_kernel_changes_total",
            "kube_vip_leader_election_transitions_total",
            "kube_vip_series_left_out",
            "kube_vip_service_announced",
            "kube_vip_service_endpoints",
            "kube_vip_services",
            "kube_vip_takeover_seconds",
            "kube_vip_turn_seconds",
            "kube_vip_vip_held",
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
        ]
    );
}

#[test]
fn every_family_has_a_sample_before_anything_happens() {
    let board = board();
    board.publish(Arc::new(quiet()));
    for (name, (_, samples)) in lint(&render(&board)) {
        assert!(!samples.is_empty(), "{name} has no sample");
    }
}

#[test]
fn every_metric_of_ours_moves_when_its_cause_happens() {
    let board = board();
    board.publish(Arc::new(quiet()));
    let before = lint(&render(&board));
    board.publish(Arc::new(busy()));
    board.turns.observe(Duration::from_micros(30));
    for _ in 0..=FRAMES_WAITING {
        let payload = Vec::new();
        let frame = FrameIn { link: LinkIndex(1), from: None, ethertype: ETHERTYPE_ARP, payload };
        board.inbox.post(vip_agent::Input::Frame(frame));
    }
    let one = heartbeat(1);
    let mut peers = Peers::new(NodeName::new("n1"), Duration::from_millis(50), &board);
    peers.want(Some(DoorWant { port: 0, seal: None, accept: [].into() }));
    let port = board.inbox.take().into_iter().find_map(|input| match input {
        vip_agent::Input::Door(door) => door.port,
        _ => None,
    });
    let port = port.expect("an open door");
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"noise", ("127.0.0.1", port)).unwrap();
    peers.wait(Some(boot_now() + Duration::from_millis(20))).unwrap();
    peers.wait(Some(boot_now() + Duration::from_millis(20))).unwrap();
    peers.send(&PeerSend { to: one.from, datagram: one.datagram });
    let after = lint(&render(&board));
    let constant = ["kube_vip_build_info", "process_"];
    for (name, (_, samples)) in &before {
        if !constant.iter().any(|prefix| name.starts_with(prefix)) {
            assert_ne!(&after[name].1, samples, "{name} did not move");
        }
    }
}

#[test]
fn the_values_say_who_holds_what() {
    let board = board();
    board.publish(Arc::new(busy()));
    let text = render(&board);
    assert!(
        (value(&text, "kube_vip_is_leader{node=\"n1\",lease_name=\"plndr-cp-lock\"}") - 1.0).abs() < 1e-9
    );
    assert!((value(&text, "kube_vip_vip_held{vip=\"2001:db8::1\",interface=\"eth0\"}") - 1.0).abs() < 1e-9);
    let transitions = "kube_vip_leader_election_transitions_total{lease_name=\"plndr-cp-lock\"}";
    assert!((value(&text, transitions) - 1.0).abs() < 1e-9);
    assert!((value(&text, "kube_vip_kernel_changes_total{outcome=\"too_late\"}") - 1.0).abs() < 1e-9);
    assert!((value(&text, "kube_vip_takeover_seconds_bucket{le=\"0.025\"}") - 1.0).abs() < 1e-9);
    assert!((value(&text, "kube_vip_takeover_seconds_sum") - 3.02).abs() < 1e-9);
    let build = format!("kube_vip_build_info{{version=\"v{}\",", env!("CARGO_PKG_VERSION"));
    assert!(text.lines().any(|line| line.starts_with(&build) && line.ends_with(" 1")), "{text}");
}

#[test]
fn two_leases_of_one_name_keep_apart() {
    let mut view = quiet();
    let other = LeaseName::new("other", lock().name());
    Arc::make_mut(&mut view.elections).insert(other, ElectionState::default());
    let board = board();
    board.publish(Arc::new(view));
    let text = render(&board);
    lint(&text);
    assert!(text.contains("lease_name=\"other/plndr-cp-lock\""), "{text}");
}

#[test]
fn a_label_cannot_break_out_of_its_quotes() {
    let mut view = quiet();
    view.verdicts[0].interface = Some("a\"b\\c\nd".to_owned());
    let board = board();
    board.publish(Arc::new(view));
    assert!(render(&board).contains("interface=\"a\\\"b\\\\c\\nd\"} 0\n"));
}

#[test]
fn the_control_planes_lease_is_listed_however_many_services_have_their_own() {
    let board = board();
    board.publish(Arc::new(busy()));
    let text = render(&board);
    let families = lint(&text);
    for family in ["kube_vip_is_leader", "kube_vip_leader_election_transitions_total"] {
        assert_eq!(families[family].1.len(), LEASES_LIMIT, "{family}");
        assert!(families[family].1[0].contains("plndr-cp-lock"), "{family}");
    }
    assert!((value(&text, "kube_vip_series_left_out{of=\"leases\"}") - 1.0).abs() < 1e-9);
}

#[test]
fn services_are_counted_by_state_and_told_of_by_name() {
    let board = board();
    board.publish(Arc::new(busy()));
    let text = render(&board);
    let rows = [
        ("kube_vip_services{state=\"announced\"}", 1.0),
        ("kube_vip_services{state=\"refused\"}", 1.0),
        ("kube_vip_services{state=\"not_ours\"}", 1.0),
        ("kube_vip_services{state=\"elsewhere\"}", 0.0),
        ("kube_vip_active_services{namespace=\"shop\"}", 2.0),
        ("kube_vip_service_announced{namespace=\"shop\",name=\"web\"}", 1.0),
        ("kube_vip_service_announced{namespace=\"shop\",name=\"bad\"}", 0.0),
        ("kube_vip_service_endpoints{namespace=\"shop\",name=\"web\"}", 2.0),
    ];
    for (series, wanted) in rows {
        assert!((value(&text, series) - wanted).abs() < 1e-9, "{series} in\n{text}");
    }
    assert!(!text.contains("namespace=\"other\""), "what is not ours has no series:\n{text}");
}

#[test]
fn five_thousand_services_have_as_many_series_as_the_limits_say() {
    let mut view = quiet();
    let of = |n: usize| service(&format!("ns-{}/web-{n}", n % 500), Verdict::Announce);
    view.services = (0..5_000).map(of).collect();
    let board = board();
    board.publish(Arc::new(view));
    let text = render(&board);
    let families = lint(&text);
    let count = |family: &str| families[family].1.len();
    assert_eq!(count("kube_vip_service_announced"), service::SERVICES_LIMIT);
    assert_eq!(count("kube_vip_service_endpoints"), service::SERVICES_LIMIT);
    assert_eq!(count("kube_vip_active_services"), service::NAMESPACES_LIMIT + 1, "one for all others");
    assert!((value(&text, "kube_vip_series_left_out{of=\"services\"}") - 4_000.0).abs() < 1e-9);
    assert!((value(&text, "kube_vip_services{state=\"announced\"}") - 5_000.0).abs() < 1e-9);
    assert!((value(&text, "kube_vip_active_services{namespace=\"\"}") - 3_000.0).abs() < 1e-9);
}
