//! An agent starts in a cluster with thousands of Services: how long until all their addresses are in its kernel, answered
//! for and written down, and what it uses.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::arena::{Arena, Election};
use crate::bench::{RollCall, Span, net};
use crate::report::Table;

/// How many Services, with three endpoints each.
const SERVICES: u16 = 5000;
const LIMIT: Duration = Duration::from_secs(120);
/// How often an address is asked for, and the grain of these figures: thousands of questions and looks at thousands of
/// objects must not take the processors away that the agent is measured on.
const PACE: Duration = Duration::from_secs(1);
const GRAIN: Duration = Duration::from_millis(200);
/// How long the quiet agent is looked at.
const LOOK: Duration = Duration::from_secs(12);

/// Measures a cold start with one election.
pub(super) fn measure(arena: &mut Arena, table: &mut Table) -> Result<()> {
    arena.screen().say(&format!("An agent starts beside {SERVICES} Services with 3 endpoints each."));
    for number in 0..SERVICES {
        arena.create(number, &json!({}))?;
    }
    let roll = RollCall::start(arena.lab().watch(), PACE)?;
    roll.ask((0..SERVICES).map(net::service));
    let started = arena.start(1, Election::Global)?;
    let installed = arena.wait_patiently("an address for each Service", LIMIT, GRAIN, || {
        let shown = arena.lab().nodes()[0]
            .place()?
            .run(Command::new("ip").args(["-o", "-4", "address", "show", "dev", "eth0"]))?;
        Ok(shown.lines().filter(|line| line.contains(" 10.78.")).count() >= usize::from(SERVICES))
    })?;
    let answered = roll.wait(LIMIT)?;
    drop(roll);
    let written = arena.wait_patiently("a status for each Service", LIMIT, GRAIN, || {
        Ok(arena.served()? >= usize::from(SERVICES))
    })?;
    let since = |at| format!("{:.2} s", Span::new(started, at).length().as_secs_f64());
    let busy = arena.agent(0)?.usage()?;
    table.row(&[
        &format!("{SERVICES} Services × 3 endpoints, cold start → all addresses installed"),
        &since(installed),
        "-",
        "-",
    ]);
    table.row(&["the same → all addresses answered for (asked every second)", &since(answered), "-", "-"]);
    table.row(&["the same → all statuses written", &since(written), "10 s", "-"]);
    std::thread::sleep(Duration::from_secs(5));
    let (share, rss) = arena.usage(LOOK)?;
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    table.row(&[
        "the same, resident memory when all is done / later",
        &format!("{:.1} / {:.1} MiB", mib(busy.rss), mib(rss)),
        "80 MiB",
        "-",
    ]);
    table.row(&["the same, quiet: share of a core", &format!("{:.1} %", share * 100.0), "-", "-"]);
    arena.clear()
}
