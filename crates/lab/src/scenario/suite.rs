//! `lab run`: one scenario or all of them, some times each, and the table. Its exit code says whether all bounds were
//! kept; tests and people use the same thing.

use std::path::Path;

use anyhow::{Context, Result};

use super::agent::{self, Manifest};
use super::contender::Contender;
use super::outcome::Outcome;
use super::screen::Screen;
use super::stage::{NODES, Stage};
use super::table::{Mode, Row};
use super::{figures, play};
use crate::bench::{self, Networks, Shape};
use crate::report::Table;

/// The rows that a name means: "all", or some of the mode's table, separated by commas.
pub fn rows(mode: Mode, name: &str) -> Result<Vec<&'static Row>> {
    if name == "all" {
        return Ok(mode.rows().iter().collect());
    }
    let row = |name: &str| {
        let known = || mode.rows().iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
        mode.row(name).with_context(|| format!("no scenario is called `{name}`; there are all, {}", known()))
    };
    name.split(',').map(row).collect()
}

/// The lab's manifest for a mode, with some variables set, each as `NAME=VALUE`.
pub fn manifest(mode: Mode, variables: &[String]) -> Result<Manifest> {
    let mut manifest = Manifest::parse(agent::MANIFEST)?.with(mode.variables());
    for variable in variables {
        let (name, value) = variable
            .split_once('=')
            .with_context(|| format!("`{variable}` is no NAME=VALUE; write it like vip_arpRate=1000"))?;
        manifest.set(name, value);
    }
    Ok(manifest)
}

/// Plays rows `runs` times each, on one stage for each kind of networks; gives whether all bounds were kept.
pub fn run(rows: &[&'static Row], runs: u32, manifest: &Manifest, logs: &Path) -> Result<bool> {
    let screen = Screen::with_copy(logs);
    let mut played = Played::default();
    for networks in [Networks::One, Networks::Two] {
        let rows: Vec<&'static Row> = rows.iter().copied().filter(|row| row.networks == networks).collect();
        if rows.is_empty() {
            continue;
        }
        let shape = Shape { nodes: NODES, networks, logs: logs.to_owned() };
        let mut stage = Stage::set_for(Contender::KubeVip(manifest.clone()), &shape)?;
        for skipped in stage.lab().skipped() {
            stage.screen().say(skipped);
        }
        play_all(&mut stage, &rows, runs, &mut played);
    }
    played.conclude(&screen, logs);
    Ok(played.kept())
}

/// What was played so far.
#[derive(Debug, Default)]
pub struct Played {
    pub(super) outcomes: Vec<Outcome>,
    /// Runs that could not be played to their end.
    failed: Vec<String>,
}

impl Played {
    /// Was everything played to its end, within its bounds?
    pub fn kept(&self) -> bool {
        self.failed.is_empty() && self.outcomes.iter().all(Outcome::kept)
    }

    /// Shows the table and what went wrong.
    pub fn conclude(&self, screen: &Screen, logs: &Path) {
        screen.say(&format!("\n{}\n({})", figures::render(&self.outcomes), figures::SOURCE));
        for failed in &self.failed {
            screen.say(&format!("FAILED {failed}"));
        }
        if !self.kept() {
            screen.say(&format!("A bound is broken or a run failed; the logs are in {}", logs.display()));
        }
    }
}

/// Plays rows on a stage, `runs` times each. A run that fails is told and does not keep the others from being played.
pub fn play_all(stage: &mut Stage, rows: &[&'static Row], runs: u32, played: &mut Played) {
    for row in rows {
        for run in 1..=runs {
            stage.screen().say(&format!("\n{} ({}), run {run} of {runs}", row.title, row.name));
            match play(stage, row) {
                Ok(outcome) => {
                    stage.screen().say(&format!("  {}", figures::line(&outcome)));
                    played.outcomes.push(outcome);
                }
                // Without one program the other scenarios still say something.
                Err(error) if is_missing(&error) => {
                    stage.screen().say(&format!("SKIPPED {}: {error:#}", row.name));
                }
                Err(error) => {
                    stage.screen().say(&format!("  FAILED: {error:#}"));
                    played.failed.push(format!("{}, run {run}: {error:#}", row.name));
                }
            }
        }
    }
}

/// All scenarios with what they do, and what kube-vip reaches.
pub fn list() -> String {
    let mut table = Table::new(&["mode", "scenario", "what happens", "kube-vip 1.2.3"]);
    for (mode, name) in [(Mode::Lease, "lease"), (Mode::Session, "session")] {
        for row in mode.rows() {
            table.row(&[name, row.name, row.title, row.upstream]);
        }
    }
    table.render()
}

/// Is it a program that is not installed?
pub(super) fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(bench::Error::Missing { .. })))
}
