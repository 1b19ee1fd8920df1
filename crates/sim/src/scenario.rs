//! A world written by a person: a sentence, a few words on the set-up, a schedule. The form of `tests/seeds/*.txt`, and
//! what the shrinker prints.
//!
//! ```text
//! # An agent is killed and never comes back: its address goes by itself, then another node takes over.
//! seed 7
//! nodes 3
//! timings 5s 3s 1s
//! 20s +ever kill n1
//! ```
//!
//! A line with a `+` after its time is a fault, one with `answers` a look at an address, any other is a deed.

mod services;

mod session;

use std::time::Duration;

use vip_model::config::{InterfaceChoice, LinkDown, NodeLabel, OnLoss};

use crate::clock::Drift;
use crate::deed::{Deed, NotADeed};
use crate::fault::{Fault, NotAFault, parse_seconds};
use crate::run::Case;
use crate::setup::{
    AgentSetup, Endpoints, GateSetup, MAX_NODES, Probing, Secondaries, Setup, v4_vip, v6_vip,
};

/// A seed file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {text:?}: {why}")]
pub struct NotAScenario {
    /// Its number, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// Reads a scenario; the sentence is what its comment lines say.
pub fn parse(text: &str) -> Result<(String, Case), NotAScenario> {
    let mut sentence = Vec::new();
    let mut case = Case::new(Setup::plain(0), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            sentence.push(comment.trim());
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let bad = |why| NotAScenario { line: number + 1, text: line.to_owned(), why };
            let second = line.split_whitespace().nth(1);
            if second == Some("answers") {
                case.looks.push(line.parse().map_err(|why: &str| bad(why.to_owned()))?);
            } else if second.is_some_and(|word| word.starts_with('+')) {
                let fault: Fault = line.parse().map_err(|it: NotAFault| bad(it.why.to_owned()))?;
                case.schedule.push(fault);
            } else {
                let deed: Deed = line.parse().map_err(|it: NotADeed| bad(it.why))?;
                case.deeds.push(deed);
            }
        } else if let Some(bound) = line.strip_prefix("gap-at-most ") {
            case.gap = parse_seconds(bound.trim());
        } else if session::promise(&mut case.promises, line) {
        } else if let Some(bound) = line.strip_prefix("spread-at-most ") {
            case.promises.spread = bound.trim().parse().ok();
        } else if let Some(count) = line.strip_prefix("services ") {
            let bad = |why| NotAScenario { line: number + 1, text: line.to_owned(), why };
            case.deeds.extend(services::many(count.trim(), case.setup.nodes()).map_err(bad)?);
        } else if !line.is_empty() {
            let bad = |why| NotAScenario { line: number + 1, text: line.to_owned(), why };
            set(&mut case.setup, line).map_err(bad)?;
        }
    }
    Ok((sentence.join(" "), case))
}

fn set(setup: &mut Setup, line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let key = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    let first = rest.first().copied().unwrap_or_default();
    let numbers = || -> Option<Vec<i32>> { rest.iter().map(|word| word.parse().ok()).collect() };
    match key {
        "seed" => setup.seed = first.parse().map_err(|_| "no number".to_owned())?,
        "drawn-from" => *setup = Setup::draw(first.parse().map_err(|_| "no number".to_owned())?),
        "episode-of" => {
            let seed = first.parse().map_err(|_| "no number".to_owned())?;
            *setup = Setup::draw_session(seed, rest.get(1).and_then(|count| count.parse().ok()));
        }
        "nodes" => {
            let count: usize = first.parse().map_err(|_| "no number".to_owned())?;
            if count == 0 || count > MAX_NODES {
                return Err(format!("1 to {MAX_NODES} nodes"));
            }
            setup.drifts = vec![Drift(0); count];
        }
        "drifts" => {
            let drifts = numbers().ok_or("numbers, in parts per million")?;
            setup.drifts = drifts.into_iter().map(Drift).collect();
        }
        "timings" => {
            let spans: Option<Vec<Duration>> = rest.iter().map(|word| parse_seconds(word)).collect();
            let [duration, renew_deadline, retry_period] = spans.unwrap_or_default()[..] else {
                return Err("three spans: duration, renew deadline, retry period".to_owned());
            };
            setup.timings = vip_model::config::LeaseTimings { duration, renew_deadline, retry_period };
        }
        "vips" => setup.agents[0].vips = vips(&rest)?,
        "second-agent" => {
            setup.agents.push(AgentSetup::control_plane("second", vec![v4_vip(7, 32)]));
        }
        "gate" => setup.gate = GateSetup::On,
        "interface-auto" => setup.interface = InterfaceChoice::Auto,
        "interface" => setup.interface = InterfaceChoice::Named(first.to_owned()),
        "link-down-ignored" => setup.link_down = LinkDown::Ignore,
        "preserve" => setup.on_loss = OnLoss::Preserve,
        "no-label" => setup.node_label = NodeLabel::Off,
        "skip-dad" => setup.probing = Probing::Skipped,
        "all-endpoints" => setup.endpoints = Endpoints::All,
        "secondaries-go" => setup.secondaries = Secondaries::Go,
        "prefer" => setup.preferred = nodes(&rest)?,
        "agents" => setup.agents = services::agents(&rest)?,
        _ => match session::set(setup, key, &rest) {
            Some(done) => return done,
            None => services::set(setup, key, first)?,
        },
    }
    Ok(())
}

/// Nodes by name, one bit each.
fn nodes(words: &[&str]) -> Result<u64, String> {
    let one = |word: &&str| -> Option<u64> {
        let number: u32 = word.strip_prefix('n')?.parse().ok()?;
        (1..=50).contains(&number).then(|| 1 << (number - 1))
    };
    let all: Option<Vec<u64>> = words.iter().map(one).collect();
    Ok(all.ok_or("n1 to n50")?.into_iter().fold(0, |all, one| all | one))
}

fn vips(words: &[&str]) -> Result<Vec<vip_model::VipNet>, String> {
    let one = |word: &&str| match *word {
        "v4" => Ok(v4_vip(0, 32)),
        "v4/24" => Ok(v4_vip(0, 24)),
        "v6" => Ok(v6_vip(0, 128)),
        "v6/64" => Ok(v6_vip(0, 64)),
        other => Err(format!("{other:?} is none of v4, v4/24, v6, v6/64")),
    };
    words.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::What;

    #[test]
    fn a_scenario_reads_as_a_person_writes_it() {
        let text = "# One sentence,\n# in two lines.\nseed 7\nnodes 2\ntimings 15s 10s 2s\nvips v4 v6\n\n20s +ever kill n1\n";
        let (sentence, case) = parse(text).unwrap();
        assert_eq!(sentence, "One sentence, in two lines.");
        assert_eq!(case.setup.nodes(), 2);
        assert_eq!(case.setup.timings.duration, Duration::from_secs(15));
        assert_eq!(case.setup.agents[0].vips.len(), 2);
        assert_eq!(case.schedule[0].what, What::Kill);
        assert_eq!(parse("nodes 99").unwrap_err().why, "1 to 50 nodes");
        assert_eq!(parse("\n5s +1s melt n1").unwrap_err().line, 2);
    }
}
