//! Upstream's Service suite by its ids (S-1 to S-5 here; the faults of elections in `fault`), as functions of a stage, so
//! that they run over the lab's API server and over the real one.

#[path = "fault.rs"]
pub(crate) mod fault;
#[path = "moving.rs"]
pub(crate) mod moving;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vip_lab::bench::{Responder, Span, Stamp};
use vip_lab::scenario::service;

use crate::rig::{Rig, client::Client};

/// One election per Service, as the scenarios of faults need it.
pub(crate) const PER_SERVICE: &[(&str, &str)] = &[("svc_election", "true")];
/// The name of that election's Lease for the Service `web`.
pub(crate) const LEASE: &str = "kubevip-web";
/// The addresses of `web`.
pub(crate) const V4: &str = "10.77.0.210";
pub(crate) const V6: &str = "fd77::210";
/// The longest gap of a move of a pod, and of anything else that a working API server decides.
pub(crate) const MOVE: Duration = ms(100);
/// From the creation of a Service to the first answer of a node and to that of a pod.
const FIRST_ADDRESS: Duration = ms(250);
const FIRST_POD: Duration = ms(500);
/// How long anything that happens at once may take.
pub(crate) const LIMIT: Duration = ms(3000);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Creates the Service `web` at its IPv4 address with these pods, waits until it is served and gives its holder.
pub(crate) fn web(rig: &mut Rig, policy: &str, pods: &[(u8, u8)]) -> Result<(Client, u8)> {
    rig.deploy("web", pods)?;
    rig.create("web", V4, json!({"externalTrafficPolicy": policy}))?;
    let client = Client::start(rig.lab(), V4)?;
    let holder = rig.wait_status("web", V4)?;
    Ok((client, holder))
}

/// S-1: a Deployment and its Service get an address that works, over UDP and TCP.
pub(crate) fn s_1_simple(rig: &mut Rig) -> Result<()> {
    rig.start_all(&[])?;
    rig.wait_for_leader("plndr-svcs-lock")?;
    rig.deploy("web", &[(2, 5)])?;
    let seen = service::first_answers(rig.lab(), &[V4.parse()?], LIMIT, || rig.create("web", V4, json!({})))?;
    println!("  created to first answer of a node {:?}, of a pod {:?}", seen[0].address, seen[0].pod);
    ensure!(seen[0].address <= FIRST_ADDRESS && seen[0].pod <= FIRST_POD, "{seen:?}");
    let answer = rig.ask(V4)?;
    ensure!(answer == Responder { node: 2, pod: 5 }, "{answer:?} answers TCP");
    rig.wait_status("web", V4).map(drop)
}

/// S-2: four Deployments with a Service each; every address leads to its own pods alone.
pub(crate) fn s_2_several(rig: &mut Rig) -> Result<()> {
    rig.start_all(&[])?;
    rig.wait_for_leader("plndr-svcs-lock")?;
    let names: Vec<(String, String, u8)> =
        (1..=4).map(|n| (format!("web{n}"), format!("10.77.0.21{n}"), 10 + n)).collect();
    for (name, address, pod) in &names {
        rig.deploy(name, &[(1, *pod), (3, *pod)])?;
        rig.create(name, address, json!({}))?;
    }
    for (name, address, pod) in &names {
        rig.wait_status(name, address)?;
        rig.probe(address)?.wait_answer(Stamp::default(), LIMIT, |answer| answer.pod == *pod)?;
        for _ in 0..8 {
            let answer = rig.ask(address)?;
            ensure!(answer.pod == *pod && answer.node != 2, "{address} leads to {answer:?}");
        }
    }
    Ok(())
}

/// S-3: under policy Local the pod is killed and comes again on another node: the address follows, never on two nodes.
pub(crate) fn s_3_failover(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, holder) = web(rig, "Local", &[(1, 5)])?;
    ensure!(holder == 1, "the pod is on n1, the address on n{holder}");
    rig.pod(2, 6)?;
    let at = rig.deploy("web", &[(2, 6)])?;
    rig.kill_pod(1, 5);
    client.wait_node(at, 2)?;
    client.judge("pod killed, another one elsewhere", at, ms(1000), MOVE)?;
    let holder = rig.wait_agreed("web", LEASE, &[V4])?;
    ensure!(holder == 2, "the pod is on n2, the address on n{holder}");
    Ok(())
}

/// S-4: Deployments on different nodes under policy Local: each address on a node with its pod.
pub(crate) fn s_4_spread(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    for node in 1..=3 {
        let (name, address) = (format!("web{node}"), format!("10.77.0.21{node}"));
        rig.deploy(&name, &[(node, 20)])?;
        rig.create(&name, &address, json!({"externalTrafficPolicy": "Local"}))?;
    }
    for node in 1..=3 {
        let (name, address) = (format!("web{node}"), format!("10.77.0.21{node}"));
        let holder = rig.wait_agreed(&name, &format!("kubevip-{name}"), &[&address])?;
        ensure!(holder == node, "the pod of {name} is on n{node}, its address on n{holder}");
        let answer = rig.probe(&address)?.wait_answer(Stamp::default(), LIMIT, |answer| answer.pod != 0)?;
        ensure!((answer.node, answer.pod) == (node, 20), "{address} leads to {answer:?}");
    }
    Ok(())
}

/// S-5: a dual-stack Service works in both families, and both move together.
pub(crate) fn s_5_dual_stack(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    rig.deploy("web", &[(2, 5)])?;
    rig.create("web", &format!("{V4},{V6}"), json!({"externalTrafficPolicy": "Local"}))?;
    let clients = [Client::start(rig.lab(), V4)?, Client::start(rig.lab(), V6)?];
    for address in [V4, V6] {
        let answer = rig.ask(address)?;
        ensure!(answer == Responder { node: 2, pod: 5 }, "{address}: {answer:?} answers TCP");
    }
    let at = rig.deploy("web", &[(3, 5)])?;
    for client in &clients {
        client.wait_node(at, 3)?;
    }
    std::thread::sleep(ms(500));
    for client in &clients {
        client.judge("dual-stack pod moved", at, ms(0), MOVE)?;
        let seen = client.seen(Span::new(at.after(ms(500)), Stamp::now()));
        ensure!(seen.nodes.keys().eq([&3]), "both families are on n3: {:?}", seen.nodes);
    }
    let holder = rig.wait_agreed("web", LEASE, &[V4, V6])?;
    ensure!(holder == 3, "on n{holder}");
    Ok(())
}
