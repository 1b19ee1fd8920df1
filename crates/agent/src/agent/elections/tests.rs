use std::time::Duration;

use vip_model::config::LeaseTimings;
use vip_model::plan::Standing;
use vip_model::store::{Answer, Ask, LeaseRecord, LeaseSeen, Purpose, Sight, Version};
use vip_model::{NodeName, Random};

use super::*;

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn lease(name: &str) -> LeaseName {
    LeaseName::new("shop", name)
}

fn wanted(names: &[&str]) -> Planned {
    let want = ElectionWant {
        timings: LeaseTimings::default(),
        annotations: BTreeMap::new(),
        standing: Standing::Contend,
        rank: 0,
        heard: None,
        group: None,
        footprint: Footprint::Clear,
    };
    names.iter().map(|name| (lease(name), want.clone())).collect()
}

fn want(elections: &mut Elections, now: Instant, planned: &Planned) {
    elections.want(now, planned, |lease, want| {
        LeaseElection::new(now, NodeName::new("n1"), lease.clone(), want.clone(), Random::new(7))
    });
}

/// The Lease names us from now on.
fn taken(name: &str, version: &str) -> LeaseInput {
    let record = LeaseRecord {
        holder: Some("n1".to_owned()),
        duration: Some(Duration::from_secs(15)),
        transitions: 1,
        acquired: None,
        renewed: None,
        annotations: BTreeMap::new(),
    };
    let sight = Sight::Present { version: Version(version.to_owned()), record };
    LeaseInput::Answer(Answer::Lease(LeaseSeen { lease: lease(name), sight }))
}

fn names(asked: &[(LeaseName, LeaseQuestion)]) -> Vec<&str> {
    asked.iter().map(|(lease, _)| lease.name()).collect()
}

/// Elections that hold all of their Leases.
fn holders(planned: &[&str]) -> Elections {
    let mut elections = Elections::default();
    want(&mut elections, at(0), &wanted(planned));
    for (at_millis, name) in (0..).zip(planned) {
        elections.poll(at(0));
        elections.handle(at(0), &lease(name), taken(name, "1"));
        elections.poll(at(0));
        elections.handle(at(10 * at_millis), &lease(name), taken(name, "2"));
    }
    elections.take_stirred();
    elections
}

#[test]
fn only_those_that_are_due_are_asked_and_only_they_are_looked_at() {
    let mut elections = holders(&["a", "b", "c"]);
    let first = elections.deadline().expect("a renewal is due");
    assert!(elections.poll(first.before(Duration::from_millis(1))).is_empty());
    assert!(elections.take_stirred().is_empty());
    let asked = elections.poll(first);
    assert!(!asked.is_empty());
    assert!(asked.iter().all(
        |(_, question)| matches!(&question.ask, Ask::WriteLease(write) if write.purpose == Purpose::Renew)
    ));
    assert_eq!(elections.take_stirred().iter().map(LeaseName::name).collect::<Vec<_>>(), names(&asked));
}

#[test]
fn to_want_the_same_again_stirs_nobody_and_another_want_stirs_its_election() {
    let mut elections = holders(&["a", "b"]);
    let mut planned = wanted(&["a", "b"]);
    want(&mut elections, at(20), &planned);
    assert!(elections.take_stirred().is_empty());
    planned.get_mut(&lease("b")).unwrap().standing = Standing::Leave;
    want(&mut elections, at(20), &planned);
    assert_eq!(elections.take_stirred(), BTreeSet::from([lease("b")]));
    assert_eq!(names(&elections.poll(at(20))), ["b"], "it releases");
}

#[test]
fn one_that_is_no_longer_planned_releases_and_is_forgotten_with_its_deadline() {
    let mut elections = holders(&["a", "b"]);
    let planned = wanted(&["b"]);
    assert!(!elections.has_other(&wanted(&["a", "b", "c"])));
    assert!(elections.has_other(&planned));
    elections.leave_others(at(20), &planned, (Footprint::Clear, &Version::default()));
    assert_eq!(names(&elections.poll(at(20))), ["a"]);
    let released =
        LeaseInput::Answer(Answer::Lease(LeaseSeen { lease: lease("a"), sight: Sight::Absent(None) }));
    elections.handle(at(21), &lease("a"), released);
    elections.leave_others(at(21), &planned, (Footprint::Clear, &Version::default()));
    assert_eq!(elections.len(), 1);
    assert_eq!(elections.queues.due.iter().map(|(_, lease)| lease.name()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn one_that_is_wanted_again_before_its_question_is_answered_asks_no_second_one() {
    let mut elections = Elections::default();
    want(&mut elections, at(0), &wanted(&["a"]));
    assert_eq!(names(&elections.poll(at(0))), ["a"], "it reads its Lease");
    elections.leave_others(at(10), &wanted(&[]), (Footprint::Clear, &Version::default()));
    want(&mut elections, at(20), &wanted(&["a"]));
    assert!(elections.poll(at(20)).is_empty());
    elections.leave_others(at(30), &wanted(&[]), (Footprint::Clear, &Version::default()));
    let absent = LeaseSeen { lease: lease("a"), sight: Sight::Absent(None) };
    elections.handle(at(40), &lease("a"), LeaseInput::Answer(Answer::Lease(absent)));
    elections.leave_others(at(40), &wanted(&[]), (Footprint::Clear, &Version::default()));
    assert_eq!(elections.len(), 0);
}

#[test]
fn an_election_waits_for_one_question_and_its_answer_ends_that() {
    let mut elections = holders(&["a"]);
    assert_eq!(elections.asks(&lease("a"), QuestionId(1)), None);
    assert_eq!(elections.asks(&lease("a"), QuestionId(2)), Some(QuestionId(1)));
    elections.handle(at(20), &lease("a"), taken("a", "3"));
    assert_eq!(elections.asks(&lease("a"), QuestionId(3)), None);
}

#[test]
fn the_earliest_deadline_of_all_elections_is_the_deadline() {
    let elections = holders(&["a", "b", "c", "d"]);
    let earliest = elections.seats.values().filter_map(|seat| seat.election.deadline()).min();
    assert_eq!(elections.deadline(), earliest);
}

#[test]
fn only_two_at_a_time_take_new_leases_for_which_others_come_first() {
    let all = ["a", "b", "c", "d", "e"];
    let mut planned = wanted(&all);
    for want in planned.values_mut() {
        want.rank = 1;
    }
    planned.get_mut(&lease("e")).unwrap().rank = 0;
    let mut elections = Elections::default();
    want(&mut elections, at(0), &planned);
    elections.poll(at(0)); // each reads its Lease
    for name in all {
        let seen = LeaseSeen { lease: lease(name), sight: Sight::Absent(None) };
        elections.handle(at(0), &lease(name), LeaseInput::Answer(Answer::Lease(seen)));
    }
    assert_eq!(names(&elections.poll(at(0))), ["e"], "it comes first");
    assert_eq!(names(&elections.poll(at(100))), ["a", "b"], "the others have waited long enough");
    assert_eq!(names(&elections.poll(at(200))), Vec::<&str>::new());
    assert!(elections.deadline().is_none_or(|deadline| deadline > at(200)), "nothing spins");
    elections.handle(at(200), &lease("b"), taken("b", "1"));
    assert_eq!(names(&elections.poll(at(200))), ["c"]);
    // Somebody else is first where one waits: it is not asked for any more.
    let record = LeaseRecord {
        holder: Some("n2".to_owned()),
        duration: Some(Duration::from_secs(15)),
        transitions: 1,
        acquired: None,
        renewed: None,
        annotations: BTreeMap::new(),
    };
    let sight = Sight::Present { version: Version("2".to_owned()), record };
    elections.handle(at(200), &lease("d"), LeaseInput::Seen(LeaseSeen { lease: lease("d"), sight }));
    elections.handle(at(200), &lease("a"), taken("a", "1"));
    assert_eq!(names(&elections.poll(at(200))), Vec::<&str>::new());
}
