//! Episodes of the mode `session`: short worlds with one to four faults, most of them at the holder, many of them within
//! the same few heartbeats, because that is where take-overs are decided.

use std::time::Duration;

use vip_model::Random;

use crate::clock::Moment;
use crate::fault::{Fault, HOLDER, Place, What};
use crate::setup::{Setup, pick};

/// Faults begin after this, mostly: sessions are open, juries are heard, somebody holds.
const CALM: u64 = 5_000;
/// The last fault has ended by then, but for what is never healed.
const END: u64 = 28_000;

/// Drills are drawn for numbers from here on, by dice of their own: the worlds of the numbers below are the same with or
/// without them.
const DRILLS_FROM: u64 = 250_000;

/// Kinds of faults with their weights.
const WEIGHTS: &[(What, u32)] = &[
    (What::PowerOff, 10),
    (What::CutOff, 10),
    (What::Unplug, 4),
    (What::Kill, 6),
    (What::KillAtBatch, 2),
    (What::KillAtAsk, 3),
    (What::KillAfter, 5),
    (What::Pause, 5),
    (What::PauseAtBatch, 2),
    (What::PauseAtAsk, 3),
    (What::PauseAfter, 5),
    (What::Terminate, 6),
    (What::RollingRestart, 2),
    (What::Suspend, 2),
    (What::GateRed, 3),
    (What::CarrierLoss, 3),
    (What::LinkDown, 1),
    (What::LinkRemoved, 1),
    (What::Cut, 3),
    (What::CutOut, 2),
    (What::Isolate, 6),
    (What::Loss, 4),
    (What::WireDelay, 2),
    (What::Duplicate, 1),
    (What::LostAnnouncements, 2),
    (What::ArpSuppression, 2),
    (What::PeerCut, 5),
    (What::PeerCutOut, 5),
    (What::PeerIsolate, 7),
    (What::PeerLoss, 4),
    (What::PeerDelay, 3),
    (What::PeerDuplicate, 2),
    (What::PeerReplay, 3),
    (What::PortBlocked, 4),
    (What::DoorShut, 2),
    (What::KeyWrong, 3),
    (What::KeyUnreadable, 2),
    (What::KeyRotation, 2),
    (What::Between, 4),
    (What::ApiCut, 2),
    (What::ApiIsolate, 4),
    (What::ApiAway, 6),
    (What::ApiRefuse, 3),
    (What::ApiHang, 5),
    (What::ApiSlow, 4),
    (What::WritesWait, 6),
    (What::WriteStatus, 3),
    (What::ReadStatus, 2),
    (What::ApiLag, 4),
    (What::WatchDrop, 2),
    (What::WatchFreeze, 3),
    (What::LoseAnswers, 3),
    (What::LateWrites, 3),
    (What::OutsiderRemoves, 3),
    (What::SlowApply, 2),
    (What::ApplyFails, 1),
    (What::Overrun, 1),
    (What::SlowDump, 1),
    (What::LeaseDeleted, 2),
    (What::SessionDeleted, 2),
    (What::MemoryLost, 1),
];

/// Faults that are bad together.
const TOGETHER: &[(What, What)] = &[
    (What::PowerOff, What::WritesWait),
    (What::PowerOff, What::ApiHang),
    (What::CutOff, What::ApiHang),
    (What::Kill, What::ApiHang),
    (What::Kill, What::ApiSlow),
    (What::Kill, What::MemoryLost),
    (What::Kill, What::CutOff),
    (What::PeerIsolate, What::ApiSlow),
    (What::PeerIsolate, What::ApiHang),
    (What::PeerIsolate, What::ApiAway),
    (What::PeerIsolate, What::Loss),
    (What::PeerIsolate, What::Isolate),
    (What::PortBlocked, What::ApiSlow),
    (What::KeyWrong, What::ApiSlow),
    (What::Pause, What::PeerReplay),
    (What::Pause, What::ApiHang),
    (What::Terminate, What::Kill),
    (What::Terminate, What::PauseAfter),
    (What::Terminate, What::PeerLoss),
    (What::CutOff, What::Loss),
    (What::CutOff, What::ApiLag),
    (What::Isolate, What::ApiAway),
    (What::GateRed, What::ApiHang),
    (What::SessionDeleted, What::ApiLag),
    (What::LeaseDeleted, What::ApiLag),
];

/// HTTP statuses that an API server may answer with.
const STATUSES: [u32; 8] = [401, 403, 409, 410, 429, 500, 503, 504];

struct Draw<'a> {
    dice: Random,
    setup: &'a Setup,
}

/// A schedule of one to four faults.
pub fn episode(setup: &Setup) -> Vec<Fault> {
    if let Some(schedule) = stop_in_an_outage(setup) {
        return schedule;
    }
    let mut draw = Draw { dice: Random::new(setup.seed ^ 0xe91_50de), setup };
    let calm = if draw.dice.chance(0.08) { 0 } else { CALM };
    let first = calm + draw.dice.below(3_000);
    let count = [1, 1, 2, 2, 2, 3, 3, 4][pick(&mut draw.dice, 8)];
    let mut schedule = Vec::new();
    if count > 1 && draw.dice.chance(0.3) {
        let (one, other) = TOGETHER[pick(&mut draw.dice, TOGETHER.len())];
        let place = Place::Holder;
        schedule.push(draw.fault(one, first, place));
        let apart = draw.apart();
        let place = if wide(other) { Place::All } else { draw.place() };
        schedule.push(draw.fault(other, first + apart, place));
    }
    while schedule.len() < count {
        let what = draw.what();
        let apart = if schedule.is_empty() { 0 } else { draw.apart() };
        let place = if wide(what) || draw.dice.chance(0.1) { Place::All } else { draw.place() };
        schedule.push(draw.fault(what, first + apart, place));
    }
    if setup.nodes() > 2 && draw.dice.chance(0.05) {
        let what = if draw.dice.chance(0.6) { What::PowerOff } else { What::Kill };
        let place = draw.place();
        let mut fault = draw.fault(what, first, place);
        fault.span = None;
        schedule.push(fault);
    }
    if setup.seed >= DRILLS_FROM {
        schedule.extend(drills(setup.seed, first));
    }
    schedule.sort_by_key(|fault| fault.at);
    schedule
}

/// In three of ten worlds with a past nothing happens but that the holder is told to stop while the API is out of order: what is
/// handed over then is known by heartbeats alone, and they have much to tell.
fn stop_in_an_outage(setup: &Setup) -> Option<Vec<Fault>> {
    let has_past = setup.session.as_ref().is_some_and(|session| session.ended_sessions > 0);
    let mut draw = Draw { dice: Random::new(setup.seed ^ 0x5709), setup };
    if !has_past || !draw.dice.chance(0.3) {
        return None;
    }
    let outages =
        [What::ApiAway, What::ApiRefuse, What::ApiHang, What::ApiSlow, What::WritesWait, What::LoseAnswers];
    let outage = outages[pick(&mut draw.dice, outages.len())];
    let from = CALM + draw.dice.below(3_000);
    let outage = draw.fault(outage, from, Place::All);
    let at = from + 10 + draw.dice.below(4_000);
    let stop = draw.fault(What::Terminate, at, Place::Holder);
    Some(vec![outage, stop])
}

/// In three of ten episodes somebody asks for one or two drills, before, within or after the faults; most are crashes.
fn drills(seed: u64, first: u64) -> Vec<Fault> {
    let mut dice = Random::new(seed ^ 0xd_2111);
    let count = if dice.chance(0.3) { 1 + dice.below(2) } else { 0 };
    let mut at = (first + dice.below(6_000)).saturating_sub(2_000);
    let mut drills = Vec::new();
    for _ in 0..count {
        let amount = u32::from(dice.chance(0.3));
        let span = Some(Duration::from_millis(10));
        let when = Moment::from_millis(at.min(END - 1_000));
        drills.push(Fault { at: when, span, what: What::Drill, place: Place::All, amount });
        at += if dice.chance(0.5) { dice.below(3_000) } else { 3_000 + dice.below(9_000) };
    }
    drills
}

/// Whether a fault mostly hits everybody: there is one etcd.
fn wide(what: What) -> bool {
    matches!(what, What::WritesWait | What::KeyRotation | What::ApiHang | What::ApiSlow)
}

impl Draw<'_> {
    /// How much later the next fault begins, in milliseconds: often within a few heartbeats.
    fn apart(&mut self) -> u64 {
        match self.dice.below(10) {
            0..=2 => self.dice.below(60),
            3..=5 => self.dice.below(600),
            6 | 7 => self.dice.below(4_000),
            _ => self.dice.below(12_000),
        }
    }

    fn place(&mut self) -> Place {
        match self.dice.below(20) {
            0..=10 => Place::Holder,
            11..=14 => Place::Other(1),
            15 | 16 => Place::Other(2),
            _ => Place::Node(pick(&mut self.dice, self.setup.nodes())),
        }
    }

    fn what(&mut self) -> What {
        let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = self.dice.below(u64::from(total));
        for (what, weight) in WEIGHTS {
            if left < u64::from(*weight) {
                return *what;
            }
            left -= u64::from(*weight);
        }
        What::Kill
    }

    fn span(&mut self) -> u64 {
        match self.dice.below(10) {
            0 => 10 + self.dice.below(60),
            1 | 2 => 60 + self.dice.below(300),
            3 | 4 => 300 + self.dice.below(3_000),
            5..=7 => 2_000 + self.dice.below(9_000),
            _ => 6_000 + self.dice.below(16_000),
        }
    }

    fn fault(&mut self, what: What, at: u64, place: Place) -> Fault {
        let at = at.min(END - 1_000);
        let span = self.span().min(END - at);
        let amount = self.amount(what);
        let span = Some(Duration::from_millis(span));
        Fault { at: Moment::from_millis(at), span, what, place, amount }
    }

    fn amount(&mut self, what: What) -> u32 {
        let below = |dice: &mut Random, bound: u64| u32::try_from(dice.below(bound)).expect("small");
        match what {
            What::Cut | What::CutOut | What::PeerCut | What::PeerCutOut | What::Between | What::ApiCut => {
                match self.dice.below(4) {
                    0 => HOLDER,
                    1 | 2 => HOLDER + 1 + below(&mut self.dice, 2),
                    _ => 1 + below(&mut self.dice, self.setup.nodes() as u64),
                }
            }
            What::RollingRestart => 300 + below(&mut self.dice, 3_000),
            What::Loss | What::PeerLoss => [2, 5, 10, 20, 50, 90][pick(&mut self.dice, 6)],
            What::Duplicate | What::PeerDuplicate | What::PeerReplay => 10 + below(&mut self.dice, 91),
            What::LostAnnouncements => 50 + below(&mut self.dice, 51),
            What::LoseAnswers => 20 + below(&mut self.dice, 81),
            What::WireDelay => 1 + below(&mut self.dice, 30),
            What::PeerDelay => [5, 20, 60, 150, 400][pick(&mut self.dice, 5)],
            What::ApiSlow | What::LateWrites => 10 + below(&mut self.dice, 4_000),
            What::WriteStatus | What::ReadStatus => STATUSES[pick(&mut self.dice, STATUSES.len())],
            What::ApiLag => 100 + below(&mut self.dice, 20_000),
            What::OutsiderRemoves => below(&mut self.dice, self.setup.vips().len() as u64),
            What::KillAfter | What::PauseAfter => 1 + below(&mut self.dice, 60),
            What::SlowApply | What::Overrun | What::SlowDump => 1 + below(&mut self.dice, 200),
            What::ApplyFails => [1, 5, 12, 16, 105][pick(&mut self.dice, 5)],
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_is_drawn_and_all_heal_in_time() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in (0..3_000).chain(DRILLS_FROM..DRILLS_FROM + 200) {
            let schedule = episode(&Setup::draw_session(seed, None));
            assert!((1..=7).contains(&schedule.len()));
            assert!(seed >= DRILLS_FROM || schedule.iter().all(|fault| fault.what != What::Drill));
            for fault in schedule {
                assert!(fault.end().is_none_or(|end| end <= Moment::from_millis(END)));
                seen.insert(fault.what);
            }
        }
        let missing: Vec<_> = WEIGHTS.iter().filter(|(what, _)| !seen.contains(what)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(seen.contains(&What::Drill));
    }
}
