//! Rung 6 of the ladder: every scenario of the table once, with its bounds asserted, against the real binary (build it
//! first: `cargo build --release -p kube-vip`, or name it in `KUBE_VIP_BIN`). Where namespaces are refused each test says
//! SKIPPED and why.

#![allow(clippy::print_stdout)] // a test file: what it prints is its report

use std::process::Command;
use std::sync::{PoisonError, RwLock};

/// Scenarios that measure milliseconds run alone; the long outages, which mostly wait, may run beside each other.
static QUIET: RwLock<()> = RwLock::new(());

fn alone(name: &str) {
    let _guard = QUIET.write().unwrap_or_else(PoisonError::into_inner);
    play(name);
}

fn in_company(name: &str) {
    let _guard = QUIET.read().unwrap_or_else(PoisonError::into_inner);
    play(name);
}

fn play(name: &str) {
    let done = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["run", name])
        .output()
        .expect("the lab's binary starts");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if err.contains("was refused") || err.contains("install the Debian package") {
        println!("SKIPPED {name}: {err}");
        return;
    }
    assert!(done.status.success(), "{name}\n{out}\n{err}");
    println!("{out}{err}");
}

#[test]
fn the_first_vip_is_up_within_300_ms() {
    alone("first-up");
}

#[test]
fn sigterm_costs_at_most_100_ms() {
    alone("sigterm");
}

#[test]
fn sigterm_without_an_api_ends_well_within_3_s() {
    alone("sigterm-no-api");
}

#[test]
fn an_agent_that_is_killed_and_comes_back_loses_nothing() {
    alone("sigkill-back");
}

#[test]
fn a_killed_agent_costs_at_most_2300_ms_and_no_overlap() {
    alone("sigkill");
}

#[test]
fn a_stopped_agent_costs_at_most_2300_ms_and_no_overlap_when_it_goes_on() {
    alone("sigstop");
}

#[test]
fn a_power_off_costs_at_most_5300_ms() {
    alone("power-off");
}

#[test]
fn a_pulled_cable_costs_at_most_5300_ms() {
    alone("link-down");
}

#[test]
fn a_silent_cut_costs_at_most_5300_ms_and_its_healing_20_ms() {
    alone("silent-cut");
}

#[test]
fn an_api_that_hangs_costs_the_vip_until_it_is_back() {
    in_company("api-hanging");
}

#[test]
fn an_api_that_refuses_costs_the_vip_until_it_is_back() {
    in_company("api-refused");
}

#[test]
fn a_dead_api_server_below_the_holder_moves_the_vip_within_2300_ms() {
    alone("api-of-holder");
}

#[test]
fn a_holder_cut_from_the_api_costs_at_most_2300_ms_and_no_overlap() {
    alone("cut-from-api");
}

#[test]
fn a_removed_vip_is_back_within_50_ms() {
    alone("vip-removed");
}

#[test]
fn a_rolling_restart_costs_at_most_100_ms_a_move() {
    alone("rolling-restart");
}

#[test]
fn every_scenario_of_the_suite_has_a_test_here() {
    let here = include_str!("scenarios.rs");
    for row in vip_lab::scenario::table::suite() {
        assert!(here.contains(&format!("(\"{}\")", row.name)), "{} has no test", row.name);
    }
}
