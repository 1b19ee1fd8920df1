//! Time on the bench: one clock, `CLOCK_REALTIME`, because the kernel stamps received packets with it
//! (`SO_TIMESTAMPNS`). Instruments write stamps, reports read them.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment, in nanoseconds of `CLOCK_REALTIME`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// Now.
    pub fn now() -> Self {
        clock_gettime(ClockId::CLOCK_REALTIME).map_or(Self(0), Self::from_timespec)
    }

    /// From what the kernel hands out with a packet.
    pub fn from_timespec(time: nix::sys::time::TimeSpec) -> Self {
        let whole = u64::try_from(time.tv_sec()).unwrap_or(0).saturating_mul(1_000_000_000);
        Self(whole.saturating_add(u64::try_from(time.tv_nsec()).unwrap_or(0)))
    }

    /// From nanoseconds of `CLOCK_REALTIME`.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds of `CLOCK_REALTIME`.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` plus `span`.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// `self` minus `span`.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A window of time, from its first moment to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: Stamp,
    /// The last moment.
    pub until: Stamp,
}

impl Span {
    /// From one moment to another.
    pub const fn new(from: Stamp, until: Stamp) -> Self {
        Self { from, until }
    }

    /// Is `at` inside?
    pub fn holds(self, at: Stamp) -> bool {
        self.from <= at && at <= self.until
    }

    /// How long it is.
    pub const fn length(self) -> Duration {
        self.until.since(self.from)
    }
}
