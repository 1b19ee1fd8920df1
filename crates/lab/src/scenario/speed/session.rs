//! `lab bench session`: all rows of mode `session`, and what members cost while nothing happens (`lab bench quiet`: that
//! alone): requests to the API with one and with a hundred Services, processor time and heartbeats of who holds them all
//! and of who holds nothing, with two and with five jurors.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::runs_of;
use super::{delivery, rival};
use crate::api::{Call, Verb};
use crate::bench::{Networks, Node, Shape, net};
use crate::report::Table;
use crate::scenario::agent::{self, Manifest};
use crate::scenario::contender::{self, Contender};
use crate::scenario::service::{self, Backend, Family, Standing};
use crate::scenario::stage::{BEATS, NODES, WITHOUT_HEARTBEATS};
use crate::scenario::suite::{self, Played};
use crate::scenario::table::{Mode, Setup, Variables, session};
use crate::scenario::{Screen, Stage};

/// For how long the heartbeats of quiet members are counted.
const COUNTED: Duration = Duration::from_secs(5);
/// How long quiet members are looked at.
const QUIET: Duration = Duration::from_secs(20);
/// How long new Services may take, and what follows them.
const SERVED: Duration = Duration::from_secs(30);
const CALMED: Duration = Duration::from_secs(5);
/// Both at once, an election for each Service.
const WITH_SERVICES: Variables = &[("svc_enable", "true"), ("svc_election", "true")];

/// Quiet members, and what their heartbeats may cost.
#[derive(Clone, Copy, Debug)]
struct Circle {
    nodes: u8,
    services: u8,
    /// Most kilobytes of heartbeats a second that a node sends, and percent of a core that they take.
    kilobytes: f64,
    share: f64,
}

const CIRCLES: [Circle; 3] = [
    Circle { nodes: 3, services: 1, kilobytes: 20.0, share: 0.5 },
    Circle { nodes: 3, services: 100, kilobytes: 20.0, share: 0.5 },
    // Five jurors.
    Circle { nodes: 6, services: 1, kilobytes: 40.0, share: 1.5 },
];

/// Measures everything; short rows `runs` times. Gives whether all bounds were kept.
pub fn measure(runs: u32, logs: &Path) -> Result<bool> {
    let is_quiet = measure_quiet(logs)?;
    let screen = Screen::with_copy(logs);
    let manifest = Manifest::parse(agent::MANIFEST)?.with(session::MODE);
    let mut played = Played::default();
    for networks in [Networks::One, Networks::Two] {
        let shape = Shape { nodes: NODES, networks, logs: logs.to_owned() };
        let mut stage = Stage::set_for(Contender::KubeVip(manifest.clone()), &shape)?;
        for row in Mode::Session.rows().iter().filter(|row| row.networks == networks) {
            suite::play_all(&mut stage, &[row], runs_of(row, runs), &mut played);
        }
    }
    played.conclude(&screen, logs);
    Ok(is_quiet && played.kept())
}

/// Measures what members cost while nothing happens. Gives whether that keeps its bounds.
pub fn measure_quiet(logs: &Path) -> Result<bool> {
    let screen = Screen::with_copy(logs);
    let mut table = Table::new(&["figure", "measured", "aim", "kube-vip 1.2.3"]);
    let mut is_quiet = true;
    let delivery = delivery::cost(logs)?;
    screen.say(&format!("The lab delivers a datagram in {delivery:?} of its sender's processor time."));
    for circle in CIRCLES {
        let (nodes, services) = (circle.nodes, circle.services);
        let seconds = QUIET.as_secs();
        screen.say(&format!("{nodes} quiet members with {services} Services are watched for {seconds} s."));
        let quiet = Quiet::measure(circle, &[], logs)?;
        // What is left then is what everything else costs.
        let without = Quiet::measure(circle, WITHOUT_HEARTBEATS, logs)?;
        is_quiet &= quiet.kept(circle, &without);
        quiet.show(circle, &without, delivery, &mut table);
    }
    rival::compare(logs, &screen, &mut table)?;
    screen.say(&format!("\n{}", table.render()));
    Ok(is_quiet)
}

/// What quiet members cost, per node and second.
struct Quiet {
    writes: f64,
    reads: f64,
    /// Heartbeats sent by each node: kilobytes with Ethernet headers.
    kilobytes: Vec<f64>,
    /// And datagrams: the holder's, and the most of the others.
    holder_sends: f64,
    others_send: f64,
    /// Shares of a core, in percent: the holder's, and the largest of the others.
    holder: f64,
    others: f64,
}

impl Quiet {
    fn measure(Circle { nodes, services, .. }: Circle, set: Variables, logs: &Path) -> Result<Self> {
        let manifest = Manifest::parse(agent::MANIFEST)?.with(session::MODE).with(WITH_SERVICES);
        let shape = Shape { nodes, networks: Networks::One, logs: logs.to_owned() };
        let mut stage = Stage::set_for(Contender::KubeVip(manifest), &shape)?;
        stage.restore(Setup { set, ..Setup::default() })?;
        (1..=services).try_for_each(|number| create(&stage, number))?;
        wait_served(&stage, usize::from(services))?;
        std::thread::sleep(CALMED);
        let sent = sent(&stage)?;
        let agents: Vec<_> = stage.numbers().filter_map(|number| stage.agent(number)).collect();
        let before = agents.iter().map(|agent| agent.usage()).collect::<Result<Vec<_>, _>>()?;
        stage.plane().server().reset_counts();
        let begin = Instant::now();
        std::thread::sleep(QUIET);
        let seconds = begin.elapsed().as_secs_f64();
        let counts = stage.plane().server().counts();
        let after = agents.iter().map(|agent| agent.usage()).collect::<Result<Vec<_>, _>>()?;
        let per_node = |wanted: fn(&Call) -> bool| {
            let sum: u64 = counts.iter().filter(|(call, _)| wanted(call)).map(|(_, count)| count).sum();
            sum as f64 / seconds / f64::from(nodes)
        };
        for (call, count) in &counts {
            stage
                .screen()
                .say(&format!("  {count:5} x {:?} {} at {}", call.verb, call.resource, call.endpoint));
        }
        let shares: Vec<f64> = before
            .iter()
            .zip(&after)
            .map(|(before, after)| after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds * 100.0)
            .collect();
        let holder = holder(stage.lab().nodes())?;
        Ok(Self {
            writes: per_node(is_write),
            reads: per_node(is_read),
            kilobytes: sent.iter().map(|(_, kilobytes)| *kilobytes).collect(),
            holder_sends: sent[holder].0,
            others_send: except(holder, sent.iter().map(|(packets, _)| *packets)),
            holder: shares[holder],
            others: except(holder, shares.iter().copied()),
        })
    }

    /// What heartbeats take of a core, in percent, and how much of that is the lab's: the holder's, and the most of the others.
    fn costs(&self, without: &Self, delivery: Duration) -> [(f64, f64); 2] {
        let delivered = |sends: f64| sends * delivery.as_secs_f64() * 100.0;
        [
            (self.holder - without.holder, delivered(self.holder_sends)),
            (self.others - without.others, delivered(self.others_send)),
        ]
    }

    fn kept(&self, circle: Circle, without: &Self) -> bool {
        self.writes <= 1.0
            && self.reads < 0.05
            && self.kilobytes.iter().all(|rate| *rate <= circle.kilobytes)
            && self.holder - without.holder <= circle.share
            && self.others - without.others <= circle.share
    }

    fn show(&self, circle: Circle, without: &Self, delivery: Duration, table: &mut Table) {
        let Circle { nodes, services, kilobytes, share } = circle;
        let with = if services == 1 { "1 Service".to_owned() } else { format!("{services} Services") };
        let with = format!("{nodes} nodes, {with}");
        let (most_sent, most_used) = (format!("<= {kilobytes} kB/s"), format!("<= {share} %"));
        let upstream = if services == 100 { "33, lease 5/3/1 s" } else { "-" };
        table.row(&[
            &format!("{with}: API writes per node"),
            &format!("{:.2} /s", self.writes),
            "<= 1 /s",
            upstream,
        ]);
        let upstream = if services == 100 { "42, lease 5/3/1 s" } else { "-" };
        table.row(&[
            &format!("{with}: API reads per node"),
            &format!("{:.2} /s", self.reads),
            "none",
            upstream,
        ]);
        let beats: Vec<String> = self.kilobytes.iter().map(|rate| format!("{rate:.1}")).collect();
        table.row(&[
            &format!("{with}: heartbeats sent"),
            &format!("{} kB/s", beats.join(" / ")),
            &most_sent,
            "-",
        ]);
        let in_all = [("holder", self.holder, without.holder), ("others", self.others, without.others)];
        for ((who, with_them, without), (cost, lab)) in in_all.into_iter().zip(self.costs(without, delivery))
        {
            table.row(&[
                &format!("{with}: share of a core for heartbeats, {who}"),
                &format!(
                    "{cost:.2} % ({lab:.2} of it the lab's; {with_them:.2} in all, {without:.2} without them)"
                ),
                &most_used,
                "-",
            ]);
        }
    }
}

/// The largest but for one.
fn except(index: usize, all: impl Iterator<Item = f64>) -> f64 {
    all.enumerate().filter(|(at, _)| *at != index).map(|(_, one)| one).fold(0.0, f64::max)
}

/// What each node sends of heartbeats: datagrams and kilobytes a second. For a time of its own: the sender pays for the counting, as for
/// everything that the switch does.
fn sent(stage: &Stage) -> Result<Vec<(f64, f64)>> {
    let switch = stage.lab().switch();
    for node in stage.lab().nodes() {
        switch.count_udp_of(node.name(), BEATS)?;
    }
    let begin = Instant::now();
    std::thread::sleep(COUNTED);
    let beats = switch.counted()?;
    let seconds = begin.elapsed().as_secs_f64();
    switch.clear_filters()?;
    let rates = |(packets, bytes): &(u64, u64)| {
        (*packets as f64 / seconds, (bytes + packets * ETHERNET) as f64 / seconds / 1000.0)
    };
    Ok(beats.iter().map(rates).collect())
}

/// Bytes of an Ethernet header, which the switch's counters leave out.
const ETHERNET: u64 = 14;

fn is_write(call: &Call) -> bool {
    matches!(call.verb, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete)
}

/// A question that is asked again and again; watches are none.
fn is_read(call: &Call) -> bool {
    matches!(call.verb, Verb::Get | Verb::List)
}

/// The index of the node whose session owns the most.
fn holder(nodes: &[Node]) -> Result<usize> {
    let mut claims = Vec::new();
    for node in nodes {
        let session =
            contender::view(node)?.session.with_context(|| format!("{} has no session", node.name()))?;
        claims.push(session.claims);
    }
    (0..claims.len()).max_by_key(|index| claims[*index]).context("there are nodes")
}

/// A Service with an address of its own and an endpoint on each node.
fn create(stage: &Stage, number: u8) -> Result<()> {
    let name = format!("web-{number}");
    let address = IpAddr::from(net::v4(last_number(number)));
    let store = stage.plane().server().store();
    store.apply(&service::service(&name, &[address], json!({})))?;
    let backends: Vec<Backend> = stage
        .numbers()
        .map(|node| Backend {
            address: IpAddr::from(Ipv4Addr::new(10, 244, node, number)),
            node,
            standing: Standing::Ready,
        })
        .collect();
    store.apply(&service::slice(&name, Family::V4, &backends))?;
    Ok(())
}

/// The last number of the address of Service `number`, from 1 to 100: one that nobody else has on the bench.
const fn last_number(number: u8) -> u8 {
    let above_watch = net::WATCH + number;
    if above_watch < net::VIP { above_watch } else { net::NODES + 10 + (above_watch - net::VIP) }
}

/// Waits until all claims have an owner: those of the Services and the control plane's.
fn wait_served(stage: &Stage, services: usize) -> Result<()> {
    let begin = Instant::now();
    loop {
        let mut claims = 0;
        for node in stage.lab().nodes() {
            claims += contender::view(node)?.session.map_or(0, |session| session.claims);
        }
        if claims == services + 1 {
            return Ok(());
        }
        if begin.elapsed() > SERVED {
            bail!("{claims} claims have an owner after {SERVED:?}, not {}", services + 1);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hundred_services_have_addresses_that_nobody_else_has() {
        let numbers: BTreeSet<u8> = (1..=100).map(last_number).collect();
        assert_eq!(numbers.len(), 100);
        for taken in [net::ROUTER, net::CLIENT, net::WATCH, net::VIP] {
            assert!(!numbers.contains(&taken), "{taken}");
        }
        assert!(numbers.iter().all(|number| *number > net::NODES + NODES), "nodes");
    }
}
