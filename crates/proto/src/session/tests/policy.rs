//! Where a group shall be: preferred nodes, anti-affinity, and how fast moves follow each other that nothing forces.

use std::time::Duration;

use vip_model::NodeName;

use super::town::Town;
use super::{calm, ms};

fn name(node: usize) -> NodeName {
    NodeName::new(&format!("n{}", node + 1))
}

#[test]
fn the_dead_are_followed_by_a_preferred_node_whatever_the_hash_says() {
    for preferred in 0..2 {
        let (mut town, holder) = calm(5);
        let others: Vec<usize> = (0..5).filter(|node| *node != holder).collect();
        let wanted = others[preferred * 3];
        town.preferences = [(name(wanted), 10), (name(others[1]), 9)].into();
        town.failback(None); // tells everybody
        town.power_off(holder);
        town.wait(Duration::from_secs(5));
        assert_eq!(town.holder(), Some(wanted));
        assert!(town.gap <= ms(200), "{:?}", town.gap);
        assert_eq!(town.overlap, Duration::ZERO);
    }
}

#[test]
fn a_preference_moves_nothing_by_itself_and_a_failback_goes_where_it_says() {
    let (mut town, holder) = calm(3);
    let wanted = (holder + 1) % 3;
    town.preferences = [(name(wanted), 10)].into();
    town.failback(None);
    town.wait(Duration::from_secs(20));
    assert_eq!(town.holder(), Some(holder), "an owner keeps what it has");
    town.failback(Some(Duration::from_secs(2)));
    town.wait(Duration::from_secs(20));
    assert_eq!(town.holder(), Some(wanted));
    assert_eq!((town.gap, town.claim_writes), (Duration::ZERO, 2), "one move: the swap and its end");
}

#[test]
fn a_group_leaves_the_node_of_another_one_of_its_anti_affinity_group_and_no_further() {
    let (mut town, holder) = calm(3);
    let (second, third) = ((holder + 1) % 3, (holder + 2) % 3);
    town.avoid = [name(holder), name(second)].into();
    town.failback(None);
    town.wait(Duration::from_secs(5));
    assert_eq!(town.holder(), Some(third), "failback is never, and yet");
    assert_eq!((town.gap, town.claim_writes), (Duration::ZERO, 2));
    town.forget();
    // Nobody is without one: it stays where it is.
    town.avoid = (0..3).map(name).collect();
    town.failback(None);
    town.wait(Duration::from_secs(20));
    assert_eq!((town.holder(), town.claim_writes), (Some(third), 0));
    assert_eq!(town.overlap, Duration::ZERO);
}

#[test]
fn moves_that_nothing_forces_keep_a_distance() {
    let (mut town, holder) = calm(3);
    let mut first = holder;
    for (pause, moves) in [(ms(500), 8..=20), (Duration::from_secs(5), 1..=3)] {
        town.move_pause = pause;
        town.forget();
        let mut seen = 0;
        for _ in 0..100 {
            let now = town.holder().unwrap_or(first);
            seen += u32::from(now != first);
            first = now;
            town.avoid = [name(now)].into(); // wherever it is, it shall not be there
            town.failback(None);
            town.wait(ms(100));
        }
        assert!(moves.contains(&seen), "{pause:?}: {seen} moves in ten seconds");
    }
}

#[test]
fn what_a_dead_node_had_is_spread_after_one_node_followed_it() {
    for seed in 0..3 {
        let (mut town, holder) = calm(4);
        let dead = (holder + 1 + seed) % 4;
        (0..16).for_each(|number| town.own_another(if number < 8 { dead } else { (dead + number) % 4 }));
        town.wait(Duration::from_secs(1));
        let had = town.loads()[dead];
        assert!(had >= 8, "{:?}", town.loads());
        town.forget();
        town.power_off(dead);
        town.wait(Duration::from_secs(2));
        let at_once = town.loads().into_iter().max();
        assert!(at_once >= Some(had + 2), "one node follows it in everything: {:?}", town.loads());
        town.wait(Duration::from_secs(15));
        let mut loads = town.loads();
        assert_eq!(loads.remove(dead), 0);
        let fullest = loads.iter().max().copied();
        assert!(loads.iter().sum::<usize>() == 17 && fullest <= Some(7), "{loads:?}");
        assert_eq!((town.gap, town.overlap), (Duration::ZERO, Duration::ZERO), "the VIP stays where it is");
        let writes = town.claim_writes;
        town.wait(Duration::from_secs(30));
        assert_eq!(town.claim_writes, writes, "then nothing moves");
    }
}

#[test]
fn a_few_groups_stay_with_who_followed() {
    let (mut town, holder) = calm(3);
    (0..2).for_each(|_| town.own_another(holder));
    town.wait(Duration::from_secs(1));
    town.power_off(holder);
    town.wait(Duration::from_secs(20));
    let mut loads = town.loads();
    loads.sort_unstable();
    assert_eq!(loads, [0, 0, 3], "each move is felt by somebody");
}

#[test]
fn what_is_spread_goes_to_preferred_nodes_alone() {
    let (mut town, holder) = calm(4);
    let (dead, heir, third) = ((holder + 1) % 4, (holder + 2) % 4, (holder + 3) % 4);
    (0..9).for_each(|_| town.own_another(dead));
    town.preferences = [(name(heir), 10), (name(third), 10)].into();
    town.failback(None);
    town.wait(Duration::from_secs(1));
    town.power_off(dead);
    town.wait(Duration::from_secs(20));
    let mut loads = town.loads();
    assert_eq!(loads[holder], 1, "{loads:?}");
    loads.sort_unstable();
    assert_eq!(loads, [0, 1, 4, 5]);
}

#[test]
fn a_node_that_hears_of_many_new_groups_before_the_others_leaves_them_their_share() {
    let (mut town, holder) = calm(3);
    town.make_new(60, holder, ms(35));
    town.wait(Duration::from_secs(2));
    let loads = town.loads();
    assert_eq!(loads.iter().sum::<usize>(), 61, "{loads:?}");
    assert!(loads.iter().all(|load| (10..=30).contains(load)), "{loads:?}");
    // Nobody is left waiting when the others are dead.
    let mut town = Town::new(3);
    town.wait(Duration::from_secs(6));
    (1..3).for_each(|node| town.power_off(node));
    town.wait(Duration::from_secs(20));
    town.make_new(60, 0, ms(0));
    town.wait(Duration::from_secs(2));
    assert_eq!(town.loads(), [61, 0, 0]);
}

#[test]
fn what_a_dead_node_left_is_rewritten_ten_claims_a_second_and_served_all_the_same() {
    let (mut town, holder) = calm(3);
    town.move_pause = Duration::from_secs(3_600); // what spreads them later is another matter
    for _ in 0..60 {
        town.own_another(holder);
    }
    town.wait(Duration::from_secs(2));
    town.forget();
    town.power_off(holder);
    town.wait(ms(400));
    assert_eq!((town.claim_writes, town.overlap), (0, Duration::ZERO));
    let heir = town.holder().expect("it is followed");
    assert_eq!(town.view(heir).claims, 61, "all of it is served before any of it is written");
    // An outage of the store in the middle gathers nothing that follows at once.
    let mut before = 0;
    for second in 0..16 {
        town.api(!(2..5).contains(&second));
        town.wait(Duration::from_secs(1));
        let written = town.claim_writes - before;
        before = town.claim_writes;
        assert!(written <= 11, "{written} claims are written in second {second}");
    }
    assert_eq!((town.claim_writes, town.claims_naming(heir)), (61, 61));
    assert_eq!(town.view(heir).claims, 61);
}
