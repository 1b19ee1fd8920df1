//! The real binary in mode `session`, in a network namespace without any API server: what an earlier life of the agent
//! kept is enough to exchange heartbeats again.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]
#![allow(dead_code, reason = "`run/agent.rs` serves other tests, too")]

#[path = "run/agent.rs"]
mod agent;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use vip_model::peers::{Datagram, Echo, Fitness, GroupList, Kind, ListDigest, PeerKey, Word};
use vip_model::session::{BootId, Jury, Memory, SessionId, SessionRecord};
use vip_model::{Instant, NodeName};
use vip_proto::peers::{SealKey, admit, seal};

use agent::{Agent, eventually, kube_vip, own_network};

const OWN: SessionId = SessionId(0x0a);
const OTHER: SessionId = SessionId(0x0b);
/// The address of the namespace's one network: the agent's, and for want of another that of the other member.
const ADDRESS: &str = "192.0.2.9";

/// Each byte of the key, as the file has it.
const HEX: &str = "5e";

fn key() -> SealKey {
    SealKey::new(PeerKey::new([0x5e; PeerKey::LENGTH]))
}

/// The file in which an agent keeps its session; removed at the end.
struct Kept(PathBuf);

impl Kept {
    /// What an agent of node `n1` kept since this boot: a session whose juror `n2` listens on `door`.
    fn write(instance: &str, door: SocketAddr) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let digits = boot.trim().replace('-', "");
        let whole = u128::from_str_radix(&digits, 16).unwrap();
        let boot_id = BootId(SessionId((whole >> 64) as u64 ^ whole as u64));
        let record = |id, node: &str, doors| SessionRecord {
            id,
            node: NodeName::new(node),
            boot: boot_id,
            doors,
            sites: vec![],
            jury: Jury { generation: 1, members: vec![NodeName::new("n2")] },
            former: vec![],
            end: None,
            keys: vec![key().id()],
            was_heard: true,
            drill: None,
        };
        let memory = Memory {
            record: record(OWN, "n1", vec![]),
            members: vec![record(OTHER, "n2", vec![door])],
            claims: vec![],
            successions: vec![],
        };
        let keys = [HEX.repeat(PeerKey::LENGTH)];
        let document = json!({"version": 1, "boot": boot.trim(), "keys": keys, "memory": memory});
        let path = PathBuf::from(format!("/run/kube-vip/{instance}.session"));
        fs::create_dir_all("/run/kube-vip").unwrap();
        fs::write(&path, document.to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Self(path)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A heartbeat of the other member that answers `heard`.
fn answer(heard: &Datagram, sequence: u64) -> Datagram {
    Datagram {
        instance: heard.instance,
        from: NodeName::new("n2"),
        session: OTHER,
        to: NodeName::new("n1"),
        sequence: Instant::from_nanos(sequence),
        echo: Some(Echo {
            session: heard.session,
            sequence: heard.sequence,
            word: Word::Vouches,
            groups: ListDigest::NONE,
        }),
        kind: Kind::Reply,
        jury: 0,
        api_age: None,
        fitness: Fitness::Fit,
        groups: GroupList::EMPTY,
        asks: vec![],
        grants: vec![],
        successions: vec![],
        unseen: vec![],
    }
}

fn ip(words: &str) {
    assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
}

/// The value of a series in `/metrics`.
fn metric(agent: &mut Agent, series: &str) -> u64 {
    let page = agent.get(2112, "/metrics").1;
    let line = page.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{page}"));
    line.trim().parse().unwrap()
}

#[test]
fn without_the_api_a_restarted_agent_exchanges_heartbeats_again() {
    let Some(()) = own_network() else { return };
    ip("link add d0 type veth peer name d1");
    ip("addr add 192.0.2.9/24 dev d0");
    ip("link set d0 up");
    ip("link set d1 up");
    let other = UdpSocket::bind((ADDRESS, 0)).unwrap();
    other.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let keys = [key()];
    let _kept = Kept::write("session-again", other.local_addr().unwrap());
    let mut command = kube_vip("manager", "session-again");
    command.envs([("election_mode", "session"), ("vip_interface", "d0"), ("peers_port", "7123")]);
    let mut agent = Agent::spawn("session-again", command);

    let mut buffer = [0; 2048];
    let (length, from) = other.recv_from(&mut buffer).unwrap_or_else(|_| panic!("silence: {}", agent.log()));
    assert_eq!(
        from,
        (ADDRESS.parse::<std::net::IpAddr>().unwrap(), 7123).into(),
        "it listens on the wanted port"
    );
    let heard = admit(&keys, &buffer[..length]).expect("sealed with the key that was kept");
    assert_eq!((heard.from.as_str(), heard.to.as_str()), ("n1", "n2"));
    assert_eq!(heard.session, OWN, "it is the session of its earlier life");

    let reply = seal(&keys[0], &answer(&heard, 1)).unwrap();
    let mut forged = reply.clone();
    forged[30] ^= 1;
    for bytes in [&reply, &forged, &reply] {
        other.send_to(bytes, from).unwrap();
    }
    let received = |outcome: &str| format!("kube_vip_heartbeats_received_total{{outcome=\"{outcome}\"}}");
    eventually(Duration::from_secs(5), "the answer is heard", || {
        (metric(&mut agent, &received("replayed")) == 1).then_some(())
    });
    assert_eq!(metric(&mut agent, &received("admitted")), 1);
    assert_eq!(metric(&mut agent, &received("forged")), 1);
    assert!(metric(&mut agent, "kube_vip_heartbeats_sent_total{outcome=\"sent\"}") >= 1);
    let complaint = "a datagram on the port for heartbeats was refused";
    let log = eventually(Duration::from_secs(1), complaint, || {
        Some(agent.log()).filter(|log| log.contains(complaint))
    });
    assert!(!log.contains(&HEX.repeat(3)), "a key is never logged: {log}");
}

#[test]
fn an_agent_that_kept_nothing_opens_its_door_and_waits_for_the_api() {
    let Some(()) = own_network() else { return };
    let mut command = kube_vip("manager", "session-new");
    command.env("election_mode", "session");
    let mut agent = Agent::spawn("session-new", command);
    assert_eq!(agent.get(2112, "/livez").0, "HTTP/1.1 200 OK");
    eventually(Duration::from_secs(5), "the port is taken", || {
        UdpSocket::bind("0.0.0.0:7949").is_err().then_some(())
    });
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(agent.end(Duration::from_secs(4)).code(), Some(0), "{}", agent.log());
}
