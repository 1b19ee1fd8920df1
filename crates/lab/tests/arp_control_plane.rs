//! Upstream's end-to-end scenarios of the control-plane address in ARP mode (E-ARP-1 to E-ARP-5) with the real binary on
//! three nodes: in each family and both orders it is reachable, and when its node loses its power another one has it
//! within the bound of mode `lease`. Upstream waits up to 20 s.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vip_lab::bench::{Span, Stamp, net};

use rig::draft::Stack;
use rig::{Rig, gap, play_bare};

/// From the start of the agents to the VIP: the take-over of a free Lease with a probe of the addresses.
const SOON: Duration = Duration::from_secs(1);
/// A dead node's lease runs out after 5 s, and a take-over takes 300 ms.
const EXPIRED: Duration = Duration::from_millis(5300);
/// How long the slowest take-over is waited for.
const LIMIT: Duration = Duration::from_secs(20);
const LEASE: &str = "kube-system/plndr-cp-lock";

/// The node that holds the Lease and has all these addresses, alone.
fn server(rig: &Rig, vips: &[IpAddr]) -> Option<u8> {
    let holder = rig.holder(LEASE)?;
    let places = rig.places().ok()?;
    let is_alone = |vip: &IpAddr| places.get(vip).is_some_and(|nodes| nodes.iter().eq([&holder]));
    vips.iter().all(is_alone).then_some(holder)
}

/// Says which VIPs the agents hold, and starts them.
fn take_up(rig: &mut Rig, vips: &[IpAddr]) -> Result<()> {
    let texts: Vec<_> = vips.iter().map(IpAddr::to_string).collect();
    rig.configure(&[("address", &texts.join(","))])?;
    Ok(())
}

/// E-ARP-1 to 4: the node with the VIP loses its power.
fn a_power_failure_moves_the_vip(rig: &mut Rig, stack: Stack) -> Result<()> {
    let vips = stack.addrs(net::VIP);
    take_up(rig, &vips)?;
    rig.start_missing()?;
    let former = rig.within(SOON, "the VIP on the holder of its Lease", |rig| server(rig, &vips))?;
    let watches: Vec<_> = vips.iter().map(|vip| rig.watch(&vip.to_string())).collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_millis(200));
    let at = rig.power_off(former)?;
    let next = rig.within(LIMIT, "the VIP on another node", |rig| server(rig, &vips))?;
    ensure!(next != former, "n{former} has no power");
    std::thread::sleep(Duration::from_millis(500));
    for (vip, watch) in vips.iter().zip(&watches) {
        let (silence, overlap) = gap(watch, at, Duration::ZERO);
        println!("  {}: {vip} n{former} → n{next}, gap {silence:?}, overlap {overlap:?}", stack.word());
        ensure!(silence <= EXPIRED && overlap.is_zero(), "{vip}: gap {silence:?}, overlap {overlap:?}");
    }
    // The node that comes back changes nothing.
    let back = rig.power_on(former)?;
    std::thread::sleep(SOON);
    ensure!(server(rig, &vips) == Some(next), "the VIP is not on n{next} any more");
    for (vip, watch) in vips.iter().zip(&watches) {
        let (silence, overlap) = gap(watch, back, Duration::ZERO);
        ensure!(silence.is_zero() && overlap.is_zero(), "{vip}: gap {silence:?}, overlap {overlap:?}");
    }
    rig.stop_all()?;
    Ok(())
}

/// E-ARP-5: nobody tells the agent the name of its node.
fn the_host_name_stands_in_for_the_node_name(rig: &mut Rig) -> Result<()> {
    let vips = Stack::V4.addrs(net::VIP);
    take_up(rig, &vips)?;
    rig.unset("vip_nodename");
    let at = Stamp::now();
    rig.start_missing()?;
    let holder = rig.within(SOON, "the VIP on the holder of its Lease", |rig| server(rig, &vips))?;
    let answer = rig.answerers(vips[0])?;
    ensure!(answer.iter().eq([&holder]), "{answer:?} answer, n{holder} holds");
    println!("  without a node name: n{holder} after {:?}", Span::new(at, Stamp::now()).length());
    rig.stop_all()?;
    Ok(())
}

#[test]
fn a_power_failure_moves_the_vip_in_every_order_of_families() {
    play_bare("a_power_failure_moves_the_vip_in_every_order_of_families", |rig| {
        for stack in Stack::ALL {
            a_power_failure_moves_the_vip(rig, stack).context(stack.word())?;
        }
        the_host_name_stands_in_for_the_node_name(rig)
    });
}
