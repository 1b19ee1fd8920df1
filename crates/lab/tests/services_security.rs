//! The packet filter of Services, over the lab's API server. Without the rights for a bench it says SKIPPED.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;
#[path = "services/security.rs"]
mod security;

#[test]
fn only_the_ports_of_a_service_reach_its_addresses() {
    rig::play("only_the_ports_of_a_service_reach_its_addresses", security::ports_alone);
}

#[test]
fn the_filter_follows_ports_sharers_and_moves() {
    rig::play_bare("the_filter_follows_ports_sharers_and_moves", security::follows);
}
