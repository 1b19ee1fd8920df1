//! Who stands for a Lease, when it waits for others, and who holds what nobody here asks for.

use super::*;

#[test]
fn a_reluctant_holder_gives_way_takes_back_when_nobody_wants_and_pauses() {
    let mut bench = Bench::holder();
    bench.want(Standing::Reluctant, Footprint::Clear);
    assert_eq!(bench.role(), Role::Leaving);
    let release = bench.next_write(0, Purpose::Release);
    bench.accept(&release);
    bench.quiet_for(990);
    let take = bench.next_write(20, Purpose::Take);
    bench.accept(&take);
    assert!(matches!(bench.role(), Role::Holder { .. }));
    // It holds for a minute, whatever the gate says, and then gives way again.
    let end = bench.now + 57_000;
    while bench.now < end {
        let renew = bench.next_write(1000, Purpose::Renew);
        bench.accept(&renew);
        assert!(matches!(bench.role(), Role::Holder { .. }), "at {}", bench.now);
    }
    loop {
        match bench.next_ask(1000) {
            Ask::WriteLease(write) if write.purpose == Purpose::Release => break,
            Ask::WriteLease(write) => bench.accept(&write),
            other => panic!("not expected: {other:?}"),
        }
    }
    assert!((60_000..61_100).contains(&bench.now), "at {}", bench.now);
}

#[test]
fn a_reluctant_contender_lets_others_go_first() {
    let mut bench = Bench::new();
    bench.want(Standing::Reluctant, Footprint::Clear);
    bench.read(Some(record(Some("b"), 5)));
    bench.see(Some(record(None, 1)));
    bench.quiet_for(990);
    bench.next_write(20, Purpose::Take);
}

#[test]
fn who_cannot_serve_does_not_contend() {
    let mut bench = Bench::new();
    bench.want(Standing::Leave, Footprint::Clear);
    bench.read(None);
    // Once it looks whether nobody took it meanwhile.
    bench.quiet_for(4990);
    bench.read_again(None);
    bench.quiet_for(10_000);
}

#[test]
fn a_contender_notices_a_returning_api_within_half_a_second() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.next_ask(500);
        bench.fail(FailureClass::Unreachable);
    }
    let before = bench.now;
    bench.next_ask(500);
    assert!(bench.now - before <= 400);
}

#[test]
fn what_the_watch_shows_ends_the_pause_of_a_holder_too() {
    let mut bench = Bench::holder();
    bench.next_write(1100, Purpose::Renew);
    bench.fail(FailureClass::Timeout);
    let seen = LeaseSeen { lease: lease(), sight: bench.election.last.clone().unwrap().sight };
    bench.election.handle(bench.at(), LeaseInput::Seen(seen)); // the same version: no news, but a sign of life
    bench.next_write(0, Purpose::Renew);
}

#[test]
fn what_the_watch_shows_ends_a_pause() {
    let mut bench = Bench::new();
    bench.next_ask(0);
    bench.fail(FailureClass::Forbidden);
    bench.quiet_for(100);
    bench.see(None);
    bench.next_write(0, Purpose::Take);
}

#[test]
fn a_worse_placed_contender_waits_thirty_milliseconds_for_each_better_one_but_not_for_ever() {
    for (rank, wait) in [(0, 0), (1, 30), (3, 90), (40, 90)] {
        let mut bench = Bench::new();
        bench.election.want(bench.at(), ElectionWant { rank, ..want(Standing::Contend, Footprint::Clear) });
        bench.read(None);
        if wait > 0 {
            bench.quiet_for(wait - 1);
        }
        bench.next_write(1, Purpose::Take);
    }
}

#[test]
fn an_election_that_is_held_back_takes_what_nobody_ever_held_only_when_it_comes_first() {
    let behind = ElectionWant { rank: 2, ..want(Standing::Contend, Footprint::Clear) };
    let mut bench = Bench::new();
    bench.election.want(bench.at(), behind.clone());
    bench.election.allow(Ventures::HeldBack);
    bench.read(None);
    bench.quiet_for(5000);
    bench.election.allow(Ventures::Allowed);
    let write = bench.next_write(1, Purpose::Take);
    assert!(bench.election.is_venturing());
    bench.accept(&write);
    assert!(!bench.election.is_venturing());
    assert!(matches!(bench.role(), Role::Holder { .. }));

    // It comes first, or it once had a holder: time is running for that one's clients.
    for (rank, former) in [(0, None), (2, Some("n2"))] {
        let mut bench = Bench::new();
        bench.election.want(bench.at(), ElectionWant { rank, ..behind.clone() });
        bench.election.allow(Ventures::HeldBack);
        bench.read(former.map(|former| record(Some(former), 5)));
        bench.see(Some(record(None, 1)));
        bench.next_write(60, Purpose::Take);
        assert!(!bench.election.is_venturing());
    }
}

#[test]
fn a_lease_that_nobody_takes_and_we_do_not_want_is_vacant_once_a_read_says_so_too() {
    let mut bench = Bench::new();
    bench.election.want(bench.at(), want(Standing::Leave, Footprint::Clear));
    bench.see(Some(record(None, 1)));
    let vacancy = |bench: &Bench| bench.election.state().vacancy;
    bench.quiet_for(4999);
    assert_eq!(bench.next_ask(1), Ask::ReadLease(lease()));
    assert_eq!(vacancy(&bench), Vacancy::Passing, "the watch may be dead");
    bench.fail(FailureClass::Unreachable);
    bench.read_again(Some(record(None, 1)));
    assert_eq!((vacancy(&bench), bench.election.deadline()), (Vacancy::Lasting, None));
    bench.see(Some(record(Some("b"), 5)));
    assert_eq!(vacancy(&bench), Vacancy::Passing);
}

#[test]
fn the_holder_of_a_lease_that_we_do_not_want_lives_while_it_renews() {
    let mut bench = Bench::new();
    bench.election.want(bench.at(), want(Standing::Leave, Footprint::Clear));
    bench.see(Some(record(Some("b"), 5)));
    bench.now += 3000;
    bench.see(Some(record(Some("b"), 5)));
    let state = |bench: &Bench| (bench.election.state().pulse, bench.election.state().vacancy);
    bench.quiet_for(4999);
    bench.read(Some(record(Some("b"), 5)));
    assert_eq!(state(&bench), (Pulse::Beating, Vacancy::Passing), "it was the watch that was dead");
    bench.quiet_for(4999);
    bench.read_again(Some(record(Some("b"), 5)));
    assert_eq!(state(&bench), (Pulse::Lapsed, Vacancy::Passing));
    // Whoever could take it has not.
    bench.quiet_for(4980);
    bench.read_again(Some(record(Some("b"), 5)));
    assert_eq!((state(&bench), bench.election.deadline()), ((Pulse::Lapsed, Vacancy::Lasting), None));
    bench.see(Some(record(Some("b"), 5)));
    assert_eq!(state(&bench), (Pulse::Beating, Vacancy::Passing));
}

#[test]
fn who_held_a_lease_that_was_deleted_is_waited_for_whoever_takes_it_meanwhile() {
    let free_after = |takers: &[Option<&str>]| {
        let mut bench = Bench::new();
        bench.read(Some(record(Some("b"), 5)));
        bench.see(None);
        for taker in takers {
            bench.see(Some(record(*taker, if taker.is_some() { 5 } else { 1 })));
        }
        bench.now += 1;
        let from = bench.now;
        bench.next_write(6000, Purpose::Take);
        bench.now - from
    };
    assert!(free_after(&[Some("c"), None]) > 4900, "b may not have heard of the deletion");
    assert!(free_after(&[Some("b"), None]) < 10, "b gave it up itself");
}
