//! `lab demo`: what a newcomer sees first. Says what it will do, need and take; then five faults against three nodes that
//! hold a VIP, with a live timeline; then a Service with two pods, whose holder is stopped; then the table of what a client
//! lost.

mod service;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::agent::{self, Manifest};
use super::contender::Contender;
use super::outcome::Outcome;
use super::stage::{NODES, Stage};
use super::table::Mode;
use super::{figures, play, table, version};
use crate::bench::{Networks, Pod, Shape, net};

/// What the demo leaves behind.
#[derive(Debug)]
pub struct Shown {
    // Dropped in this order: pods before their nodes.
    /// The pods of the Service, still running.
    pub pods: Vec<Pod>,
    /// The stage, still up.
    pub stage: Stage,
    /// Whether all bounds were kept.
    pub kept: bool,
}

const INTRO: &str = "\
kube-vip demo
  does   Raises a small lab inside private kernel namespaces: a switch, three control-plane nodes, a client. The real
         kube-vip binary runs on every node, started as by a usual static pod (ARP mode, IPv4 and IPv6, leases 5/3/1 s).
         Five faults hit the node that holds the VIP, and a client that asks every 2 ms measures each outage. Then a
         Service of type LoadBalancer is created, two pods answer through it, and the agent that holds it is stopped.
  needs  Linux with network, PID and mount namespaces (root, or unprivileged user namespaces) and the Debian packages
         iproute2 and nftables. Nothing is installed, no name, link or file of your host is touched.
  takes  Less than 3 minutes and some 300 MB of memory. Ctrl-C ends it at any time and leaves nothing behind.";

/// Shows the demo.
pub fn show(runs: u32, logs: &Path) -> Result<Shown> {
    let begin = Instant::now();
    let mut manifest = Manifest::parse(agent::MANIFEST)?;
    manifest.set("svc_enable", "true");
    let shape = Shape { nodes: NODES, networks: Networks::One, logs: logs.to_owned() };
    let mut stage = Stage::set_for(Contender::KubeVip(manifest), &shape)?;
    stage.screen().say(INTRO);
    stage.screen().say(&format!("  logs   {}\n", logs.display()));
    for skipped in stage.lab().skipped() {
        stage.screen().say(skipped);
    }
    stage.restore(table::Setup::default())?;
    stage.screen().say(&format!("Three agents run ({}); the VIP is up.", stage.binary().display()));
    let mut fetched = show_version(&stage);
    let mut outcomes = Vec::new();
    for run in 1..=runs {
        for name in table::DEMO {
            let row = Mode::default().row(name).with_context(|| format!("there is no row {name}"))?;
            stage.screen().say(&format!("\n{} - run {run} of {runs}", row.title));
            let outcome = play(&mut stage, row)?;
            stage.screen().say(&format!("  {}", figures::line(&outcome)));
            fetched &= show_version(&stage);
            outcomes.push(outcome);
        }
    }
    let web = service::show(&mut stage)?;
    let kept = fetched && outcomes.iter().all(Outcome::kept) && web.kept();
    conclude(&stage, runs, &outcomes, &web);
    let seconds = begin.elapsed().as_secs();
    let verdict = if kept {
        format!("All bounds are kept, and every request through VIP and Service was answered. {seconds} s.")
    } else {
        format!(
            "A bound is BROKEN, or a request was not answered. {seconds} s. The logs are in {}",
            logs.display()
        )
    };
    stage.screen().say(&verdict);
    Ok(Shown { pods: web.pods, stage, kept })
}

/// The tables of all figures.
fn conclude(stage: &Stage, runs: u32, outcomes: &[Outcome], web: &service::Web) {
    let screen = stage.screen();
    screen.say(&format!("\n{}", figures::render(outcomes)));
    screen.say(&format!("Times in ms, min / median / max of {runs} runs. {}.", figures::SOURCE));
    screen.say(&format!("\n{}", web.render()));
    screen.say("A bound is kept when the figure is not above bound + calm, the longest gap of the same run before the fault.");
}

/// Asks the API server for its version through both VIPs, as kubectl would; says whether both answered.
fn show_version(stage: &Stage) -> bool {
    net::vips().into_iter().fold(true, |all, vip| {
        let url = if vip.is_ipv4() { format!("https://{vip}:6443") } else { format!("https://[{vip}]:6443") };
        let answer = version::fetch(stage.lab().client(), stage.plane().authority(), vip);
        let shown = answer.as_ref().map_or_else(|error| format!("BROKEN: {error:#}"), Clone::clone);
        stage.screen().say(&format!("  GET {url}/version through the VIP: {shown}"));
        all && answer.is_ok()
    })
}
