//! The notice board between the two threads: the loop publishes its view and its timings, the http server, the
//! status socket and the dump read them. Nobody waits for anybody here for longer than it takes to copy a pointer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vip_model::Instant;
use vip_model::view::View;

use crate::run::inbox::Inbox;
use crate::run::peers::PeerCounters;
use crate::run::pulse::Pulse;

/// Now, on the clock that the node lives by (`CLOCK_BOOTTIME`).
pub(crate) fn boot_now() -> Instant {
    vip_kernel::boot_now()
}

/// What the process shows of itself.
pub(crate) struct Board {
    view: Mutex<Arc<View>>,
    /// Whether turns happen.
    pub(crate) pulse: Pulse,
    /// How long turns take.
    pub(crate) turns: Histogram<{ TURN_BOUNDS.len() }>,
    /// Where inputs wait, and how many frames found no place.
    pub(crate) inbox: Arc<Inbox>,
    /// What became of heartbeats.
    pub(crate) peers: PeerCounters,
}

/// Upper bounds of the buckets of `kube_vip_turn_seconds`. A turn takes some ten microseconds; one of 10 ms is worth
/// a look, one of a second delays a fence.
pub(crate) const TURN_BOUNDS: [f64; 9] = [0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.1, 1.0, 5.0];

impl Board {
    /// A board with an empty view.
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            view: Mutex::default(),
            pulse: Pulse::default(),
            turns: Histogram::new(TURN_BOUNDS),
            inbox,
            peers: PeerCounters::default(),
        }
    }

    /// Shows a new view.
    pub(crate) fn publish(&self, view: Arc<View>) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// The view that was published last.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `Err` with the reason when turns have stopped.
    pub(crate) fn alive(&self) -> Result<(), String> {
        self.pulse.check(boot_now(), self.inbox.waiting_since())
    }
}

/// A histogram of durations with fixed buckets, written by one thread and read by others.
pub(crate) struct Histogram<const N: usize> {
    bounds: [f64; N],
    /// Not cumulative; the last of them (`over`) counts what exceeds all bounds.
    counts: [AtomicU64; N],
    over: AtomicU64,
    nanos: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// An empty histogram with these upper bounds, ascending, in seconds.
    pub(crate) fn new(bounds: [f64; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            over: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
        }
    }

    /// Counts one duration.
    pub(crate) fn observe(&self, span: Duration) {
        let seconds = span.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound);
        bucket.map_or(&self.over, |at| &self.counts[at]).fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted: (upper bound, how many are at or below it), ascending; then how many in all, and their sum
    /// in seconds.
    pub(crate) fn read(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut total = 0;
        let mut buckets = Vec::with_capacity(N);
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            buckets.push((*bound, total));
        }
        total += self.over.load(Ordering::Relaxed);
        (buckets, total, self.nanos.load(Ordering::Relaxed) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_total_counts_what_exceeds_them() {
        let histogram = Histogram::new([0.001, 0.01]);
        for millis in [1, 5, 10, 700] {
            histogram.observe(Duration::from_millis(millis));
        }
        let (buckets, total, sum) = histogram.read();
        assert_eq!(buckets, vec![(0.001, 1), (0.01, 3)]);
        assert_eq!(total, 4);
        assert!((sum - 0.716).abs() < 1e-9, "{sum}");
    }
}
