//! `one_owner`: at most one kernel answers for a VIP on the segment. Overlap 0, also with dead, stopped and restarted
//! agents: the fence works with nobody alive. Excused are addresses that an outsider put there, a node that was just
//! woken from a suspension (one turn, stated in `docs/simulation.md`), a former holder whose Lease somebody deleted, or
//! whose address a user put under another Lease, where nobody can look whether it still answers, and
//! `vip_preserve_on_leadership_loss`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use vip_model::LeaseName;

use vip_model::config::OnLoss;

use super::{Check, Verdict, nodes_of};
use crate::clock::Moment;
use crate::fault::{Fault, What};
use crate::setup::{Probing, Setup, node_name};
use crate::world::{Fact, Ought, Purpose, Vip, World};

pub(super) struct OneOwner {
    on_loss: OnLoss,
    moves: Moves,
}

impl OneOwner {
    pub(super) fn new(setup: &Setup) -> Self {
        Self { on_loss: setup.on_loss, moves: Moves::default() }
    }
}

/// Which Lease decides about each address of Services, and since when another one did.
#[derive(Default)]
struct Moves {
    seen: Option<Rc<Ought>>,
    leases: BTreeMap<IpAddr, (LeaseName, Option<Moment>)>,
}

impl Moves {
    fn look(&mut self, world: &World) {
        let ought = world.ought();
        if self.seen.as_ref().is_some_and(|seen| Rc::ptr_eq(seen, &ought)) {
            return;
        }
        for addr in ought.addrs.keys() {
            let Some(lease) = ought.lease_of(*addr) else { continue };
            let (former, moved) = self.leases.entry(*addr).or_insert_with(|| (lease.clone(), None));
            if former != lease {
                (*former, *moved) = (lease.clone(), Some(world.now));
            }
        }
        self.seen = Some(ought);
    }

    /// Whether a user put the address under another Lease a short time ago, and frames were lost or cut since.
    fn were_unseen(&self, world: &World, vip: Vip) -> bool {
        let moved = self.leases.get(&vip.addr()).and_then(|(_, moved)| *moved);
        moved.is_some_and(|moved| is_recent(world, moved) && are_blind_since(world, moved))
    }
}

/// For so long a former holder may have what it has lost.
fn is_recent(world: &World, moment: Moment) -> bool {
    world.now >= moment && world.now <= moment + world.setup.timings.duration + Duration::from_secs(1)
}

/// Whether somewhere frames were lost, late or cut since then.
fn are_blind_since(world: &World, moment: Moment) -> bool {
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
            && fault.end().is_none_or(|end| end >= moment)
    };
    world.schedule.iter().any(blinds)
}

/// Whether the node may hold what it should not, for now.
fn excused(world: &World, node: usize) -> bool {
    world.nodes[node].excused_until > world.now
}

/// Whether the VIP's Lease was deleted a short time ago and who looked whether the VIP answers could not see it.
fn lease_just_deleted(world: &World, purpose: Purpose) -> bool {
    if !is_recent(world, world.deleted) {
        return false;
    }
    // An address that is there already, because an outsider put it there, is not looked for on the wire.
    let planted = |fault: &Fault| {
        matches!(fault.what, What::OutsiderAdds | What::OutsiderAddsWide) && fault.at <= world.now
    };
    let is_silent = purpose == Purpose::ControlPlane && !world.setup.announces();
    let no_look = world.setup.probing == Probing::Skipped || is_silent;
    no_look || world.schedule.iter().any(planted) || are_blind_since(world, world.deleted)
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
        self.moves.look(world);
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
            let forgotten = lease_just_deleted(world, vip.purpose)
                || (std::env::var_os("WIDE").is_some() && self.moves.were_unseen(world, vip));
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
