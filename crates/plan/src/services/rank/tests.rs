//! Placement: who goes first.

use super::*;

fn names(count: usize) -> Vec<NodeName> {
    (0..count).map(|at| NodeName::new(&format!("node-{at:03}"))).collect()
}

fn keys(seed: u64, count: usize) -> Vec<ServiceName> {
    (0..count).map(|at| ServiceName::new(format!("ns-{}", seed % 7), format!("svc-{seed}-{at}"))).collect()
}

/// The node that goes first in each race, from the view of all of them: there must be exactly one.
fn firsts(nodes: &[Runner<'_>], races: &[Race<'_>]) -> Vec<usize> {
    let all: Vec<_> = (0..nodes.len()).map(|me| ranks(nodes, Some(me), races)).collect();
    (0..races.len())
        .map(|race| {
            let mut order: Vec<_> = (0..nodes.len()).map(|me| (all[me][race], me)).collect();
            order.retain(|(_, me)| races[race].holder != Some(*me));
            order.sort_unstable();
            assert_eq!(order[0].0, 0);
            assert!(order.windows(2).all(|two| two[0].0 != two[1].0), "every rank once");
            order[0].1
        })
        .collect()
}

fn free(keys: &[ServiceName]) -> Vec<Race<'_>> {
    keys.iter().map(|key| Race { key, field: Field::All, holder: None }).collect()
}

/// The largest share over the mean.
fn spread(nodes: usize, owners: impl Iterator<Item = usize> + Clone) -> f64 {
    let most = (0..nodes).map(|node| owners.clone().filter(|owner| *owner == node).count()).max().unwrap();
    most as f64 * nodes as f64 / owners.count() as f64
}

#[test]
fn equal_nodes_get_equal_shares_however_the_services_come() {
    for seed in 0..60 {
        for (nodes, groups) in [(3, 100), (3, 400), (5, 100), (5, 250), (5, 400)] {
            let (names, keys) = (names(nodes), keys(seed, groups));
            let runners: Vec<_> = names.iter().map(Runner::new).collect();
            let at_once = firsts(&runners, &free(&keys));
            assert!(
                spread(nodes, at_once.iter().copied()) <= 1.25,
                "seed {seed}, {nodes} nodes, {groups} groups"
            );
        }
    }
    for seed in 0..6 {
        let (names, keys) = (names(5), keys(seed, 120));
        let runners: Vec<_> = names.iter().map(Runner::new).collect();
        let mut owners: Vec<usize> = Vec::new();
        for count in 1..=keys.len() {
            let mut races = free(&keys[..count]);
            for (race, owner) in races.iter_mut().zip(&owners) {
                race.holder = Some(*owner);
            }
            owners.push(*firsts(&runners, &races).last().unwrap());
            let least = count.div_ceil(5);
            let limit = (1.25_f64).max(least as f64 * 5.0 / count as f64);
            assert!(spread(5, owners.iter().copied()) <= limit, "seed {seed}, {count} groups one by one");
        }
    }
}

#[test]
fn when_a_holder_dies_the_others_share_evenly_what_it_had() {
    for seed in 0..20 {
        let (names, keys) = (names(5), keys(seed, 200));
        let runners: Vec<_> = names.iter().map(Runner::new).collect();
        let owners = firsts(&runners, &free(&keys));
        let mut races = free(&keys);
        for (race, owner) in races.iter_mut().zip(&owners) {
            race.holder = Some(*owner);
        }
        let heirs = firsts(&runners, &races);
        let after = owners.iter().zip(&heirs).map(|(owner, heir)| if *owner == 2 { *heir } else { *owner });
        let after: Vec<_> = after.map(|owner| owner - usize::from(owner > 2)).collect();
        assert!(spread(4, after.iter().copied()) <= 1.25, "seed {seed}");
    }
}

#[test]
fn a_new_group_changes_nothing_for_older_ones() {
    let (names, keys) = (names(3), keys(7, 40));
    let runners: Vec<_> = names.iter().map(Runner::new).collect();
    let all = firsts(&runners, &free(&keys));
    let fewer = firsts(&runners, &free(&keys[..36]));
    let moved = fewer.iter().zip(&all).filter(|(one, other)| one != other).count();
    assert!(moved <= 1, "{moved} of 36 moved");
}

#[test]
fn a_field_of_some_nodes_gives_the_others_the_last_places() {
    let (names, keys) = (names(4), keys(1, 1));
    let runners: Vec<_> = names.iter().map(Runner::new).collect();
    let races = [Race { key: &keys[0], field: Field::Only(vec![1, 3]), holder: None }];
    let of = |me| ranks(&runners, me, &races)[0];
    let mut eligible = [of(Some(1)), of(Some(3))];
    eligible.sort_unstable();
    assert_eq!((eligible, of(Some(0)), of(Some(2)), of(None)), ([0, 1], 2, 2, 2));
    let alone = [Race { key: &keys[0], field: Field::Only(Vec::new()), holder: None }];
    assert_eq!(ranks(&runners, Some(0), &alone), [0]);
    assert_eq!(ranks(&[], None, &races[..0]), Vec::<u32>::new());
}
