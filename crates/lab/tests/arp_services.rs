//! Upstream's end-to-end scenarios of Services in ARP mode (E-ARP-6 to E-ARP-15), over the lab's API server; what is played
//! stands in `services/arp`.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/arp.rs"]
mod arp;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use rig::play_bare;

#[test]
fn services_come_share_and_go_under_one_election_for_all() {
    play_bare("services_come_share_and_go_under_one_election_for_all", arp::global);
}

#[test]
fn services_come_share_and_go_under_an_election_each() {
    play_bare("services_come_share_and_go_under_an_election_each", arp::per_service);
}

#[test]
fn services_come_share_and_go_under_elections_on_demand() {
    play_bare("services_come_share_and_go_under_elections_on_demand", arp::on_demand);
}

#[test]
fn services_come_share_and_go_under_a_common_lease() {
    play_bare("services_come_share_and_go_under_a_common_lease", arp::common);
}
