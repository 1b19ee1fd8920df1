//! Rung 6 of the ladder: every scenario of the table once, with its bounds asserted, against the real binary (build it
//! first: `cargo build --release -p kube-vip`, or name it in `KUBE_VIP_BIN`). Where namespaces are refused each test says
//! SKIPPED and why.

#![allow(clippy::print_stdout)] // a test file: what it prints is its report

use std::io::Write;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Scenarios measure milliseconds: one at a time.
static QUIET: Mutex<()> = Mutex::new(());

fn play(name: &str) {
    let _guard = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
    expect_kept(name);
}

/// What a lab said, and whether all bounds were kept; `None` when this machine doesn't allow a lab.
fn lab(arguments: &[&str]) -> Option<(bool, String)> {
    let done =
        Command::new(env!("CARGO_BIN_EXE_lab")).args(arguments).output().expect("the lab's binary starts");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if err.contains("was refused") || format!("{out}{err}").contains("install the Debian package") {
        // Past the test capture: a test that did nothing must be heard.
        let _ = writeln!(std::io::stderr(), "SKIPPED {arguments:?}: {out}{err}");
        return None;
    }
    Some((done.status.success(), format!("{out}{err}")))
}

fn expect_kept(name: &str) {
    if let Some((kept, said)) = lab(&["run", "--mode", "lease", name]) {
        assert!(kept, "{name}\n{said}");
        println!("{said}");
    }
}

#[test]
fn an_agent_without_a_fence_is_caught() {
    let _guard = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((kept, said)) =
        lab(&["run", "--mode", "lease", "sigkill", "--set", "vip_preserve_on_leadership_loss=true"])
    {
        let overlap = said.lines().find(|line| line.starts_with("  IPv4 ")).unwrap_or_default();
        assert!(!kept && overlap.contains("IPv4 overlap") && overlap.contains("BROKEN"), "{said}");
    }
}

#[test]
fn the_first_vip_is_up_within_300_ms() {
    play("first-up");
}

#[test]
fn sigterm_costs_at_most_100_ms() {
    play("sigterm");
}

#[test]
fn sigterm_without_an_api_ends_well_within_3_s() {
    play("sigterm-no-api");
}

#[test]
fn an_agent_that_is_killed_and_comes_back_loses_nothing() {
    play("sigkill-back");
}

#[test]
fn a_killed_agent_costs_at_most_2300_ms_and_no_overlap() {
    play("sigkill");
}

#[test]
fn a_stopped_agent_costs_at_most_2300_ms_and_no_overlap_when_it_goes_on() {
    play("sigstop");
}

#[test]
fn a_power_off_costs_at_most_5300_ms() {
    play("power-off");
}

#[test]
fn a_pulled_cable_costs_at_most_5300_ms() {
    play("link-down");
}

#[test]
fn a_silent_cut_costs_at_most_5300_ms_and_its_healing_20_ms() {
    play("silent-cut");
}

/// Two minutes of mostly waiting, so side by side.
#[test]
fn an_api_that_hangs_or_refuses_costs_the_vip_until_it_is_back() {
    let _guard = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        scope.spawn(|| expect_kept("api-hanging"));
        expect_kept("api-refused");
    });
}

#[test]
fn a_dead_api_server_below_the_holder_moves_the_vip_within_2300_ms() {
    play("api-of-holder");
}

#[test]
fn a_holder_cut_from_the_api_costs_at_most_2300_ms_and_no_overlap() {
    play("cut-from-api");
}

#[test]
fn a_removed_vip_is_back_within_50_ms() {
    play("vip-removed");
}

#[test]
fn a_rolling_restart_costs_at_most_100_ms_a_move() {
    play("rolling-restart");
}

#[test]
fn a_lab_that_stays_up_can_be_entered_cut_healed_and_taken_down() {
    let _guard = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((up, said)) = lab(&["up"]) else { return };
    assert!(up, "{said}");
    let number = said.split_whitespace().skip_while(|word| *word != "lab").nth(1).expect("the lab's number");
    let ask = |arguments: &[&str]| {
        let (verb, rest) = arguments.split_first().expect("a verb");
        let all: Vec<&str> = [*verb, "--lab", number].into_iter().chain(rest.iter().copied()).collect();
        lab(&all).expect("a lab that is up is not refused")
    };
    let (_, status) = ask(&["status"]);
    assert!(status.contains("n3") && status.contains("10.77.0.200 fd77::200"), "{status}");
    assert_eq!(ask(&["enter", "n2", "--", "cat", "/etc/hostname"]), (true, "n2\n".to_owned()));
    assert_eq!(ask(&["enter", "n2", "--", "false"]), (false, String::new()), "the exit code comes back");
    assert!(ask(&["enter", "client", "--", "ip", "address"]).1.contains("10.77.0.100/24"));
    assert!(ask(&["cut", "n1"]).0 && ask(&["heal", "n1"]).0);
    assert!(!ask(&["cut", "n9"]).0, "a node that is not there");
    assert!(ask(&["down"]).0);
    let (found, gone) = ask(&["status"]);
    assert!(!found && gone.contains("lab"), "{gone}");
}

#[test]
fn every_scenario_of_the_suite_has_a_test_here() {
    let here = include_str!("scenarios.rs");
    for row in vip_lab::scenario::table::Mode::Lease.rows() {
        assert!(here.contains(&format!("(\"{}\")", row.name)), "{} has no test", row.name);
    }
}
