//! Placement: who goes first.

use super::*;

fn names(count: usize) -> Vec<NodeName> {
    (0..count).map(|at| NodeName::new(&format!("node-{at:03}"))).collect()
}

fn runners(names: &[NodeName]) -> Vec<Runner<'_>> {
    names.iter().map(|name| Runner::new(name, 0)).collect()
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
    keys.iter().map(|key| Race { key, field: Field::All, holder: None, apart: None }).collect()
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
            let runners: Vec<_> = runners(&names);
            let at_once = firsts(&runners, &free(&keys));
            assert!(
                spread(nodes, at_once.iter().copied()) <= 1.25,
                "seed {seed}, {nodes} nodes, {groups} groups"
            );
        }
    }
    for seed in 0..6 {
        let (names, keys) = (names(5), keys(seed, 120));
        let runners: Vec<_> = runners(&names);
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
        let runners: Vec<_> = runners(&names);
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
    let runners: Vec<_> = runners(&names);
    let all = firsts(&runners, &free(&keys));
    let fewer = firsts(&runners, &free(&keys[..36]));
    let moved = fewer.iter().zip(&all).filter(|(one, other)| one != other).count();
    assert!(moved <= 1, "{moved} of 36 moved");
}

#[test]
fn a_field_of_some_nodes_gives_the_others_the_last_places() {
    let (names, keys) = (names(4), keys(1, 1));
    let runners: Vec<_> = runners(&names);
    let races = [Race { key: &keys[0], field: Field::Only(vec![1, 3]), holder: None, apart: None }];
    let of = |me| ranks(&runners, me, &races)[0];
    let mut eligible = [of(Some(1)), of(Some(3))];
    eligible.sort_unstable();
    assert_eq!((eligible, of(Some(0)), of(Some(2)), of(None)), ([0, 1], 2, 2, 2));
    let alone = [Race { key: &keys[0], field: Field::Only(Vec::new()), holder: None, apart: None }];
    assert_eq!(ranks(&runners, Some(0), &alone), [0]);
    assert_eq!(ranks(&[], None, &races[..0]), Vec::<u32>::new());
}

#[test]
fn preferred_nodes_share_everything_evenly_while_they_are_there() {
    for seed in 0..20 {
        let (names, keys) = (names(6), keys(seed, 120));
        let score = |at: usize| [0, 100, 0, 100, 100, 10][at];
        let runners: Vec<_> =
            names.iter().enumerate().map(|(at, name)| Runner::new(name, score(at))).collect();
        let owners = firsts(&runners, &free(&keys));
        assert!(owners.iter().all(|owner| score(*owner) == 100), "seed {seed}");
        let packed = owners.iter().map(|owner| [9, 0, 9, 1, 2, 9][*owner]);
        assert!(spread(3, packed) <= 1.25, "seed {seed}");
        // Those that cannot be there go to the next best.
        let only = [Race { key: &keys[0], field: Field::Only(vec![0, 2, 5]), holder: None, apart: None }];
        assert_eq!(ranks(&runners, Some(5), &only), [0]);
    }
}

#[test]
fn groups_of_one_anti_affinity_group_are_on_different_nodes_while_there_are_enough() {
    for seed in 0..20 {
        let (names, keys) = (names(4), keys(seed, 12));
        let runners = runners(&names);
        let mut races = free(&keys);
        for race in &mut races[..4] {
            race.apart = Some(("shop", "web"));
        }
        races[4].apart = Some(("other", "web"));
        let owners = firsts(&runners, &races);
        let apart: BTreeSet<_> = owners[..4].iter().collect();
        assert_eq!(apart.len(), 4, "seed {seed}: {owners:?}");
        // One dies: who has the least of it gets its groups, and a fifth one has to go to somebody.
        for (race, owner) in races.iter_mut().zip(&owners) {
            race.holder = Some(*owner);
        }
        races[5].apart = Some(("shop", "web"));
        races[5].holder = None;
        let again = firsts(&runners, &races);
        assert!(again[5] < 4, "seed {seed}");
    }
}

#[test]
fn the_later_one_of_two_on_a_node_is_crowded_there() {
    let keys = keys(1, 5);
    let mut races = free(&keys);
    for (race, holder) in races.iter_mut().zip([Some(0), Some(1), Some(0), None, Some(0)]) {
        race.apart = Some(("shop", "web"));
        race.holder = holder;
    }
    races[4].apart = None;
    let crowds = crowds(Some(0), &races);
    let of = |at: usize| crowds[at].iter().copied().collect::<Vec<_>>();
    assert_eq!((of(0), of(2)), (vec![1], vec![0, 1]), "the first one stays");
    assert_eq!((of(1), of(3), of(4)), (vec![], vec![], vec![]), "of others nothing is said");
}
