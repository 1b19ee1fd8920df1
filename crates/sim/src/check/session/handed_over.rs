//! `handed_over` in the mode `session`: an agent that is told to stop leaves its addresses to another node before it goes, and
//! no API server is needed for it. Judged where nothing but the API goes wrong beside the one stop, so that nobody has an
//! excuse. What `gap-at-most` asks of a named world, this asks of every episode.

use std::time::Duration;

use vip_model::config::{ApiLoss, OnStop};

use crate::check::{Check, Verdict};
use crate::clock::Moment;
use crate::fault::{Fault, Place, What};
use crate::process::Life;
use crate::setup::{GateSetup, SessionSetup, node_name};
use crate::world::{Fact, World};

/// An address that is handed over may be silent for so long: several heartbeats of the slowest pace that is drawn.
const MOST: Duration = Duration::from_millis(500);
/// From here on everybody has heard of everybody.
const MET: Moment = Moment::from_millis(4_000);
/// A stop takes no longer.
const STOP: Duration = Duration::from_secs(10);

/// One VIP.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Who had it last.
    owner: Option<usize>,
    /// Since when nobody has it.
    silent: Option<Moment>,
}

pub(in crate::check) struct HandedOver {
    vips: Vec<Seen>,
    /// When the next silence has lasted too long.
    due: Moment,
}

impl HandedOver {
    pub(in crate::check) fn new() -> Self {
        Self { vips: Vec::new(), due: Moment::NEVER }
    }

    fn look(&mut self, world: &World) {
        self.vips.resize(world.vips.len(), Seen::default());
        for (seen, mask) in self.vips.iter_mut().zip(&world.owning) {
            match (*mask, seen.silent) {
                (0, None) if seen.owner.is_some() => seen.silent = Some(world.now),
                (0, _) => {}
                (mask, _) => *seen = Seen { owner: Some(mask.trailing_zeros() as usize), silent: None },
            }
        }
        self.due = self.next_due(world.now);
    }

    /// When the next silence has lasted too long; those that have were judged.
    fn next_due(&self, now: Moment) -> Moment {
        let ends = self.vips.iter().filter_map(|seen| seen.silent).map(|since| since + MOST);
        ends.filter(|end| *end >= now).min().unwrap_or(Moment::NEVER)
    }

    fn judge(&self, world: &World) -> Verdict {
        for (number, seen) in self.vips.iter().enumerate() {
            let (Some(owner), Some(since)) = (seen.owner, seen.silent) else { continue };
            if world.now > since + MOST && was_stopped(world, owner, since) && could_follow(world, owner) {
                let (owner, vip) = (node_name(owner), world.vips[number].addr());
                return Err(format!("{owner} was told to stop and left {vip} to nobody at {since}"));
            }
        }
        Ok(())
    }
}

/// Whether the only thing that went wrong outside of the API is that a node's agents were told to stop, shortly before.
fn was_stopped(world: &World, node: usize, since: Moment) -> bool {
    let begun = || world.schedule.iter().filter(|fault| fault.at <= world.now);
    let mut others = begun().filter(|fault| !is_of_the_api(fault));
    let stop =
        others.next().filter(|fault| fault.what == What::Terminate && fault.place == Place::Node(node));
    let is_alone = others.next().is_none() && begun().all(|fault| fault.at >= MET) && world.deeds.is_empty();
    is_alone && stop.is_some_and(|stop| stop.at <= since && since <= stop.at + STOP)
}

fn is_of_the_api(fault: &Fault) -> bool {
    matches!(
        fault.what,
        What::ApiCut
            | What::ApiIsolate
            | What::ApiAway
            | What::ApiRefuse
            | What::ApiHang
            | What::ApiSlow
            | What::WritesWait
            | What::WriteStatus
            | What::ReadStatus
            | What::ApiLag
            | What::WatchDrop
            | What::WatchFreeze
            | What::LoseAnswers
            | What::LateWrites
    )
}

/// Whether somebody else is there who may take over by heartbeats alone.
fn could_follow(world: &World, owner: usize) -> bool {
    let by_heartbeats = |session: &SessionSetup| {
        session.interval.is_some()
            && session.in_lease_mode == 0
            && session.on_stop == OnStop::HandOver
            && session.api_loss != ApiLoss::Release
    };
    // A gate that asks the API server says that nobody is fit when none answers.
    world.setup.gate == GateSetup::Off
        && world.setup.session.as_ref().is_some_and(by_heartbeats)
        && world.processes.iter().any(|process| process.node != owner && process.life == Life::Running)
}

impl Check for HandedOver {
    fn name(&self) -> &'static str {
        "handed_over"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        if world.now > self.due {
            self.judge(world)?;
            self.due = self.next_due(world.now);
        }
        if matches!(fact, Fact::Answering) {
            self.look(world);
        }
        Ok(())
    }
}
