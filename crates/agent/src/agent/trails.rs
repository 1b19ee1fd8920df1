//! What the node remembers of the addresses of Services: under which Lease each was, and since when. Fed with every new plan,
//! with signs that the picture of the cluster may not fit together, and with every turn; the next plan reads it.
//!
//! A stopped process is noticed by its own alarm: it wants a turn at least every [`ALARM`], so a longer pause between two
//! turns means that it was not running.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use vip_model::observed::{Former, Parting, Trail, Trails};
use vip_model::plan::{NodePlan, ServicePlan};
use vip_model::service::ServiceName;
use vip_model::store::Revision;
use vip_model::{Instant, LeaseName};

/// The longest time between two turns of a process that runs.
const ALARM: Duration = Duration::from_secs(1);
/// So much later a turn may begin on a busy machine.
const LATE: Duration = Duration::from_millis(500);
/// How long the Lease of an address is remembered that nobody asks for.
const MEMORY: Duration = Duration::from_mins(1);

/// The node's memory of addresses, and its alarm.
#[derive(Debug)]
pub(super) struct Watchman {
    /// When the process was last seen running.
    awake_at: Instant,
}

impl Watchman {
    pub(super) const fn new(now: Instant) -> Self {
        Self { awake_at: now }
    }

    /// The process runs.
    pub(super) fn runs(&mut self, now: Instant, trails: &mut Trails) {
        if now > self.awake_at + ALARM + LATE {
            trails.woke = Some(now);
        }
        self.awake_at = now;
    }

    /// When it wants a turn.
    pub(super) fn deadline(&self) -> Instant {
        self.awake_at + ALARM
    }
}

/// When and at which revision of the Services a plan was made.
pub(super) type Moment = (Instant, Option<Revision>);

/// Remembers what a new plan says of addresses, when the former one said something else. Whether some have moved to
/// another Lease: a plan that knows that says more.
pub(super) fn note((now, at): Moment, trails: &mut Trails, (former, plan): (&NodePlan, &NodePlan)) -> Moved {
    let (gone, news) = changes(former, plan);
    if at.is_some() || !news.is_empty() {
        trails.began.get_or_insert(now);
    }
    if !gone.is_empty() {
        let asked: BTreeSet<_> = plan.services.values().flat_map(|service| &service.addrs).collect();
        for addr in gone.iter().filter(|addr| !asked.contains(addr)) {
            if let Some(trail) = trails.addrs.get_mut(addr) {
                trail.gone = Some(Parting { time: now, at });
            }
        }
        trails.addrs.retain(|_, trail| trail.gone.is_none_or(|gone| now < gone.time + MEMORY));
    }
    let mut moved = Moved::No;
    for (addr, lease) in news {
        if follow((now, at), trails, addr, lease) == Moved::Yes {
            moved = Moved::Yes;
        }
    }
    moved
}

/// Whether an address is under another Lease than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Yes,
    No,
}

fn follow((now, at): Moment, trails: &mut Trails, addr: IpAddr, lease: &LeaseName) -> Moved {
    let fresh = || Trail { lease: lease.clone(), since: now, before: Vec::new(), gone: None };
    let trail = trails.addrs.entry(addr).or_insert_with(fresh);
    let parting = trail.gone.take();
    if trail.lease == *lease {
        if parting.is_some() {
            trail.since = now;
        }
        return Moved::No;
    }
    let former = std::mem::replace(&mut trail.lease, lease.clone());
    trail.before.retain(|before| before.lease != former && before.lease != *lease);
    trail.before.push(Former { lease: former, at: parting.map_or(at, |parting| parting.at) });
    trail.since = now;
    trails.moved.insert(addr);
    Moved::Yes
}

/// What moved long ago is as if it had always been where it is.
pub(super) fn forget(now: Instant, trails: &mut Trails) {
    let Trails { moved, addrs, .. } = trails;
    moved.retain(|addr| {
        let Some(trail) = addrs.get_mut(addr) else { return false };
        let is_recent = now < trail.since + MEMORY;
        if !is_recent {
            trail.before.clear();
        }
        is_recent
    });
}

/// Addresses that a Service has no longer, and those of Services that are not as they were.
fn changes<'p>(former: &NodePlan, plan: &'p NodePlan) -> (Vec<IpAddr>, Vec<(IpAddr, &'p LeaseName)>) {
    let (mut gone, mut news) = (Vec::new(), Vec::new());
    let mut olds = former.services.iter().peekable();
    let mut lose = |old: &ServicePlan, kept: &[IpAddr]| {
        gone.extend(old.addrs.iter().filter(|addr| !kept.contains(addr)));
    };
    for (name, service) in &plan.services {
        while let Some((_, old)) = olds.next_if(|(old, _): &(&ServiceName, _)| *old < name) {
            lose(old, &[]);
        }
        let old = olds.next_if(|(old, _)| *old == name).map(|(_, old)| old);
        if old.is_some_and(|old| old.addrs == service.addrs && old.lease == service.lease) {
            continue;
        }
        if let Some(old) = old {
            lose(old, &service.addrs);
        }
        if let Some(lease) = &service.lease {
            news.extend(service.addrs.iter().map(|addr| (*addr, lease)));
        }
    }
    olds.for_each(|(_, old)| lose(old, &[]));
    (gone, news)
}

#[cfg(test)]
mod tests;
