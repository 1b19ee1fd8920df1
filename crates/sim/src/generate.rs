//! A schedule of faults and deeds from a seed: what goes wrong, when, where and for how long. Combinations weigh more than single
//! faults, because single faults are what people think of by themselves.

mod episode;
mod services;

use std::time::Duration;

use vip_model::Random;

use crate::clock::Moment;
use crate::deed::Deed;
use crate::fault::{Fault, Place, What};
use crate::setup::{Setup, pick};

pub use episode::episode;

/// Faults begin after this: first the world comes up, mostly.
const CALM: u64 = 8_000;

/// HTTP statuses that an API server may answer with.
const STATUSES: [u32; 8] = [401, 403, 409, 410, 429, 500, 503, 504];
/// Errors of system calls: `EPERM`, `EIO`, `ENOMEM`, `EBUSY`, `ENOBUFS`.
const ERRNOS: [u32; 5] = [1, 5, 12, 16, 105];

/// Kinds of faults with their weights.
const WEIGHTS: &[(What, u32)] = &[
    (What::Kill, 8),
    (What::KillAtBatch, 5),
    (What::KillAtAsk, 5),
    (What::Pause, 8),
    (What::PauseAtBatch, 6),
    (What::PauseAtAsk, 6),
    (What::Terminate, 6),
    (What::RollingRestart, 2),
    (What::PowerOff, 6),
    (What::Suspend, 3),
    (What::GateRed, 4),
    (What::CarrierLoss, 4),
    (What::LinkDown, 3),
    (What::LinkRemoved, 2),
    (What::Cut, 3),
    (What::CutOut, 2),
    (What::Isolate, 4),
    (What::Loss, 3),
    (What::WireDelay, 2),
    (What::Duplicate, 1),
    (What::ApiRefuse, 6),
    (What::ApiHang, 6),
    (What::ApiSlow, 5),
    (What::WriteStatus, 5),
    (What::ServiceStatus, 4),
    (What::ReadStatus, 4),
    (What::ApiLag, 5),
    (What::WatchDrop, 3),
    (What::WatchFreeze, 4),
    (What::LoseAnswers, 5),
    (What::LateWrites, 5),
    (What::OutsiderAdds, 3),
    (What::OutsiderAddsWide, 1),
    (What::OutsiderRemoves, 4),
    (What::OwnAddressRemoved, 1),
    (What::OutsiderBusy, 1),
    (What::SlowApply, 4),
    (What::ApplyFails, 3),
    (What::Overrun, 3),
    (What::SlowDump, 3),
    (What::LeaseDeleted, 2),
    (What::LeaseStolen, 2),
];

/// Faults that strike whoever holds the VIP or nobody in particular come with others at the same time: pairs that
/// happen together in real life.
const TOGETHER: &[(What, What)] = &[
    (What::Isolate, What::ApiHang),
    (What::Isolate, What::WriteStatus),
    (What::Kill, What::ApiHang),
    (What::Pause, What::ApiSlow),
    (What::KillAtBatch, What::ApiLag),
    (What::PowerOff, What::LoseAnswers),
    (What::CarrierLoss, What::ApiSlow),
    (What::GateRed, What::ApiRefuse),
    (What::PauseAtAsk, What::LateWrites),
    (What::PauseAtBatch, What::SlowApply),
    (What::Terminate, What::ApiHang),
    (What::Terminate, What::WatchFreeze),
];

struct Draw<'a> {
    dice: Random,
    setup: &'a Setup,
    end: u64,
}

/// What users and the cluster do in `minutes` minutes.
pub fn deeds(setup: &Setup, minutes: u32) -> Vec<Deed> {
    services::deeds(setup, u64::from(minutes_of(setup, minutes)) * 60_000)
}

/// A world of many Services is watched for a shorter time.
fn minutes_of(setup: &Setup, minutes: u32) -> u32 {
    let is_large = setup.services().is_some_and(|(_, it)| it.count as usize > services::MANY);
    if is_large { minutes.min(1) } else { minutes }
}

/// A schedule for `minutes` minutes; everything is healed by then, but for a node that may be gone for ever.
pub fn generate(setup: &Setup, minutes: u32) -> Vec<Fault> {
    let minutes = minutes_of(setup, minutes);
    let dice = Random::new(setup.seed ^ 0xfa_017);
    let mut draw = Draw { dice, setup, end: u64::from(minutes) * 60_000 };
    let mut schedule = Vec::new();
    let calm = if draw.dice.chance(0.1) { 0 } else { CALM };
    let mut at = calm + draw.dice.below(5_000);
    // Some worlds are stormy, some have a fault a minute.
    let pause = [3_000, 10_000, 30_000, 60_000][pick(&mut draw.dice, 4)];
    while at + 2_000 < draw.end {
        let count = [1, 1, 2, 2, 2, 3, 4][pick(&mut draw.dice, 7)];
        draw.group(at, count, &mut schedule);
        at += 500 + draw.dice.below(2 * pause);
    }
    if setup.nodes() > 2 && draw.dice.chance(0.1) {
        let at = calm + draw.dice.below(draw.end - calm);
        let node = pick(&mut draw.dice, setup.nodes());
        let what = if draw.dice.chance(0.5) { What::PowerOff } else { What::Kill };
        schedule.push(Fault {
            at: Moment::from_millis(at),
            span: None,
            what,
            place: Place::Node(node),
            amount: 0,
        });
    }
    schedule.sort_by_key(|fault| fault.at);
    schedule
}

impl Draw<'_> {
    /// Faults that begin at nearly the same time, mostly on one node.
    fn group(&mut self, at: u64, count: usize, schedule: &mut Vec<Fault>) {
        let node = pick(&mut self.dice, self.setup.nodes());
        if self.dice.chance(0.2) {
            let (first, second) = TOGETHER[pick(&mut self.dice, TOGETHER.len())];
            let span = self.span();
            let first = self.fault(first, at, span, Place::Node(node));
            let second = self.fault(second, at, span, Place::Node(node));
            schedule.extend([first, second]);
        }
        for _ in 0..count {
            let what = self.what();
            let place = match self.dice.below(20) {
                0 | 1 => Place::All,
                2..=6 => Place::Node(pick(&mut self.dice, self.setup.nodes())),
                _ => Place::Node(node),
            };
            let start = (at + self.dice.below(3_000)).min(self.end - 1_000);
            let span = self.span();
            let fault = self.fault(what, start, span, place);
            schedule.push(fault);
        }
    }

    fn what(&mut self) -> What {
        let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = u32::try_from(self.dice.below(u64::from(total))).expect("below a small total");
        for (what, weight) in WEIGHTS {
            if left < *weight {
                return *what;
            }
            left -= weight;
        }
        What::Kill
    }

    /// Milliseconds: often about as long as the timings of the Lease, where things are decided.
    fn span(&mut self) -> u64 {
        let duration = u64::try_from(self.setup.timings.duration.as_millis()).expect("seconds");
        match self.dice.below(6) {
            0 => 20 + self.dice.below(500),
            1 | 2 => 200 + self.dice.below(duration),
            3 | 4 => duration / 2 + self.dice.below(duration * 2),
            _ => 1_000 + self.dice.below(60_000),
        }
    }

    fn fault(&mut self, what: What, at: u64, span: u64, place: Place) -> Fault {
        let span = span.min(self.end.saturating_sub(at)).max(10);
        let amount = self.amount(what);
        Fault { at: Moment::from_millis(at), span: Some(Duration::from_millis(span)), what, place, amount }
    }

    fn amount(&mut self, what: What) -> u32 {
        let below = |dice: &mut Random, bound: u64| u32::try_from(dice.below(bound)).expect("small");
        match what {
            What::RollingRestart => 300 + below(&mut self.dice, 5_000),
            What::Cut | What::CutOut => 1 + below(&mut self.dice, self.setup.nodes() as u64),
            What::Loss | What::Duplicate => 5 + below(&mut self.dice, 90),
            What::LoseAnswers => 20 + below(&mut self.dice, 81),
            What::WireDelay => 1 + below(&mut self.dice, 100),
            What::ApiSlow | What::LateWrites => 10 + below(&mut self.dice, 4_000),
            What::WriteStatus | What::ServiceStatus | What::ReadStatus => {
                STATUSES[pick(&mut self.dice, STATUSES.len())]
            }
            What::ApiLag => 100 + below(&mut self.dice, 20_000),
            What::OutsiderAdds | What::OutsiderAddsWide | What::OutsiderRemoves => {
                let services = self.setup.services().map_or(0, |(_, services)| u64::from(services.count));
                below(&mut self.dice, self.setup.vips().len() as u64 + services)
            }
            What::SlowApply => 1 + below(&mut self.dice, 200),
            What::ApplyFails => ERRNOS[pick(&mut self.dice, ERRNOS.len())],
            What::Overrun | What::SlowDump => 1 + below(&mut self.dice, 200),
            _ => 0,
        }
    }
}
