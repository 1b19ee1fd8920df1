//! Upstream's Service suite, pods that move and rolling updates over the real kube-apiserver and etcd: three nodes with
//! pods, this project's binary with no other rights than `kube-vip manifest rbac` gives. Without the real programs (`make judges`), or where
//! namespaces are refused, the test says SKIPPED and why.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its helpers are tests too

#[path = "contract/client.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod client;
#[path = "real_api/cluster.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod cluster;
#[path = "real_api/launch.rs"]
mod launch;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;
#[path = "services/security.rs"]
#[allow(dead_code)] // the other half wants a stage without proxies
mod security;
#[path = "real_api/services.rs"]
mod services;
#[path = "services/suite.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod suite;

use rig::Scenario;
use suite::{fault, moving};

/// What is played, in this order, each on a stage without anything of the one before.
const SCENARIOS: [(&str, Scenario); 17] = [
    ("S-1", suite::s_1_simple),
    ("S-2", suite::s_2_several),
    ("S-3", suite::s_3_failover),
    ("S-4", suite::s_4_spread),
    ("S-5", suite::s_5_dual_stack),
    ("S-9", fault::s_9_flapping),
    ("S-10", fault::s_10_slice_deleted),
    ("S-11", fault::s_11_lease_deleted),
    ("S-12", fault::s_12_leader_cut),
    ("S-13", fault::s_13_policy_flipped),
    ("S-14", fault::s_14_storm),
    ("S-15", fault::s_15_sibling_deleted),
    ("S-16", fault::s_16_follower_partitioned),
    ("a pod moves under policy Local", |rig| moving::pod_moves(rig, 100)),
    ("rolling update under policy Cluster", moving::rolling_update_cluster),
    ("rolling update under policy Local", moving::rolling_update_local),
    ("the packet filter", security::ports_alone),
];

#[test]
fn services_keep_their_promises_over_the_real_api_server() {
    launch::launch("services_keep_their_promises_over_the_real_api_server", |judges| {
        services::play_all(judges, &SCENARIOS);
    });
}
