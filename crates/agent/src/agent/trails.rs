//! What the node remembers of the addresses of Services: under which Lease each was, and since when. Fed with every new plan,
//! with signs that the picture of the cluster may not fit together, and with every turn; the next plan reads it.
//!
//! A stopped process is noticed by its own alarm: it wants a turn at least every [`ALARM`], so a longer pause between two
//! turns means that it was not running.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use vip_model::observed::{Trail, Trails};
use vip_model::plan::{NodePlan, ServicePlan};
use vip_model::service::ServiceName;
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

/// Remembers what a new plan says of addresses, when the former one said something else.
pub(super) fn note(now: Instant, trails: &mut Trails, (former, plan): (&NodePlan, &NodePlan)) {
    let (gone, news) = changes(former, plan);
    if !gone.is_empty() {
        let asked: BTreeSet<_> = plan.services.values().flat_map(|service| &service.addrs).collect();
        for addr in gone.iter().filter(|addr| !asked.contains(addr)) {
            if let Some(trail) = trails.addrs.get_mut(addr) {
                trail.gone = Some(now);
            }
        }
        trails.addrs.retain(|_, trail| trail.gone.is_none_or(|gone| now < gone + MEMORY));
    }
    for (addr, lease) in news {
        follow(now, trails, addr, lease);
    }
}

fn follow(now: Instant, trails: &mut Trails, addr: IpAddr, lease: &LeaseName) {
    let fresh = || Trail { lease: lease.clone(), since: now, before: Vec::new(), gone: None };
    let trail = trails.addrs.entry(addr).or_insert_with(fresh);
    if trail.lease != *lease {
        let former = std::mem::replace(&mut trail.lease, lease.clone());
        trail.before.retain(|before| *before != former && *before != *lease);
        trail.before.push(former);
        trail.since = now;
        trails.moved.insert(addr);
    } else if trail.gone.is_some() {
        trail.since = now;
    }
    trail.gone = None;
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
