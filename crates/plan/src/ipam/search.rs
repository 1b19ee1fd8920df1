//! One run of the allocator: the ledger that fills up, and what the run has learned so that no search is done twice.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vip_model::Family;
use vip_model::plan::Promise;
use vip_model::service::{FamilyPolicy, Service, ServiceName, ServicePort};
use vip_model::verdict::Reason;

use super::ledger::{Ledger, Owner};
use super::pool::{Pool, Settings, Source};
use super::space::{Order, Space, address, number};

/// A Service that asks for addresses.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) name: &'a ServiceName,
    pub(super) service: &'a Service,
    pub(super) pool: &'a Pool<'a>,
    /// What it has and keeps.
    pub(super) kept: &'a [IpAddr],
}

/// Which searches for a shared address are alike.
type Alike<'a> = (&'a str, Family, &'a [ServicePort]);

/// One run.
pub(super) struct Search<'a> {
    pub(super) settings: &'a Settings<'a>,
    pub(super) ledger: Ledger<'a>,
    /// Per pool and family: nothing before this address is free. Within a run addresses are only taken.
    cursors: BTreeMap<(&'a str, Family), u128>,
    /// How much of the ledger's log was there when such a search failed: only what came later can fit.
    refused: BTreeMap<Alike<'a>, usize>,
}

impl<'a> Search<'a> {
    pub(super) fn new(settings: &'a Settings<'a>, ledger: Ledger<'a>) -> Self {
        Self { settings, ledger, cursors: BTreeMap::new(), refused: BTreeMap::new() }
    }

    /// Gives what was promised before, if it still can be given. Whether it may be shared was decided then: in whatever
    /// order promises are honoured, all are.
    pub(super) fn keep(&mut self, request: Request<'a>, promise: &Promise) -> Option<Vec<IpAddr>> {
        let fits = |addr: &IpAddr| {
            let (family, number) = number(*addr);
            let is_of_pool = request.pool.space(family).is_some_and(|space| space.contains(number));
            request.kept.contains(addr)
                || is_of_pool
                    && self.ledger.get(*addr).is_none_or(|found| found.bears(&request.service.ports))
        };
        let is_whole = match (request.service.family_policy, &promise.addrs[..]) {
            (FamilyPolicy::SingleStack, [addr]) => {
                families(request).is_ok_and(|wanted| wanted[..] == [Family::of(*addr)])
            }
            (FamilyPolicy::PreferDualStack, [_]) => true,
            (FamilyPolicy::PreferDualStack | FamilyPolicy::RequireDualStack, [one, other]) => {
                Family::of(*one) != Family::of(*other)
            }
            _ => false,
        };
        // What it keeps by now it did not when the promise was made.
        let has_all = request.kept.iter().all(|addr| promise.addrs.contains(addr));
        let is_kept =
            promise.uid == request.service.uid && is_whole && has_all && promise.addrs.iter().all(fits);
        is_kept.then(|| {
            self.take(request, &promise.addrs);
            promise.addrs.clone()
        })
    }

    /// Finds addresses, in the order of the Service's families, or says why there are none.
    pub(super) fn find(&mut self, request: Request<'a>) -> Result<Vec<IpAddr>, Reason> {
        let families = families(request)?;
        let mut addrs = Vec::new();
        let mut missing = Vec::new();
        for family in families {
            let kept = request.kept.iter().copied().find(|addr| Family::of(*addr) == family);
            match kept.or_else(|| self.find_one(request, family)) {
                Some(addr) => addrs.push(addr),
                None => missing.push(family),
            }
        }
        let must_have_all = request.service.family_policy != FamilyPolicy::PreferDualStack;
        if addrs.is_empty() || (must_have_all && !missing.is_empty()) {
            return Err(exhausted(request.pool, &missing));
        }
        self.take(request, &addrs);
        Ok(addrs)
    }

    fn find_one(&mut self, request: Request<'a>, family: Family) -> Option<IpAddr> {
        let space = request.pool.space(family)?;
        let found = match self.shared(request, family, space) {
            Some(number) => Some(number),
            None => self.unused(request.pool.key, family, space),
        };
        found.map(|number| address(family, number))
    }

    /// An address in use, in the pool, on which the Service's ports are free.
    fn shared(&mut self, request: Request<'a>, family: Family, space: &Space) -> Option<u128> {
        let ports = &request.service.ports[..];
        if ports.is_empty() || !self.settings.may_share(request.name.namespace()) {
            return None;
        }
        let order = self.settings.order;
        let within = request.pool.namespace;
        let taken = self.ledger.of(family);
        let alike = (request.pool.key, family, ports);
        let found = if let Some(seen) = self.refused.get(&alike) {
            let later = self.ledger.log()[*seen..].iter().filter(|(of, number)| {
                *of == family && space.contains(*number) && taken[number].admits(ports, within)
            });
            later.map(|(_, number)| *number).min_by(|one, other| order.compare(*one, *other))
        } else {
            space
                .taken_in(order, taken)
                .find(|(_, found)| found.admits(ports, within))
                .map(|(number, _)| number)
        };
        if found.is_none() {
            self.refused.insert(alike, self.ledger.log().len());
        }
        found
    }

    /// The first address that nobody uses.
    fn unused(&mut self, key: &'a str, family: Family, space: &Space) -> Option<u128> {
        let order = self.settings.order;
        let from = self.cursors.get(&(key, family)).copied();
        let found = space.first_free(order, from, self.ledger.of(family));
        let end = match order {
            Order::Ascending => u128::MAX,
            Order::Descending => 0,
        };
        self.cursors.insert((key, family), found.unwrap_or(end));
        found
    }

    fn take(&mut self, request: Request<'a>, addrs: &[IpAddr]) {
        for addr in addrs {
            self.ledger.enter(*addr, Owner::Namespace(request.name.namespace()), &request.service.ports);
        }
    }
}

/// Which families the Service gets, first to last. `Err` when its pool can't serve them at all.
fn families(request: Request<'_>) -> Result<Vec<Family>, Reason> {
    let pool = request.pool;
    let key = pool.key;
    match pool.source {
        Source::Dhcp => {
            return Err(Reason::NotSupported(format!("pool {key}: addresses from DHCP are not built yet")));
        }
        Source::Broken => {
            return Err(Reason::Invalid(format!("pool {key} has no entry that can be read")));
        }
        Source::Spaces { .. } => {}
    }
    let keeps = |family: Family| request.kept.iter().any(|addr| Family::of(*addr) == family);
    let has = |family: &Family| pool.space(*family).is_some() || keeps(*family);
    let first = request.service.families.first().copied();
    // In a cluster with one family only, the other would be an address that no proxy forwards.
    let asked = |family: &Family| first.is_none() || request.service.families.contains(family);
    let both = match first {
        Some(Family::V6) => [Family::V6, Family::V4],
        Some(Family::V4) | None => [Family::V4, Family::V6],
    };
    let lacks =
        |family: Family| Reason::Invalid(format!("pool {key} has no {} address to give", word(family)));
    match (request.service.family_policy, first) {
        (FamilyPolicy::SingleStack, Some(family)) if has(&family) => Ok(vec![family]),
        (FamilyPolicy::SingleStack, Some(family)) => Err(lacks(family)),
        (FamilyPolicy::SingleStack, None) => Ok(both.into_iter().filter(has).take(1).collect()),
        (FamilyPolicy::PreferDualStack, _) => {
            match both.into_iter().filter(has).filter(asked).collect::<Vec<_>>() {
                none if none.is_empty() => Err(lacks(both[0])),
                some => Ok(some),
            }
        }
        (FamilyPolicy::RequireDualStack, _) => match both.into_iter().find(|family| !has(family)) {
            Some(family) => Err(lacks(family)),
            None => Ok(both.to_vec()),
        },
    }
}

fn exhausted(pool: &Pool<'_>, families: &[Family]) -> Reason {
    let words: Vec<_> = families.iter().map(|family| word(*family)).collect();
    Reason::PoolExhausted(format!(
        "pool {} has no free {} address left",
        pool.key,
        words.join(" and no free ")
    ))
}

const fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
