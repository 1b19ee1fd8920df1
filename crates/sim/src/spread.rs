//! How evenly addresses lie on nodes: the most on one, by the mean.

use std::str::FromStr;

use crate::process::Life;
use crate::world::{Purpose, World};

/// The most that a node may hold, by the mean over all nodes whose agents run, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread(u32);

impl FromStr for Spread {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self((text.parse::<f64>()? * 100.0).round() as u32))
    }
}

impl Spread {
    /// Judges a world at its end.
    pub(crate) fn judge(self, world: &World) -> Result<(), String> {
        let Some((agent, _)) = world.setup.services() else { return Ok(()) };
        let mut held = Vec::new();
        for process in world.processes.iter().filter(|it| it.number == agent && it.life == Life::Running) {
            let is_here = |number: &usize| world.owning[*number] & (1 << process.node) != 0;
            let of_services = |number: &usize| world.vips[*number].purpose == Purpose::Services;
            held.push((0..world.vips.len()).filter(of_services).filter(is_here).count());
        }
        let most = held.iter().max().copied().unwrap_or_default();
        let all: usize = held.iter().sum();
        if all == 0 || most * held.len() * 100 > all * self.0 as usize {
            let bound = f64::from(self.0) / 100.0;
            return Err(format!(
                "the nodes hold {held:?} addresses, at most {bound} times the mean is promised"
            ));
        }
        Ok(())
    }
}
