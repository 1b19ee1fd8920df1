//! Laws that hold in every cluster, shown on random ones: Services come and go, writes arrive late or never, allocators
//! follow each other with an old picture.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vip_model::plan::Promise;
use vip_model::service::{FamilyPolicy, Service, ServiceName, ServicePort};
use vip_model::verdict::Reason;
use vip_model::{Family, Random};
use vip_plan::ipam::Outcome;

use super::scene::{ADDRESSES, ALLOCATED, Cluster, ip, list, named, service, tcp, udp};

const RUNS: u64 = 200;
const NAMESPACES: [&str; 3] = ["default", "dev", "prod"];

/// Pools, small enough to run out, some of them overlapping.
fn random_pools(random: &mut Random) -> Cluster {
    let mut pools = vec![("cidr-global", "10.0.0.0/28,fd00::/124")];
    if random.chance(0.5) {
        pools.push(("cidr-dev", "10.0.0.8/29,10.0.0.12/30,fd00:1::/126"));
    }
    if random.chance(0.3) {
        pools.push(("search-order", "desc"));
    }
    if random.chance(0.3) {
        pools.push(("skip-end-ips-in-cidr", "true"));
    }
    if random.chance(0.5) {
        pools.push(("allow-share-global", "true"));
    }
    let mut cluster = Cluster::new(&pools);
    cluster.reserved = BTreeSet::from([ip("10.0.0.3"), ip("fd00::3")]);
    cluster
}

fn random_service(random: &mut Random, at: u32) -> Service {
    let mut new = service(u32::try_from(random.below(4)).expect("below 4"));
    new.uid = format!("uid-{at}");
    let ports = [tcp(80), tcp(443), udp(80), udp(53)];
    new.ports = ports.into_iter().filter(|_| random.chance(0.4)).collect();
    new.families = match random.below(3) {
        0 => Vec::new(),
        1 => vec![Family::V4, Family::V6],
        _ => vec![Family::V6, Family::V4],
    };
    new.family_policy = match random.below(4) {
        0 => FamilyPolicy::PreferDualStack,
        1 => FamilyPolicy::RequireDualStack,
        _ => FamilyPolicy::SingleStack,
    };
    new
}

fn random_name(random: &mut Random) -> ServiceName {
    let namespace = NAMESPACES[usize::try_from(random.below(3)).expect("below 3")];
    ServiceName::new(namespace, format!("s{}", random.below(30)))
}

fn is_allocated(service: &Service) -> bool {
    service.annotations.contains_key(ALLOCATED)
}

/// Allocated Services that share an address without disjoint ports, two by two.
fn given_twice(cluster: &Cluster) -> Vec<(&ServiceName, &ServiceName)> {
    let mut users: BTreeMap<IpAddr, Vec<(&ServiceName, &[ServicePort])>> = BTreeMap::new();
    let mut found = Vec::new();
    for (name, service) in cluster.services.iter().filter(|(_, service)| is_allocated(service)) {
        for addr in cluster.addresses(name) {
            let users = users.entry(addr).or_default();
            let is_disjoint = |ports: &[ServicePort]| {
                !ports.is_empty()
                    && !service.ports.is_empty()
                    && service.ports.iter().all(|port| !ports.contains(port))
            };
            found.extend(
                users.iter().filter(|(_, ports)| !is_disjoint(ports)).map(|(other, _)| (name, *other)),
            );
            users.push((name, &service.ports));
        }
    }
    found
}

/// Whether an address is one that a namespace's pool may give.
fn is_of_pool(cluster: &Cluster, namespace: &str, addr: IpAddr) -> bool {
    let nets = if namespace == "dev" && cluster.pools.contains_key("cidr-dev") {
        ["10.0.0.8/29", "10.0.0.12/30", "fd00:1::/126"].as_slice()
    } else {
        ["10.0.0.0/28", "fd00::/124"].as_slice()
    };
    nets.iter().any(|net| net.parse::<ipnet::IpNet>().expect("a network").contains(&addr))
        && addr != ip("10.0.0.0")
        && !cluster.reserved.contains(&addr)
}

/// Every assignment comes from the right pool, has the right families, and a refusal has its reason.
fn assert_outcomes_are_right(cluster: &Cluster, seed: u64) {
    for (name, outcome) in &cluster.outcomes() {
        let wanted = &cluster.services[name];
        match outcome {
            Outcome::Assign(assignment) => {
                for addr in &assignment.addrs {
                    assert!(is_of_pool(cluster, name.namespace(), *addr), "seed {seed}: {name} got {addr}");
                }
                let families: Vec<_> = assignment.addrs.iter().map(|addr| Family::of(*addr)).collect();
                let both = match wanted.families.first() {
                    Some(Family::V6) => [Family::V6, Family::V4],
                    _ => [Family::V4, Family::V6],
                };
                let is_right = match wanted.family_policy {
                    FamilyPolicy::SingleStack => families == both[..1],
                    FamilyPolicy::RequireDualStack => families == both,
                    FamilyPolicy::PreferDualStack => families == both || families.len() == 1,
                };
                assert!(is_right, "seed {seed}: {name} got {}", list(&assignment.addrs));
            }
            Outcome::Refused(reason) => {
                assert!(matches!(reason, Reason::PoolExhausted(_)), "seed {seed}: {name} {reason}");
            }
            Outcome::Allocated | Outcome::SetByUser => {
                assert!(wanted.annotations.contains_key(ADDRESSES), "seed {seed}: {name}");
            }
        }
    }
}

/// One allocator, whose writes arrive one by one, in any order, while Services come and go.
#[test]
fn no_address_is_given_twice_while_writes_are_under_way() {
    for seed in 0..RUNS {
        let mut random = Random::new(seed);
        let mut cluster = random_pools(&mut random);
        for step in 0..60 {
            if random.chance(0.6) {
                let (name, new) = (random_name(&mut random), random_service(&mut random, step));
                cluster.services.entry(name).or_insert(new);
            }
            if random.chance(0.2) {
                cluster.services.remove(&random_name(&mut random));
            }
            assert_outcomes_are_right(&cluster, seed);
            let outcomes = cluster.outcomes();
            cluster.promised = promises(&cluster, &outcomes);
            for (name, outcome) in outcomes.iter().filter(|_| random.chance(0.3)) {
                cluster.apply(name, outcome);
            }
            assert_eq!(given_twice(&cluster), [], "seed {seed} step {step}");
        }
    }
}

fn promises(cluster: &Cluster, outcomes: &BTreeMap<ServiceName, Outcome>) -> BTreeMap<ServiceName, Promise> {
    let promise = |(name, outcome): (&ServiceName, &Outcome)| match outcome {
        Outcome::Assign(assignment) => {
            let promise =
                Promise { uid: cluster.services[name].uid.clone(), addrs: assignment.addrs.clone() };
            Some((name.clone(), promise))
        }
        _ => None,
    };
    outcomes.iter().filter_map(promise).collect()
}

/// Promises are honoured whatever else comes and goes.
#[test]
fn what_was_promised_does_not_change_before_it_is_written() {
    for seed in 0..RUNS {
        let mut random = Random::new(seed);
        let mut cluster = random_pools(&mut random);
        for step in 0..40 {
            let new = random_service(&mut random, step);
            cluster.services.entry(random_name(&mut random)).or_insert(new);
            let before = cluster.outcomes();
            cluster.promised = promises(&cluster, &before);
            let gone = random_name(&mut random);
            cluster.services.remove(&gone);
            let after = cluster.outcomes();
            for (name, outcome) in before.iter().filter(|(name, _)| **name != gone) {
                if matches!(outcome, Outcome::Assign(_)) {
                    assert_eq!(after[name], *outcome, "seed {seed} step {step}: {name}");
                }
            }
        }
    }
}

/// A second run finds nothing to do, and the departure of others moves nobody.
#[test]
fn addresses_stay_put() {
    for seed in 0..RUNS {
        let mut random = Random::new(seed);
        let mut cluster = random_pools(&mut random);
        for at in 0..30 {
            cluster.services.insert(random_name(&mut random), random_service(&mut random, at));
        }
        cluster.settle();
        let settled = cluster.services.clone();
        cluster.settle();
        assert_eq!(cluster.services, settled, "seed {seed}");
        assert!(cluster.outcomes().values().all(|outcome| !matches!(outcome, Outcome::Assign(_))));
        for name in settled.keys().filter(|_| random.chance(0.5)) {
            cluster.services.remove(name);
        }
        let had: Vec<_> = cluster
            .services
            .keys()
            .map(|name| (name.clone(), cluster.addresses(name)))
            .filter(|(_, addrs)| !addrs.is_empty())
            .collect();
        cluster.settle();
        for (name, addrs) in had {
            assert_eq!(cluster.addresses(&name), addrs, "seed {seed}: {name}");
        }
    }
}

/// The order in which Services are listed does not count, only their age and name.
#[test]
fn older_services_are_served_first() {
    let mut cluster = Cluster::new(&[("range-global", "10.0.0.1-10.0.0.2")]);
    for (name, created) in [("z", 1), ("a", 2), ("b", 2), ("c", 0)] {
        cluster.services.insert(named(&format!("n/{name}")), service(created));
    }
    let got = ["c", "z", "a", "b"].map(|name| cluster.outcome(&format!("n/{name}")));
    let full = "pool range-global has no free IPv4 address left";
    assert_eq!(got, ["10.0.0.1", "10.0.0.2", full, full]);
}

/// Two allocators in turn, the second with a picture from before the first one's last writes: what they gave twice is
/// sorted out by the next run, and then nothing moves any more.
#[test]
fn an_allocator_that_started_with_an_old_picture_does_no_lasting_harm() {
    let mut clashes = 0;
    for seed in 0..RUNS {
        let mut random = Random::new(seed);
        let mut cluster = random_pools(&mut random);
        for at in 0..16 {
            cluster.services.insert(random_name(&mut random), random_service(&mut random, at));
        }
        let old = cluster.clone();
        for (name, outcome) in cluster.outcomes().iter().filter(|_| random.chance(0.5)) {
            cluster.apply(name, outcome);
        }
        // The second one sees half of what the first one wrote, and its writes are compare-and-swap.
        let mut lagging = old.clone();
        for (name, service) in cluster.services.iter().filter(|_| random.chance(0.5)) {
            lagging.services.insert(name.clone(), service.clone());
        }
        for (name, outcome) in lagging.outcomes() {
            if cluster.services[&name] == lagging.services[&name] {
                cluster.apply(&name, &outcome);
            }
        }
        let before = cluster.services.clone();
        cluster.settle();
        clashes += usize::from(cluster.services != before);
        // Where there is no other address to give, the younger one is told.
        let outcomes = cluster.outcomes();
        let is_told =
            |name: &ServiceName| matches!(outcomes[name], Outcome::Refused(Reason::PoolExhausted(_)));
        for (one, other) in given_twice(&cluster) {
            assert!(is_told(one) || is_told(other), "seed {seed}: {one} and {other}");
        }
        let settled = cluster.services.clone();
        cluster.settle();
        assert_eq!(cluster.services, settled, "seed {seed}");
    }
    assert!(clashes > 10, "the test must see what it is about: {clashes}");
}

/// Filling a pool to the brim counts right, and one more is told why.
#[test]
fn a_full_pool_says_so() {
    let mut cluster = Cluster::new(&[("cidr-global", "10.0.0.0/24")]);
    for at in 0..254 {
        cluster.services.insert(ServiceName::new("n", format!("s{at:03}")), service(0));
    }
    cluster.settle();
    let usage = cluster.allocate().pools.usage;
    assert_eq!((usage[0].size, usage[0].used, usage[0].free), (254, 254, 0));
    cluster.services.insert(named("n/one-more"), service(1));
    let Outcome::Refused(Reason::PoolExhausted(text)) = cluster.allocation_of("n/one-more") else {
        panic!("{}", cluster.outcome("n/one-more"))
    };
    assert_eq!(text, "pool cidr-global has no free IPv4 address left");
    cluster.services.remove(&named("n/s007"));
    assert_eq!(cluster.outcome("n/one-more"), "10.0.0.8");
}

/// The cost follows the Services, not the pool and not its square: 5,000 new ones in an IPv6 /64, all on one port with
/// sharing on, are a matter of an instant even without optimisation.
#[test]
fn a_huge_pool_and_a_burst_of_services_are_cheap() {
    let mut cluster = Cluster::new(&[("cidr-global", "fd00::/64"), ("allow-share-global", "true")]);
    for at in 0..5_000 {
        cluster.services.insert(ServiceName::new("n", format!("s{at:04}")), service(0));
    }
    let allocation = cluster.outcomes();
    let wanted = |at: u128| IpAddr::from((0xfd00_u128 << 112 | at).to_be_bytes());
    for (at, (name, outcome)) in allocation.iter().enumerate() {
        let Outcome::Assign(assignment) = outcome else { panic!("{name} has none") };
        assert_eq!(assignment.addrs, [wanted(at as u128)], "{name}");
    }
    assert_eq!(cluster.allocate().pools.usage[0].used, 5_000);
    assert_eq!(cluster.allocate().pools.usage[0].size, u64::MAX);
}
