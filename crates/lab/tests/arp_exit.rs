//! Upstream's end-to-end scenarios of an agent's end (E-DS-1 to E-DS-18), over the lab's API server; what is played stands
//! in `services/exit`.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/exit.rs"]
mod exit;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use rig::play_bare;

#[test]
fn nothing_is_left_after_sigterm_in_ipv4() {
    play_bare("nothing_is_left_after_sigterm_in_ipv4", exit::v4);
}

#[test]
fn nothing_is_left_after_sigterm_in_ipv6() {
    play_bare("nothing_is_left_after_sigterm_in_ipv6", exit::v6);
}

#[test]
fn nothing_is_left_after_sigterm_in_dual_stack() {
    play_bare("nothing_is_left_after_sigterm_in_dual_stack", exit::dual_stack);
}
