//! The built-in address management, over the lab's API server; what is played stands in `services/ipam`.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/ipam.rs"]
mod ipam;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use rig::play_bare;

#[test]
fn the_cloud_providers_documented_cases_give_the_same_addresses() {
    play_bare("the_cloud_providers_documented_cases_give_the_same_addresses", ipam::documented_cases);
}

#[test]
fn sharing_is_by_ports_where_it_is_allowed() {
    play_bare("sharing_is_by_ports_where_it_is_allowed", ipam::sharing);
}

#[test]
fn an_exhausted_pool_is_told_and_serves_who_waits_when_it_can() {
    play_bare("an_exhausted_pool_is_told_and_serves_who_waits_when_it_can", ipam::exhausted);
}

#[test]
fn addresses_stay_over_restarts_of_all_agents_and_are_given_once_by_allocators_in_turn() {
    play_bare(
        "addresses_stay_over_restarts_of_all_agents_and_are_given_once_by_allocators_in_turn",
        ipam::restarts,
    );
}
