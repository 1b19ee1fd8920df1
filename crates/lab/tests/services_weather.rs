//! Services in any weather of the API, over the lab's own API server. Without the rights for a bench it says SKIPPED.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;
#[path = "services/weather.rs"]
#[allow(dead_code)] // the real API server has weathers of its own
mod weather;

#[test]
fn services_come_change_and_go_in_any_weather() {
    rig::play_bare("services_come_change_and_go_in_any_weather", weather::by_knobs);
}
