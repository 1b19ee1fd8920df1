//! A flood of heartbeats at one node, and what it costs its agent: processor time, and what the agent says that it dropped.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{BEATS, Stage};
use crate::bench::flood::Flood;
use crate::bench::net;
use crate::bench::program::Usage;

/// Datagrams a second.
const RATE: u32 = 50_000;
/// What must have been sent of them, or nothing was tried.
const LEAST: f64 = 0.8;
/// Where an agent serves its metrics.
const METRICS: u16 = 2112;

/// A flood that is under way.
#[derive(Debug)]
pub(super) struct Flooding {
    flood: Flood,
    node: u8,
    before: Usage,
}

impl Stage {
    pub(super) fn flood(&mut self, node: u8, length: Duration) -> Result<()> {
        let target = SocketAddr::from((net::v4(net::NODES + node), BEATS));
        let places = (self.lab.switch().place(), self.lab.client());
        let flood = Flood::start(places, target, RATE, length)?;
        let before = self.running(node)?.usage()?;
        self.flood = Some(Flooding { flood, node, before });
        Ok(())
    }

    /// Ends it and says what it cost.
    pub(super) fn end_flood(&mut self) -> Result<()> {
        let Flooding { flood, node, before } = self.flood.take().context("nothing is flooded")?;
        let after = self.running(node)?.usage()?;
        let (sent, time) = flood.end();
        let rate = sent as f64 / time.as_secs_f64();
        let share = after.cpu.saturating_sub(before.cpu).as_secs_f64() / time.as_secs_f64() * 100.0;
        self.screen.say(&format!(
            "  {sent} datagrams in {:.1} s, {rate:.0} a second; the agent of n{node} used {share:.1} % of a core",
            time.as_secs_f64()
        ));
        let page = self.lab.node(node)?.place()?.within(metrics)?;
        let page = page.with_context(|| format!("reading the metrics of n{node}"))?;
        for line in page.lines().filter(|line| line.starts_with("kube_vip_heartbeats_received_total")) {
            self.screen.say(&format!("  n{node}: {line}"));
        }
        ensure!(rate >= f64::from(RATE) * LEAST, "only {rate:.0} datagrams a second were sent");
        Ok(())
    }
}

fn metrics() -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
