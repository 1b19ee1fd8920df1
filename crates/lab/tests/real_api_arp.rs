//! Upstream's end-to-end scenarios of Services in ARP mode and of an agent's end (E-ARP-6 to E-ARP-15, E-DS-1 to E-DS-18),
//! and the address management, over the real kube-apiserver and etcd, with no other rights than `kube-vip manifest rbac`
//! gives. Without the real programs (`make judges`), or where namespaces are refused, the test says SKIPPED and why.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its helpers are tests too

#[path = "services/arp.rs"]
mod arp;
#[path = "contract/client.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod client;
#[path = "real_api/cluster.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod cluster;
#[path = "services/exit.rs"]
mod exit;
#[path = "services/ipam.rs"]
mod ipam;
#[path = "real_api/launch.rs"]
mod launch;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;
#[path = "real_api/services.rs"]
mod services;

use rig::Scenario;

/// What is played, in this order, each on a stage without anything of the one before.
const SCENARIOS: [(&str, Scenario); 11] = [
    ("E-ARP-6 to 11, one election for all", arp::global),
    ("E-ARP-12, an election each", arp::per_service),
    ("E-ARP-13, elections on demand", arp::on_demand),
    ("E-ARP-14 and 15, a common Lease", arp::common),
    ("E-DS-1 to 6, IPv4", exit::v4),
    ("E-DS-7 to 12, IPv6", exit::v6),
    ("E-DS-13 to 18, dual stack", exit::dual_stack),
    ("address management: documented cases", ipam::documented_cases),
    ("address management: sharing", ipam::sharing),
    ("address management: an exhausted pool", ipam::exhausted),
    ("address management: restarts", ipam::restarts),
];

#[test]
fn upstreams_scenarios_hold_over_the_real_api_server() {
    launch::launch("upstreams_scenarios_hold_over_the_real_api_server", |judges| {
        services::play_all(judges, &SCENARIOS);
    });
}
