//! Services of type LoadBalancer with the real binary on three nodes: created, moved, followed, deleted. Each scenario
//! raises a bench of its own; without the rights for it, it says SKIPPED by name.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/interface.rs"]
mod interface;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use rig::{Rig, gap, play};

const V4: &str = "10.77.0.210";

#[test]
fn a_service_is_answered_for_at_once_and_its_status_says_by_whom() {
    play("a_service_is_answered_for_at_once_and_its_status_says_by_whom", |rig: &mut Rig| {
        rig.start_all(&[])?;
        rig.wait_for_leader("plndr-svcs-lock")?;
        rig.endpoints("web", &[("10.1.0.5", 1)])?;
        let watch = rig.watch(V4)?;
        let created = rig.create("web", V4, json!({}))?;
        let first = rig.first_answer(&watch, created, Duration::from_secs(2))?;
        println!("  created to first answer {first:?}");
        anyhow::ensure!(first < Duration::from_millis(250), "{first:?}");
        let holder = rig.wait_status("web", V4)?;
        anyhow::ensure!(rig.has_address(holder, V4)?, "n{holder} is named and does not hold it");

        // Deleted: gone everywhere.
        rig.delete("web")?;
        rig.wait_gone(V4, Duration::from_secs(1))
    });
}

#[test]
fn the_holder_stops_and_its_services_move_without_a_second_owner() {
    play("the_holder_stops_and_its_services_move_without_a_second_owner", |rig: &mut Rig| {
        rig.start_all(&[])?;
        rig.wait_for_leader("plndr-svcs-lock")?;
        rig.endpoints("web", &[("10.1.0.5", 1)])?;
        rig.create("web", V4, json!({}))?;
        let holder = rig.wait_status("web", V4)?;
        let watch = rig.watch(V4)?;
        std::thread::sleep(Duration::from_millis(500));
        let at = rig.signal(holder, Signal::SIGTERM)?;
        let (silence, overlap) = gap(&watch, at, Duration::from_secs(2));
        println!("  SIGTERM: gap {silence:?}, overlap {overlap:?}");
        anyhow::ensure!(
            silence <= Duration::from_millis(120) && overlap.is_zero(),
            "gap {silence:?}, overlap {overlap:?}"
        );
        let next = rig.wait_status("web", V4)?;
        anyhow::ensure!(next != holder, "still n{holder}");
        Ok(())
    });
}

#[test]
fn under_policy_local_the_address_follows_its_pod() {
    play("under_policy_local_the_address_follows_its_pod", |rig: &mut Rig| {
        rig.start_all(&[("svc_election", "true")])?;
        rig.endpoints("web", &[("10.1.0.5", 2)])?;
        rig.create("web", V4, json!({"externalTrafficPolicy": "Local"}))?;
        anyhow::ensure!(rig.wait_status("web", V4)? == 2, "the pod is on n2");
        let watch = rig.watch(V4)?;
        let mut worst = Duration::ZERO;
        for (turn, node) in [3, 1, 2, 3, 1].into_iter().enumerate() {
            std::thread::sleep(Duration::from_millis(300));
            let at = rig.endpoints("web", &[("10.1.0.5", node)])?;
            let (silence, overlap) = gap(&watch, at, Duration::from_secs(1));
            worst = worst.max(silence);
            anyhow::ensure!(overlap.is_zero(), "move {turn}: overlap {overlap:?}");
            anyhow::ensure!(rig.wait_status("web", V4)? == node, "move {turn} to n{node}");
        }
        println!("  five moves of the pod: longest gap {worst:?}");
        anyhow::ensure!(worst <= Duration::from_millis(150), "{worst:?}");
        // No pod: nobody answers.
        rig.endpoints("web", &[])?;
        rig.wait_gone(V4, Duration::from_secs(1))
    });
}

#[test]
fn of_two_networks_a_service_is_on_that_of_its_address_or_the_one_that_is_named() {
    rig::play_on_two_networks(
        "of_two_networks_a_service_is_on_that_of_its_address_or_the_one_that_is_named",
        interface::of_two,
    );
}
