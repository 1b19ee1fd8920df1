//! What three quiet members take of a processor, beside keepalived at the same interval, on the same bench in one run. Both
//! hold one address of each family; kube-vip's heartbeats are answered and authenticated, and it renews its session beside them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::{Networks, Shape};
use crate::report::Table;
use crate::scenario::agent::{self, Manifest};
use crate::scenario::contender::Contender;
use crate::scenario::stage::NODES;
use crate::scenario::suite;
use crate::scenario::table::Setup;
use crate::scenario::table::keepalived::{INTERVALS, Interval};
use crate::scenario::{Screen, Stage};

/// The interval that both can keep and that is nearest to the default.
const AT: &str = "100 ms";
/// How long they are looked at.
const QUIET: Duration = Duration::from_secs(15);
const CALMED: Duration = Duration::from_secs(5);

/// Measures both and writes a row for each.
pub(super) fn compare(logs: &Path, screen: &Screen, table: &mut Table) -> Result<()> {
    let interval = INTERVALS.iter().find(|interval| interval.name == AT).context("the interval is there")?;
    let manifest = Manifest::parse(agent::MANIFEST)?.with(interval.set);
    screen.say(&format!("Quiet members and keepalived, each {AT}, are watched for {} s.", QUIET.as_secs()));
    for (name, contender) in [
        ("kube-vip, in all", Contender::KubeVip(manifest)),
        ("keepalived", Contender::Keepalived(interval.advert)),
    ] {
        let shares = match shares(contender, *interval, logs) {
            Err(error) if suite::is_missing(&error) => {
                screen.say(&format!("SKIPPED {name}, {AT}: {error:#}"));
                continue;
            }
            shares => shares?,
        };
        let (holder, others) = shares.split_first().context("there are nodes")?;
        let others = others.iter().copied().fold(0.0, f64::max);
        let figure = format!("{NODES} nodes, {AT}: share of a core, {name}: holder / others");
        table.row(&[&figure, &format!("{holder:.2} % / {others:.2} %"), "-", "-"]);
    }
    Ok(())
}

/// The share of a processor of each node, in percent, the largest first: that is the holder's.
fn shares(contender: Contender, interval: Interval, logs: &Path) -> Result<Vec<f64>> {
    let shape = Shape { nodes: NODES, networks: Networks::One, logs: logs.to_owned() };
    let mut stage = Stage::set_for(contender, &shape)?;
    stage.settle_for(interval.settled);
    stage.restore(Setup::default())?;
    std::thread::sleep(CALMED);
    let agents: Vec<_> = stage.numbers().filter_map(|number| stage.agent(number)).collect();
    let spent = || agents.iter().map(|agent| agent.processor_time()).collect::<Result<Vec<_>, _>>();
    let (before, begin) = (spent()?, Instant::now());
    std::thread::sleep(QUIET);
    let (after, span) = (spent()?, begin.elapsed().as_secs_f64());
    let share =
        |(before, after): (&Duration, &Duration)| after.saturating_sub(*before).as_secs_f64() / span * 100.0;
    let mut shares: Vec<f64> = before.iter().zip(&after).map(share).collect();
    shares.sort_by(|one, other| other.total_cmp(one));
    Ok(shares)
}
