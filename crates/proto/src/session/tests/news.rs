//! What changes while a write of the own session is under way follows soon, and not with the next renewal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use vip_model::peers::{
    Datagram, DoorState, Echo, Fitness, GroupList, InstanceTag, KeyId, Kind, ListDigest, PeerHeard, Word,
};
use vip_model::session::{
    BootId, End, Jury, Recall, SessionId, SessionRecord, SessionSeen, SessionWrite, Sessions, session_lease,
};
use vip_model::store::{Answer, Ask, Version};
use vip_model::{InstanceName, Instant, NodeName, Random};

use super::town::Town;
use crate::Machine;
use crate::session::{Life, Ownership, OwnershipInput, OwnershipOutput, OwnershipWant, Ticket};

/// The machine of a node that is alone with its store, and the time of its first write, which is under way.
struct Alone {
    machine: Ownership,
    now: Instant,
    ticket: Ticket,
    write: SessionWrite,
}

fn door(keys: &[u32]) -> OwnershipInput {
    let keys: BTreeSet<KeyId> = keys.iter().copied().map(KeyId).collect();
    let newest = keys.last().copied();
    OwnershipInput::Door(DoorState { port: Some(7949), keys, newest, trouble: None })
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

/// The session of another node, which listens.
fn other() -> Sessions {
    let record = SessionRecord {
        id: SessionId(22),
        node: NodeName::new("n2"),
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
    Sessions::from([(lease, SessionSeen { version, renewed, duration, record })])
}

#[test]
fn a_member_that_is_heard_while_the_session_is_written_is_a_juror_in_the_next() {
    let mut alone = Alone::new(other());
    let datagram = Datagram {
        instance: InstanceTag(InstanceName::new("control-plane").address_tag()),
        from: NodeName::new("n2"),
        session: SessionId(22),
        to: NodeName::new("n1"),
        sequence: Instant::from_millis(5),
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
    alone.machine.handle(alone.now, OwnershipInput::Peer(PeerHeard { at: alone.now, from, datagram }));
    let next = alone.answer().expect("the retry period is four seconds, the jury does not wait for it");
    assert_eq!(next.record.jury.members, [NodeName::new("n2")]);
}
