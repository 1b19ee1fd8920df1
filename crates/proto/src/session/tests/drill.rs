//! Drills: what the owner does and refuses, and what the others see.

use std::time::Duration;

use vip_model::drill::{DRILL, DrillNotice, DrillReport};
use vip_model::peers::Fitness;

use super::{Town, calm, ms};

fn report(town: &Town, node: usize) -> DrillReport {
    let record = town.record(node).expect("its session is in the store");
    record.drill.clone().expect("it says what it saw")
}

fn offset(report: &DrillReport, what: DrillNotice) -> i64 {
    report.events.iter().find(|event| event.what == what).map(|event| event.micros).expect("noticed")
}

#[test]
fn a_crash_is_followed_like_a_power_off_and_the_others_say_what_it_cost() {
    for size in [3, 5] {
        let (mut town, holder) = calm(size);
        town.annotate(DRILL, "d1 crash asked -");
        town.wait(Duration::from_secs(8));
        let after = town.holder().expect("somebody serves");
        assert_ne!(after, holder);
        assert!(town.gap <= ms(200), "{size}: {:?}", town.gap);
        assert_eq!(town.overlap, Duration::ZERO);
        for node in (0..size).filter(|node| *node != holder) {
            let report = report(&town, node);
            assert_eq!(report.id, "d1");
            assert_eq!(report.owner.unwrap().as_str(), format!("n{}", after + 1));
            assert!(
                report.gap >= ms(100) && report.gap <= ms(210),
                "{node}: {:?} of {:?}",
                report.gap,
                town.gap
            );
            assert_eq!(report.both, Duration::ZERO);
        }
        let seen = report(&town, (0..size).find(|node| ![holder, after].contains(node)).unwrap());
        assert!(offset(&seen, DrillNotice::Begun) <= 20_000, "{seen:?}");
        assert!(offset(&seen, DrillNotice::FirstAnswer) >= 100_000, "{seen:?}");
        assert_eq!(offset(&seen, DrillNotice::LastAnswer), 0);
        assert!(seen.answers > 150, "5 ms between looks: {}", seen.answers);
        // The one that played dead is back with a new session, and can have it again.
        town.ask_for_hand_over(&format!("n{}", holder + 1));
        town.wait(Duration::from_secs(8));
        assert_eq!(town.holder(), Some(holder));
    }
}

#[test]
fn a_planned_drill_is_a_hand_over_to_whom_it_names() {
    let (mut town, holder) = calm(3);
    let to = (holder + 2) % 3;
    town.annotate(DRILL, &format!("d2 planned asked n{}", to + 1));
    town.wait(Duration::from_secs(5));
    assert_eq!((town.holder(), town.gap), (Some(to), Duration::ZERO));
    let seen = report(&town, (holder + 1) % 3);
    assert!(seen.gap <= ms(10), "{:?}", seen.gap);
    assert_eq!(seen.owner.unwrap().as_str(), format!("n{}", to + 1));
}

#[test]
fn what_would_be_unsafe_is_refused_with_a_reason_and_nothing_moves() {
    let refused = |town: &mut Town, text: &str| {
        let holder = town.holder();
        town.annotate(DRILL, text);
        town.wait(Duration::from_secs(2));
        assert_eq!((town.holder(), town.gap), (holder, Duration::ZERO));
        let said = town.annotation(DRILL).to_owned();
        assert!(said.contains(" refused "), "{said}");
        said
    };
    let (mut town, _) = calm(2);
    assert!(refused(&mut town, "a crash asked -").contains("has 1 jurors, and at least 2"));
    assert!(refused(&mut town, "b planned asked n9").contains("n9 is not heard"));
    let (mut town, holder) = calm(3);
    for node in (0..3).filter(|node| *node != holder) {
        town.fitness(node, Fitness::Unhealthy);
    }
    assert!(refused(&mut town, "c crash asked -").contains("no other node can have"));
    let (mut town, holder) = calm(3);
    town.power_off((holder + 1) % 3);
    town.wait(Duration::from_secs(4));
    assert!(
        refused(&mut town, "d crash asked -").contains(&format!("n{} is not heard", (holder + 1) % 3 + 1))
    );
}

#[test]
fn a_request_that_is_older_than_the_owners_agent_is_not_carried_out() {
    let (mut town, holder) = calm(3);
    town.kill(holder);
    town.annotate(DRILL, "e crash asked -");
    town.start(holder);
    town.wait(Duration::from_secs(3));
    assert_eq!((town.holder(), town.gap), (Some(holder), Duration::ZERO));
    assert!(
        town.annotation(DRILL).contains("could not begin it when it was asked for"),
        "{}",
        town.annotation(DRILL)
    );
}

#[test]
fn while_no_api_server_answers_a_drill_does_not_begin() {
    let (mut town, holder) = calm(3);
    town.annotate(DRILL, "f crash asked -");
    town.api(false);
    town.wait(Duration::from_secs(5));
    assert_eq!((town.holder(), town.gap), (Some(holder), Duration::ZERO));
}
