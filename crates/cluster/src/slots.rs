//! Who may send something now. Sessions and renewals never ask. Of the rest a limited number is in flight, first come,
//! first served; and whatever is about no Lease lets questions about Leases go first.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;

/// How many questions about Leases are in flight, at most, renewals and sessions aside. A node that starts alone takes
/// thousands of claims at once: sent at once, they would all be slow, each would be sent again elsewhere, and most would
/// come too late.
const LEASES: usize = 64;

/// How many questions other than those about Leases are in flight, at most.
const OTHERS: usize = 50;

/// How many of them may be Events: nothing waits for those, and they must not keep a status from being written.
const EVENTS: usize = 10;

/// How long a status, a label or an Event lets questions about Leases go first. When a node dies, each of its VIPs is
/// away until somebody's claim is written, and says who answers for it right after: an API server that is busy does the
/// first for all of them before it does the second for any.
const COURTESY: Duration = Duration::from_millis(500);

/// The limits, and what is in flight.
pub(crate) struct Slots {
    leases: Semaphore,
    others: Semaphore,
    events: Semaphore,
    /// Questions about Leases that wait or are in flight, renewals and sessions aside.
    asked: watch::Sender<usize>,
}

/// The right to send a question about a Lease, until it is dropped.
pub(crate) struct OfLease<'a> {
    _slot: SemaphorePermit<'a>,
    _asked: Asked<'a>,
}

/// One that asks about a Lease, from before it waits.
struct Asked<'a>(&'a watch::Sender<usize>);

/// The right to send something else, until it is dropped.
pub(crate) struct OfOther<'a>(
    #[expect(dead_code, reason = "held, not read")] [Option<SemaphorePermit<'a>>; 2],
);

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            leases: Semaphore::new(LEASES),
            others: Semaphore::new(OTHERS),
            events: Semaphore::new(EVENTS),
            asked: watch::Sender::new(0),
        }
    }

    /// Waits until a question about a Lease may be sent that is no renewal.
    pub(crate) async fn lease(&self) -> OfLease<'_> {
        let asked = Asked::new(&self.asked);
        OfLease { _slot: taken(&self.leases).await, _asked: asked }
    }

    /// Waits until something may be sent that is about no Lease; `event` when it is an Event.
    pub(crate) async fn other(&self, event: bool) -> OfOther<'_> {
        let mut asked = self.asked.subscribe();
        // The sender is `self`: it does not end while this waits. Whoever was polite for long enough goes.
        let _ = timeout(COURTESY, asked.wait_for(|asked| *asked == 0)).await;
        let event = if event { Some(taken(&self.events).await) } else { None };
        OfOther([event, Some(taken(&self.others).await)])
    }
}

impl<'a> Asked<'a> {
    fn new(asked: &'a watch::Sender<usize>) -> Self {
        asked.send_if_modified(|asked| {
            *asked += 1;
            false // nobody waits for more
        });
        Self(asked)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|asked| {
            *asked -= 1;
            *asked == 0
        });
    }
}

async fn taken(slots: &Semaphore) -> SemaphorePermit<'_> {
    slots.acquire().await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_status_lets_claims_go_first_also_those_that_wait() {
        let slots = Slots::new();
        let mut first = Vec::new();
        for _ in 0..LEASES {
            first.push(slots.lease().await);
        }
        let (begin, claim) = (Instant::now(), Duration::from_millis(100));
        let claims = async {
            tokio::time::sleep(claim).await;
            first.clear();
        };
        let waiting = async {
            let _right = slots.lease().await;
            tokio::time::sleep(claim).await;
        };
        let status = async {
            let _right = slots.other(false).await;
            begin.elapsed()
        };
        let ((), (), waited) = tokio::join!(claims, waiting, status);
        assert_eq!(waited, 2 * claim);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_lets_others_go_first_for_ever() {
        let slots = Slots::new();
        let _claim = slots.lease().await;
        let begin = Instant::now();
        let _status = slots.other(false).await;
        assert_eq!(begin.elapsed(), COURTESY);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gave_up_waiting_for_a_slot_counts_no_more() {
        let slots = Slots::new();
        let mut held = Vec::new();
        for _ in 0..LEASES {
            held.push(slots.lease().await);
        }
        assert!(timeout(Duration::from_millis(1), slots.lease()).await.is_err());
        held.clear();
        let begin = Instant::now();
        let _event = slots.other(true).await;
        assert!(begin.elapsed().is_zero());
    }
}
