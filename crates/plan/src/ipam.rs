//! Address management as a function: from the pools' ConfigMap (the cloud-provider's, key by key) and what all Services
//! have, to what each Service gets. It keeps nothing between two calls, so nothing in it can be stale.
//!
//! ```text
//! Services as they are ─┐                ┌─ per Service: kept, assigned, or refused with a reason
//! reserved addresses ───┼─► allocate() ──┼─ how full each pool is
//! ConfigMap ────────────┤                └─ what is wrong in the ConfigMap
//! promises under way ───┘
//! ```
//!
//! The order of precedence keeps addresses where they are: what Services have is in use; then promises that are not
//! written yet are honoured; then the rest is served by (creation time, name). Searching costs steps per address in use
//! and never per address of a pool, so that an IPv6 /64 is as cheap as a handful.

mod assign;
mod held;
mod ledger;
mod pool;
mod search;
mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vip_model::Family;
use vip_model::plan::{Pools, Promise};
use vip_model::service::{Service, ServiceName};
use vip_model::verdict::Reason;

pub(crate) use assign::plan;

use held::{Author, Held};
use ledger::{Ledger, Owner};
use pool::Settings;
use search::{Request, Search};

/// The annotation that names a Service's addresses.
pub(crate) const ANNOTATION_ADDRESSES: &str = "kube-vip.io/loadbalancerIPs";
/// The annotation that says which addresses the allocator gave. When it equals the one above, nobody has changed them
/// since: only then may the allocator ever give others.
pub(crate) const ANNOTATION_ALLOCATED: &str = "kube-vip.io/allocatedIPs";

/// Everything that an allocation is made from.
#[derive(Clone, Debug)]
pub struct AllocationInput<'a> {
    /// The data of the pools' ConfigMap.
    pub pools: &'a BTreeMap<String, String>,
    /// The Services that get addresses here, in any order.
    pub services: Vec<(&'a ServiceName, &'a Service)>,
    /// Services of type `LoadBalancer` that are somebody else's (or going): what they have is in use.
    pub others: Vec<&'a Service>,
    /// Addresses that are never given: those of the Nodes, the control plane's VIPs.
    pub reserved: BTreeSet<IpAddr>,
    /// Addresses that somebody was seen to have. Not given either, unless a Service of ours has them.
    pub seen: BTreeSet<IpAddr>,
    /// What the last allocation assigned and no Service shows yet.
    pub promised: &'a BTreeMap<ServiceName, Promise>,
}

/// What an allocation comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// One for each of `AllocationInput::services`, in the same order.
    pub outcomes: Vec<Outcome>,
    /// How full the pools are now, and what is wrong in the ConfigMap.
    pub pools: Pools,
}

/// What becomes of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has addresses that the allocator gave it earlier.
    Allocated,
    /// It has addresses (or names, or DHCP) that somebody else wrote into its annotation.
    SetByUser,
    /// It gets these addresses.
    Assign(Assignment),
    /// It gets none.
    Refused(Reason),
}

/// Addresses for one Service, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The addresses, in the order of the Service's families.
    pub addrs: Vec<IpAddr>,
    /// Where they come from.
    pub origin: Origin,
    /// The interface that the ConfigMap names for them.
    pub interface: Option<String>,
}

/// Where assigned addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the pool with this key.
    Pool(String),
    /// From `spec.loadBalancerIP`.
    Spec,
    /// From the Service's status: it was served under them before.
    Status,
}

/// Gives addresses to the Services that have none.
pub fn allocate(input: &AllocationInput<'_>) -> Allocation {
    let settings = Settings::parse(input.pools);
    let mut order: Vec<usize> = (0..input.services.len()).collect();
    order.sort_by_key(|at| {
        let (name, service) = input.services[*at];
        (&service.created, name)
    });
    // What a Service would have for a moment if nobody set it; each is set below.
    let mut outcomes = vec![Outcome::SetByUser; order.len()];
    let mut ledger = Ledger::default();
    let pending: Vec<Pending> = enter_services(input, &order, (&mut ledger, &mut outcomes));
    let mut search = Search::new(&settings, ledger);
    serve(input, &pending, (&mut search, &mut outcomes));
    let usage = settings
        .usage(|space, family: Family| space.taken_in(settings.order, search.ledger.of(family)).count());
    Allocation { outcomes, pools: Pools { usage, problems: settings.problems.clone() } }
}

/// A Service that needs an address: its index, and what it keeps of those that it has.
type Pending = (usize, Vec<IpAddr>);

/// Notes what is in use: first what Services of ours have, oldest first, then everything else, so that a leftover never
/// counts against its owner. The Services that need an address come back.
fn enter_services<'a>(
    input: &AllocationInput<'a>,
    order: &[usize],
    (ledger, outcomes): (&mut Ledger<'a>, &mut [Outcome]),
) -> Vec<Pending> {
    let (mut pending, mut leftovers) = (Vec::new(), Vec::new());
    for at in order {
        let (name, service) = input.services[*at];
        let owner = Owner::Namespace(name.namespace());
        let addrs = if let Some((found, outcome)) = present(input, service, ledger) {
            outcomes[*at] = outcome;
            found
        } else {
            let kept = kept(service, ledger);
            pending.push((*at, kept.clone()));
            kept
        };
        let others = held::leftovers(service).filter(|addr| !addrs.contains(addr));
        leftovers.extend(others.map(|addr| (addr, owner, &service.ports)));
        for addr in addrs {
            ledger.enter(addr, owner, &service.ports);
        }
    }
    for (addr, owner, ports) in leftovers {
        ledger.enter(addr, owner, ports);
    }
    enter_outsiders(input, ledger);
    pending
}

/// The addresses that a Service has and what that means; none when it needs others.
fn present(
    input: &AllocationInput<'_>,
    service: &Service,
    ledger: &Ledger<'_>,
) -> Option<(Vec<IpAddr>, Outcome)> {
    let adopt = |addrs, origin| Outcome::Assign(Assignment { addrs, origin, interface: None });
    match held::held(service) {
        // Two allocators in turn may have given one address twice, when the second did not see the last write of the
        // first. The older Service keeps it.
        Held::Annotation(addrs, Author::Allocator) => {
            let is_clashing = addrs.iter().any(|addr| ledger.clashes(*addr, &service.ports));
            (!is_clashing).then_some((addrs, Outcome::Allocated))
        }
        Held::Annotation(addrs, Author::User) => Some((addrs, Outcome::SetByUser)),
        Held::Spec(addrs) => {
            let outcome = adopt(in_order(service, addrs.clone()), Origin::Spec);
            Some((addrs, outcome))
        }
        Held::Status(addrs) => {
            // Some load balancers show the addresses of nodes; those are not the Service's to keep.
            let is_reserved = addrs.iter().any(|addr| input.reserved.contains(addr));
            let outcome = adopt(in_order(service, addrs.clone()), Origin::Status);
            (!is_reserved).then_some((addrs, outcome))
        }
        Held::Unreadable(addrs, problem) => Some((addrs, Outcome::Refused(Reason::Invalid(problem)))),
        Held::Nothing => None,
    }
}

/// What a Service that needs an address keeps: of two that the allocator gave it, the one in nobody's way.
fn kept(service: &Service, ledger: &Ledger<'_>) -> Vec<IpAddr> {
    let Held::Annotation(mut addrs, Author::Allocator) = held::held(service) else { return Vec::new() };
    addrs.retain(|addr| !ledger.clashes(*addr, &service.ports));
    addrs
}

/// Notes what somebody else has.
fn enter_outsiders<'a>(input: &AllocationInput<'a>, ledger: &mut Ledger<'a>) {
    for service in &input.others {
        let theirs = match held::held(service) {
            Held::Annotation(addrs, _)
            | Held::Spec(addrs)
            | Held::Status(addrs)
            | Held::Unreadable(addrs, _) => addrs,
            Held::Nothing => Vec::new(),
        };
        for addr in theirs.into_iter().chain(held::leftovers(service)) {
            ledger.enter(addr, Owner::Outsider, &[]);
        }
    }
    for addr in &input.seen {
        if ledger.get(*addr).is_none() {
            ledger.enter(*addr, Owner::Outsider, &[]);
        }
    }
    for addr in &input.reserved {
        ledger.enter(*addr, Owner::Outsider, &[]);
    }
}

/// Serves those that need an address: promises first, then by age.
fn serve<'s>(
    input: &AllocationInput<'s>,
    pending: &'s [Pending],
    (search, outcomes): (&mut Search<'s>, &mut [Outcome]),
) {
    let settings = search.settings;
    let mut rest = Vec::new();
    for (at, kept) in pending {
        let (name, service) = input.services[*at];
        let Some(pool) = settings.pool(name.namespace()) else {
            outcomes[*at] = Outcome::Refused(no_pool(name.namespace()));
            continue;
        };
        let request = Request { name, service, pool, kept };
        match input.promised.get(name).and_then(|promise| search.keep(request, promise)) {
            Some(addrs) => outcomes[*at] = assigned(settings, request, addrs),
            None => rest.push((*at, request)),
        }
    }
    for (at, request) in rest {
        outcomes[at] = match search.find(request) {
            Ok(addrs) => assigned(settings, request, addrs),
            Err(reason) => Outcome::Refused(reason),
        };
    }
}

fn no_pool(namespace: &str) -> Reason {
    Reason::Invalid(format!(
        "no address pool: the ConfigMap has none of cidr-{namespace}, cidr-global, range-{namespace}, range-global"
    ))
}

fn assigned(settings: &Settings<'_>, request: Request<'_>, addrs: Vec<IpAddr>) -> Outcome {
    let interface = settings.interface(request.name.namespace()).map(str::to_owned);
    Outcome::Assign(Assignment { addrs, origin: Origin::Pool(request.pool.key.to_owned()), interface })
}

/// Addresses in the order of the Service's families.
fn in_order(service: &Service, mut addrs: Vec<IpAddr>) -> Vec<IpAddr> {
    let first = service.families.first().copied();
    addrs.sort_by_key(|addr| first.is_some_and(|first| Family::of(*addr) != first));
    addrs
}

#[cfg(test)]
mod tests;
