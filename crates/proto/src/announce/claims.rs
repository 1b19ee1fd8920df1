//! The claims: when each address is announced next, and who else says that it is theirs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use vip_model::plan::Claim;
use vip_model::{Instant, LinkAddr, ScopedAddr, Walk};

use super::foreign::Claimants;
use super::frame::{Part, Written, announcement};
use super::queue::Queue;
use super::{BURST, FOREIGN_REPORTS, ForeignClaim, LEAST_INTERVAL, LEAST_REASSERT, TOGETHER};

/// All wanted claims.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    live: BTreeMap<ScopedAddr, Live>,
    /// Never announced.
    first: Queue,
    /// Announced before.
    again: Queue,
    /// Its first ARP form is sent, its second is next.
    half: Option<ScopedAddr>,
    reports: Vec<ForeignClaim>,
    announced: u64,
}

/// One wanted claim.
#[derive(Clone, Debug)]
struct Live {
    claim: Claim,
    /// None while it was never announced: then it waits in `first`, else in `again`.
    progress: Option<Progress>,
    place: Place,
    claimants: Claimants,
}

/// How far the announcing of a claim went.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The first announcement, from which the burst counts.
    begun: Instant,
    /// The last one.
    last: Instant,
}

/// Where a claim waits.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In its queue, due at this instant.
    Queued(Instant),
    /// Nowhere: its `not_after` passed before its turn came.
    Parked,
}

impl Live {
    fn new(now: Instant, claim: Claim) -> Self {
        Self { claim, progress: None, place: Place::Queued(now), claimants: Claimants::default() }
    }

    fn expired(&self, now: Instant) -> bool {
        now > self.claim.not_after
    }

    fn interval(&self) -> Duration {
        self.claim.interval.max(LEAST_INTERVAL)
    }

    /// It was announced now, as was due at `due`. Steps of the burst that were missed meanwhile are left out.
    fn announced(&mut self, now: Instant, due: Instant) -> Instant {
        let Progress { begun, last } = self.progress.unwrap_or(Progress { begun: now, last: now });
        self.progress = Some(Progress { begun, last: now });
        let ends_burst = burst_after(begun, last).is_some();
        let next = burst_after(begun, now).unwrap_or_else(|| {
            if ends_burst {
                return together(now, self.interval());
            }
            // On the grid as long as it is kept, so that a late turn does not stretch the period.
            let grid = due + self.interval();
            if grid > now { grid } else { now + self.interval() }
        });
        self.place = Place::Queued(next);
        next
    }
}

/// The first repetition after a burst: up to a [`TOGETHER`] early, so that the addresses of a node are repeated in few turns,
/// and wake the nodes that hear them few times.
fn together(now: Instant, interval: Duration) -> Instant {
    let at = now + interval;
    if interval <= 2 * TOGETHER {
        return at;
    }
    let grid = u64::try_from(TOGETHER.as_nanos()).unwrap_or(1);
    Instant::from_nanos(at.as_nanos() / grid * grid)
}

/// The next instant of a burst that began at `begun`, none when it is over.
fn burst_after(begun: Instant, now: Instant) -> Option<Instant> {
    BURST.iter().map(|&step| begun + step).find(|&step| step > now)
}

impl Claims {
    /// The wanted addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &ScopedAddr> {
        self.live.keys()
    }

    /// How many announcements began.
    pub(super) const fn announcements(&self) -> u64 {
        self.announced
    }

    /// How often each address was claimed by others.
    pub(super) fn foreign(&self) -> impl Iterator<Item = (ScopedAddr, u64)> {
        self.live.iter().map(|(&at, live)| (at, live.claimants.frames())).filter(|&(_, frames)| frames > 0)
    }

    /// The reports since the last call.
    pub(super) fn take_foreign(&mut self) -> Vec<ForeignClaim> {
        std::mem::take(&mut self.reports)
    }

    /// When the next frame is due, the pace aside.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.half.is_some() {
            return Some(Instant::ZERO);
        }
        self.first.due().into_iter().chain(self.again.due()).min()
    }

    /// Takes over the wanted set.
    pub(super) fn want(&mut self, now: Instant, wanted: BTreeMap<ScopedAddr, Claim>) {
        let mut walk = Walk::new(&wanted);
        let gone: Vec<_> = self.live.keys().filter(|at| walk.find(at).is_none()).copied().collect();
        for at in gone {
            self.forget(at);
        }
        let mut live = Walk::new(&self.live);
        let is_news =
            |(at, claim): &(ScopedAddr, Claim)| live.find(at).is_none_or(|live| live.claim != *claim);
        let news: Vec<_> = wanted.into_iter().filter(is_news).collect();
        for (at, claim) in news {
            match self.live.get(&at).map(|live| &live.claim) {
                Some(old) if old.addr == claim.addr && old.broadcast == claim.broadcast => {
                    self.renew(now, at, claim);
                }
                // New, or told to the neighbours with link-layer addresses that are no longer true.
                Some(_) | None => {
                    self.forget(at);
                    self.live.insert(at, Live::new(now, claim));
                    self.first.add(now, at);
                }
            }
        }
    }

    /// The claim's instant or interval changed: the burst goes on. When somebody else stopped answering for the address,
    /// the burst begins again, behind claims that nobody has heard of yet.
    fn renew(&mut self, now: Instant, at: ScopedAddr, claim: Claim) {
        let Some(live) = self.live.get_mut(&at) else { return };
        let is_cleared = claim.cleared > live.claim.cleared;
        live.claim = claim;
        if is_cleared
            && !live.expired(now)
            && let Some(progress) = &mut live.progress
        {
            progress.begun = now;
            return self.place(at, now);
        }
        let next = match (live.place, live.progress) {
            (Place::Parked, _) if live.expired(now) => return,
            (Place::Parked, _) => now,
            (Place::Queued(due), Some(Progress { begun, last })) if burst_after(begun, last).is_none() => {
                due.min(now.max(last + live.interval()))
            }
            (Place::Queued(_), _) => return,
        };
        self.place(at, next);
    }

    /// Puts an address into its queue, out of where it was.
    fn place(&mut self, at: ScopedAddr, due: Instant) {
        let Some(live) = self.live.get_mut(&at) else { return };
        let queue = if live.progress.is_none() { &mut self.first } else { &mut self.again };
        if let Place::Queued(old) = live.place {
            queue.remove(old, at);
        }
        live.place = Place::Queued(due);
        queue.add(due, at);
    }

    fn forget(&mut self, at: ScopedAddr) {
        if let Some(Live { place: Place::Queued(due), .. }) = self.live.remove(&at) {
            self.first.remove(due, at);
            self.again.remove(due, at);
        }
        if self.half == Some(at) {
            self.half = None;
        }
    }

    /// Somebody else says that it has `at`. Returns whether we announce that address.
    pub(super) fn contest(&mut self, now: Instant, at: ScopedAddr, from: &LinkAddr) -> bool {
        let Some(live) = self.live.get_mut(&at).filter(|live| !live.expired(now)) else { return false };
        let room = FOREIGN_REPORTS.saturating_sub(self.reports.len());
        if live.claimants.hear(now, from, room) {
            self.reports.push(ForeignClaim { at, from: from.clone() });
        }
        // Say it again at once; a claim that was never announced is due anyway.
        if let (Place::Queued(due), Some(progress)) = (live.place, live.progress) {
            let again = now.max(progress.last + LEAST_REASSERT);
            if again < due {
                self.place(at, again);
            }
        }
        true
    }

    /// The second form of what was begun, else the first announcement of a new claim.
    pub(super) fn first(&mut self, now: Instant) -> Option<Written> {
        if let Some(at) = self.half.take()
            && let Some(live) = self.live.get(&at).filter(|live| !live.expired(now))
        {
            return Some(announcement(at, &live.claim, Part::Second));
        }
        while let Some((due, at)) = self.first.pop(now) {
            if let Some(written) = self.begin(now, due, at) {
                return Some(written);
            }
        }
        None
    }

    /// The next repetition.
    pub(super) fn again(&mut self, now: Instant) -> Option<Written> {
        while let Some((due, at)) = self.again.pop(now) {
            if let Some(written) = self.begin(now, due, at) {
                return Some(written);
            }
        }
        None
    }

    /// Begins the announcement of an address that was just taken out of its queue; none when its right has ended.
    fn begin(&mut self, now: Instant, due: Instant, at: ScopedAddr) -> Option<Written> {
        let live = self.live.get_mut(&at)?;
        if live.expired(now) {
            live.place = Place::Parked;
            return None;
        }
        let next = live.announced(now, due);
        self.again.add(next, at);
        let written = announcement(at, &live.claim, Part::First);
        if matches!(written, Written::Frame(_)) {
            self.announced += 1;
            self.half = matches!(at.addr, IpAddr::V4(_)).then_some(at);
        }
        Some(written)
    }
}
