//! `one_owner`: at most one kernel answers for a VIP on the segment. Overlap 0, also with dead, stopped and restarted
//! agents: the fence works with nobody alive. Excused are addresses that an outsider put there, a node that was just
//! woken from a suspension (one turn, stated in `docs/simulation.md`), a former holder whose Lease somebody deleted where
//! nobody can look whether it still answers, and `vip_preserve_on_leadership_loss`.

use std::time::Duration;

use vip_model::config::OnLoss;

use super::{Check, Verdict, nodes_of};
use crate::fault::{Fault, What};
use crate::setup::{Probing, Setup, node_name};
use crate::world::{Fact, Purpose, World};

pub(super) struct OneOwner {
    on_loss: OnLoss,
}

impl OneOwner {
    pub(super) fn new(setup: &Setup) -> Self {
        Self { on_loss: setup.on_loss }
    }
}

/// Whether the node may hold what it should not, for now.
fn excused(world: &World, node: usize) -> bool {
    world.nodes[node].excused_until > world.now
}

/// Whether the VIP's Lease was deleted a short time ago and who looked whether the VIP answers could not see it.
fn lease_just_deleted(world: &World, purpose: Purpose) -> bool {
    let window = world.setup.timings.duration + Duration::from_secs(1);
    if world.now < world.deleted || world.now > world.deleted + window {
        return false;
    }
    let blinds = |fault: &Fault| {
        matches!(
            fault.what,
            What::CarrierLoss
                | What::LinkDown
                | What::LinkRemoved
                | What::Cut
                | What::CutOut
                | What::Isolate
                | What::Loss
                | What::WireDelay
        ) && fault.at <= world.now
            && fault.end().is_none_or(|end| end >= world.deleted)
    };
    // An address that is there already, because an outsider put it there, is not looked for on the wire.
    let planted = |fault: &Fault| {
        matches!(fault.what, What::OutsiderAdds | What::OutsiderAddsWide) && fault.at <= world.now
    };
    let is_silent = purpose == Purpose::ControlPlane && !world.setup.announces();
    let no_look = world.setup.probing == Probing::Skipped || is_silent;
    no_look || world.schedule.iter().any(planted) || world.schedule.iter().any(blinds)
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
            let vip = world.vips[number];
            let lease = match vip.purpose {
                Purpose::ControlPlane => Some(world.setup.lease(vip.agent)),
                Purpose::Services => world.ought().lease_of(vip.addr()).cloned(),
            };
            let holder = lease.as_ref().and_then(|lease| world.store.holder(lease));
            let forgotten = lease_just_deleted(world, vip.purpose);
            let pardoned = |node: &usize| {
                let holds = holder == Some(node_name(*node).as_str());
                !holds && (forgotten || excused(world, *node))
            };
            let counted = (0..world.nodes.len()).filter(|node| mask & (1 << node) != 0 && !pardoned(node));
            if counted.count() >= 2 {
                let vip = vip.addr();
                return Err(format!("{} answer for {vip} at the same time", nodes_of(*mask)));
            }
        }
        Ok(())
    }
}
