//! Upstream's end-to-end scenarios of an agent's end (E-DS-1 to E-DS-18) with the real binary on three nodes: SIGTERM
//! takes every address and the process away, whatever the agents do and in whatever families; and when all endpoints of
//! a Service have been away, its election goes on. Upstream waits up to 10 s; here it is one.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vip_lab::bench::net;

use crate::rig::draft::{Draft, Policy, Stack};
use crate::rig::{Rig, gap};

/// A take-over of free Leases with the probes of new addresses.
const SOON: Duration = Duration::from_secs(1);
/// A move after SIGTERM, and what two families need of a busy machine.
const MOVE: Duration = Duration::from_millis(120);
const ALL: [u8; 3] = [1, 2, 3];
const CONTROL_PLANE: &str = "kube-system/plndr-cp-lock";
/// Elections that agents may hold when they end.
const LEASES: [&str; 2] = [CONTROL_PLANE, "kube-system/plndr-svcs-lock"];

/// What the agents do.
struct Duty {
    what: &'static str,
    control_plane: bool,
    services: bool,
    settings: &'static [(&'static str, &'static str)],
}

/// In the order of E-DS-1 to E-DS-5.
const DUTIES: [Duty; 5] = [
    Duty { what: "control plane", control_plane: true, services: false, settings: &[] },
    Duty { what: "Services", control_plane: false, services: true, settings: &[] },
    Duty {
        what: "Services, one election each",
        control_plane: false,
        services: true,
        settings: &[("svc_election", "true")],
    },
    Duty { what: "control plane and Services", control_plane: true, services: true, settings: &[] },
    Duty {
        what: "control plane and Services, one election each",
        control_plane: true,
        services: true,
        settings: &[("svc_election", "true")],
    },
];

fn switch(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

/// Two Services, one of each policy.
fn drafts(stack: Stack) -> [Draft; 2] {
    [("web", Policy::Cluster, 210), ("local", Policy::Local, 211)]
        .map(|(name, policy, number)| Draft::new(name, stack).policy(policy).at(number))
}

/// Starts the agents for a duty and waits until all of it is done.
fn take_up(rig: &mut Rig, stack: Stack, duty: &Duty) -> Result<Vec<IpAddr>> {
    let vips = stack.addrs(net::VIP);
    let texts: Vec<_> = vips.iter().map(IpAddr::to_string).collect();
    let address = if duty.control_plane { texts.join(",") } else { String::new() };
    let common = [
        ("cp_enable", switch(duty.control_plane)),
        ("svc_enable", switch(duty.services)),
        ("address", address.as_str()),
        ("enable_node_labeling", "true"),
        ("enable_service_security", switch(duty.services)),
    ];
    let settings: Vec<_> = common.iter().chain(duty.settings).copied().collect();
    rig.configure(&settings)?;
    rig.start_missing()?;
    let mut held = Vec::new();
    if duty.control_plane {
        rig.within(SOON, "the VIP on the holder of its Lease", |rig| {
            let here = rig.addresses(rig.holder(CONTROL_PLANE)?).ok()?;
            vips.iter().all(|vip| here.contains(vip)).then_some(())
        })?;
        held.extend(vips);
    }
    for draft in drafts(stack).iter().filter(|_| duty.services) {
        rig.within(SOON, &draft.title(), |rig| rig.server(draft))?;
        held.extend(&draft.addrs);
    }
    Ok(held)
}

/// SIGTERM to all: `stop_all` holds the time; what is left is looked at afterwards.
fn leave(rig: &mut Rig, held: &[IpAddr]) -> Result<()> {
    rig.stop_all()?;
    let places = rig.places()?;
    for addr in held {
        ensure!(!places.contains_key(addr), "{addr} is left on {:?}", places[addr]);
    }
    for number in ALL {
        let labels = rig.own_labels(number)?;
        ensure!(labels.is_empty(), "labels are left on n{number}: {labels:?}");
        let table = rig.filter_table(number)?;
        ensure!(table.is_none(), "a packet filter is left on n{number}: {}", table.unwrap_or_default());
    }
    for lease in LEASES {
        ensure!(rig.holder(lease).is_none(), "{lease} was not released");
    }
    Ok(())
}

/// E-DS-6, 12, 18: the endpoints go and come back; then the holder ends, and another one is elected.
fn elections_go_on_after_endpoints_were_away(rig: &mut Rig, stack: Stack) -> Result<()> {
    let draft = &drafts(stack)[0];
    let lease = draft.own_lease();
    take_up(rig, stack, &DUTIES[2])?;
    rig.back(draft, &[])?;
    rig.within(SOON, "neither address nor holder", |rig| {
        (rig.is_away(draft) && rig.holder(&lease).is_none()).then_some(())
    })?;
    rig.back(draft, &ALL)?;
    let former = rig.within(SOON, "served again", |rig| rig.server(draft))?;
    ensure!(rig.holder(&lease) == Some(former), "n{former} serves without the Lease");
    let watch = rig.watch(&draft.addrs[0].to_string())?;
    std::thread::sleep(Duration::from_millis(50));
    let at = rig.stop(former)?;
    let next = rig.within(SOON, "served by another", |rig| {
        rig.server(draft).filter(|next| *next != former && rig.holder(&lease) == Some(*next))
    })?;
    let (silence, overlap) = gap(&watch, at, SOON / 4);
    println!("  {}: n{former} → n{next}, gap {silence:?}, overlap {overlap:?}", stack.word());
    ensure!(silence <= MOVE && overlap.is_zero(), "gap {silence:?}, overlap {overlap:?}");
    leave(rig, &draft.addrs)
}

fn play_all(rig: &mut Rig, stack: Stack) -> Result<()> {
    for draft in &drafts(stack) {
        rig.back(draft, &ALL)?;
        rig.write(draft)?;
    }
    for duty in &DUTIES {
        let held = take_up(rig, stack, duty).with_context(|| duty.what)?;
        leave(rig, &held).with_context(|| duty.what)?;
    }
    elections_go_on_after_endpoints_were_away(rig, stack)
}

/// E-DS-1 to E-DS-6.
pub(crate) fn v4(rig: &mut Rig) -> Result<()> {
    play_all(rig, Stack::V4)
}

/// E-DS-7 to E-DS-12.
pub(crate) fn v6(rig: &mut Rig) -> Result<()> {
    play_all(rig, Stack::V6)
}

/// E-DS-13 to E-DS-18.
pub(crate) fn dual_stack(rig: &mut Rig) -> Result<()> {
    play_all(rig, Stack::V4First)
}
