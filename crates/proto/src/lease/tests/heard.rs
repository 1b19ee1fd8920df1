//! What a Lease says of the Services, and what a take makes of it.

use super::*;

#[test]
fn a_lease_that_nobody_asks_for_says_so_until_it_is_taken_again() {
    let mut bench = Bench::holder();
    assert_eq!(bench.election.state().found, Found::Wanted);
    bench.election.leave(bench.at(), Footprint::Clear, &Version("430".to_owned()));
    let release = bench.next_write(0, Purpose::Release);
    assert_eq!(release.annotations.get(RETIRED).map(String::as_str), Some("430"));
    let mut bench = Bench::holder();
    bench.election.leave(bench.at(), Footprint::Clear, &Version::default());
    let release = bench.next_write(0, Purpose::Release);
    assert_eq!(
        release.annotations.get(RETIRED).map(String::as_str),
        Some("true"),
        "at a version without order"
    );

    let mut other = Bench::new();
    let mut retired = record(None, 1);
    retired.annotations.insert(RETIRED.to_owned(), "430".to_owned());
    other.see(Some(retired));
    assert_eq!(
        other.election.state().found,
        Found::Retired(Revision(430)),
        "who only watches knows that it was given up"
    );
    let take = other.next_write(1000, Purpose::Take);
    assert_eq!(take.annotations.get(RETIRED).map(String::as_str), Some(""), "an empty one is taken away");
    other.accept(&take);
    assert_eq!(other.election.state().found, Found::Retired(Revision(430)));
    let renew = other.next_write(1000, Purpose::Renew);
    other.accept(&renew);
    assert_eq!(other.election.state().found, Found::Retired(Revision(430)), "as long as this tenure lasts");
}

fn heard(acted: u64, moved: Option<u64>) -> ElectionWant {
    let heard = Heard { acted: Revision(acted), moved: moved.map(Revision) };
    ElectionWant { heard: Some(heard), ..want(Standing::Contend, Footprint::Clear) }
}

fn words(write: &LeaseWrite) -> (Option<&str>, Option<&str>) {
    let word = |key: &str| write.annotations.get(key).map(String::as_str);
    (word(ACTED), word(MOVED))
}

#[test]
fn a_holder_says_at_once_that_an_address_is_gone_and_everything_else_with_the_next_renewal() {
    let mut bench = Bench::new();
    bench.election.want(bench.at(), heard(400, None));
    bench.read(None);
    let take = bench.next_write(0, Purpose::Take);
    assert_eq!(words(&take), (Some("400"), None));
    bench.accept(&take);
    let began = bench.now;

    // Not gone yet: nothing is said.
    bench.election.want(bench.at(), heard(0, Some(402)));
    assert!(bench.election.poll(bench.at()).is_none());
    bench.election.want(bench.at(), heard(402, Some(402)));
    let told = bench.next_write(0, Purpose::Renew);
    assert_eq!(words(&told), (Some("402"), Some("402")));
    bench.accept(&told);
    assert_eq!(bench.now, began + RTT);

    bench.election.want(bench.at(), heard(403, Some(402)));
    assert!(bench.election.poll(bench.at()).is_none(), "nobody waits for that");
    let renew = bench.next_write(1000, Purpose::Renew);
    assert_eq!(words(&renew), (Some("403"), Some("402")));
    bench.accept(&renew);

    // The move is long ago.
    bench.election.want(bench.at(), heard(403, None));
    let renew = bench.next_write(1000, Purpose::Renew);
    assert_eq!(words(&renew), (None, Some("")));
}

#[test]
fn a_new_holder_says_only_what_it_knows_and_is_told_what_left_the_lease() {
    for (own, acted, moved) in [(None, "0", None), (Some(399), "399", None), (Some(430), "430", Some(""))] {
        let mut bench = Bench::new();
        if let Some(own) = own {
            bench.election.want(bench.at(), heard(own, None));
        }
        let mut released = record(None, 1);
        released.annotations =
            [(ACTED.to_owned(), "431".to_owned()), (MOVED.to_owned(), "430".to_owned())].into();
        bench.see(Some(released));
        let take = bench.next_write(1000, Purpose::Take);
        assert_eq!(words(&take), (Some(acted), moved));
        bench.accept(&take);
        assert_eq!(bench.election.state().found, Found::Moved(Revision(430)));
    }
}

#[test]
fn what_was_said_at_once_and_is_wiped_out_by_somebody_is_said_again_with_the_next_renewal() {
    let mut bench = Bench::holder();
    bench.election.want(bench.at(), heard(402, Some(402)));
    let told = bench.next_write(0, Purpose::Renew);
    assert_eq!(words(&told), (Some("402"), Some("402")));
    bench.accept(&told);
    // Who takes the annotations away each time does not make us write each time.
    let mut wiped = record(told.holder.as_ref().map(NodeName::as_str), told.duration.as_secs());
    wiped.transitions = told.transitions;
    bench.see(Some(wiped));
    assert!(bench.election.poll(bench.at()).is_none());
    let again = bench.next_write(1000, Purpose::Renew);
    assert_eq!(words(&again), (Some("402"), Some("402")));
    bench.accept(&again);

    // Another address leaves the Lease: that is news.
    bench.election.want(bench.at(), heard(405, Some(405)));
    let next = bench.next_write(0, Purpose::Renew);
    assert_eq!(words(&next), (Some("405"), Some("405")));
}

#[test]
fn what_a_lease_says_is_not_believed_while_a_refused_write_proves_that_there_is_a_newer_one() {
    let mut bench = Bench::new();
    let mut released = record(None, 1);
    released.annotations = [(ACTED.to_owned(), "431".to_owned())].into();
    bench.see(Some(released.clone()));
    assert_eq!(bench.election.state().said.acted, Some(Revision(431)));
    bench.next_write(1000, Purpose::Take);
    bench.answer(Answer::Conflict);
    assert_eq!(bench.election.state().said.acted, None, "whoever took it may know less");
    bench.see(Some(released));
    assert_eq!(bench.election.state().said.acted, Some(Revision(431)), "a newer version says so");
}

#[test]
fn a_renewal_says_how_far_its_holder_has_acted_by_now() {
    let mut bench = Bench::new();
    bench.election.want(bench.at(), heard(400, None));
    bench.read(None);
    let take = bench.next_write(0, Purpose::Take);
    bench.accept(&take);
    bench.election.want(bench.at(), want(Standing::Contend, Footprint::Clear));
    for (acted, says) in [(None, None), (Some(399), None), (Some(437), Some("437"))] {
        bench.election.has_acted(acted.map(Revision));
        let renewal = bench.next_write(1000, Purpose::Renew);
        assert_eq!(words(&renewal), (says, None));
        let mut record = record(Some("a"), 5);
        record.annotations.insert(ACTED.to_owned(), says.unwrap_or("400").to_owned());
        let seen = bench.sight(Some(record));
        bench.answer(Answer::Lease(seen));
    }

    // A Lease that decides about no Service says nothing of them.
    let mut other = Bench::holder();
    other.election.has_acted(Some(Revision(437)));
    assert_eq!(words(&other.next_write(1000, Purpose::Renew)), (None, None));
}
