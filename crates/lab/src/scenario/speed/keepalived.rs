//! `lab bench keepalived`: keepalived and kube-vip in mode `session`, at the same intervals, on the same bench in one run.
//! A dead node and a cut that heals: what a client loses, and how long two answer.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::bench::{Networks, Shape};
use crate::report::Table;
use crate::scenario::agent::{self, Manifest};
use crate::scenario::contender::Contender;
use crate::scenario::stage::NODES;
use crate::scenario::suite::{self, Played};
use crate::scenario::table::keepalived::{INTERVALS, Interval, ROWS};
use crate::scenario::{Screen, Stage, figures};

/// The intervals that a name means: one, written as `100ms`, or all without a name.
pub fn intervals(name: Option<&str>) -> Result<Vec<Interval>> {
    let Some(name) = name else { return Ok(INTERVALS.to_vec()) };
    let is_it = |interval: &&Interval| interval.name.replace(' ', "") == name;
    let found: Vec<Interval> = INTERVALS.iter().filter(is_it).copied().collect();
    ensure!(!found.is_empty(), "no interval is called `{name}`; there are 1s, 100ms and 10ms");
    Ok(found)
}

/// Measures both at these intervals, each row `runs` times. Gives whether all could be played.
pub fn measure(intervals: &[Interval], runs: u32, logs: &Path) -> Result<bool> {
    let screen = Screen::with_copy(logs);
    let mut table = Table::new(&["what", "interval", "fault", "figure", "IPv4 ms", "IPv6 ms", "calm"]);
    let mut whole = true;
    for &interval in intervals {
        let manifest = Manifest::parse(agent::MANIFEST)?.with(interval.set);
        let contenders = [
            ("keepalived", Contender::Keepalived(interval.advert)),
            ("kube-vip", Contender::KubeVip(manifest)),
        ];
        for (name, contender) in contenders {
            match play(&contender, interval, runs, logs) {
                Ok(played) => {
                    figures::compare(&played.outcomes, [name, interval.name], &mut table);
                    whole &= played.kept();
                }
                Err(error) if suite::is_missing(&error) => {
                    screen.say(&format!("SKIPPED {name}, {}: {error:#}", interval.name));
                }
                Err(error) => return Err(error),
            }
        }
    }
    screen.say(&format!(
        "\n{}\n(min / median / max of {runs} runs; \"never\": clients were still lost when watching ended; keepalived \
         with VRRPv3 and preemption, kube-vip in mode session, both without real-time priority)",
        table.render()
    ));
    Ok(whole)
}

fn play(contender: &Contender, interval: Interval, runs: u32, logs: &Path) -> Result<Played> {
    let shape = Shape { nodes: NODES, networks: Networks::One, logs: logs.to_owned() };
    let mut stage = Stage::set_for(contender.clone(), &shape)?;
    stage.settle_for(interval.settled);
    let rows: Vec<_> = ROWS.iter().collect();
    let mut played = Played::default();
    suite::play_all(&mut stage, &rows, runs, &mut played);
    Ok(played)
}
