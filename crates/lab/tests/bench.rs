//! The bench measures itself: each test starts itself again inside a lab of its own (`lab __boot`), with addresses that
//! are moved by hand instead of by an agent. Where namespaces are refused each test says SKIPPED and why.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its helpers are tests too

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vip_lab::bench::watcher::AddressWatch;
use vip_lab::bench::{Lab, Networks, Node, Prober, Shape, Span, Spawn, Stamp, boot, net, wire};

const LAB: &str = env!("CARGO_BIN_EXE_lab");

/// Two labs at once would disturb each other's figures, not each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs the test `name` again inside a lab; true inside.
fn inside(name: &str) -> bool {
    if boot::inside().is_some() {
        return true;
    }
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let done = Command::new(LAB)
        .arg("__boot")
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if err.contains("was refused") || err.contains("install the Debian package") {
        skipped(name, &err);
    } else {
        assert!(done.status.success(), "{out}\n{err}");
        println!("{out}{err}");
    }
    false
}

/// Past the test capture: a test that did nothing must be heard.
fn skipped(name: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}

fn raise(nodes: u8) -> Lab {
    let logs = std::env::temp_dir().join(format!("lab-test-{}", boot::launcher()));
    let lab = Lab::raise(&Shape { nodes, networks: Networks::One, logs: logs.clone() }).unwrap();
    std::fs::remove_dir_all(logs).unwrap();
    lab
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Tells everybody, from a node, where a VIP is.
fn announce(node: &Node, vip: IpAddr) {
    let frame = wire::announcement(vip, node.mac(), net::link_local(net::NODES + node.number()));
    vip_lab::bench::send_frame(node.place().unwrap(), &frame).unwrap();
}

fn probers(lab: &Lab) -> Vec<Prober> {
    net::vips().map(|vip| lab.probe(vip).unwrap()).into()
}

#[test]
fn nodes_reach_each_other_and_the_router() {
    if !inside("nodes_reach_each_other_and_the_router") {
        return;
    }
    let lab = raise(2);
    for address in lab.node(2).unwrap().addresses() {
        let prober = lab.probe(address).unwrap();
        let answer = prober.wait_answer(Stamp::default(), ms(3000), |_| true).unwrap();
        assert_eq!(answer.node, 2, "the echo says which node answered");
    }
    let routes = lab.node(1).unwrap().place().unwrap().run(Command::new("ip").args(["-6", "route"])).unwrap();
    assert!(routes.contains("default via fd77::1"), "{routes}");
}

#[test]
fn a_move_by_hand_is_seen_as_a_short_gap_without_overlap() {
    if !inside("a_move_by_hand_is_seen_as_a_short_gap_without_overlap") {
        return;
    }
    let lab = raise(2);
    let (first, second) = (lab.node(1).unwrap(), lab.node(2).unwrap());
    for vip in net::vips() {
        first.add_address(vip).unwrap();
    }
    let detectors = net::vips().map(|vip| lab.detect(vip).unwrap());
    let watch = AddressWatch::start(second.place().unwrap()).unwrap();
    let probers = probers(&lab);
    let begin = Stamp::now().after(ms(200));
    std::thread::sleep(ms(1200));
    let moved = Stamp::now();
    for vip in net::vips() {
        first.remove_address(vip).unwrap();
        second.add_address(vip).unwrap();
        announce(second, vip);
    }
    std::thread::sleep(ms(1000));
    for (prober, detector) in probers.iter().zip(&detectors) {
        let (trace, seen) = (prober.trace(), detector.sightings());
        let calm = trace.gap(Span::new(begin, moved)).length();
        let after = Span::new(moved, Stamp::now());
        let (gap, lost, overlap) = (trace.gap(after), trace.lost(after), seen.overlap(after));
        let rtt = trace.median_rtt(Span::new(begin, moved));
        println!("{}: gap {gap:?} lost {lost} calm {calm:?} rtt {rtt:?} overlap {overlap:?}", prober.vip());
        assert!(!gap.open && gap.length() < ms(100) + calm, "two `ip` commands lie in between: {gap:?}");
        assert!(overlap.is_zero(), "{overlap:?}");
        for (holder, window) in
            [(1, Span::new(begin, moved)), (2, Span::new(moved.after(ms(200)), after.until))]
        {
            let (sent, controlled) = (trace.sent(window), trace.controlled(window));
            println!("n{holder}: the control was answered {controlled} of {sent} times");
            assert!(
                sent > 100 && controlled * 10 >= sent * 9,
                "asked at its own address: {controlled} of {sent}"
            );
        }
        assert_eq!(
            trace.holders(Span::new(begin, Stamp::now())).iter().map(|a| a.node).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(seen.answerers(after).len() + usize::from(seen.answerers(after).len() == 1), 2);
        let (came, announced) = (watch.came(prober.vip(), moved), seen.announced_after(moved, second.mac()));
        let (came, announced) = (came.unwrap(), announced.unwrap());
        println!("announced {:?} after the kernel showed the address", announced.at.since(came));
        let sent = wire::announcement(prober.vip(), second.mac(), net::link_local(net::NODES + 2));
        assert_eq!(announced.frame[..], sent[..], "the recorded frame is the frame that was sent");
    }
}

#[test]
fn without_an_announcement_the_client_stays_lost() {
    if !inside("without_an_announcement_the_client_stays_lost") {
        return;
    }
    let lab = raise(2);
    let (first, second, vip) = (lab.node(1).unwrap(), lab.node(2).unwrap(), net::vips()[0]);
    first.add_address(vip).unwrap();
    let prober = lab.probe(vip).unwrap();
    prober.wait_answer(Stamp::default(), ms(3000), |answer| answer.node == 1).unwrap();
    std::thread::sleep(ms(300));
    let moved = first.remove_address(vip).unwrap();
    second.add_address(vip).unwrap();
    std::thread::sleep(ms(1500));
    let gap = prober.trace().gap(Span::new(moved, Stamp::now()));
    assert!(gap.open && gap.length() > ms(1400), "the neighbour cache is used as in life: {gap:?}");
    announce(second, vip);
    let back = prober.wait_answer(moved.after(ms(1400)), ms(1000), |answer| answer.node == 2).unwrap();
    println!("back {:?} after the announcement", Stamp::now().since(back.at));
}

#[test]
fn two_holders_at_once_are_seen_as_overlap() {
    if !inside("two_holders_at_once_are_seen_as_overlap") {
        return;
    }
    let lab = raise(2);
    let (first, second) = (lab.node(1).unwrap(), lab.node(2).unwrap());
    for vip in net::vips() {
        first.add_address(vip).unwrap();
        let detector = lab.detect(vip).unwrap();
        std::thread::sleep(ms(300));
        let begin = Stamp::now();
        second.add_address(vip).unwrap();
        std::thread::sleep(ms(300));
        second.remove_address(vip).unwrap();
        let end = Stamp::now();
        std::thread::sleep(ms(200));
        let seen = detector.sightings();
        let overlap = seen.overlap(Span::new(begin, Stamp::now()));
        println!("{vip}: {overlap:?}");
        assert!(overlap.longest >= ms(200) && overlap.longest <= end.since(begin) + ms(10), "{overlap:?}");
        let calm = seen.overlap(Span::new(Stamp::default(), begin));
        assert!(calm.is_zero() && seen.questions.len() > 100, "{calm:?}");
        let after = seen.overlap(Span::new(end.after(ms(10)), Stamp::now()));
        assert!(after.is_zero(), "{after:?}");
        first.remove_address(vip).unwrap();
    }
}

#[test]
fn power_off_silences_a_node_within_one_probe_and_kills_its_programs() {
    if !inside("power_off_silences_a_node_within_one_probe_and_kills_its_programs") {
        return;
    }
    let mut lab = raise(2);
    for vip in net::vips() {
        lab.node(1).unwrap().add_address(vip).unwrap();
    }
    let sleep = Spawn {
        name: "sleep".to_owned(),
        program: "/bin/sleep".into(),
        args: vec!["1000".into()],
        env: Vec::new(),
        log: "/dev/null".into(),
    };
    let mut program = lab.node(1).unwrap().start(&sleep).unwrap();
    assert!(program.usage().unwrap().rss > 0);
    let (probers, detector) = (probers(&lab), lab.detect(net::vips()[0]).unwrap());
    std::thread::sleep(ms(500));
    let off = lab.power_off(1).unwrap();
    let took = Stamp::now().since(off);
    assert_eq!(program.wait(ms(1000)).unwrap(), 128 + 9);
    std::thread::sleep(ms(300));
    for prober in &probers {
        let last = prober.last_answer().unwrap().at;
        println!("{}: last answer {:?} after power-off, which took {took:?}", prober.vip(), last.since(off));
        assert!(last < off.after(ms(2)), "silent within one probe");
    }
    let answerers = detector.sightings().answerers(Span::new(off.after(ms(5)), Stamp::now()));
    assert!(answerers.is_empty(), "{answerers:?}");
    lab.power_on(1).unwrap();
    assert!(!lab.node(1).unwrap().has_address(net::vips()[0]).unwrap(), "nothing is left of the former life");
    let own = lab.node(1).unwrap().addresses()[1];
    let prober = lab.probe(own).unwrap();
    assert_eq!(prober.wait_answer(off, ms(3000), |_| true).unwrap().node, 1);
}

#[test]
fn a_silent_cut_keeps_the_carrier_and_a_pulled_cable_does_not() {
    if !inside("a_silent_cut_keeps_the_carrier_and_a_pulled_cable_does_not") {
        return;
    }
    let lab = raise(2);
    let node = lab.node(1).unwrap();
    let carrier = || {
        let shown = node.place().unwrap().run(Command::new("ip").args(["link", "show", "eth0"])).unwrap();
        !shown.contains("NO-CARRIER")
    };
    let prober = lab.probe(node.addresses()[0]).unwrap();
    prober.wait_answer(Stamp::default(), ms(3000), |_| true).unwrap();
    let cut = node.cut(lab.switch()).unwrap();
    std::thread::sleep(ms(200));
    assert!(carrier(), "the node does not notice");
    assert!(prober.last_answer().unwrap().at < cut.after(ms(2)));
    let healed = node.heal(lab.switch()).unwrap();
    prober.wait_answer(healed, ms(500), |_| true).unwrap();
    let pulled = node.pull_cable(lab.switch()).unwrap();
    std::thread::sleep(ms(200));
    assert!(!carrier());
    assert!(prober.last_answer().unwrap().at < pulled.after(ms(2)));
    let plugged = node.plug_cable(lab.switch()).unwrap();
    node.heal(lab.switch()).unwrap();
    prober.wait_answer(plugged, ms(5000), |_| true).unwrap();
}

#[test]
fn filters_cut_one_direction_and_one_port() {
    if !inside("filters_cut_one_direction_and_one_port") {
        return;
    }
    if boot::present("nft", "nftables").is_err() {
        skipped(
            "filters_cut_one_direction_and_one_port",
            "`nft` is missing; install the Debian package `nftables`",
        );
        return;
    }
    let lab = raise(2);
    let node = lab.node(1).unwrap();
    let prober = lab.probe(node.addresses()[1]).unwrap();
    prober.wait_answer(Stamp::default(), ms(3000), |_| true).unwrap();
    lab.switch().drop_between("n1", "client").unwrap();
    let cut = Stamp::now();
    std::thread::sleep(ms(100));
    assert!(prober.last_answer().unwrap().at <= cut);
    lab.switch().clear_filters().unwrap();
    prober.wait_answer(cut, ms(500), |_| true).unwrap();
    let _listener = node.listen(6443).unwrap();
    let connect = || {
        let to = std::net::SocketAddr::new(node.addresses()[1], 6443);
        lab.client().within(|| std::net::TcpStream::connect_timeout(&to, ms(300)).is_ok()).unwrap()
    };
    assert!(connect());
    lab.switch().drop_tcp("n1", 6443).unwrap();
    lab.switch().drop_tcp("client", 6443).unwrap();
    assert!(!connect());
}

/// Everything of the lab in a process listing: command lines that name it.
fn leftovers(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if String::from_utf8_lossy(&environ).contains(mark) {
            found.push(format!("{} {}", entry.path().display(), name.trim()));
        }
    }
    found
}

#[test]
fn a_killed_lab_leaves_nothing_behind() {
    const NAME: &str = "a_killed_lab_leaves_nothing_behind";
    if boot::inside().is_some() {
        let lab = raise(3);
        lab.node(1).unwrap().add_address(net::vips()[0]).unwrap();
        println!("up");
        std::thread::sleep(Duration::from_mins(10));
        return;
    }
    let links = || Command::new("ip").args(["-brief", "link"]).output().unwrap().stdout;
    let mark = format!("LAB_TEST_MARK={}-{NAME}", std::process::id());
    let (key, value) = mark.split_once('=').unwrap();
    let before = links();
    let mut launcher = Command::new(LAB)
        .arg("__boot")
        .arg(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(key, value)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(launcher.stdout.take().unwrap());
    if !std::io::BufRead::lines(out).map_while(Result::ok).any(|line| line.ends_with("up")) {
        launcher.wait().unwrap();
        skipped(NAME, "no lab could be raised here (see the line above)");
        return;
    }
    assert!(leftovers(&mark).len() >= 5, "launcher, process 1 and three inits: {:?}", leftovers(&mark));
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    let begin = Instant::now();
    while !leftovers(&mark).is_empty() && begin.elapsed() < ms(3000) {
        std::thread::sleep(ms(20));
    }
    assert_eq!(leftovers(&mark), [""; 0]);
    assert_eq!(links(), before, "no link was ever made on the host");
}
