//! `lab bench services`: how fast Services are reached, few and many of them, and what that costs. Figures that are no pass
//! or fail of a test: a table with each figure, its aim and kube-vip's own beside it.

mod arena;
mod arrival;
mod cold;
mod moves;
mod storm;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::report::Table;
use arena::{Arena, Election};

/// How much of it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything about Services.
    Everything,
    /// Thousands of Services alone.
    ColdStart,
}

/// Measures Services.
pub fn measure(logs: &Path, extent: Extent) -> Result<()> {
    let mut arena = Arena::raise(logs)?;
    for skipped in arena.lab().skipped() {
        arena.screen().say(skipped);
    }
    let mut table = Table::new(&["Services", "measured", "aim", "kube-vip 1.2.3"]);
    if extent == Extent::Everything {
        arrival::measure(&mut arena, Election::Global, &mut table)?;
        arrival::measure(&mut arena, Election::PerService, &mut table)?;
        arrival::of_pods(&mut arena, &mut table)?;
        moves::measure(&mut arena, &mut table)?;
        storm::measure(&mut arena, &mut table)?;
    }
    cold::measure(&mut arena, &mut table)?;
    arena.screen().say(&format!("\n{}", table.render()));
    Ok(())
}

/// The p-th percentile (nearest rank) of sorted times.
fn percentile(sorted: &[Duration], p: usize) -> Duration {
    let rank = (sorted.len() * p).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
