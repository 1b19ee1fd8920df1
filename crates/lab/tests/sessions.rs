//! Rung 6 of the ladder, mode `session`: its short rows once, IPv4 and IPv6, with the promised bounds asserted, against the
//! real binary (build it first, as for `scenarios`). One stage for all, because raising one costs as much as a row. A run
//! in which a processor of the machine stood still is repeated by the lab. Where namespaces are refused each test says
//! SKIPPED and why.

use std::io::Write;
use std::process::Command;

use vip_lab::scenario::table::Mode;

/// The rows that are played here: those that are over soon and keep their bounds on a busy machine.
const SHORT: [&str; 9] = [
    "power-off",
    "sigterm",
    "sigterm-no-api",
    "sigkill",
    "sigkill-uneven",
    "power-off-no-api",
    "api-away",
    "silent-cut",
    "flood-power-off",
];

/// What a lab said, and whether all bounds were kept; `None` when this machine doesn't allow a lab.
fn lab(arguments: &[&str]) -> Option<(bool, String)> {
    let done =
        Command::new(env!("CARGO_BIN_EXE_lab")).args(arguments).output().expect("the lab's binary starts");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if err.contains("was refused") {
        // Past the test capture: a test that did nothing must be heard.
        let _ = writeln!(std::io::stderr(), "SKIPPED {arguments:?}: {out}{err}");
        return None;
    }
    Some((done.status.success(), format!("{out}{err}")))
}

#[test]
fn the_short_rows_of_mode_session_keep_their_bounds() {
    let Some((kept, said)) = lab(&["run", "--mode", "session", &SHORT.join(",")]) else { return };
    assert!(kept, "{said}");
    for name in SHORT {
        let begun = said.lines().filter(|line| line.contains(&format!("({name}), run 1 of 1"))).count();
        assert_eq!(begun, 1, "{name} was not played: {said}");
    }
    assert!(!said.contains("SKIPPED"), "{said}");
}

#[test]
fn agents_that_are_four_times_as_slow_are_caught() {
    // Jurors may find an address unseen before its owner's heartbeats are late, and that is soon enough, now and then.
    let slow = ["run", "--mode", "session", "--runs", "3", "power-off", "--set", "peers_interval=200ms"];
    let Some((kept, said)) = lab(&slow) else { return };
    let is_broken = |line: &str| line.starts_with("  IPv4 ") && line.contains("BROKEN");
    assert!(!kept && said.lines().any(is_broken), "{said}");
}

#[test]
fn every_row_that_is_played_here_is_there() {
    for name in SHORT {
        assert!(Mode::Session.row(name).is_some(), "no row is called {name}");
    }
}
