//! Three hundred Services and a power failure, over the lab's API server. Without the rights for a bench it says SKIPPED.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/crowd.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod crowd;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;
#[path = "services/scale.rs"]
#[allow(dead_code)] // the real API server has other timings
mod scale;

#[test]
fn three_hundred_services_survive_a_power_failure() {
    rig::play_bare("three_hundred_services_survive_a_power_failure", scale::power_failure);
}
