//! `one_owner` in the mode `session`: how long two nodes may answer a client for one VIP. Nothing is the rule; what each
//! allowance is for stands beside it, and in `docs/simulation.md`. Addresses that outsiders put there are excused, and a
//! node that was just woken from a suspension, as in the mode `lease`.

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::LeaseName;
use vip_model::config::ApiLoss;
use vip_model::session::CLAIM_FROM;

use crate::check::{Check, Verdict, nodes_of};
use crate::client::Mask;
use crate::clock::Moment;
use crate::fault::{Fault, What};
use crate::process::{Life, Process};
use crate::setup::Setup;
use crate::world::{Fact, World};

/// A planned move, and a cut that heals: one datagram or probe, one turn, one batch.
const MOVE: Duration = Duration::from_millis(30);
/// The same with losses in the middle.
const DISTURBED: Duration = Duration::from_millis(300);
/// For how long the word of an API server counts where no juror's kernel answers.
const STORE_PROOF: Duration = Duration::from_millis(1_500);
/// An agent that has just started and hears from others what became of it: its doors, its memory, a word, a turn.
const START: Duration = Duration::from_millis(60);
/// A stopped process that goes on: one turn.
const TURN: Duration = Duration::from_millis(15);
/// How long after its end a fault still counts as the reason.
const AFTER: Duration = Duration::from_secs(1);
/// How late the kernel may remove an address: its own second, and rounding.
const LATE: Duration = Duration::from_millis(1_500);

pub(in crate::check) struct OneOwner {
    since: Vec<Option<Double>>,
    lifetime: Duration,
    /// What losses in the middle may cost: three intervals and a turn, and never less than `DISTURBED`.
    disturbed: Duration,
    /// Claims that were handed over in the store.
    moves: BTreeMap<LeaseName, Move>,
}

/// A hand-over as the store shows it.
#[derive(Clone, Copy)]
enum Move {
    /// The claim says that it is under way: for the new owner it begins when it hears of it, which a slow server may delay
    /// by seconds.
    UnderWay,
    /// It was over then.
    Over(Moment),
}

impl OneOwner {
    pub(in crate::check) fn new(setup: &Setup) -> Self {
        let session = setup.session.as_ref();
        let lifetime = session.map_or(Duration::ZERO, |session| session.control_plane_lifetime);
        let beat = session.map_or(Duration::ZERO, crate::setup::SessionSetup::beat);
        let disturbed = DISTURBED.max(beat * 3 + MOVE);
        let since = vec![None; setup.vips().len()];
        Self { since, lifetime: lifetime + LATE, disturbed, moves: BTreeMap::new() }
    }
}

/// An overlap that is under way.
#[derive(Clone, Copy)]
struct Double {
    since: Moment,
    /// All nodes that took part in it.
    mask: Mask,
    /// Those of them whose agent could not act at some time of it.
    down: Mask,
}

/// The nodes with an agent that cannot act: it does not run, or it has begun without memory and without the key, while the API
/// does not answer. Such a one hears nobody and knows nothing; what a former life left in its kernel ends by itself.
fn down(world: &World) -> Mask {
    let api_fails = |fault: &Fault| {
        matches!(
            fault.what,
            What::ApiRefuse | What::ApiHang | What::ApiSlow | What::ApiIsolate | What::ApiCut | What::ApiAway
        ) && recent(fault, world.now.before(AFTER), world)
    };
    let is_blind = |process: &Process| process.door.want.is_some() && process.door.keys.is_empty();
    let cannot_act = |process: &Process| {
        process.life != Life::Running || is_blind(process) && world.schedule.iter().any(api_fails)
    };
    let is_down = |node: &usize| world.processes_of(*node).any(|id| cannot_act(&world.processes[id]));
    (0..world.nodes.len()).filter(is_down).map(|node| 1 << node).sum()
}

/// The nodes that answer the client for a VIP by an agent's hand, without those that are excused.
fn answering(world: &World, number: usize) -> Mask {
    let excused: Mask = (0..world.nodes.len())
        .filter(|node| world.nodes[*node].excused_until > world.now)
        .map(|node| 1 << node)
        .sum();
    world.owning[number] & world.eyes[number].answering & !excused
}

/// Whether a fault was under way at some time between `from` and now.
fn recent(fault: &Fault, from: Moment, world: &World) -> bool {
    fault.at <= world.now && fault.end().is_none_or(|end| end >= from)
}

/// Faults that stand between a move and its end: they lose or delay what it is made of.
fn disturbs(what: What) -> bool {
    !matches!(
        what,
        What::Terminate
            | What::GateRed
            | What::ToLeaseMode
            | What::ToSessionMode
            | What::Duplicate
            | What::PeerDuplicate
            | What::PeerReplay
            | What::KeyRotation
            | What::WatchDrop
            | What::Drill
    )
}

/// Faults that part nodes from each other.
fn parts(what: What) -> bool {
    matches!(
        what,
        What::Cut
            | What::CutOut
            | What::Isolate
            | What::PeerCut
            | What::PeerCutOut
            | What::PeerIsolate
            | What::ApiCut
            | What::ApiIsolate
            | What::ApiAway
            | What::CarrierLoss
            | What::LinkDown
            | What::LinkRemoved
            | What::PortBlocked
            | What::KeyWrong
            | What::KeyUnreadable
            | What::DoorShut
            | What::Loss
    )
}

/// A network that loses so many per cent of all frames can't be told from one that is cut: a look and its answer pass
/// once in four times, or less.
const AS_GOOD_AS_CUT: u32 = 50;

/// Two looks have come and gone before an answer that is late by so many milliseconds on each way.
const TOO_LATE: u32 = 15;

/// A heartbeat and its echo, each late by so many milliseconds, prove nothing any more: two and a half intervals.
const TOO_LATE_TO_VOUCH: u32 = 40;

/// Faults of the VIPs' network that make jurors see something else than clients do.
fn hides(fault: &Fault) -> bool {
    match fault.what {
        What::Cut | What::CutOut | What::Isolate | What::CarrierLoss | What::LinkDown | What::LinkRemoved => {
            true
        }
        What::Loss => fault.amount >= AS_GOOD_AS_CUT,
        What::WireDelay => fault.amount >= TOO_LATE,
        _ => false,
    }
}

/// Whether jurors did not see at some time since then what a node answers.
fn was_hidden(world: &World, node: usize, from: Moment) -> bool {
    let hides_it = |fault: &Fault| hides(fault) && fault.strikes(node) && recent(fault, from, world);
    world.schedule.iter().any(hides_it)
}

/// Whether they have not seen it from a moment on until now, or a short time before.
fn is_hidden(world: &World, node: usize, since: Moment) -> bool {
    let still = |fault: &Fault| fault.end().is_none_or(|end| world.now < end + START);
    let hides_it = |fault: &Fault| hides(fault) && fault.strikes(node) && fault.at <= since && still(fault);
    world.schedule.iter().any(hides_it)
}

/// Faults that end an agent at once.
fn kills(what: What) -> bool {
    matches!(what, What::Kill | What::KillAfter | What::KillAtAsk | What::KillAtBatch)
}

/// Whether the agent of a node was killed since then.
fn was_killed(world: &World, node: usize, from: Moment) -> bool {
    let kills_it = |fault: &Fault| kills(fault.what) && fault.strikes(node) && recent(fault, from, world);
    world.schedule.iter().any(kills_it)
}

/// Whether heartbeats were lost first, so that an owner served on by the word of an API server (ownership §5, doubt, 1), and
/// then it was out of others' sight: it serves until its next question to that server is not answered.
fn was_proven_by_the_store(world: &World, since: Moment) -> bool {
    let is_on = |fault: &&Fault| fault.at <= since && fault.end().is_none_or(|end| end >= since);
    let all = || world.schedule.iter().filter(is_on);
    let mutes = |fault: &Fault| match fault.what {
        What::PeerIsolate
        | What::PeerCut
        | What::PortBlocked
        | What::KeyWrong
        | What::KeyUnreadable
        | What::DoorShut => true,
        What::PeerDelay => fault.amount >= TOO_LATE_TO_VOUCH,
        _ => false,
    };
    all().filter(|fault| hides(fault)).any(|hidden| all().any(|fault| mutes(fault) && fault.at < hidden.at))
}

impl OneOwner {
    /// Whether the claim of a VIP was being handed over at a moment, or a short time before.
    fn is_moving(&self, world: &World, number: usize, since: Moment) -> bool {
        let agent = world.vips[number].agent;
        let is_recent = |moved: &Move| match moved {
            Move::UnderWay => true,
            Move::Over(at) => since.since(*at) < AFTER,
        };
        self.moves.get(&world.setup.lease(agent)).is_some_and(is_recent)
    }

    /// For how long two nodes may answer for a VIP, and why.
    fn allowance(
        &self,
        world: &World,
        number: usize,
        Double { since, mask, down }: Double,
    ) -> (Duration, &'static str) {
        let before = since.before(AFTER);
        let under_way = |kind: &dyn Fn(What) -> bool, from: Moment| {
            world.schedule.iter().any(|fault| kind(fault.what) && recent(fault, from, world))
        };
        let slow = world
            .schedule
            .iter()
            .filter(|fault| matches!(fault.what, What::SlowApply | What::Overrun | What::SlowDump))
            .filter(|fault| recent(fault, before, world))
            .map(|fault| Duration::from_millis(u64::from(fault.amount)))
            .max()
            .unwrap_or_default()
            * 4;
        let members = |mask: Mask| (0..world.nodes.len()).filter(move |node| mask & 1 << node != 0);
        let long_ago = since.before(self.lifetime);
        // An agent that cannot act, and its network was cut: its address ends by itself.
        if members(mask & down).any(|node| was_hidden(world, node, long_ago)) {
            return (self.lifetime, "an agent that cannot act behind a cut");
        }
        // One that starts again out of everybody's sight knows no more than a dead one: the kernel's lifetime ends it.
        if members(mask).any(|node| was_killed(world, node, long_ago) && is_hidden(world, node, since)) {
            return (self.lifetime, "an agent that starts again behind a cut");
        }
        let refuses = |what| matches!(what, What::ApplyFails);
        if under_way(&refuses, before) {
            return (self.lifetime, "a kernel that refuses");
        }
        let moving = self.is_moving(world, number, since);
        // Who hands over serves on until the other one does. If it dies in that moment, its address ends by itself.
        if moving && mask & down != 0 {
            return (self.lifetime, "a hand-over whose giver cannot act");
        }
        if moving && under_way(&disturbs, before) {
            // Whose other side is out of reach takes back, and a slow API server tells the other side late: one way and back.
            let told = world
                .schedule
                .iter()
                .filter(|fault| fault.what == What::ApiSlow && recent(fault, before, world));
            let told =
                told.map(|fault| Duration::from_millis(u64::from(fault.amount))).max().unwrap_or_default();
            return (self.disturbed + slow + told, "a planned move with losses");
        }
        if moving {
            return (MOVE, "a planned move");
        }
        if was_proven_by_the_store(world, since) {
            return (STORE_PROOF + self.disturbed, "a cut in a doubt that an API server had ended");
        }
        // However it ended.
        let begins = |what| kills(what) || what == What::Terminate;
        if under_way(&parts, before) && under_way(&begins, before) {
            return (START + slow, "an agent that starts again as a cut heals");
        }
        if under_way(&parts, before) {
            let lossy =
                |what| matches!(what, What::Loss | What::WireDelay | What::PeerLoss | What::PeerDelay);
            let most = if under_way(&lossy, before) { self.disturbed } else { MOVE };
            return (most + slow, "a cut that heals");
        }
        let stops =
            |what| matches!(what, What::Pause | What::PauseAtBatch | What::PauseAtAsk | What::PauseAfter);
        if under_way(&stops, before) {
            return (TURN + slow, "a stopped process that goes on");
        }
        (Duration::ZERO, "nothing")
    }

    fn look(&mut self, world: &World) -> Verdict {
        for number in 0..self.since.len() {
            let all = world.owning[number] & world.eyes[number].answering;
            if self.since[number].is_none() && all.count_ones() < 2 {
                continue; // nearly always
            }
            let mask = answering(world, number);
            let doubled = mask.count_ones() > 1;
            let Some(former) = self.since[number] else {
                let double = Double { since: world.now, mask, down: down(world) };
                self.since[number] = doubled.then_some(double);
                if doubled && self.allowance(world, number, double).0.is_zero() {
                    let vip = world.vips[number].addr();
                    return Err(format!("{} answer for {vip} at the same time", nodes_of(mask)));
                }
                continue;
            };
            // At its end one of them answers no more, or goes on.
            let mask = mask | former.mask;
            let double = Double { mask, down: former.down | down(world), ..former };
            let since = double.since;
            let (allowed, why) = self.allowance(world, number, double);
            let span = world.now.since(since);
            if span > allowed {
                let vip = world.vips[number].addr();
                return Err(format!(
                    "{} answer for {vip} since {since}, for {span:?}; {why} explains {allowed:?}",
                    nodes_of(mask)
                ));
            }
            self.since[number] = doubled.then_some(double);
        }
        Ok(())
    }
}

impl Check for OneOwner {
    fn name(&self) -> &'static str {
        "one_owner"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        if world.setup.session.as_ref().is_some_and(|session| session.api_loss == ApiLoss::Hold) {
            return Ok(());
        }
        match fact {
            Fact::Written(_, write) => {
                if write.annotations.get(CLAIM_FROM).is_some_and(|from| !from.is_empty()) {
                    self.moves.insert(write.lease.clone(), Move::UnderWay);
                } else if let Some(moved @ Move::UnderWay) = self.moves.get_mut(&write.lease) {
                    *moved = Move::Over(world.now);
                }
                Ok(())
            }
            Fact::Answering | Fact::Turn(..) | Fact::End => self.look(world),
            _ => Ok(()),
        }
    }
}
