//! Doors on the loopback: what passes, what does not, and how long it takes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use vip_agent::Input;
use vip_model::Instant;
use vip_model::peers::{Datagram, Fitness, GroupList, KeyId, Kind, PeerHeard, PeerKey, Vote};
use vip_model::session::SessionId;

use super::*;
use crate::board::boot_now;
use crate::run::inbox::Inbox;

mod storm;

/// A heartbeat of node `n1` to node `n2`.
pub(crate) fn heartbeat(sequence: u64) -> PeerHeard {
    let datagram = Datagram {
        instance: vip_model::peers::InstanceTag::default(),
        from: NodeName::new("n1"),
        session: SessionId(0x51),
        to: NodeName::new("n2"),
        sequence: Instant::from_nanos(sequence),
        echo: None,
        kind: Kind::Beat,
        jury: 0,
        api_age: None,
        fitness: Fitness::Fit,
        groups: GroupList::EMPTY,
        asks: vec![],
        grants: vec![],
        successions: vec![],
        unseen: vec![],
    };
    PeerHeard { at: Instant::ZERO, from: (Ipv4Addr::LOCALHOST, 7949).into(), datagram }
}

/// Time between two heartbeats, by the defaults.
const INTERVAL: Duration = Duration::from_millis(50);

fn counts(board: &Board) -> BTreeMap<&'static str, u64> {
    board.peers.heard().chain(board.peers.sent()).filter(|(_, count)| *count > 0).collect()
}

fn key(byte: u8) -> PeerKey {
    PeerKey::new([byte; PeerKey::LENGTH])
}

fn ready(byte: u8) -> SealKey {
    SealKey::new(key(byte))
}

fn id(byte: u8) -> KeyId {
    ready(byte).id()
}

/// The door of one node.
struct Node {
    board: Arc<Board>,
    peers: Peers,
    heard: Vec<PeerHeard>,
    states: Vec<DoorState>,
}

impl Node {
    fn new(name: &str) -> Self {
        let board = Arc::new(Board::new(Arc::new(Inbox::new().unwrap())));
        let peers = Peers::new(NodeName::new(name), INTERVAL, &board);
        Self { board, peers, heard: Vec::new(), states: Vec::new() }
    }

    /// With these keys, a socket on any port, and the first key as seal.
    fn open(name: &str, keys: &[PeerKey]) -> Self {
        let mut node = Self::new(name);
        node.peers.keyring().set_keys(keys.to_vec());
        node.want(0, keys);
        node.until("a port", |node| node.state().port.is_some());
        node
    }

    fn want(&mut self, port: u16, accept: &[PeerKey]) {
        let accept: BTreeSet<KeyId> = accept.iter().map(|key| SealKey::new(key.clone()).id()).collect();
        self.peers.look_for_keys();
        let seal = self.peers.known.keys.first().map(SealKey::id);
        self.peers.want(Some(DoorWant { port, seal, accept }));
    }

    /// The state of the door that was told last.
    fn state(&self) -> DoorState {
        self.states.last().cloned().unwrap_or_default()
    }

    fn take(&mut self) {
        let heard = self.peers.take_heard().into_iter();
        self.heard.extend(heard.map(|heard| PeerHeard { at: Instant::ZERO, ..heard }));
        for input in self.board.inbox.take() {
            match input {
                Input::Door(state) => self.states.push(state),
                other => panic!("{other:?}"),
            }
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = boot_now() + Duration::from_secs(5);
        loop {
            self.take();
            if done(self) {
                return;
            }
            assert!(boot_now() < deadline, "waited in vain for {what}: {:?}", self.counts());
            self.peers.wait(Some(boot_now() + Duration::from_millis(5))).unwrap();
        }
    }

    fn counts(&self) -> BTreeMap<&'static str, u64> {
        counts(&self.board)
    }

    fn at(&self, local: impl Into<std::net::IpAddr>) -> SocketAddr {
        SocketAddr::new(local.into(), self.state().port.expect("an open door"))
    }

    fn say(&mut self, sequence: u64, to: SocketAddr) {
        self.peers.send(&PeerSend { to, datagram: heartbeat(sequence).datagram });
    }
}

#[test]
fn a_heartbeat_passes_in_both_families_and_says_where_it_came_from() {
    let keys = [key(1)];
    let (mut sender, mut receiver) = (Node::open("n1", &keys), Node::open("n2", &keys));
    sender.say(1, receiver.at(Ipv4Addr::LOCALHOST));
    sender.say(2, receiver.at(Ipv6Addr::LOCALHOST));
    receiver.until("two heartbeats", |node| node.heard.len() == 2);
    let expected = [
        PeerHeard { from: sender.at(Ipv4Addr::LOCALHOST), ..heartbeat(1) },
        PeerHeard { from: sender.at(Ipv6Addr::LOCALHOST), ..heartbeat(2) },
    ];
    assert_eq!(receiver.heard, expected);
    assert_eq!((sender.counts(), receiver.counts()), ([("sent", 2)].into(), [("admitted", 2)].into()));
}

#[test]
fn answers_to_what_was_said_in_calm_wake_up_the_loop_once() {
    let keys = [key(1)];
    let jurors = ["n2", "n3"].map(|name| Node::open(name, &keys));
    let mut owner = Node::open("n1", &keys);
    let to_owner = owner.at(Ipv4Addr::LOCALHOST);
    // What was posted while the door was opened has rung.
    owner.peers.wait(Some(boot_now())).unwrap();
    let beat = Datagram { jury: 1, ..heartbeat(1).datagram };
    let vote = Vote { of: SessionId(1), generation: 1, heir: SessionId(2), attempt: 1, rank: 0 };
    let said = [
        (beat.clone(), 2, "nobody waits for the answers"),
        (
            Datagram { asks: vec![vote], ..beat.clone() },
            1,
            "an answer to what is asked is looked for at once",
        ),
        (Datagram { jury: 0, ..beat }, 1, "nobody answers that"),
    ];
    for (number, (datagram, expected, why)) in said.into_iter().enumerate() {
        let said = boot_now();
        owner.peers.send(&PeerSend { to: jurors[0].at(Ipv4Addr::LOCALHOST), datagram });
        for (juror, from) in jurors.iter().zip([2, 3]) {
            let answer = Datagram {
                from: juror_name(from),
                session: SessionId(from),
                to: NodeName::new("n1"),
                sequence: Instant::from_millis(1_000 * (1 + number as u64)),
                ..heartbeat(1).datagram
            };
            let socket = juror.peers.socket.as_ref().unwrap();
            socket.send(&seal(&ready(1), &answer).unwrap(), to_owner).unwrap();
            if expected == 1 {
                owner.peers.wait(Some(said + Duration::from_secs(5))).unwrap();
                assert_eq!(owner.peers.take_heard().len(), 1, "{why}");
            }
        }
        if expected == 2 {
            owner.peers.wait(Some(said + Duration::from_secs(5))).unwrap();
            assert_eq!(owner.peers.take_heard().len(), 2, "{why}");
            assert!(boot_now().since(said) >= Duration::from_millis(2), "it did not gather");
        }
    }
}

fn juror_name(number: u64) -> NodeName {
    NodeName::new(&format!("n{number}"))
}

#[test]
fn a_door_says_which_keys_it_has_and_on_which_port_it_listens() {
    let mut node = Node::new("n1");
    assert_eq!(node.states, []);
    node.want(0, &[]);
    node.until("a port", |node| node.state().port.is_some());
    assert_eq!((node.state().keys, node.state().newest), ([].into(), None));
    node.peers.keyring().set_keys(vec![key(2), key(1)]);
    node.until("keys", |node| node.state().newest == Some(id(2)));
    assert_eq!(node.state().keys, [id(1), id(2)].into());
    let told = node.states.len();
    node.peers.keyring().set_keys(vec![key(2), key(1)]);
    node.peers.keyring().set_trouble("no right to read the Secret".to_owned());
    node.until("the trouble", |node| node.state().trouble.is_some());
    assert_eq!(node.states.len(), told + 1, "the same again is no news");
    assert_eq!(node.state().newest, Some(id(2)), "known keys stay");
    node.peers.keyring().set_keys(vec![key(2)]);
    node.until("the end of the trouble", |node| node.state().trouble.is_none());
    assert_eq!(node.state().keys, [id(2)].into());
}

#[test]
fn a_port_that_is_taken_is_replaced_by_another() {
    let holder = UdpSocket::bind("0.0.0.0:0").unwrap();
    let taken = holder.local_addr().unwrap().port();
    let mut node = Node::new("n1");
    node.want(taken, &[]);
    node.until("a port", |node| node.state().port.is_some());
    assert_ne!(node.state().port, Some(taken));
    assert_eq!(node.state().trouble, None, "it works");
}

#[test]
fn a_closed_door_sends_nothing_and_frees_its_port() {
    let keys = [key(1)];
    let (mut node, other) = (Node::open("n1", &keys), Node::open("n2", &keys));
    let port = node.state().port.unwrap();
    node.peers.want(None);
    node.until("a closed door", |node| node.state().port.is_none());
    node.say(1, other.at(Ipv4Addr::LOCALHOST));
    assert_eq!(node.counts(), [("unsealed", 1)].into());
    UdpSocket::bind(("0.0.0.0", port)).expect("the port is free");
    node.want(port, &keys);
    node.until("the same port", |node| node.state().port == Some(port));
}

#[test]
fn a_door_moves_to_another_port_and_works_there() {
    let keys = [key(1)];
    let (mut sender, mut node) = (Node::open("n1", &keys), Node::open("n2", &keys));
    let free = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    node.want(free, &keys);
    node.until("the other port", |node| node.state().port == Some(free));
    sender.say(1, node.at(Ipv4Addr::LOCALHOST));
    node.until("a heartbeat", |node| node.heard.len() == 1);
}

#[test]
fn without_a_key_to_seal_with_nothing_is_sent() {
    let mut node = Node::new("n1");
    node.peers.want(Some(DoorWant { port: 0, seal: Some(id(1)), accept: [id(1)].into() }));
    node.until("a port", |node| node.state().port.is_some());
    node.say(1, (Ipv4Addr::LOCALHOST, 9).into());
    node.peers.keyring().set_keys(vec![key(2)]);
    node.say(2, (Ipv4Addr::LOCALHOST, 9).into());
    assert_eq!(node.counts(), [("unsealed", 2)].into());
}

#[test]
fn what_is_forged_replayed_or_astray_is_counted_and_never_reaches_the_node() {
    let keys = [key(1)];
    let mut node = Node::open("n2", &keys);
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = node.at(Ipv4Addr::LOCALHOST);
    let send = |bytes: &[u8]| outside.send_to(bytes, to).map(|_| ()).unwrap();
    let good = |sequence| seal(&ready(1), &heartbeat(sequence).datagram).unwrap();
    let mut forged = good(8);
    forged[20] ^= 1;
    let mut newer_version = good(8);
    newer_version[2] += 1;
    let astray = Datagram { to: NodeName::new("n3"), ..heartbeat(9).datagram };
    send(b"");
    send(&[0; 300]);
    send(&[0; 2000]);
    send(&seal(&ready(9), &heartbeat(7).datagram).unwrap());
    send(&forged);
    send(&newer_version);
    send(&seal(&ready(1), &astray).unwrap());
    send(&good(5_000_000));
    send(&good(5_000_000));
    send(&good(2_000_000));
    send(&good(6_000_000));
    node.until("the last one", |node| node.heard.len() == 2);
    let sequences: Vec<u64> = node.heard.iter().map(|heard| heard.datagram.sequence.as_nanos()).collect();
    assert_eq!(sequences, [5_000_000, 6_000_000]);
    let expected = [
        ("length", 2),
        ("foreign", 1),
        ("key", 1),
        ("forged", 1),
        ("version", 1),
        ("astray", 1),
        ("replayed", 2),
        ("admitted", 2),
    ];
    assert_eq!(node.counts(), expected.into());
}

#[test]
fn a_known_key_that_is_not_accepted_any_more_opens_nothing() {
    let (mut sender, mut node) = (Node::open("n1", &[key(1)]), Node::open("n2", &[key(2), key(1)]));
    let to = node.at(Ipv4Addr::LOCALHOST);
    sender.say(1, to);
    node.until("a heartbeat", |node| node.heard.len() == 1);
    node.want(0, &[key(2)]);
    // The want is taken up before the bell is answered; a state is not told, as nothing that it says has changed.
    let refused = |node: &Node| node.counts().get("key").copied().unwrap_or(0) > 0;
    let mut sequence = 2;
    node.until("a refusal", |node| {
        sequence += 1;
        sender.say(sequence, to);
        refused(node)
    });
}

#[test]
fn two_clusters_on_one_network_do_not_hear_each_other() {
    let (mut red, mut blue) = (Node::open("n1", &[key(1)]), Node::open("n2", &[key(2)]));
    red.say(1, blue.at(Ipv4Addr::LOCALHOST));
    blue.until("the refusal", |node| node.counts().get("key") == Some(&1));
    assert_eq!(blue.heard, []);
}

#[test]
fn keys_are_changed_without_losing_a_heartbeat_when_the_new_one_is_accepted_first() {
    let (old, new) = (key(1), key(2));
    let [mut sender, mut node] = ["n1", "n2"].map(|name| Node::open(name, std::slice::from_ref(&old)));
    let to = node.at(Ipv4Addr::LOCALHOST);
    // What is accepted is told together with the keys, so that the wait below covers both.
    node.want(0, &[old.clone(), new.clone()]);
    node.peers.keyring().set_keys(vec![new.clone(), old.clone()]);
    sender.peers.keyring().set_keys(vec![new.clone(), old.clone()]);
    sender.peers.look_for_keys();
    node.until("both keys", |node| node.state().keys.len() == 2);
    for sequence in 1..=10 {
        if sequence == 5 {
            sender.want(0, &[old.clone(), new.clone()]);
        }
        sender.say(sequence, to);
    }
    node.until("all of them", |node| node.heard.len() == 10);
}
