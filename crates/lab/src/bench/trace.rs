//! What a prober saw, and the figures in it: gaps, lost probes, who answered. Pure; fed by `Prober`, read by scenarios.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Responder, Span, Stamp};

/// A probe answered later than this counts as lost, for a client would have asked again, unless the answer to its control
/// came as late.
const LATE: Duration = Duration::from_millis(20);

/// One answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When the kernel received it.
    pub at: Stamp,
    /// The number of the node that wrote it, or whose pod did.
    pub node: u8,
    /// The number of the pod that wrote it; 0 is the node itself.
    pub pod: u8,
}

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it was sent (or refused by our own kernel, which has no neighbour or route).
    pub sent: Stamp,
    /// Its answer, if one came.
    pub answer: Option<Answer>,
    /// When the kernel received the answer to the control: the same question, sent right after it to the own address
    /// of the node that answered last.
    pub control: Option<Stamp>,
}

/// How a probe fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Answered in time.
    Served,
    /// Answered too late, and so was its control: the machine or the network, not the address, was slow.
    LateWithControl,
    /// Answered too late while the node's own address was not, or never.
    Missed,
}

impl Probe {
    fn fate(&self) -> Fate {
        let Some(answer) = self.answer else { return Fate::Missed };
        if answer.at.since(self.sent) <= LATE {
            return Fate::Served;
        }
        match self.control {
            Some(control) if answer.at.since(control) <= LATE => Fate::LateWithControl,
            _ => Fate::Missed,
        }
    }
}

/// All probes of one prober, in the order of sending.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Time between two probes.
    pub period: Duration,
    /// The probes.
    pub probes: Vec<Probe>,
}

/// A time without answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// From the last answer before to the first one after.
    pub span: Span,
    /// No answer has come until the end of the window: the gap may be longer.
    pub open: bool,
}

impl Gap {
    /// How long it is (so far, if it is open).
    pub const fn length(&self) -> Duration {
        self.span.length()
    }
}

impl Trace {
    /// The longest time without an answer inside `window`.
    ///
    /// Counted between kernel receive times. A time in which this prober sent nothing (it was not scheduled) is no
    /// outage: the gap begins at most one period before the first probe that went unanswered.
    pub fn gap(&self, window: Span) -> Gap {
        let answers = self.answers(window);
        let mut longest = Gap { span: Span::new(window.from, window.from), open: false };
        let mut previous = window.from;
        for (next, open) in answers.iter().map(|answer| (answer.at, false)).chain([(window.until, true)]) {
            let begin = self.fair_begin(previous, next);
            if begin < next && next.since(begin) > longest.length() {
                longest = Gap { span: Span::new(begin, next), open };
            }
            previous = next;
        }
        longest
    }

    /// The longest time without an answer inside `window`; zero when no probe was lost, or later than its control
    /// (then a stalled machine, and not the address, was silent); `None` when it never ended.
    pub fn outage(&self, window: Span) -> Option<Duration> {
        let gap = self.gap(window);
        if self.missed(window) == 0 {
            return Some(Duration::ZERO);
        }
        (!gap.open || gap.length() <= LATE).then(|| gap.length())
    }

    /// When the time between two answers began to count; `until` if no probe was sent in between.
    fn fair_begin(&self, from: Stamp, until: Stamp) -> Stamp {
        let index = self.probes.partition_point(|probe| probe.sent <= from);
        match self.probes.get(index) {
            Some(probe) if probe.sent < until => from.max(probe.sent.before(self.period)),
            _ => until,
        }
    }

    /// Probes sent inside `window` that were never answered.
    pub fn lost(&self, window: Span) -> usize {
        self.inside(window).filter(|probe| probe.answer.is_none()).count()
    }

    /// Probes sent inside `window` that were never answered, or later than [`LATE`] while their control was not.
    fn missed(&self, window: Span) -> usize {
        self.count(window, Fate::Missed)
    }

    /// Probes sent inside `window` that were answered late together with their control: what the machine did.
    pub fn late_with_control(&self, window: Span) -> usize {
        self.count(window, Fate::LateWithControl)
    }

    /// The last probes may still be on their way and count only when [`LATE`] has passed inside the window.
    fn count(&self, window: Span, fate: Fate) -> usize {
        let window = Span::new(window.from, window.until.before(LATE));
        self.inside(window).filter(|probe| probe.fate() == fate).count()
    }

    /// Probes sent inside `window` whose control was answered.
    pub fn controlled(&self, window: Span) -> usize {
        self.inside(window).filter(|probe| probe.control.is_some()).count()
    }

    /// Probes sent inside `window`.
    pub fn sent(&self, window: Span) -> usize {
        self.inside(window).count()
    }

    /// The first answer received at or after `at`.
    pub fn answer_after(&self, at: Stamp) -> Option<Answer> {
        let end = self.end();
        self.answers(Span::new(at, end.max(at))).first().copied()
    }

    /// The first answer received at or after `at` from a node for which `wanted` holds.
    pub fn answer_where(&self, at: Stamp, wanted: impl Fn(u8) -> bool) -> Option<Answer> {
        let end = self.end();
        self.answers(Span::new(at, end.max(at))).into_iter().find(|answer| wanted(answer.node))
    }

    /// Who answered when: one entry per change of the answering node inside `window`.
    pub fn holders(&self, window: Span) -> Vec<Answer> {
        let mut changes: Vec<Answer> = Vec::new();
        for answer in self.answers(window) {
            if changes.last().is_none_or(|last| last.node != answer.node) {
                changes.push(answer);
            }
        }
        changes
    }

    /// Which pods and nodes answered inside `window`, and when first and last.
    pub fn answerers(&self, window: Span) -> BTreeMap<Responder, Span> {
        let mut seen: BTreeMap<Responder, Span> = BTreeMap::new();
        for Answer { at, node, pod } in self.answers(window) {
            let span = seen.entry(Responder { node, pod }).or_insert(Span::new(at, at));
            span.until = at;
        }
        seen
    }

    /// The last answer received at all.
    pub fn last_answer(&self) -> Option<Answer> {
        self.probes.iter().rev().take(1000).filter_map(|probe| probe.answer).max_by_key(|answer| answer.at)
    }

    /// The middle round trip time of the answered probes sent inside `window`.
    pub fn median_rtt(&self, window: Span) -> Option<Duration> {
        let mut times: Vec<Duration> =
            self.inside(window).filter_map(|probe| Some(probe.answer?.at.since(probe.sent))).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// Answers received inside `window`, by time of arrival.
    fn answers(&self, window: Span) -> Vec<Answer> {
        let mut all: Vec<Answer> = self
            .probes
            .iter()
            .filter_map(|probe| probe.answer)
            .filter(|answer| window.holds(answer.at))
            .collect();
        all.sort_by_key(|answer| answer.at);
        all
    }

    fn inside(&self, window: Span) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(move |probe| window.holds(probe.sent))
    }

    fn end(&self) -> Stamp {
        let sent = self.probes.last().map_or(Stamp::default(), |probe| probe.sent);
        self.last_answer().map_or(sent, |answer| answer.at.max(sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Stamp {
        Stamp::from_nanos(millis * 1_000_000)
    }

    /// One probe each 2 ms from 0 to `until`; answered after 0.1 ms by the node that `who` names.
    fn trace(until: u64, who: impl Fn(u64) -> Option<u8>) -> Trace {
        let probes = (0..until / 2).map(|n| {
            let sent = at(n * 2);
            let rtt = Duration::from_micros(100);
            let answer = who(n * 2).map(|node| Answer { at: sent.after(rtt), node, pod: 0 });
            Probe { sent, answer, control: Some(sent.after(rtt)) }
        });
        Trace { period: Duration::from_millis(2), probes: probes.collect() }
    }

    #[test]
    fn a_calm_run_has_a_gap_of_one_period() {
        let trace = trace(100, |_| Some(1));
        let gap = trace.gap(Span::new(at(0), at(98)));
        assert_eq!((gap.length(), gap.open), (Duration::from_millis(2), false));
        assert_eq!(trace.lost(Span::new(at(0), at(98))), 0);
    }

    #[test]
    fn an_outage_is_measured_from_the_last_answer_to_the_first() {
        let trace = trace(400, |now| match now {
            0..=99 => Some(1),
            100..=299 => None,
            _ => Some(2),
        });
        let window = Span::new(at(0), at(398));
        assert_eq!(trace.gap(window).length(), Duration::from_millis(202));
        assert_eq!(trace.lost(window), 100);
        assert_eq!(trace.holders(window).iter().map(|answer| answer.node).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_prober_that_slept_saw_no_outage() {
        let mut trace = trace(300, |_| Some(1));
        trace.probes.retain(|probe| probe.sent <= at(100) || probe.sent >= at(200));
        let gap = trace.gap(Span::new(at(0), at(298))).length();
        assert!(gap <= Duration::from_micros(2100), "{gap:?}");
    }

    #[test]
    fn a_gap_that_nothing_ends_is_open() {
        let trace = trace(300, |now| (now < 100).then_some(1));
        let gap = trace.gap(Span::new(at(50), at(298)));
        assert!(gap.open);
        assert_eq!(gap.length(), Duration::from_micros(199_900));
    }

    #[test]
    fn an_answer_as_late_as_its_control_is_no_outage_and_a_later_or_lost_one_is() {
        let window = Span::new(at(0), at(198));
        for (answered, control, counts, excused) in [
            (Some(135), Some(135), false, 1),
            (Some(135), Some(116), false, 1),
            (Some(135), Some(114), true, 0),
            (Some(135), None, true, 0),
            (None, Some(135), true, 0),
        ] {
            let mut trace = trace(200, |_| Some(1));
            trace.probes[50].answer = answered.map(|millis| Answer { at: at(millis), node: 1, pod: 0 });
            trace.probes[50].control = control.map(at);
            // One late answer among others is no silence: what counts here is whether it is looked at.
            let seen = trace.outage(window).expect("it ended");
            assert_eq!(!seen.is_zero(), counts, "{answered:?} {control:?}: {seen:?}");
            assert_eq!(trace.late_with_control(window), excused, "{answered:?} {control:?}");
        }
    }

    #[test]
    fn a_probe_that_waited_for_the_neighbour_counts_when_it_is_answered() {
        let mut trace = trace(200, |now| (now < 50).then_some(1));
        trace.probes[40].answer = Some(Answer { at: at(190), node: 2, pod: 0 });
        let gap = trace.gap(Span::new(at(0), at(198)));
        assert_eq!((gap.span.until, gap.length()), (at(190), Duration::from_micros(141_900)));
    }
}
