//! What a detector saw of one VIP: who answered each question, and who announced it when. Pure; fed by `Detector`, read
//! by scenarios. Two MACs that answer the same question are an overlap: two nodes hold the VIP at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::net::{self, Mac};
use super::wire::Form;
use super::{Span, Stamp};

/// One broadcast question and its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// When it was sent.
    pub sent: Stamp,
    /// Who answered, and when the answer arrived.
    pub answers: Vec<(Mac, Stamp)>,
}

impl Question {
    /// Did two different nodes answer?
    pub fn disputed(&self) -> bool {
        self.answers.iter().any(|(mac, _)| *mac != self.answers[0].0)
    }
}

/// One frame that told everybody where the VIP is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// When it arrived.
    pub at: Stamp,
    /// Where it says the VIP is.
    pub mac: Mac,
    /// In which form.
    pub form: Form,
    /// The whole Ethernet frame.
    pub frame: Arc<[u8]>,
}

/// Everything that a detector saw.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    /// Time between two questions.
    pub period: Duration,
    /// The questions in the order of sending.
    pub questions: Vec<Question>,
    /// The announcements in the order of arrival.
    pub announcements: Vec<Announcement>,
}

/// A time in which two nodes answered for one VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Questions that two nodes answered.
    pub questions: usize,
    /// The longest run of such questions, one period each.
    pub longest: Duration,
    /// All of them together.
    pub total: Duration,
}

impl Overlap {
    /// Nobody disputed the VIP.
    pub const fn is_zero(&self) -> bool {
        self.questions == 0
    }
}

impl Sightings {
    /// Adds an answer to the newest question of its slot.
    pub(super) fn note(&mut self, answer: (Mac, Stamp), slot: u8) {
        let slots = usize::from(net::QUESTION_SLOTS);
        let newest = self.questions.len().checked_sub(1);
        let index =
            newest.and_then(|newest| newest.checked_sub((newest + slots - usize::from(slot)) % slots));
        if let Some(question) = index.and_then(|index| self.questions.get_mut(index)) {
            question.answers.push(answer);
        }
    }

    /// How long two nodes answered inside `window`.
    pub fn overlap(&self, window: Span) -> Overlap {
        let (mut overlap, mut run) = (Overlap::default(), 0_u32);
        for question in self.questions.iter().filter(|question| window.holds(question.sent)) {
            run = if question.disputed() { run + 1 } else { 0 };
            overlap.questions += usize::from(run > 0);
            overlap.longest = overlap.longest.max(self.period * run);
        }
        overlap.total = self.period * u32::try_from(overlap.questions).unwrap_or(u32::MAX);
        overlap
    }

    /// The longest time inside `window` in which nobody answered: a run of questions without an answer, one period
    /// each, so that a detector that slept saw no silence.
    pub fn silence(&self, window: Span) -> Duration {
        let (mut run, mut worst) = (0, 0);
        for question in self.questions.iter().filter(|question| window.holds(question.sent)) {
            run = if question.answers.is_empty() { run + 1 } else { 0 };
            worst = worst.max(run);
        }
        self.period * worst
    }

    /// Who answered inside `window`, and when first and last.
    pub fn answerers(&self, window: Span) -> BTreeMap<Mac, Span> {
        let mut seen: BTreeMap<Mac, Span> = BTreeMap::new();
        for (mac, at) in self.questions.iter().flat_map(|question| question.answers.iter().copied()) {
            if window.holds(at) {
                seen.entry(mac).and_modify(|span| span.until = at).or_insert(Span::new(at, at));
            }
        }
        seen
    }

    /// The first announcement at or after `at` that names `mac`.
    pub fn announced_after(&self, at: Stamp, mac: Mac) -> Option<Announcement> {
        self.announcements.iter().find(|seen| seen.at >= at && seen.mac == mac).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Stamp {
        Stamp::from_nanos(millis * 1_000_000)
    }

    fn sightings(answerers: &[&[u8]]) -> Sightings {
        let questions = answerers.iter().zip(0..).map(|(macs, n)| Question {
            sent: at(n * 5),
            answers: macs.iter().map(|mac| (Mac::of(*mac), at(n * 5))).collect(),
        });
        Sightings {
            period: Duration::from_millis(5),
            questions: questions.collect(),
            announcements: Vec::new(),
        }
    }

    #[test]
    fn a_move_is_no_overlap() {
        let seen = sightings(&[&[11], &[11], &[], &[12], &[12]]);
        assert!(seen.overlap(Span::new(at(0), at(100))).is_zero());
        let who = seen.answerers(Span::new(at(0), at(100)));
        assert_eq!(who[&Mac::of(11)], Span::new(at(0), at(5)));
        assert_eq!(who[&Mac::of(12)], Span::new(at(15), at(20)));
    }

    #[test]
    fn silence_is_the_longest_run_of_questions_without_an_answer() {
        let seen = sightings(&[&[11], &[], &[11], &[], &[], &[12], &[]]);
        assert_eq!(seen.silence(Span::new(at(0), at(100))), Duration::from_millis(10));
        assert_eq!(seen.silence(Span::new(at(0), at(10))), Duration::from_millis(5), "outside the window");
    }

    #[test]
    fn two_answers_to_one_question_are_an_overlap() {
        let seen = sightings(&[&[11], &[11, 12], &[12, 11], &[12], &[11, 12], &[12, 12]]);
        let overlap = seen.overlap(Span::new(at(0), at(100)));
        assert_eq!(overlap.questions, 3);
        assert_eq!(overlap.longest, Duration::from_millis(10));
        assert_eq!(overlap.total, Duration::from_millis(15));
        assert!(seen.overlap(Span::new(at(13), at(18))).is_zero(), "outside the window");
    }
}
