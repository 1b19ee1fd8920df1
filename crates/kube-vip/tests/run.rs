//! The program around the node, as a user meets it: the real binary, started in a network namespace without any API
//! server, asked over http and its socket, and stopped.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

#[path = "run/agent.rs"]
mod agent;

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use vip_model::view::{Readiness, View};

use agent::{Agent, eventually, kube_vip, own_network};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_agent_without_an_api_lives_says_what_it_waits_for_and_stops_in_good_order() {
    let Some(()) = own_network() else { return };
    let mut agent = Agent::start("run-lives", &[("health_check_port", "10257")]);
    for port in [2112, 10257] {
        assert_eq!(agent.get(port, "/livez").0, "HTTP/1.1 200 OK");
        assert_eq!(agent.get(port, "/healthz").0, "HTTP/1.1 200 OK");
        let (status, body) = agent.get(port, "/readyz");
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert!(body.contains("starting"), "{body}");
    }
    assert_eq!(agent.get(10257, "/metrics").0, "HTTP/1.1 404 Not Found");
    // The pages are there before the first turn shows anything on them.
    let metrics = eventually(SECOND, "the first turn", || {
        Some(agent.get(2112, "/metrics").1).filter(|page| page.contains("kube_vip_is_leader{"))
    });
    assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
    assert!(
        metrics.contains("kube_vip_is_leader{node=\"n1\",lease_name=\"plndr-cp-lock\"} 0\n"),
        "{metrics}"
    );
    assert!(agent.get(2112, "/").1.contains("<title>kube-vip</title>"));

    let socket = agent.socket();
    assert!(socket.exists());
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end(3 * SECOND).code(), Some(0), "{}", agent.log());
    assert!(!socket.exists(), "a stopped agent leaves no socket");
    let log = agent.log();
    let first = log.lines().next().unwrap();
    assert!(first[19..].starts_with(" INFO starting kube-vip version=v"), "{log}");
    assert!(log.contains("told to stop signal=SIGTERM"), "{log}");
}

#[test]
fn an_open_connection_to_a_health_port_does_not_keep_the_process_alive() {
    let Some(()) = own_network() else { return };
    let mut agent = Agent::start("run-exit", &[("health_check_port", "10257")]);
    agent.get(10257, "/livez");
    let _silent: Vec<TcpStream> =
        [2112, 10257].map(|port| TcpStream::connect(("127.0.0.1", port)).unwrap()).into();
    agent.signal(Signal::SIGINT);
    assert_eq!(agent.end(SECOND).code(), Some(0), "{}", agent.log());
}

#[test]
fn a_port_that_somebody_else_has_is_only_logged() {
    let Some(()) = own_network() else { return };
    let _taken = TcpListener::bind("[::]:2112").unwrap();
    let mut agent = Agent::start("run-port", &[("health_check_port", "10257")]);
    assert_eq!(agent.get(10257, "/livez").0, "HTTP/1.1 200 OK");
    let complaint = "the http server cannot listen";
    let log = eventually(SECOND, complaint, || Some(agent.log()).filter(|log| log.contains(complaint)));
    assert_eq!(log.matches(complaint).count(), 1, "{log}");
    assert!(log.contains("setting=prometheus_server"), "{log}");
}

#[test]
fn an_empty_flag_switches_the_metrics_server_off() {
    let Some(()) = own_network() else { return };
    let mut command = kube_vip("manager", "run-off");
    command.arg("--prometheusHTTPServer=").env("health_check_port", "10257");
    let mut agent = Agent::spawn("run-off", command);
    agent.get(10257, "/livez");
    assert!(TcpStream::connect("127.0.0.1:2112").is_err());
}

#[test]
fn sigusr1_writes_the_dump_and_sighup_changes_nothing() {
    let Some(()) = own_network() else { return };
    let mut agent = Agent::start("run-dump", &[]);
    agent.get(2112, "/livez");
    agent.signal(Signal::SIGHUP);
    agent.signal(Signal::SIGUSR1);
    let end = "END OF CONFIGURATION DUMP";
    let dump = eventually(SECOND, "the dump", || Some(agent.out()).filter(|out| out.contains(end)));
    for line in
        ["KUBE-VIP CONFIGURATION DUMP", "Node Name: n1", "VIP: 192.0.2.1", "Lease Name: plndr-cp-lock"]
    {
        assert!(dump.lines().any(|found| found == line), "{line} is missing in\n{dump}");
    }
    assert!(agent.is_running());
    assert_eq!(agent.get(2112, "/livez").0, "HTTP/1.1 200 OK");
}

#[test]
fn a_killed_agents_socket_is_taken_over_by_the_next_one() {
    let Some(()) = own_network() else { return };
    let mut killed = Agent::start("run-killed", &[]);
    let socket = killed.socket();
    eventually(5 * SECOND, "the socket", || socket.exists().then_some(()));
    killed.signal(Signal::SIGKILL);
    killed.end(SECOND);
    assert!(socket.exists(), "nobody was left to remove it");
    let output = kube_vip("status", "x").args(["--instance", "run-killed"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no kube-vip agent named \"run-killed\""));

    let next = Agent::start("run-killed", &[]);
    eventually(5 * SECOND, "a status", || {
        let status = kube_vip("status", "x").args(["--instance", "run-killed"]).output().unwrap();
        status.status.success().then_some(())
    });
    assert!(!next.log().contains("no status socket"), "{}", next.log());
}

#[test]
fn the_status_command_shows_the_table_and_the_view_without_an_api() {
    let Some(()) = own_network() else { return };
    let mut agent = Agent::start("run-status", &[]);
    agent.get(2112, "/livez");
    let status = |more: &[&str]| {
        eventually(5 * SECOND, "a status", || {
            let output =
                kube_vip("status", "x").args(["--instance", "run-status"]).args(more).output().unwrap();
            // The socket is there before the first turn shows anything on it.
            let shown = String::from_utf8(output.stdout).unwrap();
            (output.status.success() && shown.contains("192.0.2.1")).then_some(shown)
        })
    };
    let table = status(&[]);
    assert!(table.contains("VIP        INTERFACE  HOLDER"), "{table}");
    assert!(table.contains("192.0.2.1  lo "), "{table}");
    assert!(table.contains("not held:"), "{table}");
    let view: View = serde_json::from_str(&status(&["-o", "json"])).unwrap();
    assert_eq!((view.node.as_str(), view.instance.as_str()), ("n1", "run-status"));
    assert_ne!(view.readiness, Readiness::Ready);
}

#[test]
fn without_rights_the_agent_says_which_and_ends() {
    let Some(()) = own_network() else { return };
    let output = kube_vip("manager", "run-rights").uid(65534).gid(65534).output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: user 65534 may not execute the binary where it lies");
        return;
    };
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("NET_ADMIN") && error.contains("NET_RAW"), "{error}");
}

#[test]
fn an_idle_agent_takes_little_memory_and_no_time() {
    let Some(()) = own_network() else { return };
    let mut agent = Agent::start("run-idle", &[]);
    agent.get(2112, "/livez");
    std::thread::sleep(SECOND);
    let figure = |agent: &mut Agent, name: &str| {
        let metrics = agent.get(2112, "/metrics").1;
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    let (before, began) = (figure(&mut agent, "process_cpu_seconds_total"), Instant::now());
    std::thread::sleep(2 * SECOND);
    let used = figure(&mut agent, "process_cpu_seconds_total") - before;
    // Loose: this is a debug build, retrying an API that is not there. `make bench` measures the release build.
    assert!(used / began.elapsed().as_secs_f64() < 0.1, "{used} s of CPU time in 2 s");
    let memory = figure(&mut agent, "process_resident_memory_bytes");
    assert!(memory < 48e6, "{memory} bytes");
    let descriptors = figure(&mut agent, "process_open_fds");
    std::thread::sleep(SECOND);
    let later = figure(&mut agent, "process_open_fds");
    assert!(later <= descriptors + 3.0, "{descriptors}, then {later} descriptors");
}
