//! Two kinds of time. A `Moment` is true time, which nobody in the world can read; a node reads its own `Clock`, a
//! boot-time clock with a rate and a start of its own. The world converts; checkers judge by true time.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use vip_model::Instant;

/// A point of true time: nanoseconds since the world began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The beginning of the world.
    pub const START: Self = Self(0);
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// `millis` milliseconds after the beginning.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the beginning.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds since the beginning, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` minus `span`, not before the beginning.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1000;
        write!(f, "{:>4}.{:06}s", micros / 1_000_000, micros % 1_000_000)
    }
}

/// Nanoseconds of a span, saturating.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The boot-time clock of one node (`CLOCK_BOOTTIME`): it runs on while the node is suspended.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    booted: Moment,
    start: Instant,
    drift: Drift,
}

/// By how much a clock runs too fast (positive) or too slow, in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift(pub i32);

impl Drift {
    /// How much time passes on the clock while `span` of true time passes.
    fn local(self, span: u64) -> u64 {
        if let Some(product) = span.checked_mul(u64::from(self.0.unsigned_abs())) {
            // What the long division gives, in a tenth of the time.
            let change = product / 1_000_000;
            return if self.0 < 0 { span.saturating_sub(change) } else { span.saturating_add(change) };
        }
        let change = i128::from(span) * i128::from(self.0) / 1_000_000;
        u64::try_from(i128::from(span) + change).unwrap_or(0)
    }
}

impl Clock {
    /// A clock that shows `start` at the moment `booted`.
    pub const fn new(booted: Moment, start: Instant, drift: Drift) -> Self {
        Self { booted, start, drift }
    }

    /// What it shows now.
    pub fn read(&self, now: Moment) -> Instant {
        let passed = self.drift.local(nanos(now.since(self.booted)));
        Instant::from_nanos(self.start.as_nanos().saturating_add(passed))
    }

    /// The first moment at which it shows `at` or more.
    pub fn moment_of(&self, at: Instant) -> Moment {
        let wanted = at.as_nanos().saturating_sub(self.start.as_nanos());
        let rate = 1_000_000 + i128::from(self.drift.0);
        let short = wanted.checked_mul(1_000_000).zip(u64::try_from(rate).ok());
        let span = match short {
            Some((product, rate)) => product.div_ceil(rate),
            None => u64::try_from((i128::from(wanted) * 1_000_000 + rate - 1) / rate).unwrap_or(u64::MAX),
        };
        let mut moment = self.booted + Duration::from_nanos(span);
        while moment < Moment::NEVER && self.read(moment) < at {
            moment = moment + Duration::from_nanos(1);
        }
        moment
    }

    /// The true time that passes while `span` passes on this clock.
    pub fn true_span(&self, span: Duration) -> Duration {
        let rate = 1_000_000 + i128::from(self.drift.0);
        let span = i128::from(nanos(span)) * 1_000_000 / rate;
        Duration::from_nanos(u64::try_from(span).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_an_instant_at_the_moment_it_says() {
        for drift in [-10_000, -137, 0, 3, 10_000] {
            let clock = Clock::new(Moment::from_millis(700), Instant::from_millis(90_000), Drift(drift));
            for millis in [90_000, 90_001, 95_500, 700_000] {
                let at = Instant::from_millis(millis);
                let moment = clock.moment_of(at);
                assert!(clock.read(moment) >= at, "{drift} {millis}");
                assert!(clock.read(moment.before(Duration::from_nanos(2))) < at || millis == 90_000);
            }
        }
    }
}
