//! Hundreds of Services created at once, with an election for each; and what hundreds of elections cost afterwards.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::arena::{Arena, Election, kind, name};
use super::millis;
use crate::api::Verb;
use crate::bench::{RollCall, Span, Stamp, net};
use crate::report::Table;

/// How many Services are created at once.
const MANY: u16 = 400;
/// How many of them stay for the second look at the costs.
const FEW: u16 = 100;
const LIMIT: Duration = Duration::from_secs(60);
/// How often an address is asked for: a multiple of this is the grain of the figure.
const PACE: Duration = Duration::from_millis(40);
/// How long the costs are looked at.
const LOOK: Duration = Duration::from_secs(12);

/// Measures the storm and the quiet after it.
pub(super) fn measure(arena: &mut Arena, table: &mut Table) -> Result<()> {
    arena.screen().say(&format!("{MANY} Services at once, an election each."));
    arena.start(3, Election::PerService)?;
    arena.settle()?;
    let roll = RollCall::start(arena.lab().watch(), PACE)?;
    roll.ask((0..MANY).map(net::service));
    let first = Stamp::now();
    let mut last = first;
    for number in 0..MANY {
        last = arena.create(number, &json!({}))?;
    }
    let answered = roll.wait(LIMIT)?;
    drop(roll);
    let written =
        arena.wait("a status for each Service", LIMIT, || Ok(arena.served()? >= usize::from(MANY)))?;
    let since = |at: Stamp| millis(Span::new(last, at).length());
    table.row(&[
        &format!("{MANY} Services at once, an election each: last creation → last first answer"),
        &format!("{} ms (created within {} ms)", since(answered), millis(Span::new(first, last).length())),
        "1000 ms",
        "256 of 400 in two minutes",
    ]);
    table.row(&["the same, until all statuses are written", &format!("{} ms", since(written)), "-", "-"]);
    cost(arena, MANY, "-", table)?;
    for number in FEW..MANY {
        arena.store().delete(kind("services")?, "default", &name(number));
    }
    cost(arena, FEW, "125 GET and 99 PUT /s", table)?;
    arena.clear()
}

/// What elections cost while nothing happens.
fn cost(arena: &Arena, services: u16, upstream: &str, table: &mut Table) -> Result<()> {
    arena.screen().say(&format!("{services} Services, an election each, and nothing happens."));
    std::thread::sleep(Duration::from_secs(4));
    let rates = arena.requests(LOOK);
    let rate = |verb: Verb| rates.get(&verb).copied().unwrap_or(0.0);
    let others: f64 = rates
        .iter()
        .filter(|(verb, _)| !matches!(verb, Verb::Get | Verb::Update))
        .map(|it| it.1)
        .fold(0.0, |sum, rate| sum + rate);
    table.row(&[
        &format!("{services} elections, API requests of three agents"),
        &format!("{:.0} GET, {:.0} PUT, {others:.1} others /s", rate(Verb::Get), rate(Verb::Update)),
        "-",
        upstream,
    ]);
    let (share, rss) = arena.usage(LOOK)?;
    table.row(&[
        &format!("{services} elections, the busiest agent"),
        &format!("{:.1} % of a core, {:.1} MiB", share * 100.0, rss as f64 / 1_048_576.0),
        "-",
        "-",
    ]);
    Ok(())
}
