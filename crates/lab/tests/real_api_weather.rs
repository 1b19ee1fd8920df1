//! Services over the real kube-apiserver and etcd while these are slow, hang, refuse, stand still and are away, and while a
//! node with a hundred of three hundred Services loses its power; what `kube-vip status services` and `explain` say there, and
//! the packet filter. With no other rights than `kube-vip manifest rbac` gives. Without the real programs (`make judges`),
//! or where namespaces are refused, the test says SKIPPED and why.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its helpers are tests too

#[path = "services/class.rs"]
#[allow(dead_code)] // this API server lets a class be changed in one way only
mod class;
#[path = "contract/client.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod client;
#[path = "real_api/cluster.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod cluster;
#[path = "services/crowd.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod crowd;
#[path = "real_api/launch.rs"]
mod launch;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;
#[path = "services/scale.rs"]
#[allow(dead_code)] // the lab's own API server has other timings
mod scale;
#[path = "services/security.rs"]
#[allow(dead_code)] // the other half needs pods and proxies
mod security;
#[path = "services/seeing.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod seeing;
#[path = "real_api/services.rs"]
mod services;
#[path = "services/weather.rs"]
#[allow(dead_code)] // the lab's own API server has weathers of its own
mod weather;

use rig::Scenario;

/// What is played, in this order, each on a stage without anything of the one before.
const SCENARIOS: [(&str, Scenario); 5] = [
    ("the class changes", class::by_type),
    ("status and explain", seeing::where_and_why),
    ("the packet filter follows ports, sharers and moves", security::follows),
    ("three hundred Services and a power failure", scale::real_power_failure),
    // The last one: the agents' rights are taken there, and given back.
    ("any weather", weather::by_processes),
];

#[test]
fn services_outlive_the_weather_of_the_real_api_server() {
    launch::launch("services_outlive_the_weather_of_the_real_api_server", |judges| {
        services::play_bare(judges, &SCENARIOS);
    });
}
