//! `enable_service_security` with nftables: nothing but a Service's ports reaches its addresses. Seen by the client, with
//! real datagrams and connections: to pods through the proxy, and to what listens on every address of a node, which
//! is what the filter is for.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vip_lab::bench::net::ECHO_PORT;
use vip_lab::bench::{Responder, Stamp};

use crate::rig::Rig;
use crate::rig::draft::{Draft, Stack};

const ALL: [u8; 3] = [1, 2, 3];
const SOON: Duration = Duration::from_secs(1);
/// Who does not answer for so long is closed: an answer takes a millisecond.
const CLOSED: Duration = Duration::from_millis(300);
/// A port on which nodes listen, and no Service.
const DOOR: u16 = 7008;
const SECURE: (&str, &str) = ("enable_service_security", "true");

/// Whether the echo of a node answers datagrams at an address.
fn echoes(rig: &Rig, addr: IpAddr) -> Result<bool> {
    let (prober, begin) = (rig.lab().probe(addr)?, Stamp::now());
    Ok(prober.wait_answer(begin, CLOSED, |_| true).is_ok())
}

/// Waits until the echo answers at all these addresses, or at none.
fn wait_echo(rig: &Rig, addrs: &[IpAddr], wanted: bool) -> Result<()> {
    let what = format!("{addrs:?} {}", if wanted { "open" } else { "closed" });
    rig.within(SOON, &what, |rig| {
        let are_right = addrs.iter().all(|addr| echoes(rig, *addr).is_ok_and(|open| open == wanted));
        are_right.then_some(())
    })
}

/// Whether the client can connect to what listens on every node.
fn connects(rig: &Rig, addr: IpAddr) -> Result<bool> {
    let target = SocketAddr::new(addr, DOOR);
    Ok(rig.lab().client().within(|| TcpStream::connect_timeout(&target, CLOSED).is_ok())?)
}

/// Something that listens on all addresses of every node, and accepts.
fn doors(rig: &Rig) -> Result<Vec<TcpListener>> {
    ALL.iter().map(|number| Ok(rig.lab().node(*number)?.listen(DOOR)?)).collect()
}

/// A Service, its ports and nothing else.
pub(crate) fn ports_alone(rig: &mut Rig) -> Result<()> {
    let addrs: [IpAddr; 2] = ["10.77.0.210".parse()?, "fd77::210".parse()?];
    rig.start_all(&[SECURE])?;
    rig.ready(&ALL)?;
    let _doors = doors(rig)?;
    rig.deploy("web", &[(1, 5)])?;
    rig.create("web", "10.77.0.210,fd77::210", json!({}))?;
    let holder = rig.wait_status("web", "10.77.0.210")?;
    let pod = Responder { node: 1, pod: 5 };
    for addr in addrs {
        let text = addr.to_string();
        let (prober, begin) = (rig.probe(&text)?, Stamp::now());
        prober.wait_answer(begin, SOON, |answer| (answer.node, answer.pod) == (pod.node, pod.pod))?;
        ensure!(rig.ask(&text)? == pod, "TCP to {addr}");
        ensure!(!echoes(rig, addr)?, "the echo answers at {addr}");
        ensure!(!connects(rig, addr)?, "the door at {addr} is open");
    }
    // The node's own addresses are not the filter's business.
    for own in rig.lab().node(holder)?.addresses() {
        ensure!(echoes(rig, own)? && connects(rig, own)?, "{own} of n{holder} is filtered, too");
    }
    // Who opts out is open at once, and closed again when it thinks better of it.
    let opt =
        |text: &str| json!({"metadata": {"annotations": {"kube-vip.io/ignore-service-security": text}}});
    rig.change("web", &opt("true"))?;
    wait_echo(rig, &addrs, true)?;
    ensure!(connects(rig, addrs[0])?, "the door at {} is closed", addrs[0]);
    rig.change("web", &opt("false"))?;
    wait_echo(rig, &addrs, false)
}

/// The filter changes with ports and sharers, and moves with the address.
pub(crate) fn follows(rig: &mut Rig) -> Result<()> {
    rig.start_all(&[SECURE, ("svc_election", "true")])?;
    rig.ready(&ALL)?;
    let draft =
        |name: &str, ports: &[(&'static str, u16)]| Draft::new(name, Stack::V4First).at(211).ports(ports);
    let (open, shut) = (draft("a", &[("UDP", ECHO_PORT)]), draft("a", &[("TCP", ECHO_PORT)]));
    let sharer = draft("b", &[("UDP", ECHO_PORT)]);
    for one in [&open, &sharer] {
        rig.back(one, &ALL)?;
    }
    rig.write(&open)?;
    let addrs = open.addrs.clone();
    wait_echo(rig, &addrs, true)?;
    rig.write(&shut)?;
    wait_echo(rig, &addrs, false)?;
    // Another Service on the address opens its own ports, and closes them when it leaves.
    rig.write(&sharer)?;
    wait_echo(rig, &addrs, true)?;
    rig.remove(&sharer);
    wait_echo(rig, &addrs, false)?;
    // The next holder filters from the first moment: no answer slips through a move.
    let holder = rig.within(SOON, "a holder", |rig| rig.server(&shut))?;
    let (prober, begin) = (rig.lab().probe(addrs[0])?, Stamp::now());
    rig.stop(holder)?;
    let next = rig.within(SOON, "another holder", |rig| rig.server(&shut).filter(|next| *next != holder))?;
    std::thread::sleep(CLOSED);
    ensure!(prober.trace().answer_after(begin).is_none(), "n{next} or n{holder} let a datagram through");
    ensure!(rig.filter_table(holder)?.is_none(), "n{holder} still filters");
    ensure!(rig.filter_table(next)?.is_some(), "n{next} does not filter");
    Ok(())
}
