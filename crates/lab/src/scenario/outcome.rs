//! What came out of a run: one reading per measure and family, each with its bound and a verdict. Pure; made by `play`,
//! shown by `figures`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::table::{Mark, Measure, Row, UNBOUND};
use crate::bench::{Sightings, Span, Stamp, Trace};

/// What the instruments of one family saw of one run.
#[derive(Clone, Debug)]
pub struct Record {
    /// "IPv4" or "IPv6".
    pub family: &'static str,
    /// The prober's trace.
    pub trace: Trace,
    /// The detector's sightings.
    pub sightings: Sightings,
}

/// The moments of a run, and who was hit.
#[derive(Clone, Debug)]
pub struct Moments {
    /// The calm time before the fault.
    pub calm: Span,
    /// Moments by mark.
    pub marks: BTreeMap<&'static str, Stamp>,
    /// The victim's number.
    pub victim: u8,
}

impl Moments {
    /// When a mark was passed; the end of the calm time if it never was.
    pub fn at(&self, mark: Mark) -> Stamp {
        self.marks.get(name(mark)).copied().unwrap_or(self.calm.until)
    }

    /// Notes that a mark is passed.
    pub fn pass(&mut self, mark: Mark, at: Stamp) {
        self.marks.insert(name(mark), at);
    }
}

fn name(mark: Mark) -> &'static str {
    match mark {
        Mark::Fault => "fault",
        Mark::Heal => "heal",
        Mark::End => "end",
    }
}

/// One measured value beside its bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// "IPv4" or "IPv6".
    pub family: &'static str,
    /// What was measured: "gap", "gap after the heal", "overlap" …
    pub label: String,
    /// The value; `None` when it never ended or never came.
    pub value: Option<Duration>,
    /// What is allowed.
    pub bound: Duration,
    /// What the instruments themselves add: the calm maximum of the same run.
    pub calm: Duration,
    /// Kept or broken.
    pub kept: bool,
}

/// The outcome of one run of one row.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The row.
    pub row: &'static Row,
    /// The readings: measure by measure, IPv4 before IPv6.
    pub readings: Vec<Reading>,
    /// Who was hit.
    pub victim: u8,
}

impl Outcome {
    /// Reads all measures of a row off the records.
    pub fn read(row: &'static Row, moments: &Moments, records: &[Record]) -> Self {
        let readings = row
            .measures
            .iter()
            .flat_map(|measure| records.iter().map(|record| reading(measure, moments, record)))
            .collect();
        Self { row, readings, victim: moments.victim }
    }

    /// Are all bounds kept?
    pub fn kept(&self) -> bool {
        self.readings.iter().all(|reading| reading.kept)
    }
}

fn reading(measure: &Measure, moments: &Moments, record: &Record) -> Reading {
    let calm = record.trace.gap(moments.calm).length();
    let (value, bound, allowed) = match *measure {
        Measure::Gap(from, until, bound) => {
            let outage = record.trace.outage(Span::new(moments.at(from), moments.at(until)));
            (outage, bound, bound.saturating_add(calm))
        }
        Measure::Moved(from, bound) => {
            let at = moments.at(from);
            let answer = record.trace.answer_where(at, |node| node != moments.victim);
            (answer.map(|answer| answer.at.since(at)), bound, bound + calm)
        }
        Measure::Up(from, bound) => {
            let at = moments.at(from);
            (record.trace.answer_after(at).map(|answer| answer.at.since(at)), bound, bound + calm)
        }
        Measure::Gone(from, _, bound) => (gone(&record.trace, moments.at(from)), bound, bound + calm),
        Measure::Stays(from, until) => {
            let (from, until) = (moments.at(from), moments.at(until));
            let other = record.trace.answer_where(from, |node| node != moments.victim);
            let moved = other.filter(|answer| answer.at <= until).map(|answer| answer.at.since(from));
            (Some(moved.unwrap_or_default()), Duration::ZERO, Duration::ZERO)
        }
        Measure::Overlap(from, until, bound) => {
            let overlap = record.sightings.overlap(Span::new(moments.at(from), moments.at(until)));
            (Some(overlap.longest), bound, bound)
        }
    };
    let floor = if let Measure::Gone(_, floor, _) = *measure { floor } else { Duration::ZERO };
    let kept = bound == UNBOUND || value.is_some_and(|value| value <= allowed && value >= floor);
    Reading { family: record.family, label: label(measure), value, bound, calm, kept }
}

/// From `at` to the beginning of the first silence of 300 ms after it; `None` when there was none.
fn gone(trace: &Trace, at: Stamp) -> Option<Duration> {
    let end = trace.probes.last()?.sent;
    let gap = trace.gap(Span::new(at, end));
    (gap.length() >= Duration::from_millis(300)).then(|| gap.span.from.since(at))
}

fn label(measure: &Measure) -> String {
    match measure {
        Measure::Gap(Mark::Heal, ..) => "gap after the heal".to_owned(),
        Measure::Gap(..) => "gap".to_owned(),
        Measure::Moved(..) => "until moved".to_owned(),
        Measure::Up(Mark::Heal, _) => "back after".to_owned(),
        Measure::Up(..) => "up after".to_owned(),
        Measure::Gone(..) => "gone after".to_owned(),
        Measure::Stays(..) => "moved away after".to_owned(),
        Measure::Overlap(Mark::Heal, ..) => "overlap after the heal".to_owned(),
        Measure::Overlap(..) => "overlap".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::trace::{Answer, Probe};
    use crate::scenario::table::{Mode, row};

    fn at(millis: u64) -> Stamp {
        Stamp::from_nanos(millis * 1_000_000)
    }

    /// One probe each 2 ms, answered by the node that `who` names.
    fn record(until: u64, who: impl Fn(u64) -> Option<u8>) -> Record {
        let probes = (0..until / 2).map(|n| {
            let sent = at(n * 2);
            let answer =
                who(n * 2).map(|node| Answer { at: sent.after(Duration::from_micros(100)), node, pod: 0 });
            Probe { sent, answer, control: None }
        });
        let trace = Trace { period: Duration::from_millis(2), probes: probes.collect() };
        Record { family: "IPv4", trace, sightings: Sightings::default() }
    }

    fn moments(fault: u64, end: u64) -> Moments {
        let calm = Span::new(at(10), at(fault));
        let mut moments = Moments { calm, marks: BTreeMap::new(), victim: 1 };
        moments.pass(Mark::Fault, at(fault));
        moments.pass(Mark::End, at(end));
        moments
    }

    #[test]
    fn a_short_gap_keeps_the_bound_and_a_long_one_breaks_it() {
        let row = row("sigterm").expect("a row");
        for (back, kept) in [(1080, true), (1140, false)] {
            let record = record(3000, |now| match now {
                0..=999 => Some(1),
                now if now < back => None,
                _ => Some(2),
            });
            let outcome = Outcome::read(row, &moments(1000, 2990), &[record]);
            assert_eq!(outcome.kept(), kept, "{:?}", outcome.readings);
        }
    }

    #[test]
    fn a_vip_that_never_comes_back_breaks_every_bound() {
        let record = record(3000, |now| (now < 1000).then_some(1));
        let outcome = Outcome::read(row("sigterm").expect("a row"), &moments(1000, 2990), &[record]);
        assert_eq!(outcome.readings[0].value, None);
        assert!(!outcome.kept());
    }

    #[test]
    fn nothing_lost_is_no_gap() {
        let record = record(3000, |_| Some(1));
        let outcome = Outcome::read(row("sigkill-back").expect("a row"), &moments(1000, 2990), &[record]);
        assert_eq!(outcome.readings[0].value, Some(Duration::ZERO));
        assert!(outcome.kept());
    }

    #[test]
    fn a_vip_that_moves_without_a_gap_breaks_what_was_to_move_nothing() {
        let row = Mode::Session.row("beats").expect("a row");
        for (moves, kept) in [(4000, true), (1500, false)] {
            let record = record(3000, |now| Some(if now < moves { 1 } else { 2 }));
            let outcome = Outcome::read(row, &moments(1000, 2990), &[record]);
            assert_eq!(outcome.kept(), kept, "{:?}", outcome.readings);
        }
    }

    #[test]
    fn a_figure_without_a_bound_is_kept_whatever_it_is() {
        let row = super::super::table::keepalived::ROWS.first().expect("a row");
        let record = record(3000, |now| (now < 1000).then_some(1));
        let outcome = Outcome::read(row, &moments(1000, 2990), &[record]);
        assert_eq!(outcome.readings[0].value, None);
        assert!(outcome.kept());
    }

    #[test]
    fn a_vip_that_leaves_too_early_breaks_the_bound_too() {
        let row = row("api-hanging").expect("a row");
        for (leaves, kept) in [(1200, false), (4000, true), (5000, false)] {
            let record = record(10_000, |now| (now < leaves || now >= 9000).then_some(1));
            let mut moments = moments(1000, 9990);
            moments.pass(Mark::Heal, at(8900));
            let outcome = Outcome::read(row, &moments, &[record]);
            assert_eq!(outcome.kept(), kept, "{:?}", outcome.readings);
        }
    }
}
