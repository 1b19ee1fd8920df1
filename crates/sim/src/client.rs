//! What a client sees: who answers it, whether the neighbour that it knows is one of them, how long nobody was and how
//! long two were. The world says what changes; checkers and named worlds read the spans.

use std::time::Duration;

use crate::clock::Moment;

/// Nodes, one bit each.
pub type Mask = u64;

/// One VIP in the eyes of the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eye {
    /// The nodes whose kernels hold it and that the client can hear and be heard by.
    pub answering: Mask,
    /// Whether packets reach it: the known neighbour answers for it.
    served: Option<Span>,
    doubled: Option<Moment>,
    /// Silence counts from here on only.
    pub count_from: Moment,
    /// The longest time for which it was not served, once it was.
    pub gap: Duration,
    /// The longest time for which two nodes answered.
    pub overlap: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Span {
    Served,
    NotSince(Moment),
}

impl Eye {
    /// Something may have changed. `known` is the node that the client's neighbour cache names.
    pub fn look(&mut self, now: Moment, answering: Mask, known: Option<usize>) {
        self.answering = answering;
        let served = known.is_some_and(|node| answering & (1 << node) != 0);
        self.served = match (self.served, served) {
            (None, false) => None,
            (Some(Span::Served), false) => Some(Span::NotSince(now)),
            (Some(Span::NotSince(since)), true) => {
                self.gap = self.gap.max(now.since(since.max(self.count_from)));
                Some(Span::Served)
            }
            (None | Some(Span::Served), true) => Some(Span::Served),
            (same @ Some(Span::NotSince(_)), false) => same,
        };
        self.doubled = match (self.doubled, answering.count_ones() > 1) {
            (None, true) => Some(now),
            (Some(since), true) => Some(since),
            (Some(since), false) => {
                self.overlap = self.overlap.max(now.since(since));
                None
            }
            (None, false) => None,
        };
    }

    /// Since when two nodes answer.
    pub fn doubled_since(&self) -> Option<Moment> {
        self.doubled
    }

    /// Since when it is not served, once it was.
    pub fn unserved_since(&self) -> Option<Moment> {
        match self.served {
            Some(Span::NotSince(since)) => Some(since),
            _ => None,
        }
    }

    /// The world ends: what still lasts counts.
    pub fn close(&mut self, now: Moment) {
        if let Some(since) = self.unserved_since() {
            self.gap = self.gap.max(now.since(since.max(self.count_from)));
        }
        if let Some(since) = self.doubled {
            self.overlap = self.overlap.max(now.since(since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lasts_until_the_known_neighbour_answers_again() {
        let at = Moment::from_millis;
        let mut eye = Eye::default();
        eye.look(at(0), 0b01, None);
        eye.look(at(100), 0b01, Some(0));
        eye.look(at(200), 0b00, Some(0));
        eye.look(at(300), 0b10, Some(0));
        assert_eq!(eye.unserved_since(), Some(at(200)));
        eye.look(at(310), 0b10, Some(1));
        assert_eq!((eye.gap, eye.overlap), (Duration::from_millis(110), Duration::ZERO));
    }

    #[test]
    fn an_overlap_lasts_while_two_answer() {
        let at = Moment::from_millis;
        let mut eye = Eye::default();
        eye.look(at(0), 0b01, Some(0));
        eye.look(at(10), 0b11, Some(0));
        eye.look(at(25), 0b110, Some(1));
        eye.look(at(40), 0b100, Some(2));
        assert_eq!((eye.gap, eye.overlap), (Duration::ZERO, Duration::from_millis(30)));
        eye.look(at(50), 0b101, Some(2));
        eye.close(at(90));
        assert_eq!(eye.overlap, Duration::from_millis(40));
    }
}
