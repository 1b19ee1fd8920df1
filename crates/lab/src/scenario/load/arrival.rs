//! From the moment at which a Service is created to the first answer for its address, one Service after the other; and to
//! the first good answer of a pod behind it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::arena::{Arena, Election};
use super::{millis, percentile};
use crate::bench::{Pod, RollCall, Span, Stamp, net, pod};
use crate::report::Table;
use crate::scenario::proxy;
use crate::scenario::service::{self, Backend, Family, Standing};

/// How many Services: enough for a percentile of 99.
const SAMPLES: u16 = 200;
/// How many Services with a pod behind them.
const POD_SAMPLES: u8 = 40;
/// Last number of the first address of a Service with a pod, in the network of the bench.
const FIRST: u8 = 205;
const LIMIT: Duration = Duration::from_secs(10);
/// How often an address is asked for.
const PACE: Duration = Duration::from_millis(1);

/// Measures the first answer to ARP.
pub(super) fn measure(arena: &mut Arena, election: Election, table: &mut Table) -> Result<()> {
    arena.screen().say(&format!("{SAMPLES} Services, one after the other, {}.", words(election)));
    arena.start(3, election)?;
    arena.settle()?;
    let mut times = Vec::new();
    for number in 0..SAMPLES {
        let roll = RollCall::start(arena.lab().watch(), PACE)?;
        let address = net::service(number);
        roll.ask([address]);
        let created = arena.create(number, &json!({}))?;
        roll.wait(LIMIT)?;
        let answered = roll.answered(address).context("it was waited for")?;
        times.push(Span::new(created, answered).length());
        // At any moment of the agents' own rhythm.
        std::thread::sleep(Duration::from_millis(20 + u64::from(number) * 7 % 30));
    }
    arena.clear()?;
    times.sort_unstable();
    let (aim, upstream) = match election {
        Election::Global => ("p50 25, p99 80 ms", "56 / 61 / 61 ms"),
        Election::PerService => ("p50 40, p99 120 ms", "66 / 72 / 79 ms"),
    };
    table.row(&[
        &format!("created → first ARP answer, {}", words(election)),
        &format!(
            "p50 {}, p99 {} ms ({} to {})",
            millis(percentile(&times, 50)),
            millis(percentile(&times, 99)),
            millis(percentile(&times, 1)),
            millis(percentile(&times, 100)),
        ),
        aim,
        upstream,
    ]);
    Ok(())
}

/// Measures the first good answer of a pod to a client, with an election for each Service.
pub(super) fn of_pods(arena: &mut Arena, table: &mut Table) -> Result<()> {
    arena.screen().say(&format!("{POD_SAMPLES} Services with a pod behind each, one after the other."));
    let objects = proxy::follow(arena.plane().server())?;
    for node in arena.lab().nodes() {
        pod::furnish(arena.lab(), node)?;
        proxy::start(node, &objects)?;
    }
    arena.start(3, Election::PerService)?;
    arena.settle()?;
    let pods = arena.lab().nodes().iter().map(|node| Pod::start(node, 5)).collect::<Result<Vec<_>, _>>()?;
    let mut times = Vec::new();
    for (number, pod) in (0..POD_SAMPLES).zip(pods.iter().cycle()) {
        let (name, address) = (format!("pod-{number}"), net::v4(FIRST + number).into());
        publish(arena, &name, pod)?;
        let object = service::service(&name, &[address], json!({}));
        let first = service::first_answers(arena.lab(), &[address], LIMIT, || {
            let at = Stamp::now();
            arena.store().apply(&object)?;
            Ok(at)
        })?;
        times.extend(first.iter().map(|first| first.pod));
    }
    drop(pods);
    arena.clear()?;
    times.sort_unstable();
    let figures = [50, 99].map(|p| millis(percentile(&times, p)));
    table.row(&[
        "created → first good answer of a pod, an election each",
        &format!("p50 {}, p99 {} ms", figures[0], figures[1]),
        "-",
        "-",
    ]);
    Ok(())
}

/// A pod as the only endpoint of a Service.
pub(super) fn publish(arena: &Arena, service: &str, pod: &Pod) -> Result<Stamp> {
    let backend = |address: IpAddr| Backend { address, node: pod.who().node, standing: Standing::Ready };
    let slice = service::slice(service, Family::V4, &[backend(pod.addresses()[0])]);
    let at = Stamp::now();
    arena.store().apply(&slice)?;
    Ok(at)
}

const fn words(election: Election) -> &'static str {
    match election {
        Election::Global => "one election",
        Election::PerService => "an election each",
    }
}
