//! On which of two networks a Service's address is: that which contains it, or the interface that its annotation or the
//! setting names.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vip_lab::bench::{Mac, net};

use crate::rig::Rig;
use crate::rig::draft::{Draft, Stack};

const ALL: [u8; 3] = [1, 2, 3];
const SOON: Duration = Duration::from_secs(1);
/// A port on which nodes listen.
const DOOR: u16 = 7008;

/// Where an address is: number of the node and name of the link.
fn places(rig: &Rig, addr: IpAddr) -> Result<BTreeSet<(u8, String)>> {
    let mut found = BTreeSet::new();
    for number in ALL {
        let mut ip = Command::new("ip");
        let shown = rig.lab().node(number)?.place()?.run(ip.args(["-oneline", "address", "show"]))?;
        let wanted = format!("{addr}/");
        let here = shown.lines().filter(|line| line.split_whitespace().any(|word| word.starts_with(&wanted)));
        found.extend(here.filter_map(|line| Some((number, line.split_whitespace().nth(1)?.to_owned()))));
    }
    Ok(found)
}

/// Waits until a Service is on this link of one node, and nowhere else. Gives the node.
fn on(rig: &Rig, draft: &Draft, link: &str) -> Result<u8> {
    rig.within(SOON, &format!("{} on {link} of one node", draft.title()), |rig| {
        let places = places(rig, draft.addrs[0]).ok()?;
        let (number, found) = places.first().filter(|_| places.len() == 1)?;
        (found == link && rig.shows(draft)).then_some(*number)
    })
}

fn note(rig: &Rig, draft: &Draft, link: &str) -> Result<()> {
    rig.edit(("services", &draft.namespace, &draft.name), |service| {
        service["metadata"]["annotations"]["kube-vip.io/serviceInterface"] = link.into();
    })?;
    Ok(())
}

/// Another node reaches the address over the network for nodes, at the holder's MAC there.
fn answers_on_second(rig: &Rig, addr: IpAddr, holder: u8) -> Result<()> {
    let _door = rig.lab().node(holder)?.listen(DOOR)?;
    let asker = rig.lab().node(holder % 3 + 1)?.place()?;
    let target = SocketAddr::new(addr, DOOR);
    asker.within(|| TcpStream::connect_timeout(&target, SOON)).context("asking")?.context("no answer")?;
    let mut ip = Command::new("ip");
    let known = asker.run(ip.args(["neighbour", "show", &addr.to_string(), "dev", "eth1"]))?;
    let mac = Mac::of_node_port(net::NODES + holder).to_string();
    ensure!(known.contains(&mac), "{addr} is at {mac} on eth1, and this is known: {known:?}");
    Ok(())
}

/// Starts agents that are told of no interface but by these settings.
fn start(rig: &mut Rig, settings: &[(&str, &str)]) -> Result<()> {
    let all = [("cp_enable", "false"), ("svc_enable", "true"), ("address", ""), ("svc_election", "true")];
    rig.configure(&[&all[..], settings].concat())?;
    rig.unset("vip_interface");
    rig.start_missing()?;
    rig.ready(&ALL)
}

/// First as the addresses say, then with a setting.
pub(crate) fn of_two(rig: &mut Rig) -> Result<()> {
    let draft = |name: &str, addr: IpAddr| Draft::new(name, Stack::V4).on(vec![addr]);
    let first = draft("first", net::v4(210).into());
    let second = draft("second", net::node_v4(210).into());
    let outside = draft("outside", "10.99.0.1".parse()?);
    start(rig, &[])?;
    for draft in [&first, &second, &outside] {
        rig.back(draft, &ALL)?;
        rig.write(draft)?;
    }
    on(rig, &first, "eth0").context("its network is there")?;
    let holder = on(rig, &second, "eth1").context("its network is there")?;
    answers_on_second(rig, second.addrs[0], holder)?;
    on(rig, &outside, "eth0").context("the default route is there")?;
    // Who names one gets it, whatever the networks are, and a change of mind is followed.
    for (draft, link) in [(&first, "eth1"), (&first, "eth0"), (&second, "eth0"), (&second, "eth1")] {
        note(rig, draft, link)?;
        on(rig, draft, link).with_context(|| format!("annotated with {link}"))?;
    }
    note(rig, &first, "eth1")?;
    on(rig, &first, "eth1")?;
    note(rig, &first, "auto")?;
    on(rig, &first, "eth0").context("auto")?;
    // A setting counts for those who say nothing.
    rig.stop_all()?;
    start(rig, &[("vip_servicesinterface", "eth1")])?;
    on(rig, &outside, "eth1").context("the setting")?;
    on(rig, &first, "eth0").context("auto beside the setting")?;
    on(rig, &second, "eth1").context("its annotation")?;
    Ok(())
}
