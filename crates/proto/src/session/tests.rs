//! The rules of the mode `session`, on a few machines in a small town: a store with compare and swap, a network for
//! heartbeats, a wire for the VIP, kernels that forget. The simulator plays the same with the whole agent and all faults.

mod drill;
mod news;
mod policy;
mod town;

use std::time::Duration;

use vip_model::members::Role;
use vip_model::peers::Fitness;
use vip_model::view::TrustView;

use town::{CLAIM_NAME, Town};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A town of `size` nodes in which somebody holds the VIP and all jurors vouch.
fn calm(size: usize) -> (Town, usize) {
    let mut town = Town::new(size);
    town.wait(Duration::from_secs(6));
    let holder = town.holder().expect("somebody holds the VIP after six seconds");
    town.forget();
    (town, holder)
}

#[test]
fn one_takes_the_free_group_and_its_jury_is_all_the_others() {
    let (town, holder) = calm(3);
    let view = town.view(holder);
    assert_eq!(view.peers.iter().filter(|peer| peer.juror && peer.vouched.is_some()).count(), 2);
    for node in (0..3).filter(|node| *node != holder) {
        assert!(matches!(town.role(node), Some(Role::Follower)), "{node}: {:?}", town.role(node));
    }
}

#[test]
fn a_quiet_town_writes_only_its_sessions() {
    let (mut town, _) = calm(3);
    town.wait(Duration::from_secs(20));
    assert_eq!(town.claim_writes, 0);
    assert!(town.session_writes <= 3 * 21, "{}", town.session_writes);
    assert_eq!((town.gap, town.overlap), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn in_a_quiet_town_hardly_anybody_wakes_up_for_nothing() {
    let (mut town, _) = calm(3);
    town.wait(Duration::from_secs(20));
    // One a second, which a renewal brings: no heartbeat does.
    assert!(
        town.idle_turns <= 3 * 20,
        "{} turns in 20 s and three nodes found nothing to do",
        town.idle_turns
    );
}

#[test]
fn a_dead_node_is_followed_within_a_fifth_of_a_second() {
    for size in [3, 5] {
        let (mut town, holder) = calm(size);
        town.power_off(holder);
        town.wait(Duration::from_secs(5));
        assert_ne!(town.holder(), Some(holder));
        assert!(town.gap <= ms(200), "{size} nodes: {:?}", town.gap);
        assert_eq!(town.overlap, Duration::ZERO);
    }
}

#[test]
fn a_dead_node_is_followed_when_the_vip_lies_outside_of_the_nodes_networks() {
    let mut town = Town::on(28, 3);
    town.wait(Duration::from_secs(6));
    let holder = town.holder().expect("somebody holds the VIP after six seconds");
    town.forget();
    town.power_off(holder);
    town.wait(Duration::from_secs(5));
    assert!(town.holder().is_some_and(|now| now != holder));
    assert!(town.gap <= ms(200), "{:?}", town.gap);
    assert_eq!(town.overlap, Duration::ZERO);
    // Cut from everything, it finds nobody who says that it is connected; and the others look at it before they take.
    let holder = town.holder().expect("somebody holds it");
    town.forget();
    town.isolate(holder, true);
    town.wait(Duration::from_secs(5));
    town.isolate(holder, false);
    town.wait(Duration::from_secs(5));
    assert_eq!((town.holders().len(), town.overlap), (1, Duration::ZERO));
}

#[test]
fn a_dead_node_is_followed_while_no_api_server_answers() {
    let (mut town, holder) = calm(3);
    town.api(false);
    town.wait(Duration::from_secs(60));
    assert_eq!((town.holder(), town.gap), (Some(holder), Duration::ZERO), "an outage alone moves nothing");
    town.power_off(holder);
    town.wait(Duration::from_secs(5));
    assert!(town.gap <= ms(300), "{:?}", town.gap);
    town.api(true);
    town.wait(Duration::from_secs(10));
    assert_eq!(town.overlap, Duration::ZERO);
    assert!(town.owner_in_store().is_some_and(|owner| owner == format!("n{}", town.holder().unwrap() + 1)));
}

#[test]
fn a_killed_agent_that_comes_back_loses_nothing_and_moves_nothing() {
    let (mut town, holder) = calm(3);
    town.kill(holder);
    town.wait(ms(1000));
    town.start(holder);
    town.wait(Duration::from_secs(10));
    assert_eq!((town.holder(), town.gap, town.overlap), (Some(holder), Duration::ZERO, Duration::ZERO));
}

#[test]
fn a_killed_agent_that_comes_back_without_an_api_goes_on_also_when_it_plans_before_it_remembers() {
    let (mut town, holder) = calm(3);
    town.api(false);
    town.wait(ms(1000));
    town.kill(holder);
    town.wait(ms(1000));
    town.start(holder);
    town.want(holder);
    town.wait(Duration::from_secs(10));
    assert_eq!((town.holder(), town.gap, town.overlap), (Some(holder), Duration::ZERO, Duration::ZERO));
}

#[test]
fn a_killed_agent_is_followed_when_its_addresses_fall_silent() {
    let (mut town, holder) = calm(3);
    town.kill(holder);
    town.wait(Duration::from_secs(10));
    assert_ne!(town.holder(), Some(holder));
    assert!(town.gap <= ms(70), "five looks of 10 ms, votes: {:?}", town.gap);
    assert_eq!(town.overlap, Duration::ZERO);
}

#[test]
fn blocked_heartbeats_move_nothing() {
    let (mut town, holder) = calm(3);
    town.heartbeats(false);
    town.wait(Duration::from_secs(30));
    assert_eq!((town.holder(), town.gap, town.overlap), (Some(holder), Duration::ZERO, Duration::ZERO));
    town.heartbeats(true);
    town.wait(Duration::from_secs(5));
    assert_eq!((town.holder(), town.gap), (Some(holder), Duration::ZERO));
}

#[test]
fn a_stop_right_after_the_store_began_to_hang_is_followed_by_heartbeat() {
    let (mut town, holder) = calm(2);
    town.api(false);
    town.fitness(holder, Fitness::Leaving);
    town.wait(ms(250));
    assert_eq!(town.holder(), Some(holder), "the answer may still come");
    town.wait(ms(300));
    assert_eq!(town.holder(), Some(1 - holder));
    assert!(town.gap <= ms(70), "two looks and a heartbeat: {:?}", town.gap);
    assert_eq!(town.overlap, Duration::ZERO);
}

#[test]
fn who_left_everything_stays_until_its_heir_serves() {
    let (mut town, holder) = calm(2);
    town.api(false);
    town.wait(Duration::from_secs(3));
    town.fitness(holder, Fitness::Leaving);
    let mut was_finished = false;
    for _ in 0..3_000 {
        was_finished |= town.is_finished(holder);
        if town.holder() == Some(1 - holder) {
            break;
        }
        assert!(!was_finished, "its heir may have no other juror");
        town.wait(ms(1));
    }
    assert_eq!(town.holder(), Some(1 - holder));
}

#[test]
fn however_often_agents_began_again_whoever_is_left_a_group_hears_of_it() {
    let (mut town, _) = calm(2);
    for turn in 0..24 {
        let holder = town.holder().expect("somebody holds it");
        town.api(false);
        town.wait(ms(100));
        town.fitness(holder, Fitness::Leaving);
        town.wait(ms(5000));
        assert_eq!(town.holder(), Some(1 - holder), "turn {turn}: no API tells it, heartbeats must");
        town.kill(holder);
        town.api(true);
        town.fitness(holder, Fitness::Fit);
        town.start(holder);
        town.wait(ms(4000));
    }
}

#[test]
fn in_doubt_news_goes_with_the_questions_to_other_servers_and_costs_no_more() {
    let writes = |has_news: bool| {
        let (mut town, holder) = calm(3);
        town.heartbeats(false);
        town.wait(ms(500));
        town.session_writes = 0;
        for turn in 0..40 {
            if has_news {
                town.keys(holder, if turn % 2 == 0 { &[1, 2] } else { &[1] });
            }
            town.wait(ms(100));
        }
        town.keys(holder, &[1, 2]);
        town.wait(ms(700));
        let keys = town.record(holder).map(|record| record.keys.len());
        (town.session_writes, keys)
    };
    let ((plain, _), (with_news, keys)) = (writes(false), writes(true));
    assert_eq!(keys, Some(2), "the last word is written within a question");
    assert!(with_news <= plain + 1, "{with_news} writes with news, {plain} without");
}

#[test]
fn blocked_heartbeats_and_no_api_move_nothing_while_juror_kernels_answer() {
    let (mut town, holder) = calm(3);
    town.heartbeats(false);
    town.api(false);
    town.wait(Duration::from_secs(30));
    assert_eq!((town.holder(), town.gap, town.overlap), (Some(holder), Duration::ZERO, Duration::ZERO));
}

#[test]
fn a_node_that_is_cut_off_lets_go_before_another_takes() {
    let (mut town, holder) = calm(3);
    town.isolate(holder, true);
    town.wait(Duration::from_secs(6));
    assert_ne!(town.holder(), Some(holder));
    assert!(town.gap <= ms(200), "{:?}", town.gap);
    town.isolate(holder, false);
    town.wait(Duration::from_secs(6));
    assert_eq!(town.overlap, Duration::ZERO);
    assert_eq!(town.holders().len(), 1);
}

#[test]
fn a_stopping_node_hands_over_make_before_break() {
    let (mut town, holder) = calm(3);
    town.fitness(holder, Fitness::Leaving);
    town.wait(Duration::from_secs(3));
    assert_ne!(town.holder(), Some(holder));
    assert_eq!(town.gap, Duration::ZERO);
    assert!(town.overlap <= ms(30), "{:?}", town.overlap);
    assert!(town.is_finished(holder));
}

#[test]
fn an_agent_that_stopped_in_order_comes_back_with_a_session_that_others_believe() {
    let (town, holder) = calm(3);
    let older = town.memory(holder);
    comes_back_after_a_stop((town, holder), |_| {});
    // The last thing that it wanted to keep may be lost with the process.
    comes_back_after_a_stop(calm(3), |town| town.remember(holder, older));
}

fn comes_back_after_a_stop((mut town, holder): (Town, usize), meanwhile: impl FnOnce(&mut Town)) {
    town.fitness(holder, Fitness::Leaving);
    town.wait(Duration::from_secs(3));
    assert!(town.is_finished(holder));
    let released = town.view(holder).id;
    town.kill(holder);
    meanwhile(&mut town);
    town.fitness(holder, Fitness::Fit);
    town.start(holder);
    town.wait(Duration::from_secs(6));
    assert_ne!(town.view(holder).id, released, "a session that was released has ended");
    town.ask_for_hand_over(&format!("n{}", holder + 1));
    town.wait(Duration::from_secs(3));
    town.forget();
    town.wait(Duration::from_secs(5));
    assert_eq!((town.holders(), town.gap, town.overlap), (vec![holder], Duration::ZERO, Duration::ZERO));
    assert_eq!(town.claim_writes, 0, "nobody takes it for free");
}

#[test]
fn a_new_owner_hears_when_the_one_before_has_stopped_answering() {
    let (mut town, holder) = calm(3);
    town.fitness(holder, Fitness::Leaving);
    let stops = |town: &mut Town| {
        town.wait(ms(1));
        !town.holders().contains(&holder)
    };
    let cleared = |town: &Town| (0..3).find_map(|node| town.cleared(node));
    let waited = (0..3_000).find(|_| {
        assert_eq!(cleared(&town), None, "it still answers");
        stops(&mut town)
    });
    assert!(waited.is_some(), "it was drained");
    town.wait(ms(5));
    // It was looked at every millisecond, so that the word may be as much older.
    assert!(cleared(&town).is_some_and(|ago| ago <= ms(6)), "{:?}", cleared(&town));
    town.wait(Duration::from_secs(3));
    assert!(cleared(&town).is_some_and(|ago| ago >= Duration::from_secs(3)), "once: {:?}", cleared(&town));
}

#[test]
fn what_a_healed_cut_made_clients_believe_is_contradicted() {
    let (mut town, holder) = calm(3);
    town.isolate(holder, true);
    town.wait(Duration::from_secs(6));
    let heir = town.holder().expect("it was followed");
    assert_eq!(town.cleared(heir), None);
    town.isolate(holder, false);
    town.wait(Duration::from_secs(2));
    assert_eq!(town.holder(), Some(heir));
    assert!(town.cleared(heir).is_some());
}

#[test]
fn what_an_ended_session_held_is_not_served_before_its_claim_is_seen() {
    let (mut town, holder) = calm(3);
    let memory = town.memory(holder);
    town.fitness(holder, Fitness::Leaving);
    town.wait(Duration::from_secs(3));
    town.kill(holder);
    town.remember(holder, memory);
    town.fitness(holder, Fitness::Fit);
    town.forget();
    town.claim_lag = ms(100);
    town.start(holder);
    town.wait(Duration::from_secs(6));
    assert_eq!((town.gap, town.overlap), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn nothing_is_handed_over_to_a_session_that_has_just_ended() {
    let (mut town, holder) = calm(2);
    let other = 1 - holder;
    town.heartbeats(false); // its last words are lost
    town.fitness(other, Fitness::Leaving);
    town.wait(ms(1000));
    assert!(town.is_finished(other));
    town.kill(other);
    town.heartbeats(true);
    town.fitness(holder, Fitness::Leaving);
    town.wait(ms(1000));
    assert!(town.is_finished(holder));
    assert_eq!((town.holder(), town.owner_in_store()), (None, None), "the address goes, then the claim");
}

#[test]
fn a_juror_whose_watch_is_late_grants_by_the_word_of_the_session_itself() {
    let (mut town, holder) = calm(3);
    let [juror, other] = [(holder + 1) % 3, (holder + 2) % 3];
    town.blind(juror);
    town.power_off(other);
    town.wait(Duration::from_secs(7));
    town.power_on(other);
    town.wait(ms(2500)); // the jury has changed twice since
    town.power_off(holder);
    town.wait(Duration::from_secs(3));
    assert!(town.gap <= ms(200), "{:?}", town.gap);
    assert_eq!(town.overlap, Duration::ZERO);
}

#[test]
fn holders_that_are_each_others_jurors_are_never_in_doubt() {
    let (mut town, holder) = calm(2);
    town.own_another(1 - holder);
    town.wait(Duration::from_secs(2));
    town.forget();
    for _ in 0..500 {
        town.wait(ms(13));
        for node in 0..2 {
            assert_eq!(
                (town.view(node).trust, town.view(node).claims),
                (TrustView::Sure, 1),
                "n{}",
                node + 1
            );
        }
    }
    assert!(town.session_writes <= 2 * 8, "{}", town.session_writes);
}

#[test]
fn a_single_node_holds_through_an_outage_of_any_length() {
    let (mut town, holder) = calm(1);
    town.api(false);
    town.wait(Duration::from_secs(600));
    assert_eq!((town.holder(), town.gap), (Some(holder), Duration::ZERO));
}

#[test]
fn of_two_nodes_the_other_follows_with_the_word_of_the_api() {
    let (mut town, holder) = calm(2);
    town.power_off(holder);
    town.wait(Duration::from_secs(10));
    assert_eq!(town.holder(), Some(1 - holder));
    assert_eq!(town.overlap, Duration::ZERO);
}

#[test]
fn who_is_left_alone_lives_on_by_its_own_api_server() {
    for size in [2, 3] {
        let (mut town, holder) = calm(size);
        for other in (0..size).filter(|other| *other != holder) {
            town.power_off(other);
            town.wait(Duration::from_secs(30));
        }
        assert_eq!((town.holder(), town.gap), (Some(holder), Duration::ZERO), "{size} nodes");
    }
}

#[test]
fn a_holder_that_stands_still_again_in_the_middle_of_a_doubt_first_hears_what_came_meanwhile() {
    let (mut town, holder) = calm(3);
    for _ in 0..20 {
        town.stall(holder, ms(200));
        town.wait(ms(200) + Duration::from_micros(100)); // it notices, asks, and hears nothing yet
        town.stall(holder, ms(200));
        town.wait(ms(300));
    }
    assert_eq!((town.holder(), town.gap, town.overlap), (Some(holder), Duration::ZERO, Duration::ZERO));
}

#[test]
fn somebody_asks_for_a_hand_over_and_it_happens_once() {
    let (mut town, holder) = calm(3);
    let to = (holder + 1) % 3;
    town.ask_for_hand_over(&format!("n{}", to + 1));
    town.wait(Duration::from_secs(3));
    assert_eq!((town.holder(), town.gap), (Some(to), Duration::ZERO), "{CLAIM_NAME}");
    assert!(town.overlap <= ms(30), "{:?}", town.overlap);
}

#[test]
fn a_group_goes_back_to_the_better_placed_node_when_that_is_wanted_and_only_then() {
    for (wait, expected) in [(None, false), (Some(Duration::from_secs(3)), true)] {
        let (mut town, preferred) = calm(3);
        let others = (preferred + 1) % 3;
        town.failback(wait);
        // Whoever a hash prefers: two moves by hand find out, because one of three nodes is it.
        for node in [others, (others + 1) % 3] {
            town.ask_for_hand_over(&format!("n{}", node + 1));
            town.wait(Duration::from_secs(1));
        }
        town.forget();
        let before = town.holder();
        town.wait(Duration::from_secs(30));
        let settled = town.holder();
        town.ask_for_hand_over(&format!("n{}", (settled.unwrap() + 1) % 3 + 1));
        town.wait(Duration::from_secs(30));
        assert_eq!(town.holder() == settled, expected, "{wait:?}: {before:?}, then {settled:?}");
        assert_eq!(town.gap, Duration::ZERO);
    }
}

#[test]
fn who_stops_soon_after_the_start_hands_over_all_the_same() {
    for after in (100..6000).step_by(193) {
        let mut town = Town::new(3);
        town.wait(ms(after));
        let Some(holder) = town.holder() else { continue };
        town.forget();
        town.fitness(holder, Fitness::Leaving);
        town.wait(ms(1000));
        assert!(town.is_finished(holder), "after {after} ms");
        assert_eq!(town.gap, Duration::ZERO, "after {after} ms");
        assert!(town.overlap <= ms(30), "after {after} ms: {:?}", town.overlap);
    }
}

#[test]
fn who_stops_waits_half_a_second_for_a_successor_that_is_heard_and_does_not_announce() {
    let (mut town, holder) = calm(3);
    town.unable = (0..3).filter(|node| *node != holder).collect();
    town.fitness(holder, Fitness::Leaving);
    town.wait(ms(400));
    assert_eq!((town.holder(), town.gap), (Some(holder), Duration::ZERO), "it serves until then");
    town.wait(ms(200));
    assert!(town.is_finished(holder) && town.holder().is_none());
    assert_ne!(town.owner_in_store(), Some(format!("n{}", holder + 1)));
}

#[test]
fn who_does_not_stop_serves_on_for_as_long_as_its_successor_does_not_announce() {
    let (mut town, holder) = calm(3);
    town.unable = (0..3).filter(|node| *node != holder).collect();
    town.ask_for_hand_over("*");
    town.wait(Duration::from_secs(1));
    assert_ne!(town.owner_in_store(), Some(format!("n{}", holder + 1)), "it was given away");
    town.wait(Duration::from_secs(9));
    assert_eq!((town.holder(), town.gap), (Some(holder), Duration::ZERO));
    assert_eq!(town.owner_in_store(), Some(format!("n{}", holder + 1)), "and taken back");
}

#[test]
fn a_session_for_which_nobody_has_vouched_yet_is_followed_by_expiry_alone() {
    let mut town = Town::new(3);
    for node in 0..3 {
        town.start(node);
    }
    // Agents that have just begun listen for a second before they vouch.
    town.wait(ms(1_000));
    let holder = town.holder().expect("one of them is first");
    town.isolate(holder, true);
    town.wait(Duration::from_secs(2));
    assert!(
        town.holders().is_empty(),
        "it does not know that it is watched, and serves on: {:?}",
        town.holders()
    );
    town.wait(Duration::from_secs(10));
    assert!(town.holder().is_some_and(|heir| heir != holder), "{:?}", town.holders());
}
