//! `one_owner`: at most one kernel answers for a VIP on the segment. Overlap 0, also with dead, stopped and restarted
//! agents: the fence works with nobody alive. Excused are addresses that an outsider put there, a node that was just
//! woken from a suspension (one turn, stated in `docs/simulation.md`), and `vip_preserve_on_leadership_loss`.

use vip_model::config::OnLoss;

use super::{Check, Verdict, nodes_of};
use crate::setup::Setup;
use crate::world::{Fact, World};

pub(super) struct OneOwner {
    on_loss: OnLoss,
}

impl OneOwner {
    pub(super) fn new(setup: &Setup) -> Self {
        Self { on_loss: setup.on_loss }
    }
}

/// Bits of the nodes that may hold what they should not, for now.
fn excused(world: &World) -> u32 {
    let just_woken = |node: &usize| world.nodes[*node].excused_until > world.now;
    (0..world.nodes.len()).filter(just_woken).fold(0, |mask, node| mask | 1 << node)
}

impl Check for OneOwner {
    fn name(&self) -> &'static str {
        "one_owner"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        let looks = matches!(fact, Fact::Answering | Fact::Turn(..) | Fact::End);
        if !looks || self.on_loss == OnLoss::Preserve {
            return Ok(());
        }
        for (number, mask) in world.owning.iter().enumerate() {
            if mask.count_ones() < 2 {
                continue;
            }
            let counted = mask & !excused(world);
            if counted.count_ones() >= 2 || (counted == 0 && mask.count_ones() > 2) {
                let vip = world.vips[number].1.addr();
                return Err(format!("{} answer for {vip} at the same time", nodes_of(*mask)));
            }
        }
        Ok(())
    }
}
