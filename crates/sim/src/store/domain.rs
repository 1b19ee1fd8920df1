//! One domain of the cluster's truth (all Services, all Nodes, …) with its recent past, because a lagging API server
//! shows what was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;

/// For how long the past is kept: no API server lags behind by more.
const MEMORY: Duration = Duration::from_secs(60);

/// A domain. Each change has a number, counted from 0.
#[derive(Clone, Debug)]
pub struct Domain<T> {
    past: VecDeque<(Moment, Arc<T>)>,
    /// The number of the first change that is kept.
    first: usize,
}

impl<T: Default> Default for Domain<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Domain<T> {
    /// A domain as it is at the beginning.
    pub fn new(value: T) -> Self {
        Self { past: VecDeque::from([(Moment::START, Arc::new(value))]), first: 0 }
    }

    /// The truth.
    pub fn now(&self) -> &Arc<T> {
        &self.past.back().expect("never empty").1
    }

    /// The number of the truth.
    pub fn newest(&self) -> usize {
        self.first + self.past.len() - 1
    }

    /// Something else is true now.
    pub fn change(&mut self, now: Moment, value: T) {
        self.past.push_back((now, Arc::new(value)));
        let horizon = now.before(MEMORY);
        while self.past.get(1).is_some_and(|(at, _)| *at <= horizon) {
            self.past.pop_front();
            self.first += 1;
        }
    }

    /// The number of what was true at `moment`.
    pub fn at(&self, moment: Moment) -> usize {
        let later = self.past.partition_point(|(at, _)| *at <= moment);
        self.first + later.saturating_sub(1)
    }

    /// What change number `number` made true and when; the oldest that is kept when it is older.
    pub fn change_number(&self, number: usize) -> (Moment, &Arc<T>) {
        let at = number.saturating_sub(self.first).min(self.past.len() - 1);
        let (at, value) = &self.past[at];
        (*at, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_seen_for_a_minute_and_forgotten_then() {
        let mut domain = Domain::new(0);
        for second in 1..=100_u64 {
            domain.change(Moment::from_millis(second * 1000), second);
        }
        assert_eq!((domain.newest(), **domain.now()), (100, 100));
        let seen = domain.at(Moment::from_millis(90_500));
        assert_eq!((seen, **domain.change_number(seen).1), (90, 90));
        assert_eq!(**domain.change_number(3).1, 40);
        assert_eq!(domain.at(Moment::START), 40);
    }
}
