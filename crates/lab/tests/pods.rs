//! The bench's pods and proxies measure themselves: addresses are put on nodes by hand and statuses written by hand
//! instead of by an agent. Where namespaces are refused each test says SKIPPED and why.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its helpers are tests too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vip_lab::bench::{Answer, Responder, Span, Stamp};

use rig::{Rig, play};

const V4: &str = "10.77.0.210";
const V6: &str = "fd77::210";
const LIMIT: Duration = Duration::from_secs(3);

fn who(node: u8, pod: u8) -> Responder {
    Responder { node, pod }
}

/// A Service whose addresses are on `holder`, by hand.
fn publish(rig: &mut Rig, policy: &str, holder: u8) -> Result<()> {
    rig.create("web", &format!("{V4},{V6}"), json!({"externalTrafficPolicy": policy}))?;
    rig.set_status("web", &[V4, V6])?;
    for address in [V4, V6] {
        rig.lab().node(holder)?.add_address(address.parse::<IpAddr>()?)?;
    }
    Ok(())
}

/// Waits until datagrams to an address are answered by this pod.
fn wait_for(rig: &Rig, address: &str, wanted: Responder) -> Result<()> {
    let fits = |answer: Answer| (answer.node, answer.pod) == (wanted.node, wanted.pod);
    rig.probe(address)?.wait_answer(Stamp::now(), LIMIT, fits)?;
    Ok(())
}

#[test]
fn a_request_reaches_a_pod_on_its_node_and_on_another() {
    play("a_request_reaches_a_pod_on_its_node_and_on_another", |rig: &mut Rig| {
        rig.deploy("web", &[(2, 5)])?;
        publish(rig, "Cluster", 1)?;
        for address in [V4, V6] {
            wait_for(rig, address, who(2, 5))?;
            ensure!(rig.ask(address)? == who(2, 5), "TCP to {address}");
        }
        rig.deploy("web", &[(1, 5), (2, 5)])?;
        std::thread::sleep(Duration::from_millis(200));
        for address in [V4, V6] {
            // Of 24 connections to two pods one of them gets none once in eight million times.
            let seen: Result<BTreeSet<Responder>> = (0..24).map(|_| rig.ask(address)).collect();
            ensure!(seen? == BTreeSet::from([who(1, 5), who(2, 5)]), "{address} leads to both pods");
        }
        Ok(())
    });
}

#[test]
fn under_policy_local_only_pods_of_the_holder_answer() {
    play("under_policy_local_only_pods_of_the_holder_answer", |rig: &mut Rig| {
        rig.deploy("web", &[(2, 5)])?;
        publish(rig, "Local", 1)?;
        let (v4, v6) = (rig.probe(V4)?, rig.probe(V6)?);
        std::thread::sleep(Duration::from_millis(500));
        ensure!(v4.last_answer().is_none() && v6.last_answer().is_none(), "n1 has no pod and answers");
        ensure!(rig.ask(V4).is_err(), "TCP is answered, too");
        rig.deploy("web", &[(1, 6), (2, 5)])?;
        for address in [V4, V6] {
            wait_for(rig, address, who(1, 6))?;
            ensure!(rig.ask(address)? == who(1, 6));
        }
        // The probers that asked in vain, with flows that were never answered, are served, too.
        for prober in [v4, v6] {
            prober.wait_answer(Stamp::now(), LIMIT, |answer| answer.node == 1)?;
        }
        Ok(())
    });
}

#[test]
fn a_flow_of_datagrams_leaves_a_pod_that_is_no_endpoint_any_more() {
    play("a_flow_of_datagrams_leaves_a_pod_that_is_no_endpoint_any_more", |rig: &mut Rig| {
        rig.deploy("web", &[(2, 5)])?;
        publish(rig, "Cluster", 1)?;
        let prober = rig.probe(V4)?;
        prober.wait_answer(Stamp::now(), LIMIT, |answer| answer.node == 2)?;
        let moved = rig.deploy("web", &[(3, 5)])?;
        let first = prober.wait_answer(moved, LIMIT, |answer| answer.node == 3)?;
        std::thread::sleep(Duration::from_millis(300));
        let trace = prober.trace();
        let strays = trace.holders(Span::new(first.at, Stamp::now()));
        ensure!(strays.len() == 1, "both pods answer one flow: {strays:?}");
        println!("  the flow moved after {:?}", first.at.since(moved));
        // A killed pod answers nothing.
        rig.kill_pod(3, 5);
        let killed = Stamp::now().after(Duration::from_millis(20));
        std::thread::sleep(Duration::from_millis(300));
        ensure!(prober.trace().answer_after(killed).is_none(), "a killed pod answers");
        Ok(())
    });
}
