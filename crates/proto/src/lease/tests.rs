//! The election's rules, one sentence each (F-LE-2, F-LE-7, F-LE-11, F-CP-2).

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::config::LeaseTimings;
use vip_model::members::{Found, History, Pulse, Role, Vacancy};
use vip_model::plan::{ElectionWant, Footprint, Heard, Standing};
use vip_model::store::{
    ACTED, Acquired, Answer, Ask, Expect, Failure, FailureClass, LeaseRecord, LeaseSeen, LeaseWrite, MOVED,
    Purpose, RETIRED, Revision, Sight, Version,
};
use vip_model::{Instant, LeaseName, NodeName, Random};

use super::{LeaseElection, LeaseInput, Ventures};
use crate::Machine;

const RTT: u64 = 5;

/// One machine, the time, and the version of the store.
struct Bench {
    election: LeaseElection,
    now: u64,
    version: u64,
}

fn lease() -> LeaseName {
    LeaseName::new("kube-system", "plndr-cp-lock")
}

fn want(standing: Standing, footprint: Footprint) -> ElectionWant {
    let timings = LeaseTimings {
        duration: Duration::from_secs(5),
        renew_deadline: Duration::from_secs(3),
        retry_period: Duration::from_secs(1),
    };
    ElectionWant {
        timings,
        annotations: BTreeMap::new(),
        standing,
        rank: 0,
        footprint,
        heard: None,
        group: None,
    }
}

fn record(holder: Option<&str>, seconds: u64) -> LeaseRecord {
    LeaseRecord {
        holder: holder.map(str::to_owned),
        duration: Some(Duration::from_secs(seconds)),
        transitions: 7,
        acquired: Some("2026-01-02T03:04:05.000006Z".to_owned()),
        renewed: None,
        annotations: BTreeMap::new(),
    }
}

impl Bench {
    fn new() -> Self {
        let me = NodeName::new("a");
        let want = want(Standing::Contend, Footprint::Clear);
        let election = LeaseElection::new(Instant::ZERO, me, lease(), want, Random::new(1));
        Self { election, now: 0, version: 100 }
    }

    fn at(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    /// Lets time pass; the machine must stay quiet meanwhile.
    fn quiet_for(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += 1;
            assert_eq!(self.election.poll(self.at()), None, "at {} ms", self.now);
        }
    }

    /// Lets time pass until the machine asks.
    fn next_ask(&mut self, within: u64) -> Ask {
        let end = self.now + within;
        loop {
            if let Some(question) = self.election.poll(self.at()) {
                return question.ask;
            }
            assert!(self.now < end, "nothing asked within {within} ms");
            self.now += 1;
        }
    }

    fn next_write(&mut self, within: u64, purpose: Purpose) -> LeaseWrite {
        match self.next_ask(within) {
            Ask::WriteLease(write) if write.purpose == purpose => write,
            other => panic!("{purpose:?} expected, got {other:?}"),
        }
    }

    /// A read that finds what was seen last.
    fn read_again(&mut self, record: Option<LeaseRecord>) {
        self.version -= 1;
        self.read(record);
    }

    fn answer(&mut self, answer: Answer) {
        self.now += RTT;
        self.election.handle(self.at(), LeaseInput::Answer(answer));
    }

    fn fail(&mut self, class: FailureClass) {
        self.answer(Answer::Failed(Failure { class, text: "test".to_owned() }));
    }

    fn sight(&mut self, record: Option<LeaseRecord>) -> LeaseSeen {
        self.version += 1;
        let version = Version(self.version.to_string());
        let sight = match record {
            Some(record) => Sight::Present { version, record },
            None => Sight::Absent(Some(version)),
        };
        LeaseSeen { lease: lease(), sight }
    }

    fn see(&mut self, record: Option<LeaseRecord>) {
        let seen = self.sight(record);
        self.election.handle(self.at(), LeaseInput::Seen(seen));
    }

    /// The store carries out a write.
    fn accept(&mut self, write: &LeaseWrite) {
        let holder = write.holder.as_ref().map(NodeName::as_str);
        let mut record = record(holder, write.duration.as_secs());
        record.transitions = write.transitions;
        record.annotations = write.annotations.clone();
        record.annotations.retain(|_, said| !said.is_empty());
        let seen = self.sight(Some(record));
        self.answer(Answer::Lease(seen));
    }

    fn read(&mut self, record: Option<LeaseRecord>) {
        assert_eq!(self.next_ask(2000), Ask::ReadLease(lease()));
        let seen = self.sight(record);
        self.answer(Answer::Lease(seen));
    }

    fn want(&mut self, standing: Standing, footprint: Footprint) {
        self.election.want(self.at(), want(standing, footprint));
    }

    fn role(&self) -> Role {
        self.election.state().role
    }

    /// A machine that has just become the holder of a Lease that nobody had.
    fn holder() -> Self {
        let mut bench = Self::new();
        bench.read(None);
        let take = bench.next_write(0, Purpose::Take);
        bench.accept(&take);
        bench
    }
}

#[test]
fn a_free_lease_is_created_at_once_as_client_go_does() {
    let mut bench = Bench::new();
    bench.read(None);
    let take = bench.next_write(0, Purpose::Take);
    assert_eq!(
        (take.expect.clone(), take.transitions, take.acquired.clone()),
        (Expect::Absent, 0, Acquired::Now)
    );
    assert_eq!(bench.role(), Role::Undecided);
    bench.accept(&take);
    assert!(matches!(bench.role(), Role::Holder { .. }));
    assert_eq!(bench.election.state().history, History::New);
}

#[test]
fn a_holder_counts_from_the_moment_of_asking() {
    let mut bench = Bench::new();
    bench.read(None);
    let asked = bench.at();
    let take = bench.next_write(0, Purpose::Take);
    bench.now += 400;
    bench.accept(&take);
    let Role::Holder { serve_until, fence_until, .. } = bench.role() else { panic!("{:?}", bench.role()) };
    assert_eq!(serve_until, asked + Duration::from_secs(3));
    assert_eq!(fence_until, asked + Duration::from_millis(3900));
}

#[test]
fn an_answer_that_comes_after_the_deadline_makes_no_holder() {
    let mut bench = Bench::new();
    bench.read(None);
    let take = bench.next_write(0, Purpose::Take);
    bench.now += 3000;
    // The machine has given up on the question by now; a gateway that answers late changes nothing.
    assert!(bench.election.poll(bench.at()).is_none());
    bench.accept(&take);
    assert!(!matches!(bench.role(), Role::Holder { .. }), "{:?}", bench.role());
}

#[test]
fn a_holder_renews_every_retry_period_and_keeps_acquire_time_and_transitions() {
    let mut bench = Bench::holder();
    for _ in 0..3 {
        bench.quiet_for(980);
        let renew = bench.next_write(20, Purpose::Renew);
        assert_eq!(renew.acquired, Acquired::Keep("2026-01-02T03:04:05.000006Z".to_owned()));
        assert_eq!(renew.transitions, 0);
        bench.accept(&renew);
    }
}

#[test]
fn longer_timings_count_from_the_renewal_that_tells_them_to_others() {
    let mut bench = Bench::holder();
    let Role::Holder { serve_until, fence_until, .. } = bench.role() else { panic!() };
    let mut longer = want(Standing::Contend, Footprint::Present);
    longer.timings = LeaseTimings::default();
    bench.election.want(bench.at(), longer);
    let Role::Holder { serve_until: same, fence_until: fence, .. } = bench.role() else { panic!() };
    assert_eq!((serve_until, fence_until), (same, fence));
    let renew = bench.next_write(1000, Purpose::Renew);
    assert_eq!(renew.duration, Duration::from_secs(15));
    let asked = bench.at();
    bench.accept(&renew);
    let Role::Holder { fence_until, .. } = bench.role() else { panic!() };
    assert_eq!(fence_until, asked + Duration::from_millis(13_700));
}

#[test]
fn holder_steps_down_without_io() {
    let mut bench = Bench::holder();
    let Role::Holder { serve_until, .. } = bench.role() else { panic!() };
    assert!(bench.election.deadline().is_some_and(|deadline| deadline <= serve_until));
    bench.now = 10_000;
    let _ = bench.election.poll(bench.at());
    assert_eq!(bench.role(), Role::Follower);
}

#[test]
fn every_class_of_failure_is_survived_until_the_deadline_and_not_beyond() {
    for class in FailureClass::ALL {
        let mut bench = Bench::holder();
        let Role::Holder { serve_until, .. } = bench.role() else { panic!() };
        while bench.at() < serve_until {
            assert!(matches!(bench.role(), Role::Holder { .. }), "{class:?} at {}", bench.now);
            if bench.election.poll(bench.at()).is_some() {
                bench.fail(class);
            }
            bench.now += 1;
        }
        let _ = bench.election.poll(bench.at());
        assert_eq!(bench.role(), Role::Follower, "{class:?}");
        assert_eq!(bench.election.state().trouble.map(|failure| failure.class), Some(class));
    }
}

#[test]
fn a_contender_respects_a_holder_for_its_stated_duration_from_the_sight_of_its_last_change() {
    let mut bench = Bench::new();
    bench.read(Some(record(Some("b"), 5)));
    assert_eq!(bench.role(), Role::Follower);
    bench.quiet_for(2000);
    bench.see(Some(record(Some("b"), 5)));
    let seen = bench.now;
    // One look when a living holder should have written twice, in case the watch is dead.
    assert_eq!(bench.next_ask(2600), Ask::ReadLease(lease()));
    let same = LeaseSeen {
        lease: lease(),
        sight: Sight::Present { version: Version(bench.version.to_string()), record: record(Some("b"), 5) },
    };
    bench.answer(Answer::Lease(same));
    let take = bench.next_write(5000, Purpose::Take);
    assert_eq!(bench.now - seen, 5000);
    assert_eq!(take.transitions, 8);
    assert_eq!(take.expect, Expect::Version(Version(bench.version.to_string())));
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut bench = Bench::new();
    bench.read(Some(record(Some("b"), 5)));
    bench.quiet_for(100);
    bench.see(Some(record(None, 1)));
    bench.next_write(0, Purpose::Take);
}

#[test]
fn a_lease_blanked_or_deleted_by_hand_still_counts_as_its_holders() {
    for edit in [Some(record(None, 5)), None] {
        let mut bench = Bench::new();
        bench.read(Some(record(Some("b"), 5)));
        bench.quiet_for(100);
        bench.see(edit.clone());
        bench.quiet_for(1900);
        assert_eq!(bench.role(), Role::Follower, "{edit:?}");
    }
}

#[test]
fn a_holder_writes_a_blanked_or_deleted_lease_again_at_once_and_stays() {
    for (edit, premise) in [(Some(record(None, 5)), false), (None, true)] {
        let mut bench = Bench::holder();
        bench.quiet_for(100);
        bench.see(edit);
        assert!(matches!(bench.role(), Role::Holder { .. }));
        let renew = bench.next_write(0, Purpose::Renew);
        assert_eq!(renew.expect == Expect::Absent, premise);
    }
}

#[test]
fn a_holder_that_sees_another_stops_at_once() {
    let mut bench = Bench::holder();
    bench.see(Some(record(Some("b"), 5)));
    assert_eq!(bench.role(), Role::Follower);
    assert_eq!(bench.election.state().history, History::Held);
}

#[test]
fn a_server_that_lags_behind_is_ignored() {
    let mut bench = Bench::holder();
    let old = Sight::Present { version: Version("3".to_owned()), record: record(Some("b"), 5) };
    bench.election.handle(bench.at(), LeaseInput::Seen(LeaseSeen { lease: lease(), sight: old }));
    assert!(matches!(bench.role(), Role::Holder { .. }));
}

#[test]
fn a_conflict_means_look_again() {
    let mut bench = Bench::holder();
    bench.next_write(1000, Purpose::Renew);
    bench.answer(Answer::Conflict);
    assert!(matches!(bench.role(), Role::Holder { .. }), "a conflict alone proves nothing");
    bench.read(Some(record(Some("b"), 5)));
    assert_eq!(bench.role(), Role::Follower);
}

#[test]
fn conflicts_in_a_row_are_not_a_tight_loop() {
    let mut bench = Bench::new();
    bench.read(None);
    let start = bench.now;
    for _ in 0..20 {
        bench.next_write(6000, Purpose::Take);
        bench.answer(Answer::Conflict);
        bench.read(None); // a server that lags: it says that there is nothing, again and again
    }
    assert!(bench.now - start > 1500, "{} ms", bench.now - start);
}

#[test]
fn a_contender_respects_the_writer_that_a_conflict_proves_and_a_lagging_server_hides() {
    let mut bench = Bench::new();
    bench.read(Some(record(Some("a"), 5))); // we held it, long ago
    bench.next_write(0, Purpose::Take);
    bench.answer(Answer::Conflict); // somebody wrote since then
    bench.next_ask(1000);
    bench.answer(Answer::Lease(LeaseSeen { lease: lease(), sight: Sight::Absent(None) })); // and somebody deleted it
    bench.quiet_for(4900);
    bench.next_write(200, Purpose::Take);
}

#[test]
fn a_conflict_with_what_was_seen_meanwhile_keeps_nobody_waiting() {
    let mut bench = Bench::new();
    bench.read(Some(record(Some("a"), 5)));
    bench.next_write(0, Purpose::Take);
    bench.now += 1;
    bench.see(Some(record(Some("a"), 5))); // a renewal of ours from before, which a server that hung carried out late
    bench.answer(Answer::Conflict);
    bench.next_ask(10);
    let same = LeaseSeen {
        lease: lease(),
        sight: Sight::Present { version: Version(bench.version.to_string()), record: record(Some("a"), 5) },
    };
    bench.answer(Answer::Lease(same)); // no news
    bench.next_write(200, Purpose::Take);
    // Seen meanwhile in somebody else's name, it counts as theirs from that sight.
    let mut bench = Bench::new();
    bench.read(Some(record(Some("a"), 5)));
    bench.next_write(0, Purpose::Take);
    bench.now += 1;
    bench.see(Some(record(Some("b"), 5)));
    bench.answer(Answer::Conflict);
    bench.read(Some(record(Some("b"), 5)));
    assert_eq!(bench.role(), Role::Follower);
    assert!(matches!(bench.next_ask(3000), Ask::ReadLease(_)), "it is not taken, but looked at again");
}

#[test]
fn a_deleted_lease_that_is_seen_twice_still_counts_as_its_holders() {
    let mut bench = Bench::new();
    bench.read(Some(record(Some("b"), 5)));
    bench.see(None);
    bench.quiet_for(1000);
    bench.see(None); // the watch was opened again: its list shows the absence with a newer version
    bench.quiet_for(3900);
    bench.next_write(200, Purpose::Take);
}

#[test]
fn a_restarted_holder_proves_its_right_before_it_is_one_again() {
    let mut bench = Bench::new();
    bench.read(Some(record(Some("a"), 5)));
    assert_eq!(bench.role(), Role::Undecided);
    let take = bench.next_write(0, Purpose::Take);
    assert_eq!(take.transitions, 7, "the holder stays, so the count stays");
    assert_eq!(take.acquired, Acquired::Keep("2026-01-02T03:04:05.000006Z".to_owned()));
    bench.accept(&take);
    assert!(matches!(bench.role(), Role::Holder { .. }));
}

#[test]
fn a_lease_is_released_only_when_the_kernel_is_clear() {
    let mut bench = Bench::holder();
    bench.want(Standing::Leave, Footprint::Present);
    assert_eq!(bench.role(), Role::Leaving);
    bench.quiet_for(500);
    bench.want(Standing::Leave, Footprint::Clear);
    let release = bench.next_write(0, Purpose::Release);
    assert_eq!((release.holder.as_ref(), release.duration), (None, Duration::from_secs(1)));
    assert!(!bench.election.is_finished());
    bench.accept(&release);
    assert_eq!(bench.role(), Role::Follower);
    assert!(bench.election.is_finished());
    bench.quiet_for(3000);
}

#[test]
fn a_reason_to_leave_that_goes_away_before_the_release_changes_nothing() {
    let mut bench = Bench::holder();
    bench.want(Standing::Leave, Footprint::Present);
    bench.want(Standing::Contend, Footprint::Present);
    assert!(matches!(bench.role(), Role::Holder { .. }));
}

#[test]
fn after_a_release_was_asked_only_a_fresh_take_makes_a_holder() {
    let mut bench = Bench::holder();
    bench.want(Standing::Leave, Footprint::Clear);
    bench.next_write(0, Purpose::Release);
    bench.want(Standing::Contend, Footprint::Clear);
    assert_eq!(bench.role(), Role::Leaving);
    bench.fail(FailureClass::Timeout); // it may still land
    assert_eq!(bench.role(), Role::Follower);
    let take = bench.next_write(500, Purpose::Take);
    bench.accept(&take);
    assert!(matches!(bench.role(), Role::Holder { .. }));
}

mod contender;
mod heard;
