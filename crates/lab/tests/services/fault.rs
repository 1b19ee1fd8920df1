//! The faults of elections in upstream's Service suite, S-9 to S-16. In each the address must be served again within the
//! bound that its cause gives, never by two nodes, and in the end by the node that the Lease names.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vip_lab::bench::{Span, Stamp};
use vip_lab::scenario::control_plane::PORT as API_PORT;
use vip_lab::scenario::service::{Family, slice_name};

use super::{LEASE, LIMIT, MOVE, PER_SERVICE, V4, ms, web};
use crate::rig::{Rig, client::Client, cluster::Contact, object};

/// Lease timings are 5/3/1 s: a fenced address is gone 3 s after the last renewal, the Lease 5 s after it, and a take-over
/// takes 300 ms.
const FENCED: Duration = ms(2300);

/// After what went before, a calm second is served without a gap, and all agree on the holder.
fn settled(rig: &Rig, client: &Client) -> Result<u8> {
    let holder = rig.wait_agreed("web", LEASE, &[V4])?;
    client.judge("settled", Stamp::now(), ms(1000), Duration::ZERO)?;
    Ok(holder)
}

/// S-9: all endpoints vanish and come back, five times.
pub(crate) fn s_9_flapping(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, _) = web(rig, "Cluster", &[(2, 5)])?;
    for turn in 1..=5 {
        rig.deploy("web", &[])?;
        rig.wait_gone(V4, ms(1000)).with_context(|| format!("turn {turn}"))?;
        std::thread::sleep(ms(50 * turn));
        let at = rig.deploy("web", &[(2, 5)])?;
        let back = client.wait_node(at, 2)?;
        let took = back.since(at);
        println!("  turn {turn}: served again after {took:?}");
        ensure!(took <= MOVE + client.calm() + ms(150), "turn {turn}: served again after {took:?}");
        let seen = client.seen(Span::new(at, Stamp::now()));
        ensure!(seen.overlap.is_zero(), "turn {turn}: {seen}");
    }
    settled(rig, &client).map(drop)
}

/// S-10: the `EndpointSlice` is deleted and made again.
pub(crate) fn s_10_slice_deleted(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, _) = web(rig, "Local", &[(2, 5)])?;
    for family in [Family::V4, Family::V6] {
        rig.cluster().delete("endpointslices", "default", &slice_name("web", family))?;
    }
    rig.wait_gone(V4, ms(1000))?;
    let at = rig.deploy("web", &[(2, 5)])?;
    let took = client.wait_node(at, 2)?.since(at);
    println!("  served again {took:?} after the slice is back");
    ensure!(took <= MOVE + client.calm() + ms(150), "served again after {took:?}");
    ensure!(settled(rig, &client)? == 2, "the pod is on n2");
    Ok(())
}

/// S-11: the Lease is deleted by hand; then its holder is cleared by hand.
pub(crate) fn s_11_lease_deleted(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, holder) = web(rig, "Cluster", &[(2, 5)])?;
    let at = Stamp::now();
    rig.cluster().delete("leases", "default", LEASE)?;
    client.judge("Lease deleted", at, ms(2000), MOVE)?;
    println!("  n{holder} held it, now n{}", settled(rig, &client)?);
    let at = Stamp::now();
    rig.cluster().merge("leases", "default", LEASE, &json!({"spec": {"holderIdentity": ""}}))?;
    client.judge("holder cleared", at, ms(2000), MOVE)?;
    println!("  now n{}", settled(rig, &client)?);
    Ok(())
}

/// S-12: the leader is cut from every API server for 20 s; everything else of it works.
pub(crate) fn s_12_leader_cut(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, holder) = web(rig, "Cluster", &[(2, 5)])?;
    let node = rig.lab().node(holder)?;
    rig.lab().switch().drop_tcp(node.name(), API_PORT)?;
    let at = Stamp::now();
    rig.cluster().contact(node, Contact::None);
    client.judge("leader cut from the API", at, ms(20_000), FENCED)?;
    let next = rig.wait_agreed("web", LEASE, &[V4])?;
    ensure!(next != holder, "n{holder} is cut off and still holds");
    let healed = Stamp::now();
    rig.cluster().contact(rig.lab().node(holder)?, Contact::All);
    rig.lab().switch().clear_filters()?;
    client.judge("the cut heals", healed, ms(4000), Duration::ZERO)?;
    ensure!(settled(rig, &client)? == next, "the address moves back for no reason");
    Ok(())
}

/// S-13: the traffic policy is flipped to Local and back; the address goes where the pod is, and stays.
pub(crate) fn s_13_policy_flipped(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, holder) = web(rig, "Cluster", &[(1, 5), (2, 5), (3, 5)])?;
    // A pod on the holder alone would make nothing move.
    let other = holder % 3 + 1;
    let at = rig.deploy("web", &[(other, 5)])?;
    client.judge("one pod left, elsewhere", at, ms(500), MOVE)?;
    let at = rig.change("web", &json!({"spec": {"externalTrafficPolicy": "Local"}}))?;
    client.judge("policy Local", at, ms(1000), MOVE)?;
    ensure!(settled(rig, &client)? == other, "the pod is on n{other}");
    let at = rig.change("web", &json!({"spec": {"externalTrafficPolicy": "Cluster"}}))?;
    client.judge("policy Cluster again", at, ms(1000), MOVE)?;
    ensure!(settled(rig, &client)? == other, "nothing asks it to move");
    Ok(())
}

/// S-14: fifteen updates of annotations in a row change nothing for clients, and none is lost.
pub(crate) fn s_14_storm(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, holder) = web(rig, "Cluster", &[(2, 5)])?;
    let at = Stamp::now();
    for turn in 1..=15 {
        let annotations = json!({format!("example.com/turn-{turn}"): turn.to_string()});
        rig.change("web", &json!({"metadata": {"annotations": annotations}}))?;
        std::thread::sleep(ms(20));
    }
    client.judge("fifteen updates", at, ms(1500), Duration::ZERO)?;
    ensure!(settled(rig, &client)? == holder, "nothing asks it to move");
    let service = rig.cluster().get("services", "default", "web")?.context("web is there")?;
    for turn in 1..=15 {
        let kept = &service["metadata"]["annotations"][format!("example.com/turn-{turn}")];
        ensure!(kept.as_str() == Some(turn.to_string().as_str()), "update {turn} was overwritten: {kept}");
    }
    Ok(())
}

/// S-15: of two Services with a common Lease one is deleted; the other one does not notice.
pub(crate) fn s_15_sibling_deleted(rig: &mut Rig) -> Result<()> {
    const SIBLING: &str = "10.77.0.211";
    rig.start_all(PER_SERVICE)?;
    for (name, address) in [("web", V4), ("sibling", SIBLING)] {
        rig.deploy(name, &[(2, 5)])?;
        let object = object(name, address, json!({}))?;
        rig.cluster().apply(&with_lease(object))?;
    }
    let client = Client::start(rig.lab(), V4)?;
    let holder = rig.wait_agreed("web", "shared", &[V4])?;
    let sibling = rig.wait_agreed("sibling", "shared", &[SIBLING])?;
    ensure!(holder == sibling, "one Lease, two holders: n{holder} and n{sibling}");
    let at = Stamp::now();
    rig.delete("sibling")?;
    rig.wait_gone(SIBLING, LIMIT)?;
    client.judge("sibling deleted", at, ms(6000), Duration::ZERO)?;
    ensure!(rig.wait_agreed("web", "shared", &[V4])? == holder, "nothing asks it to move");
    Ok(())
}

fn with_lease(mut service: serde_json::Value) -> serde_json::Value {
    service["metadata"]["annotations"]["kube-vip.io/leaseName"] = json!("shared");
    service
}

/// S-16: a node that does not hold is cut off from everything for 25 s, and comes back.
pub(crate) fn s_16_follower_partitioned(rig: &mut Rig) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, holder) = web(rig, "Cluster", &[(1, 5), (2, 5), (3, 5)])?;
    let at = rig.deploy("web", &[(holder, 5)])?;
    client.judge("one pod left, at the holder", at, ms(500), MOVE)?;
    let follower = holder % 3 + 1;
    let at = rig.lab().node(follower)?.cut(rig.lab().switch())?;
    rig.cluster().contact(rig.lab().node(follower)?, Contact::Own);
    client.judge("follower partitioned", at, ms(25_000), Duration::ZERO)?;
    rig.cluster().contact(rig.lab().node(follower)?, Contact::All);
    let healed = rig.lab().node(follower)?.heal(rig.lab().switch())?;
    client.judge("the partition heals", healed, ms(6000), Duration::ZERO)?;
    ensure!(settled(rig, &client)? == holder, "nothing asks it to move");
    Ok(())
}
