//! `one_owner`: at most one kernel answers for a VIP on the segment. Overlap 0, also with dead, stopped and restarted
//! agents: the fence works with nobody alive. Excused are addresses that an outsider put there, a node that was just
//! woken from a suspension (one turn, stated in `docs/simulation.md`), a former holder whose Lease somebody deleted, where
//! nobody can look whether it still answers, `vip_preserve_on_leadership_loss`, and one whose address a user put under
//! another Lease: it has not heard of that, or not read that Lease yet, nobody on the node that has the new Lease was there to remember the old one,
//! and no frame comes from one to the other, or nobody asks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use vip_agent::Input;
use vip_model::LeaseName;
use vip_model::config::OnLoss;
use vip_model::members::ElectionState;
use vip_model::store::Version;

use super::{Check, Verdict, nodes_of};
use crate::clock::Moment;
use crate::fault::{Fault, Place, What};
use crate::process::{Life, ProcessId};
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
    leases: BTreeMap<IpAddr, (LeaseName, Option<Move>)>,
    /// When a node was last excused because it had not heard that an address is another Lease's.
    deaf: BTreeMap<(IpAddr, usize), Moment>,
    /// When each process first heard of Services.
    heard: BTreeMap<ProcessId, Moment>,
}

/// How long a node that has heard of it may take to remove an address: a turn and a system call.
const HEARING: Duration = Duration::from_millis(500);

/// How long one that has not heard of a move is reckoned with.
const BEHIND: Duration = Duration::from_mins(1);

/// When a user put an address under another Lease, and the version of the Services that says so.
#[derive(Clone)]
struct Move {
    at: Moment,
    version: Version,
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
                let version = world.store.snapshot(None).services_at;
                (*former, *moved) = (lease.clone(), Some(Move { at: world.now, version }));
            }
        }
        self.seen = Some(ought);
    }

    /// Whether nothing on either node could know that `old` may not have the address any more, and `new` not yet: see
    /// this module's head.
    fn are_strangers(&mut self, world: &World, vip: Vip, (new, old): (usize, usize)) -> bool {
        let Some((lease, moved)) = self.leases.get(&vip.addr()) else { return false };
        // Where nobody asks, one takes it that has not heard for as long as it likes.
        let nobody_asks = world.setup.probing == Probing::Skipped;
        let is_recent = |at: Moment| world.now >= at && world.now <= at + BEHIND;
        let Some(Move { at, version }) = moved.as_ref().filter(|moved| nobody_asks || is_recent(moved.at))
        else {
            return false;
        };
        let is_of = |id: &ProcessId, node| {
            let process = &world.processes[*id];
            process.node == node && process.number == vip.agent
        };
        let id = |node| (0..world.processes.len()).find(|id| is_of(id, node));
        let agent = |node| id(node).map(|id| &world.processes[id]);
        let is_new = id(new).is_some_and(|id| self.heard.get(&id).is_none_or(|heard| heard > at));
        let is_deaf = agent(old).is_none_or(|agent| {
            let is_unread = |lease| agent.view.elections.get(lease).is_none_or(ElectionState::is_unseen);
            agent.life != Life::Running || agent.heard.services_at.is_older_than(version) || is_unread(lease)
        });
        let is_unseen = nobody_asks || [new, old].iter().any(|node| is_blind_since(world, *at, Some(*node)));
        if is_new && is_deaf && is_unseen {
            self.deaf.insert((vip.addr(), old), world.now);
        }
        self.deaf.get(&(vip.addr(), old)).is_some_and(|last| world.now <= *last + HEARING)
    }
}

/// For so long a former holder may have what it has lost.
fn is_recent(world: &World, moment: Moment) -> bool {
    world.now >= moment && world.now <= moment + world.setup.timings.duration + Duration::from_secs(1)
}

/// Whether frames to or from this node, or anywhere, were lost, late or cut since then.
fn is_blind_since(world: &World, moment: Moment, node: Option<usize>) -> bool {
    let is_there = |fault: &Fault| match (node, fault.place) {
        _ if matches!(fault.what, What::Loss | What::WireDelay) => true, // the whole wire is like that
        (Some(node), Place::Node(there)) => {
            node == there
                || (matches!(fault.what, What::Cut | What::CutOut) && node + 1 == fault.amount as usize)
        }
        _ => true,
    };
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
        ) && is_there(fault)
            && fault.at <= world.now
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
    no_look || world.schedule.iter().any(planted) || is_blind_since(world, world.deleted, None)
}

impl Check for OneOwner {
    fn name(&self) -> &'static str {
        "one_owner"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Born(id) => {
                self.moves.heard.remove(id);
            }
            Fact::Input(id, Input::Snapshot(snapshot)) if snapshot.services.is_known() => {
                self.moves.heard.entry(*id).or_insert(world.now);
            }
            _ => {}
        }
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
            let forgotten = lease_just_deleted(world, vip.purpose);
            let new = (0..world.nodes.len()).find(|node| holder == Some(node_name(*node).as_str()));
            let moves = &mut self.moves;
            let mut pardoned = |node| {
                let holds = new == Some(node);
                let is_stranger = |new| moves.are_strangers(world, vip, (new, node));
                !holds && (forgotten || excused(world, node) || new.is_some_and(is_stranger))
            };
            let answering = (0..world.nodes.len()).filter(|node| mask & (1 << node) != 0);
            if answering.filter(|node| !pardoned(*node)).count() >= 2 {
                let vip = vip.addr();
                return Err(format!("{} answer for {vip} at the same time", nodes_of(*mask)));
            }
        }
        Ok(())
    }
}
