//! `lab bench`: figures that are no pass or fail of a test. All scenarios with as many runs as they are short, the time
//! from an installed address to its first announcement, what an idle agent costs, and the size of the binary. `session`
//! measures the mode of that name, `keepalived` its daemons and kube-vip side by side.

mod delivery;
pub mod keepalived;
mod rival;
pub mod session;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::stage::Stage;
use super::suite::{self, Played};
use super::table::{self, Action, Mode, Row, Setup};
use crate::bench::net::{self, Mac};
use crate::bench::watcher::AddressWatch;
use crate::bench::{Detector, Stamp};
use crate::report::Table;

/// How long an idle agent is looked at.
const IDLE: Duration = Duration::from_secs(30);
/// Rows that take longer than this are long: they run a quarter as often.
const SHORT: Duration = Duration::from_secs(10);
const MIB: f64 = 1024.0 * 1024.0;

/// Measures everything; short rows `runs` times. Gives whether all bounds were kept.
pub fn measure(runs: u32, logs: &Path) -> Result<bool> {
    let mut stage = Stage::set(suite::manifest(Mode::Lease, &[])?, logs)?;
    for skipped in stage.lab().skipped() {
        stage.screen().say(skipped);
    }
    let mut table = Table::new(&["figure", "measured", "aim", "kube-vip 1.2.3"]);
    binary_size(&stage, &mut table)?;
    stage.restore(Setup::default())?;
    stage.screen().say(&format!("Idle agents are watched for {} s.", IDLE.as_secs()));
    idle(&stage, &mut table)?;
    first_announcement(&mut stage, runs, &mut table)?;
    let mut played = Played::default();
    for row in Mode::Lease.rows() {
        suite::play_all(&mut stage, &[row], runs_of(row, runs), &mut played);
    }
    stage.screen().say(&format!("\n{}", table.render()));
    played.conclude(stage.screen(), logs);
    Ok(played.kept())
}

/// How often a row is played when short ones are played `runs` times.
fn runs_of(row: &Row, runs: u32) -> u32 {
    if length(row) > SHORT { runs.div_ceil(4) } else { runs }
}

/// How long a row takes at least.
fn length(row: &Row) -> Duration {
    row.steps.iter().map(|step| if let table::Step::Pass(time) = step { *time } else { Duration::ZERO }).sum()
}

fn binary_size(stage: &Stage, table: &mut Table) -> Result<()> {
    let bytes = std::fs::metadata(stage.binary()).context("looking at the binary")?.len();
    table.row(&["size of the binary", &format!("{:.1} MiB", bytes as f64 / MIB), "<= 15 MiB", "61 MB"]);
    Ok(())
}

/// Memory, processor time and API requests of agents while nothing happens.
fn idle(stage: &Stage, table: &mut Table) -> Result<()> {
    let agents: Vec<_> = stage.numbers().filter_map(|number| stage.agent(number)).collect();
    // What starting cost is over after a moment.
    std::thread::sleep(Duration::from_secs(3));
    let before = agents.iter().map(|agent| agent.usage()).collect::<Result<Vec<_>, _>>()?;
    stage.plane().server().reset_counts();
    std::thread::sleep(IDLE);
    let after = agents.iter().map(|agent| agent.usage()).collect::<Result<Vec<_>, _>>()?;
    let requests: u64 = stage.plane().server().counts().values().sum();
    let mut rss: Vec<f64> = after.iter().map(|usage| usage.rss as f64 / MIB).collect();
    let share = |(before, after): (&crate::bench::program::Usage, &crate::bench::program::Usage)| {
        after.cpu.saturating_sub(before.cpu).as_secs_f64() / IDLE.as_secs_f64() * 100.0
    };
    let mut cpu: Vec<f64> = before.iter().zip(&after).map(share).collect();
    table.row(&["idle agent, resident memory", &format!("{} MiB", spread(&mut rss)), "<= 16 MiB", "43 MiB"]);
    table.row(&["idle agent, share of a core", &format!("{} %", spread(&mut cpu)), "<= 0.5 %", "-"]);
    let rate = requests as f64 / IDLE.as_secs_f64();
    table.row(&["three idle agents, API requests", &format!("{rate:.2} /s"), "-", "-"]);
    Ok(())
}

/// From the kernel's word that the address is there to the first frame that announces it, at planned moves.
fn first_announcement(stage: &mut Stage, runs: u32, table: &mut Table) -> Result<()> {
    let mut found: [Vec<f64>; 2] = Default::default();
    for run in 1..=runs {
        stage.screen().say(&format!("first announcement, run {run} of {runs}"));
        stage.restore(Setup::default())?;
        let prober = stage.lab().probe(net::vips()[0])?;
        let victim = prober.wait_answer(Stamp::now(), Duration::from_secs(5), |_| true)?.node;
        let watches = stage
            .lab()
            .nodes()
            .iter()
            .map(|node| Ok((node.number(), AddressWatch::start(node.place()?)?)))
            .collect::<Result<Vec<_>>>()?;
        let [v4, v6] = net::vips();
        let detectors: [Detector; 2] = [stage.lab().detect(v4)?, stage.lab().detect(v6)?];
        let at = stage.act(Action::Signal(Signal::SIGTERM), victim)?;
        let heir = prober.wait_answer(at, Duration::from_secs(20), |answer| answer.node != victim)?.node;
        std::thread::sleep(Duration::from_secs(1));
        let watch = &watches.iter().find(|(number, _)| *number == heir).context("a watch per node")?.1;
        for ((vip, detector), found) in [v4, v6].into_iter().zip(&detectors).zip(&mut found) {
            let came = watch.came(vip, at).with_context(|| format!("{vip} never came to n{heir}"))?;
            let seen = detector.sightings().announced_after(at, Mac::of(net::NODES + heir));
            let seen = seen.with_context(|| format!("{vip} was never announced by n{heir}"))?;
            found.push(seen.at.since(came).as_secs_f64() * 1000.0);
        }
    }
    let [mut v4, mut v6] = found;
    table.row(&[
        "address installed to first GARP",
        &format!("{} ms", spread(&mut v4)),
        "<= 10 ms",
        "up to 3 s",
    ]);
    table.row(&[
        "address installed to first NA",
        &format!("{} ms", spread(&mut v6)),
        "<= 10 ms",
        "up to 3 s",
    ]);
    Ok(())
}

/// "min / median / max" with two digits behind the point.
fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    match (values.first(), values.get(values.len() / 2), values.last()) {
        (Some(min), Some(median), Some(max)) => format!("{min:.2} / {median:.2} / {max:.2}"),
        _ => "-".to_owned(),
    }
}
