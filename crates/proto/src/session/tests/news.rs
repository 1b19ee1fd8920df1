//! What changes while a write of the own session is under way follows soon, and not with the next renewal.

use std::sync::Arc;
use std::time::Duration;

use vip_model::peers::{
    Datagram, Echo, Fitness, GroupList, InstanceTag, KeyId, Kind, ListDigest, PeerHeard, Vote, Word,
};
use vip_model::session::{
    BootId, End, Jury, Memory, Recall, SessionId, SessionRecord, SessionSeen, SessionWrite, Sessions,
    Succession, session_lease,
};
use vip_model::store::{Answer, Ask, Version};
use vip_model::{InstanceName, Instant, NodeName, Random};

use super::town::{Town, door};
use crate::Machine;
use crate::session::{Life, Ownership, OwnershipInput, OwnershipOutput, OwnershipWant, Ticket};

/// The machine of a node that is alone with its store, and the time of its first write, which is under way.
struct Alone {
    machine: Ownership,
    now: Instant,
    ticket: Ticket,
    write: SessionWrite,
}

/// The write of its session that a machine asks for now.
fn written(machine: &mut Ownership, now: Instant) -> Option<(Ticket, SessionWrite)> {
    while let Some(output) = machine.poll(now) {
        if let OwnershipOutput::Ask(ticket, Ask::WriteSession(write), _) = output {
            return Some((ticket, *write));
        }
    }
    None
}

impl Alone {
    fn new(sessions: Sessions) -> Self {
        let now = Instant::from_millis(1_000_000);
        let mut want: OwnershipWant = Town::new(1).want_of(0);
        want.elections.clear();
        want.settings.timings.retry_period = Duration::from_secs(4);
        let id = (NodeName::new("n1"), InstanceName::new("control-plane"));
        let mut machine = Ownership::new(now, id, want, Random::new(1));
        let recall = Recall { boot: BootId(SessionId(1)), memory: None };
        machine.handle(now, OwnershipInput::Recall(recall));
        machine.handle(now, door(&[1]));
        machine.handle(now, OwnershipInput::Sessions(Arc::new(sessions)));
        let (ticket, write) = written(&mut machine, now).expect("a session begins with a write");
        Self { machine, now, ticket, write }
    }

    /// The write under way is answered; what is written then.
    fn answer(&mut self) -> Option<SessionWrite> {
        let seen = SessionSeen {
            version: Version("7".to_owned()),
            renewed: Some("7".to_owned()),
            duration: self.write.duration,
            record: self.write.record.clone(),
        };
        self.now = self.now + Duration::from_millis(2);
        let answer = Answer::Session(self.write.lease.clone(), Some(Box::new(seen)));
        self.machine.handle(self.now, OwnershipInput::Answer(self.ticket, answer));
        let (ticket, write) = written(&mut self.machine, self.now)?;
        (self.ticket, self.write) = (ticket, write);
        Some(self.write.clone())
    }
}

#[test]
fn what_is_written_and_did_not_change_is_not_written_again() {
    let mut alone = Alone::new(Sessions::new());
    assert_eq!(alone.answer(), None);
}

#[test]
fn a_key_that_comes_while_the_session_is_written_is_written_next() {
    let mut alone = Alone::new(Sessions::new());
    alone.machine.handle(alone.now, door(&[1, 2]));
    let next = alone.answer().expect("others must know which keys are read here");
    assert_eq!(next.record.keys, [KeyId(1), KeyId(2)]);
    assert_eq!(alone.answer(), None, "once");
}

#[test]
fn a_stop_that_finds_a_renewal_under_way_releases_the_session_with_the_answer() {
    let mut alone = Alone::new(Sessions::new());
    let want = OwnershipWant { life: Life::Stops, ..alone.machine.want.clone() };
    alone.machine.want(alone.now, want);
    assert!(written(&mut alone.machine, alone.now).is_none(), "one write at a time");
    let next = alone.answer().expect("nobody waits for a retry period to stop");
    assert_eq!(next.record.end, Some(End::Released));
    assert_eq!(alone.answer(), None);
    assert!(alone.machine.is_finished());
}

#[test]
fn the_newest_successions_are_still_the_newest_after_a_start() {
    let alone = Alone::new(Sessions::new());
    let successions: Vec<_> =
        (0..70).rev().map(|number| Succession { id: SessionId(100 + number), heir: None }).collect();
    let memory = Memory {
        record: alone.write.record.clone(),
        members: Vec::new(),
        claims: Vec::new(),
        successions: successions.clone(),
    };
    let id = (NodeName::new("n1"), InstanceName::new("control-plane"));
    let mut next = Ownership::new(alone.now, id, alone.machine.want.clone(), Random::new(2));
    let recall = Recall { boot: BootId(SessionId(1)), memory: Some(memory) };
    next.handle(alone.now, OwnershipInput::Recall(recall));
    let kept = std::iter::from_fn(|| next.poll(alone.now)).find_map(|output| match output {
        OwnershipOutput::Remember(memory) => Some(memory.successions),
        _ => None,
    });
    assert_eq!(kept.expect("it keeps what it knows")[..], successions[..64]);
}

fn name(number: u64) -> NodeName {
    NodeName::new(&format!("n{number}"))
}

/// The session of another node, which listens.
fn other(number: u64) -> Sessions {
    let record = SessionRecord {
        id: SessionId(number),
        node: name(number),
        boot: BootId(SessionId(2)),
        doors: Vec::new(),
        sites: Vec::new(),
        jury: Jury::default(),
        former: Vec::new(),
        end: None,
        keys: vec![KeyId(1)],
        was_heard: false,
        drill: None,
    };
    let lease = session_lease("kube-system", &InstanceName::new("control-plane"), &record.node);
    let (version, renewed, duration) = (Version("5".to_owned()), None, Duration::from_secs(5));
    Sessions::from([(lease, Arc::new(SessionSeen { version, renewed, duration, record }))])
}

/// What another node says when it has heard us.
fn echo(number: u64, alone: &Alone) -> OwnershipInput {
    let datagram = Datagram {
        instance: InstanceTag(InstanceName::new("control-plane").address_tag()),
        from: name(number),
        session: SessionId(number),
        to: NodeName::new("n1"),
        sequence: alone.now,
        echo: Some(Echo {
            session: alone.write.record.id,
            sequence: alone.now,
            word: Word::Silent,
            groups: ListDigest::NONE,
        }),
        kind: Kind::Reply,
        jury: 0,
        api_age: None,
        fitness: Fitness::Fit,
        groups: GroupList::EMPTY,
        asks: Vec::new(),
        grants: Vec::new(),
        successions: Vec::new(),
        unseen: Vec::new(),
    };
    let from = "10.0.0.2:7949".parse().expect("an address");
    OwnershipInput::Peer(PeerHeard { at: alone.now, from, datagram })
}

/// Everything that the machine says now, to whomever.
fn said(alone: &mut Alone) -> Vec<Datagram> {
    let mut said = Vec::new();
    while let Some(output) = alone.machine.poll(alone.now) {
        match output {
            OwnershipOutput::Peer(sent) => said.push(sent.datagram),
            OwnershipOutput::Ask(ticket, Ask::WriteSession(write), _) => {
                (alone.ticket, alone.write) = (ticket, *write);
            }
            _ => {}
        }
    }
    said
}

/// The same as `echo`, with something changed.
fn echo_with(number: u64, alone: &Alone, change: impl FnOnce(&mut Datagram)) -> OwnershipInput {
    let OwnershipInput::Peer(mut heard) = echo(number, alone) else { panic!("an echo is a heartbeat") };
    change(&mut heard.datagram);
    OwnershipInput::Peer(heard)
}

#[test]
fn a_heartbeat_that_says_what_the_last_one_said_is_followed_by_no_step() {
    let mut alone = Alone::new([2, 3].into_iter().flat_map(other).collect());
    alone.answer();
    for _ in 0..3 {
        alone.now = alone.now + Duration::from_millis(60);
        alone.machine.handle(alone.now, echo(2, &alone));
        said(&mut alone);
    }
    alone.now = alone.now + Duration::from_millis(1);
    alone.machine.handle(alone.now, echo(2, &alone));
    assert!(alone.machine.rests(alone.now), "nothing is new");
    let changes: [fn(&mut Datagram); 3] = [
        |datagram| datagram.fitness = Fitness::Leaving,
        |datagram| datagram.session = SessionId(9),
        |datagram| datagram.from = name(3),
    ];
    for change in changes {
        alone.machine.handle(alone.now, echo(2, &alone));
        said(&mut alone);
        alone.now = alone.now + Duration::from_millis(1);
        alone.machine.handle(alone.now, echo_with(2, &alone, change));
        assert!(!alone.machine.rests(alone.now), "something is");
        said(&mut alone);
    }
}

#[test]
fn a_juror_does_not_take_the_slow_heartbeats_of_a_session_without_groups_for_silence() {
    let mut alone = Alone::new([2, 3].into_iter().flat_map(other).collect());
    alone.answer();
    // It has listened for long enough, vouches for n2, and hears that n2 knows it.
    alone.now = alone.now + Duration::from_secs(2);
    let beat = |datagram: &mut Datagram| (datagram.kind, datagram.jury) = (Kind::Beat, 1);
    for _ in 0..2 {
        alone.now = alone.now + Duration::from_millis(50);
        alone.machine.handle(alone.now, echo_with(2, &alone, beat));
        said(&mut alone);
    }
    let vote = Vote { of: SessionId(2), generation: 1, heir: SessionId(3), attempt: 1, rank: 0 };
    let mut granted_after = |wait: Duration| {
        alone.now = alone.now + wait;
        alone.machine.handle(alone.now, echo_with(3, &alone, |datagram| datagram.asks = vec![vote]));
        said(&mut alone).iter().any(|datagram| datagram.grants.contains(&vote))
    };
    assert!(!granted_after(Duration::from_millis(900)), "three intervals are over, and it owes one a second");
    assert!(!granted_after(Duration::from_millis(2_000)));
    assert!(granted_after(Duration::from_millis(200)), "three of its own paces are over");
}

#[test]
fn a_member_that_is_heard_while_the_session_is_written_is_a_juror_in_the_next() {
    let mut alone = Alone::new(other(2));
    alone.machine.handle(alone.now, echo(2, &alone));
    let next = alone.answer().expect("the retry period is four seconds, the jury does not wait for it");
    assert_eq!(next.record.jury.members, [NodeName::new("n2")]);
}

#[test]
fn fifty_members_that_are_heard_one_after_the_other_cost_a_renewal_a_second() {
    let mut alone = Alone::new((2..=50).flat_map(other).collect());
    let mut writes = Vec::new();
    // One each 60 ms; the retry period is four seconds.
    for number in 2..=50 {
        alone.machine.handle(alone.now, echo(number, &alone));
        writes.extend(alone.answer().map(|write| (alone.now, write)));
        alone.now = alone.now + Duration::from_millis(58);
        if let Some((ticket, write)) = written(&mut alone.machine, alone.now) {
            writes.push((alone.now, write.clone()));
            (alone.ticket, alone.write) = (ticket, write);
        }
    }
    let times: Vec<_> = writes.iter().map(|(at, _)| *at).collect();
    assert!((2..=4).contains(&times.len()), "{times:?}: the first jury, and one in each of three seconds");
    assert_eq!(writes.last().map(|(_, write)| write.record.jury.members.len()), Some(Jury::MOST));
}

#[test]
fn keys_that_come_and_go_are_written_once_a_second_and_the_last_word_is_written() {
    let mut alone = Alone::new(Sessions::new());
    let mut count = 0;
    for turn in 0..100 {
        alone.machine.handle(alone.now, door(if turn % 2 == 0 { &[1, 2] } else { &[1] }));
        count += usize::from(alone.answer().is_some());
        alone.now = alone.now + Duration::from_millis(98);
        if let Some((ticket, write)) = written(&mut alone.machine, alone.now) {
            (alone.ticket, alone.write) = (ticket, write);
            count += 1;
        }
    }
    assert!((10..=14).contains(&count), "{count} writes within ten seconds, four of them at once");
    alone.now = alone.now + Duration::from_secs(1);
    let last = alone.answer().or_else(|| written(&mut alone.machine, alone.now).map(|(_, write)| write));
    let last = last.unwrap_or(alone.write);
    assert_eq!(last.record.keys, [KeyId(1)]);
}
