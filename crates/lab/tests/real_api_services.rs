//! Upstream's Service suite, pods that move and rolling updates over the real kube-apiserver and etcd: three nodes with
//! pods, this project's binary with no other rights than `kube-vip manifest rbac` gives. Scenarios that need faults of the
//! API server itself (S-12, S-16) are played over the lab's own. Without the real programs (`make judges`), or where
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
#[path = "real_api/services.rs"]
mod services;
#[path = "services/suite.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod suite;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use vip_lab::bench::{Lab, Networks, Shape, boot};
use vip_lab::scenario::agent;

use cluster::{Cluster, Judges};
use rig::{Proxies, Rig, Scenario};
use services::Real;
use suite::{fault, moving};

/// What is played, in this order, each on a stage without anything of the one before.
const SCENARIOS: [(&str, Scenario); 14] = [
    ("S-1", suite::s_1_simple),
    ("S-2", suite::s_2_several),
    ("S-3", suite::s_3_failover),
    ("S-4", suite::s_4_spread),
    ("S-5", suite::s_5_dual_stack),
    ("S-9", fault::s_9_flapping),
    ("S-10", fault::s_10_slice_deleted),
    ("S-11", fault::s_11_lease_deleted),
    ("S-13", fault::s_13_policy_flipped),
    ("S-14", fault::s_14_storm),
    ("S-15", fault::s_15_sibling_deleted),
    ("a pod moves under policy Local", |rig| moving::pod_moves(rig, 30)),
    ("rolling update under policy Cluster", moving::rolling_update_cluster),
    ("rolling update under policy Local", moving::rolling_update_local),
];

fn raise(judges: &Judges) -> Result<Rig> {
    let logs = std::env::temp_dir().join(format!("lab-real-api-services-{}", boot::launcher()));
    let lab = Lab::raise(&Shape { nodes: 3, networks: Networks::One, logs })?;
    let logs = || format!("starting the real API server; the logs are in {}", lab.logs().display());
    let cluster = Cluster::start(&lab, judges, &agent::binary()?).with_context(logs)?;
    Rig::over(lab, Box::new(Real(cluster)), Proxies::Running)
}

/// All scenarios, also when one fails.
fn play_all(judges: &Judges) {
    let mut rig = raise(judges).unwrap();
    let own = rig.everything().unwrap();
    let mut failed = BTreeSet::new();
    for (name, scenario) in SCENARIOS {
        println!("{name}");
        if let Err(why) = rig::undisturbed(&mut rig, scenario, |rig| rig.clear(&own)) {
            failed.insert(format!("{name}: {why:#}"));
        }
        rig.clear(&own).unwrap();
    }
    let failed: Vec<String> = failed.into_iter().collect();
    assert!(failed.is_empty(), "{}\nthe logs are in {}", failed.join("\n"), rig.lab().logs().display());
    std::fs::remove_dir_all(rig.lab().logs()).unwrap();
}

#[test]
fn services_keep_their_promises_over_the_real_api_server() {
    launch::launch("services_keep_their_promises_over_the_real_api_server", play_all);
}
