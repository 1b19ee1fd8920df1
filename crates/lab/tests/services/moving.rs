//! Pods that move: a hundred times under policy Local, and one by one in rolling updates.

use std::time::Duration;

use anyhow::{Result, ensure};
use vip_lab::bench::{Responder, Span, Stamp};
use vip_lab::scenario::service::{Backend, Standing};

use super::{LEASE, MOVE, PER_SERVICE, V4, ms, web};
use crate::rig::Rig;

/// The time between two moves, and how much longer some of them take, so that they hit every moment of a renewal.
const PAUSE: Duration = ms(220);
/// How long a pod that was told to stop goes on serving.
const GRACE: Duration = ms(500);

/// A pod moves from node to node under policy Local; every second time the old one is killed in the same moment. Every
/// move: a pod of the new node within the bound, and from then on neither an answer of another pod nor another node that
/// answers for the address.
pub(crate) fn pod_moves(rig: &mut Rig, times: u32) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, mut node) = web(rig, "Local", &[(1, 5)])?;
    ensure!(node == 1, "the pod is on n1, the address on n{node}");
    let mut gaps = Vec::new();
    for (turn, next) in (0..times).zip([2, 3, 1, 3, 2, 1].into_iter().cycle()) {
        rig.pod(next, 5)?;
        let at = rig.deploy("web", &[(next, 5)])?;
        let written = Stamp::now();
        if turn % 2 == 1 {
            rig.kill_pod(node, 5);
        }
        client.wait_node(at, next)?;
        std::thread::sleep(PAUSE + ms(u64::from(turn * 37 % 90)));
        let (what, now) = (format!("move {turn} to n{next}"), Stamp::now());
        gaps.push(client.keeps(&what, Span::new(at, now), MOVE)?.gap);
        let after = client.seen(Span::new(written.after(MOVE + client.calm()), now));
        let only = Responder { node: next, pod: 5 };
        ensure!(after.pods.keys().eq([&only]), "{what}: late answers of {:?}", after.pods);
        ensure!(after.nodes.keys().eq([&next]), "{what}: late owners {:?}", after.nodes);
        node = next;
    }
    gaps.sort_unstable();
    let figure = |index: usize| gaps[index].as_secs_f64() * 1000.0;
    let (middle, last) = (gaps.len() / 2, gaps.len() - 1);
    println!(
        "  {times} moves: gap {:.1} / {:.1} / {:.1} ms (min, median, max), calm {:?}",
        figure(0),
        figure(middle),
        figure(last),
        client.calm()
    );
    Ok(())
}

/// A Deployment with two replicas is updated one by one: a new pod first, then the old one is told to stop, serves on for
/// its grace time and ends.
fn rolling_update(rig: &mut Rig, policy: &str) -> Result<()> {
    rig.start_all(PER_SERVICE)?;
    let (client, holder) = web(rig, policy, &[(1, 5), (2, 5)])?;
    let mut running = vec![(1_u8, 5_u8), (2, 5)];
    let begin = Stamp::now();
    for (old, new) in [((1, 5), (3, 6)), ((2, 5), (1, 6))] {
        running.push(new);
        rig.deploy("web", &running)?;
        std::thread::sleep(GRACE);
        let mut backends: Vec<Backend> = Vec::new();
        for (node, number) in &running {
            let standing = if (*node, *number) == old { Standing::Leaving } else { Standing::Ready };
            backends.extend(rig.pod(*node, *number)?.map(|backend| Backend { standing, ..backend }));
        }
        rig.backends("web", &backends)?;
        std::thread::sleep(GRACE);
        running.retain(|pod| *pod != old);
        rig.deploy("web", &running)?;
        std::thread::sleep(ms(50));
        rig.kill_pod(old.0, old.1);
        std::thread::sleep(GRACE);
    }
    // A request may be on its way to a pod that ends: that is between proxy and pod. The address is judged by itself.
    let seen = client.judge(&format!("rolling update, {policy}"), begin, ms(500), MOVE)?;
    let after = rig.wait_agreed("web", LEASE, &[V4])?;
    if policy == "Local" {
        ensure!(after != 2, "n2 has no pod any more");
        return Ok(());
    }
    ensure!(after == holder, "nothing asks it to move from n{holder} to n{after}");
    let nodes: Vec<u8> = seen.nodes.keys().copied().collect();
    ensure!(nodes == [holder], "only n{holder} may answer for the address, and these did: {nodes:?}");
    ensure!(seen.silence <= client.calm(), "nobody answered for the address for {:?}", seen.silence);
    Ok(())
}

/// A rolling update under policy Cluster: the address stays.
pub(crate) fn rolling_update_cluster(rig: &mut Rig) -> Result<()> {
    rolling_update(rig, "Cluster")
}

/// A rolling update under policy Local: the address goes from pod to pod.
pub(crate) fn rolling_update_local(rig: &mut Rig) -> Result<()> {
    rolling_update(rig, "Local")
}
