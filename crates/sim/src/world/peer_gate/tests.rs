use std::collections::BTreeSet;

use vip_model::peers::{Fitness, GroupList, KeyId};
use vip_model::session::SessionId;
use vip_model::{Instant, NodeName};

use super::*;
use crate::clock::Moment;
use crate::fault::Fault;
use crate::run::Case;
use crate::setup::{PEERS_PORT, SessionSetup, Setup};
use crate::trace::{Lines, Trace};

fn world(faults: &[&str]) -> World {
    let mut setup = Setup::plain(1);
    // Agents of the mode `lease` say and want nothing by themselves.
    setup.session = Some(SessionSetup { in_lease_mode: 0b111, ..SessionSetup::plain() });
    let schedule: Vec<Fault> = faults.iter().map(|line| line.parse().unwrap()).collect();
    let names = (0..3).map(|node| format!("n{node}")).collect();
    let mut world = World::new(&Case::new(setup, schedule), Trace::new(Lines::None, names));
    world.run(Moment::from_millis(200));
    for id in 0..3 {
        let keys = BTreeSet::from([KeyId(1), KeyId(2)]);
        let want = DoorWant { port: PEERS_PORT, seal: Some(KeyId(1)), accept: keys };
        world.door_wanted(id, Some(want));
    }
    world.run(Moment::from_millis(300));
    world
}

fn say(world: &mut World, (from, to): (usize, usize), millis: u64) {
    let datagram = vip_model::peers::Datagram {
        instance: vip_model::peers::InstanceTag::default(),
        from: NodeName::new(&format!("n{}", from + 1)),
        session: SessionId(from as u64 + 1),
        to: NodeName::new(&format!("n{}", to + 1)),
        sequence: Instant::from_millis(millis),
        echo: None,
        kind: vip_model::peers::Kind::Beat,
        jury: 0,
        api_age: None,
        fitness: Fitness::Fit,
        groups: GroupList::EMPTY,
        asks: Vec::new(),
        grants: Vec::new(),
        successions: Vec::new(),
        unseen: Vec::new(),
    };
    let to = SocketAddr::new(own_addresses(to)[0].addr(), PEERS_PORT);
    world.peer_leaves(from, PeerSend { to, datagram });
}

/// The newest sequence in milliseconds that `at` let in from `of`.
fn newest(world: &World, at: usize, of: u64) -> Option<u64> {
    let (session, sequence) = world.processes[at].door.last?;
    (session == SessionId(of)).then_some(sequence.as_nanos() / 1_000_000)
}

fn pass(world: &mut World, millis: u64) {
    world.run(world.now + Duration::from_millis(millis));
}

#[test]
fn only_newer_datagrams_pass_the_door() {
    let mut world = world(&[]);
    assert_eq!(world.processes[1].door.port, Some(PEERS_PORT));
    say(&mut world, (0, 1), 1000);
    pass(&mut world, 2);
    assert_eq!(newest(&world, 1, 1), Some(1000));
    say(&mut world, (0, 1), 1000);
    say(&mut world, (0, 1), 900);
    pass(&mut world, 2);
    assert_eq!((newest(&world, 1, 1), world.processes[1].door.refused), (Some(1000), 2));
    assert_eq!(newest(&world, 2, 1), None, "it was not for n3");
}

#[test]
fn a_datagram_for_another_node_means_nothing() {
    let mut world = world(&[]);
    let sealed = Sealed {
        from: SocketAddr::new(own_addresses(0)[0].addr(), PEERS_PORT),
        seal: Seal::Genuine(KeyId(1)),
        datagram: {
            say(&mut world, (0, 1), 5);
            vip_model::peers::Datagram {
                instance: vip_model::peers::InstanceTag::default(),
                from: NodeName::new("n1"),
                session: SessionId(1),
                to: NodeName::new("n2"),
                sequence: Instant::from_millis(7),
                echo: None,
                kind: vip_model::peers::Kind::Beat,
                jury: 0,
                api_age: None,
                fitness: Fitness::Fit,
                groups: GroupList::EMPTY,
                asks: Vec::new(),
                grants: Vec::new(),
                successions: Vec::new(),
                unseen: Vec::new(),
            }
        },
    };
    world.datagram_is_read(2, Rc::new(sealed));
    assert_eq!((newest(&world, 2, 1), world.processes[2].door.refused), (None, 1));
}

#[test]
fn cuts_are_per_pair_and_direction() {
    let mut world = world(&["0.250s +5s peer-cut-out n1 2"]);
    say(&mut world, (0, 1), 10);
    say(&mut world, (1, 0), 10);
    say(&mut world, (0, 2), 10);
    pass(&mut world, 2);
    assert_eq!(
        [newest(&world, 1, 1), newest(&world, 0, 2), newest(&world, 2, 1)],
        [None, Some(10), Some(10)]
    );
}

#[test]
fn a_wrong_or_unreadable_key_hears_and_says_nothing() {
    for fault in ["0.250s +1s key-wrong n1", "0.250s +1s key-unreadable n1", "0.250s +1s port-blocked n1"] {
        let mut world = world(&[fault]);
        say(&mut world, (0, 1), 10);
        say(&mut world, (1, 0), 10);
        say(&mut world, (1, 2), 10);
        pass(&mut world, 2);
        assert_eq!([newest(&world, 1, 1), newest(&world, 0, 2)], [None, None], "{fault}");
        assert_eq!(newest(&world, 2, 2), Some(10), "{fault}");
        pass(&mut world, 1500);
        say(&mut world, (0, 1), 20);
        pass(&mut world, 2);
        assert_eq!(newest(&world, 1, 1), Some(20), "{fault} heals");
    }
}

#[test]
fn old_datagrams_are_sent_again_and_refused() {
    let mut world = world(&["0.250s +5s peer-replay all 100"]);
    for number in 1..=50 {
        say(&mut world, (0, 1), number);
        pass(&mut world, 2);
    }
    assert_eq!(newest(&world, 1, 1), Some(50));
    // Everybody else is silent, and old ones are still sent, at their own pace.
    pass(&mut world, 400);
    assert_eq!(newest(&world, 1, 1), Some(50));
    let refused = world.processes[1].door.refused;
    assert!((90..=110).contains(&refused), "{refused} in half a second");
}

#[test]
fn a_stopped_process_reads_what_its_socket_held() {
    let mut world = world(&["0.250s +2s pause n2"]);
    let many = SOCKET_BUFFER as u64 + 50;
    for number in 1..=many {
        say(&mut world, (0, 1), number);
        pass(&mut world, 1);
    }
    assert_eq!(newest(&world, 1, 1), None);
    pass(&mut world, 2000);
    let last = newest(&world, 1, 1).unwrap();
    assert!((90..=SOCKET_BUFFER as u64).contains(&last), "{last}: what came last did not fit any more");
}

#[test]
fn a_shut_door_hears_nothing_and_opens_again() {
    let mut world = world(&["0.250s +1s door-shut n2"]);
    say(&mut world, (0, 1), 10);
    pass(&mut world, 2);
    assert_eq!((newest(&world, 1, 1), world.processes[1].door.told.port), (None, None));
    pass(&mut world, 1500);
    say(&mut world, (0, 1), 20);
    pass(&mut world, 2);
    assert_eq!(newest(&world, 1, 1), Some(20));
}

#[test]
fn keys_rotate_and_survive_a_restart_but_not_a_reboot() {
    let mut world = world(&["0.250s +ever key-rotation all", "5s +1s api-refuse n2", "5.200s +1s kill n2"]);
    pass(&mut world, 4000);
    assert_eq!(world.processes[1].door.told.newest, Some(KeyId(2)));
    assert_eq!(world.nodes[1].kept_keys.len(), 2);
    world.run(Moment::from_millis(6300));
    assert_eq!(world.processes[1].door.port, None, "a new process has a closed door");
    assert_eq!(world.nodes[1].kept_keys.len(), 2);
}

#[test]
fn what_an_agent_left_is_there_after_a_restart_and_gone_after_a_reboot() {
    let mut world = world(&["1s +0.500s kill n1", "3s +1s power-off n1"]);
    let record = vip_model::session::SessionRecord {
        id: SessionId(9),
        node: NodeName::new("n1"),
        boot: world.nodes[0].boot,
        doors: Vec::new(),
        sites: Vec::new(),
        jury: vip_model::session::Jury::default(),
        former: Vec::new(),
        end: None,
        keys: Vec::new(),
        was_heard: false,
        drill: None,
    };
    let memory = Memory { record, members: Vec::new(), claims: Vec::new(), successions: Vec::new() };
    world.remember(0, Box::new(memory));
    world.run(Moment::from_millis(2000));
    let boot = world.nodes[0].boot;
    assert!(world.nodes[0].kept.contains_key(&0));
    world.run(Moment::from_millis(3500));
    assert!(world.nodes[0].kernel.is_none());
    world.run(Moment::from_millis(4500));
    assert!(world.nodes[0].kept.is_empty() && world.nodes[0].boot != boot);
}
