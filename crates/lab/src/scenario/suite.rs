//! `lab run`: one scenario or all of them, some times each, and the table. Its exit code says whether all bounds were
//! kept; tests and people use the same thing.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::agent::{self, Manifest};
use super::outcome::Outcome;
use super::stage::Stage;
use super::table::{self, Row};
use super::{figures, play};
use crate::bench;
use crate::report::Table;

/// The rows that a name means: "all", or one of the table.
pub fn rows(name: &str) -> Result<Vec<&'static Row>> {
    if name == "all" {
        return Ok(table::suite().collect());
    }
    if let Some(row) = table::row(name) {
        return Ok(vec![row]);
    }
    let known: Vec<&str> = table::ROWS.iter().map(|row| row.name).collect();
    bail!("no scenario is called `{name}`; there are all, {}", known.join(", "))
}

/// The lab's manifest with some variables set, each as `NAME=VALUE`.
pub fn manifest(variables: &[String]) -> Result<Manifest> {
    let mut manifest = Manifest::parse(agent::MANIFEST)?;
    for variable in variables {
        let (name, value) = variable
            .split_once('=')
            .with_context(|| format!("`{variable}` is no NAME=VALUE; write it like vip_arpRate=1000"))?;
        manifest.set(name, value);
    }
    Ok(manifest)
}

/// Plays rows `runs` times each on a stage of its own; gives whether all bounds were kept.
pub fn run(rows: &[&'static Row], runs: u32, manifest: Manifest, logs: &Path) -> Result<bool> {
    let mut stage = Stage::set_for(manifest, logs)?;
    for skipped in stage.lab().skipped() {
        stage.screen().say(skipped);
    }
    let mut played = Played::default();
    play_all(&mut stage, rows, runs, &mut played);
    played.conclude(&stage);
    Ok(played.kept())
}

/// What was played so far.
#[derive(Debug, Default)]
pub struct Played {
    outcomes: Vec<Outcome>,
    /// Runs that could not be played to their end.
    failed: Vec<String>,
}

impl Played {
    /// Was everything played to its end, within its bounds?
    pub fn kept(&self) -> bool {
        self.failed.is_empty() && self.outcomes.iter().all(Outcome::kept)
    }

    /// Shows the table and what went wrong.
    pub fn conclude(&self, stage: &Stage) {
        let screen = stage.screen();
        screen.say(&format!("\n{}\n({})", figures::render(&self.outcomes), figures::SOURCE));
        for failed in &self.failed {
            screen.say(&format!("FAILED {failed}"));
        }
        if !self.kept() {
            screen.say(&format!(
                "A bound is broken or a run failed; the logs are in {}",
                stage.lab().logs().display()
            ));
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

/// All scenarios with what they do and their first bound.
pub fn list() -> String {
    let mut table = Table::new(&["scenario", "what happens", "kube-vip 1.2.3"]);
    for row in table::ROWS {
        table.row(&[row.name, row.title, row.upstream]);
    }
    table.render()
}

/// Is it a program that is not installed?
fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(bench::Error::Missing { .. })))
}
