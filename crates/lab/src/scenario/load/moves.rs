//! A pod moves from node to node under policy `Local`, and the address with it: how long a client gets no good answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::arena::{Arena, Election};
use super::arrival::publish;
use super::{millis, percentile};
use crate::bench::{Pod, Span, Stamp, net};
use crate::report::Table;
use crate::scenario::service;

const MOVES: usize = 40;
const LIMIT: Duration = Duration::from_secs(10);
/// Last number of the Service's address.
const ADDRESS: u8 = 203;
/// The time between two moves, and how much longer some take, so that they hit every moment of a renewal.
const PAUSE: Duration = Duration::from_millis(200);

/// Measures the gap of each move. Nodes forward to pods since the pods were measured before.
pub(super) fn measure(arena: &mut Arena, table: &mut Table) -> Result<()> {
    arena.screen().say(&format!("A pod moves {MOVES} times under policy Local."));
    arena.start(3, Election::PerService)?;
    arena.settle()?;
    let pods = arena.lab().nodes().iter().map(|node| Pod::start(node, 6)).collect::<Result<Vec<_>, _>>()?;
    let address = net::v4(ADDRESS).into();
    publish(arena, "moving", &pods[0])?;
    let object = service::service("moving", &[address], json!({"externalTrafficPolicy": "Local"}));
    arena.store().apply(&object)?;
    let prober = arena.lab().probe_service(SocketAddr::new(address, service::PORT))?;
    prober.wait_answer(Stamp::default(), LIMIT, |answer| answer.node == 1)?;
    std::thread::sleep(Duration::from_secs(1));
    let mut gaps = Vec::new();
    for (turn, index) in (0..MOVES).zip([1, 2, 0, 2, 1, 0].into_iter().cycle()) {
        let at = publish(arena, "moving", &pods[index])?;
        let node = pods[index].who().node;
        prober.wait_answer(at, LIMIT, |answer| answer.node == node)?;
        std::thread::sleep(PAUSE + Duration::from_millis(turn as u64 * 37 % 90));
        gaps.push(prober.trace().gap(Span::new(at.before(Duration::from_millis(20)), Stamp::now())).length());
    }
    drop(prober);
    drop(pods);
    arena.clear()?;
    gaps.sort_unstable();
    let figures = [1, 50, 100].map(|p| millis(percentile(&gaps, p)));
    table.row(&[
        "policy Local, pod moves: nobody answers",
        &format!("{} / {} / {} ms", figures[0], figures[1], figures[2]),
        "100 ms",
        "-",
    ]);
    Ok(())
}
