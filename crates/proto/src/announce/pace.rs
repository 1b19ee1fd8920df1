//! The pace of all frames together: a token bucket, kept as one instant (the generic cell rate algorithm,
//! ITU-T I.371 annex A).

use std::time::Duration;

use vip_model::Instant;

use super::{FRAMES_AT_ONCE, FRAMES_PER_SECOND};

/// Time per frame at the full rate.
const GAP: Duration = Duration::from_nanos(1_000_000_000 / FRAMES_PER_SECOND as u64);

/// How far the bucket may run ahead of the clock.
const AHEAD: Duration = Duration::from_nanos(GAP.as_nanos() as u64 * (FRAMES_AT_ONCE as u64 - 1));

/// The pace.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// When the next frame would leave if all frames left at even distances.
    even: Instant,
}

impl Pace {
    /// From when on the next frame may leave.
    pub(super) fn ready_at(&self) -> Instant {
        self.even.before(AHEAD)
    }

    /// A frame leaves.
    pub(super) fn take(&mut self, now: Instant) {
        self.even = self.even.max(now) + GAP;
    }
}
