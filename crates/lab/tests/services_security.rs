//! `enable_service_security` with nftables: nothing but a Service's ports reaches its addresses. Seen by the client, with
//! real datagrams and connections: to pods through the proxy, and to what listens on every address of a node (the echo
//! and the API server), which is what the filter is for.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vip_lab::bench::net::ECHO_PORT;
use vip_lab::bench::{Responder, Stamp};
use vip_lab::scenario::control_plane::PORT as API;

use rig::draft::{Draft, Stack};
use rig::{Rig, play, play_bare};

const ALL: [u8; 3] = [1, 2, 3];
const SOON: Duration = Duration::from_secs(1);
/// Who does not answer for so long is closed: an answer takes a millisecond.
const CLOSED: Duration = Duration::from_millis(300);
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

/// Whether the client can connect to the API server's port at an address.
fn connects(rig: &Rig, addr: IpAddr) -> Result<bool> {
    let target = SocketAddr::new(addr, API);
    Ok(rig.lab().client().within(|| TcpStream::connect_timeout(&target, CLOSED).is_ok())?)
}

#[test]
fn only_the_ports_of_a_service_reach_its_addresses() {
    play("only_the_ports_of_a_service_reach_its_addresses", |rig| {
        let addrs: [IpAddr; 2] = ["10.77.0.210".parse()?, "fd77::210".parse()?];
        rig.start_all(&[SECURE])?;
        rig.ready(&ALL)?;
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
            ensure!(!connects(rig, addr)?, "the API server answers at {addr}");
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
        ensure!(connects(rig, addrs[0])?, "the API server does not answer at {}", addrs[0]);
        rig.change("web", &opt("false"))?;
        wait_echo(rig, &addrs, false)
    });
}

#[test]
fn the_filter_follows_ports_sharers_and_moves() {
    play_bare("the_filter_follows_ports_sharers_and_moves", |rig| {
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
        let next =
            rig.within(SOON, "another holder", |rig| rig.server(&shut).filter(|next| *next != holder))?;
        std::thread::sleep(CLOSED);
        ensure!(prober.trace().answer_after(begin).is_none(), "n{next} or n{holder} let a datagram through");
        ensure!(rig.filter_table(holder)?.is_none(), "n{holder} still filters");
        ensure!(rig.filter_table(next)?.is_some(), "n{next} does not filter");
        Ok(())
    });
}
