//! Whether turns still happen: the loop writes here when a turn begins and ends, the http thread reads it for
//! `/livez`. A loop that hangs cannot say so itself; that is why somebody else compares.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vip_model::Instant;

/// How long a turn may take or be overdue before the process counts as dead. Far above any real turn
/// (microseconds), below the patience of a kubelet (3 × 10 s).
pub(crate) const STALL: Duration = Duration::from_secs(5);

/// "None" of the two moments below: no moment of a real clock.
const NEVER: u64 = u64::MAX;

/// The heartbeat of the loop.
pub(crate) struct Pulse {
    /// When the running turn began; `NEVER` between turns.
    began: AtomicU64,
    /// When the next turn is due by itself; `NEVER` when only an input can start one.
    due: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { began: AtomicU64::new(NEVER), due: AtomicU64::new(NEVER) }
    }
}

impl Pulse {
    /// A turn begins.
    pub(crate) fn begin(&self, now: Instant) {
        self.began.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// The turn ended; the next is due at `due`, or when an input comes.
    pub(crate) fn end(&self, due: Option<Instant>) {
        self.due.store(due.map_or(NEVER, Instant::as_nanos), Ordering::Relaxed);
        self.began.store(NEVER, Ordering::Relaxed);
    }

    /// `Err` with the reason when turns have stopped. `waiting` is since when the oldest input waits.
    pub(crate) fn check(&self, now: Instant, waiting: Option<Instant>) -> Result<(), String> {
        let overdue = |since: Option<Instant>| since.map(|at| now.since(at)).filter(|late| *late > STALL);
        if let Some(late) = overdue(moment(&self.began)) {
            return Err(format!("the running turn began {} s ago and does not end", late.as_secs()));
        }
        if let Some(late) = overdue(waiting) {
            return Err(format!("inputs have been waiting for {} s and no turn takes them", late.as_secs()));
        }
        if let Some(late) = overdue(moment(&self.due)) {
            return Err(format!("a turn was due {} s ago and did not happen", late.as_secs()));
        }
        Ok(())
    }
}

fn moment(cell: &AtomicU64) -> Option<Instant> {
    match cell.load(Ordering::Relaxed) {
        NEVER => None,
        nanos => Some(Instant::from_nanos(nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    #[test]
    fn a_loop_that_waits_for_nothing_is_alive_for_ever() {
        let pulse = Pulse::default();
        pulse.begin(at(1));
        pulse.end(None);
        assert_eq!(pulse.check(at(1_000_000), None), Ok(()));
    }

    #[test]
    fn a_turn_that_does_not_end_is_a_stall() {
        let pulse = Pulse::default();
        pulse.begin(at(10));
        assert_eq!(pulse.check(at(15), None), Ok(()));
        let reason = pulse.check(at(17), None).unwrap_err();
        assert!(reason.contains("began 7 s ago"), "{reason}");
        pulse.end(None);
        assert_eq!(pulse.check(at(18), None), Ok(()), "it recovers");
    }

    #[test]
    fn inputs_that_nobody_takes_are_a_stall() {
        let pulse = Pulse::default();
        pulse.end(None);
        assert_eq!(pulse.check(at(100), Some(at(98))), Ok(()));
        assert!(pulse.check(at(100), Some(at(90))).unwrap_err().contains("waiting for 10 s"));
    }

    #[test]
    fn a_deadline_that_passes_without_a_turn_is_a_stall() {
        let pulse = Pulse::default();
        pulse.end(Some(at(12)));
        assert_eq!(pulse.check(at(12), None), Ok(()));
        assert!(pulse.check(at(20), None).unwrap_err().contains("due 8 s ago"));
    }
}
