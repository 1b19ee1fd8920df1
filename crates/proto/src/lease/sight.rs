//! What was last seen of a Lease, when, and from when on it may be taken.

use std::time::Duration;

use vip_model::store::{LeaseRecord, Sight, Version};
use vip_model::{Instant, NodeName};

/// client-go marks a Lease that its holder gave up with this duration. A blank holder with another duration is an
/// outsider's edit: the holder may be alive and gets the time to write its name again.
const RELEASED: Duration = Duration::from_secs(1);

/// The newest sight of a Lease.
#[derive(Clone, Debug)]
pub(super) struct LastSight {
    pub(super) sight: Sight,
    /// When this version was first seen.
    pub(super) at: Instant,
    /// From when on it may be taken by somebody whom it does not name.
    pub(super) free_at: Instant,
    /// Who held it when it was deleted by hand, and until when that one may not have heard of it. Somebody else who takes
    /// it meanwhile and gives it up leaves it no freer.
    ghost: Option<(String, Instant)>,
    /// When a write was refused that expected this version: the store has a newer one.
    pub(super) outdated: Option<Instant>,
}

impl LastSight {
    /// What is known after one more sight; none when it tells nothing new: the same version again, or an older one
    /// from a server that lags behind.
    pub(super) fn succeed(
        former: Option<&Self>,
        sight: Sight,
        now: Instant,
        (me, own_duration): (&NodeName, Duration),
    ) -> Option<Self> {
        if former.is_some_and(|former| !former.is_news(&sight)) {
            return None;
        }
        let free_at = match &sight {
            Sight::Absent(_) => former.map_or(now, |former| former.free_after_deletion(now, own_duration)),
            Sight::Present { record, .. } => match record.holder.as_deref() {
                Some(holder) if holder == me.as_str() => now,
                Some(_) => now + record.duration.unwrap_or(own_duration),
                None if record.duration.is_none_or(|duration| duration <= RELEASED) => now,
                None => now + record.duration.unwrap_or(own_duration),
            },
        };
        let ghost = former.and_then(|former| former.ghost_after(&sight, now, (me, own_duration)));
        let is_ours =
            matches!(&sight, Sight::Present { record, .. } if record.holder.as_deref() == Some(me.as_str()));
        let haunted = ghost.as_ref().filter(|_| !is_ours).map(|(_, until)| *until);
        Some(Self { sight, at: now, free_at: free_at.max(haunted.unwrap_or(now)), ghost, outdated: None })
    }

    fn ghost_after(
        &self,
        sight: &Sight,
        now: Instant,
        (me, own_duration): (&NodeName, Duration),
    ) -> Option<(String, Instant)> {
        let lasting = self.ghost.clone().filter(|(_, until)| now < *until);
        match (sight, self.record()) {
            (Sight::Absent(_), Some(record)) if self.names_other(me) => {
                let holder = record.holder.clone()?;
                Some((holder, now + record.duration.unwrap_or(own_duration)))
            }
            (Sight::Absent(_), _) => lasting,
            (Sight::Present { record, .. }, _) => {
                lasting.filter(|(holder, _)| record.holder.as_ref() != Some(holder))
            }
        }
    }

    /// Deleted by hand: whoever held it will make it again. What we saw of that holder may be old (a watch that fell
    /// silent), so its time counts from the sight of the deletion; only from the first one, when the absence is seen
    /// twice.
    fn free_after_deletion(&self, now: Instant, own_duration: Duration) -> Instant {
        let respected = match self.record() {
            Some(record) if record.holder.is_some() => now + record.duration.unwrap_or(own_duration),
            _ => now,
        };
        self.free_at.max(respected)
    }

    fn is_news(&self, sight: &Sight) -> bool {
        match (self.version(), version_of(sight)) {
            (Some(old), Some(new)) => old != new && !new.is_older_than(old),
            (None, None) => false,
            // A read that found nothing carries no version. It is believed: what is built on it is a
            // compare-and-swap, which fails when the server was merely behind.
            (Some(_), None) | (None, Some(_)) => true,
        }
    }

    pub(super) fn version(&self) -> Option<&Version> {
        version_of(&self.sight)
    }

    pub(super) fn record(&self) -> Option<&LeaseRecord> {
        match &self.sight {
            Sight::Absent(_) => None,
            Sight::Present { record, .. } => Some(record),
        }
    }

    pub(super) fn holder(&self) -> Option<&str> {
        self.record().and_then(|record| record.holder.as_deref())
    }

    pub(super) fn names_other(&self, me: &NodeName) -> bool {
        self.holder().is_some_and(|holder| holder != me.as_str())
    }

    /// Whether the Lease ever named a holder other than us. One that names us and counts no transition was made by a
    /// former life of this agent, which may never have been heard of on the network.
    pub(super) fn was_held(&self, me: &NodeName) -> bool {
        self.names_other(me) || self.record().is_some_and(|record| record.transitions > 0)
    }
}

fn version_of(sight: &Sight) -> Option<&Version> {
    match sight {
        Sight::Absent(version) => version.as_ref(),
        Sight::Present { version, .. } => Some(version),
    }
}
