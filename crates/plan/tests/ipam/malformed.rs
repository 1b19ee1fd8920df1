//! Bad input from a generator: each piece gets its reason, and nothing else changes.

use vip_model::Random;
use vip_model::verdict::Reason;
use vip_plan::ipam::Outcome;

use super::scene::{ADDRESSES, Cluster, list, named, service};

const CASES: u64 = 1_000;

/// A text that is nothing that anybody accepts: letters of addresses, in no order that makes sense.
fn garbage(random: &mut Random) -> String {
    const PIECES: [&str; 16] = [
        "10.0.0",
        "256",
        "/33",
        "-",
        "::",
        "fd00::g",
        "1.2.3.4.5",
        "é",
        "\u{0}",
        "\t",
        "_",
        "%eth0",
        "0x7f",
        "/",
        "..",
        "\"",
    ];
    let count = 1 + random.below(5);
    let pieces = (0..count).map(|_| PIECES[usize::try_from(random.below(16)).expect("below 16")]);
    // The underscore keeps the text from becoming an address by accident.
    format!("_{}", pieces.collect::<String>())
}

/// A mistake that people make.
fn mistake(random: &mut Random) -> String {
    const TEXTS: [&str; 12] = [
        "10.0.0.0/33",
        "10.0.0.256/24",
        "10.0.0.1",
        "10.0.0.9-10.0.0.1",
        "10.0.0.1-fd00::1",
        "0.0.0.0/0",
        "fd00::/129",
        "224.0.0.0/24",
        "10.0.0.1--10.0.0.2",
        "10.0.0.1-",
        "2001:db8::/64/64",
        "::1-::5",
    ];
    if random.chance(0.5) {
        TEXTS[usize::try_from(random.below(12)).expect("below 12")].to_owned()
    } else {
        garbage(random)
    }
}

/// A ConfigMap that serves three namespaces, and Services in them.
fn sound() -> Cluster {
    let mut cluster = Cluster::new(&[
        ("cidr-global", "10.0.0.0/24,fd00::/64"),
        ("range-web", "10.1.0.1-10.1.0.9"),
        ("cidr-db", "10.2.0.0/24"),
        ("interface-db", "eth1"),
    ]);
    for name in ["web/a", "web/b", "db/a", "other/a"] {
        cluster.add(name, |_| {});
    }
    cluster
}

#[test]
fn a_thousand_bad_config_maps_say_what_is_bad_and_change_nothing_else() {
    let expected = sound().outcomes();
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let mut cluster = sound();
        let bad = mistake(&mut random);
        let key = match random.below(6) {
            // Beside good entries of a pool that is in use.
            0 | 1 => {
                let key = ["cidr-global", "cidr-db"][usize::try_from(random.below(2)).unwrap()];
                let good = cluster.pools[key].clone();
                let value =
                    if random.chance(0.5) { format!("{bad}, {good}") } else { format!("{good},{bad}") };
                cluster.pools.insert(key.to_owned(), value);
                key.to_owned()
            }
            2 => insert(&mut cluster, "cidr-nobody", &bad),
            3 => insert(&mut cluster, "allow-share-db", &bad),
            4 => insert(&mut cluster, "search-order", &bad),
            _ => insert(&mut cluster, &bad, "10.9.0.0/24"),
        };
        let allocation = cluster.allocate();
        let of_key = |problem: &&String| problem.starts_with(&format!("{key}: "));
        assert_eq!(
            allocation.pools.problems.iter().filter(of_key).count(),
            1,
            "seed {seed}: {key} {bad:?} {allocation:?}"
        );
        assert_eq!(allocation.pools.problems.len(), 1, "seed {seed}");
        assert_eq!(cluster.outcomes(), expected, "seed {seed}: {key} {bad:?}");
    }
}

fn insert(cluster: &mut Cluster, key: &str, value: &str) -> String {
    cluster.pools.insert(key.to_owned(), value.to_owned());
    key.to_owned()
}

#[test]
fn a_thousand_bad_annotations_and_spec_addresses_get_a_reason_each_and_cost_nobody_anything() {
    let mut cluster = sound();
    let expected = cluster.outcomes();
    let mut random = Random::new(7);
    for at in 0..CASES {
        let bad = garbage(&mut random);
        let mut new = service(u32::try_from(at % 60).unwrap());
        match random.below(3) {
            0 => drop(new.annotations.insert(ADDRESSES.to_owned(), bad)),
            1 => {
                drop(
                    new.annotations.insert(ADDRESSES.to_owned(), format!("10.77.0.1,{bad},vip.example.org")),
                );
            }
            _ => new.spec_ip = Some(bad),
        }
        cluster.services.insert(named(&format!("bad/s{at}")), new);
    }
    let outcomes = cluster.outcomes();
    let mut told = 0;
    for (name, outcome) in &outcomes {
        if name.namespace() != "bad" {
            assert_eq!(Some(outcome), expected.get(name), "{name}");
            continue;
        }
        let Outcome::Refused(Reason::Invalid(text)) = outcome else {
            panic!("{name} {:?}: {outcome:?}", cluster.services[name])
        };
        assert!(
            text.starts_with("annotation kube-vip.io/loadbalancerIPs: ")
                || text.starts_with("spec.loadBalancerIP ")
        );
        told += 1;
    }
    assert_eq!(told, CASES);
}

/// Bytes of any kind in any place: no panic, an outcome for everybody, and only addresses that were asked for or given.
#[test]
fn nothing_that_is_written_anywhere_makes_the_allocator_panic() {
    const LETTERS: [char; 20] = [
        '0', '1', '2', '5', '9', 'a', 'f', '.', ':', '/', '-', ',', ' ', '_', '%', 'é', '\0', '\n', 'g', '"',
    ];
    let mut random = Random::new(11);
    for case in 0..CASES {
        let mut text = || {
            let letters = random.below(24);
            (0..letters).map(|_| LETTERS[usize::try_from(random.below(20)).unwrap()]).collect::<String>()
        };
        let mut cluster = sound();
        for key in
            ["cidr-global", "range-web", "cidr-x", "interface-web", "allow-share-web", "skip-end-ips-in-cidr"]
        {
            cluster.pools.insert(key.to_owned(), text());
        }
        cluster.pools.insert(text(), text());
        cluster.add("x/annotated", |service| drop(service.annotations.insert(ADDRESSES.to_owned(), text())));
        cluster.add("x/spec", |service| service.spec_ip = Some(text()));
        for (name, outcome) in &cluster.outcomes() {
            if let Outcome::Assign(assignment) = outcome {
                assert!(!assignment.addrs.is_empty(), "case {case}: {name} {}", list(&assignment.addrs));
            }
        }
    }
}
