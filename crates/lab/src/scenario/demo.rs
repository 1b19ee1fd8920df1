//! `lab demo`: what a newcomer sees first. Says what it will do, need and take; then five faults against three nodes that
//! hold a VIP, with a live timeline; then the table of what a client lost.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::outcome::Outcome;
use super::stage::Stage;
use super::{figures, play, table, version};
use crate::bench::net;

const INTRO: &str = "\
kube-vip demo
  does   Raises a small lab inside private kernel namespaces: a switch, three control-plane nodes, a client. The real
         kube-vip binary runs on every node, started as by a usual static pod (ARP mode, IPv4 and IPv6, leases 5/3/1 s).
         Then five faults hit the node that holds the VIP, and a client that asks every 2 ms measures each outage.
  needs  Linux with network, PID and mount namespaces (root, or unprivileged user namespaces) and the Debian package
         iproute2. Nothing is installed, no name, link or file of your host is touched.
  takes  Less than 3 minutes and some 300 MB of memory. Ctrl-C ends it at any time and leaves nothing behind.";

/// Shows the demo; gives the stage, still up, and whether all bounds were kept.
pub fn show(runs: u32, logs: &Path) -> Result<(Stage, bool)> {
    let begin = Instant::now();
    let mut stage = Stage::set(logs)?;
    stage.screen().say(INTRO);
    stage.screen().say(&format!("  logs   {}\n", logs.display()));
    for skipped in stage.lab().skipped() {
        stage.screen().say(skipped);
    }
    stage.restore(table::Gate::Off)?;
    stage.screen().say(&format!("Three agents run ({}); the VIP is up.", stage.binary().display()));
    let mut fetched = show_version(&stage);
    let mut outcomes = Vec::new();
    for run in 1..=runs {
        for row in table::demo() {
            stage.screen().say(&format!("\n{} - run {run} of {runs}", row.title));
            let outcome = play(&mut stage, row)?;
            stage.screen().say(&format!("  {}", figures::line(&outcome)));
            fetched &= show_version(&stage);
            outcomes.push(outcome);
        }
    }
    let kept = fetched && outcomes.iter().all(Outcome::kept);
    stage.screen().say(&format!("\n{}", figures::render(&outcomes)));
    stage.screen().say(&format!("Times in ms, min / median / max of {runs} runs. {}.", figures::SOURCE));
    stage.screen().say("A bound is kept when the figure is not above bound + calm, the longest gap of the same run before the fault.");
    let seconds = begin.elapsed().as_secs();
    if kept {
        stage.screen().say(&format!(
            "All bounds are kept, and the API server answered through the VIP each time. {seconds} s."
        ));
    } else {
        stage.screen().say(&format!("A bound is BROKEN, or the API server did not answer through the VIP. {seconds} s. The logs are in {}", logs.display()));
    }
    Ok((stage, kept))
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
