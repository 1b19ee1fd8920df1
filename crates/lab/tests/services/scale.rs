//! Three hundred Services with an election each on three nodes: spread evenly, one node loses its power, every address is
//! answered for again within the bound of mode `lease`, and the node that returns changes nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use vip_lab::bench::Stamp;

use crate::crowd::{ALL, LIMIT, create, drafts, servers, silence, spread};
use crate::rig::Rig;

const SERVICES: u16 = 300;
/// Between two questions for one address. Hundreds of them cost less than a detector with its 5 ms.
const ROUND: Duration = Duration::from_millis(100);
/// Timings of Leases as the settings name them; in the bound of mode `lease` a dead node's run out so long after their last
/// renewal, and a take-over takes 300 ms, beside what the API server takes ([`slowest_write`]).
struct Timings {
    settings: [(&'static str, &'static str); 3],
    expired: Duration,
}

/// Three hundred renewals each second, which the lab's own API server answers beside everything else.
const SHORT: Timings = Timings {
    settings: [("vip_leaseduration", "5"), ("vip_renewdeadline", "3"), ("vip_retryperiod", "1")],
    expired: Duration::from_millis(5300),
};
/// Half of them, with the defaults of Kubernetes' own components: kube-apiserver and etcd share two cores with three nodes.
const USUAL: Timings = Timings {
    settings: [("vip_leaseduration", "15"), ("vip_renewdeadline", "10"), ("vip_retryperiod", "2")],
    expired: Duration::from_millis(15_300),
};
/// The most that a slow API server explains.
const EXCUSED: Duration = Duration::from_secs(1);
/// Between two writes of the control.
const WRITE_PAUSE: Duration = Duration::from_millis(100);

/// The whole story, over the lab's own API server.
pub(crate) fn power_failure(rig: &mut Rig) -> Result<()> {
    story(rig, &SHORT)
}

/// The same over the real one.
pub(crate) fn real_power_failure(rig: &mut Rig) -> Result<()> {
    story(rig, &USUAL)
}

fn story(rig: &mut Rig, timings: &Timings) -> Result<()> {
    let drafts = drafts(SERVICES);
    let addrs: Vec<_> = drafts.iter().map(|draft| draft.addrs[0]).collect();
    let settings = [&[("svc_election", "true")], &timings.settings[..]].concat();
    create(rig, &drafts, &settings)?;
    let before = rig.within(LIMIT, "all Services", |rig| servers(rig, &drafts))?;
    spread(&before, &ALL)?;

    let census = rig.lab().count(&addrs, ROUND)?;
    std::thread::sleep(Duration::from_secs(1));
    let at = rig.power_off(2)?;
    let slowest = slowest_write(rig, timings.expired)?;
    let after = rig.within(LIMIT, "all Services on two nodes", |rig| servers(rig, &drafts))?;
    println!("  power-off of n2: all named rightly after {:?}", Stamp::now().since(at));
    let (moved, stayed): (Vec<_>, Vec<_>) = addrs.iter().partition(|addr| before[*addr] == 2);
    let (moved, stayed) = (silence(&census, at, moved)?, silence(&census, at, stayed)?);
    println!(
        "  longest silence of what moved {moved:?}, of what stayed {stayed:?}; slowest write {slowest:?}"
    );
    ensure!(
        moved <= timings.expired + EXCUSED.min(2 * slowest),
        "{moved:?} while the API server took {slowest:?} for one write"
    );
    ensure!(stayed.is_zero(), "an address of a node with power was away for {stayed:?}");
    ensure!(
        addrs.iter().all(|addr| before[addr] == 2 || before[addr] == after[addr]),
        "some moved for nothing"
    );
    spread(&after, &[1, 3])?;

    let back = rig.power_on(2)?;
    rig.ready(&[2])?;
    std::thread::sleep(Duration::from_secs(2));
    let still = rig.within(LIMIT, "all Services", |rig| servers(rig, &drafts))?;
    ensure!(still == after, "the node that returned moved some");
    let silence = silence(&census, back, &addrs)?;
    ensure!(silence.is_zero(), "an address was away for {silence:?} when the node returned");
    Ok(())
}

/// The control: how long the API server takes, at most, for a write of the kind that claims are, while the agents wait for
/// what ran out. The last renewal is seen as late as that, and so is the claim written; neither is the agents' doing. Nothing
/// else is asked meanwhile: to list six hundred objects ten times a second, as `servers` does, would slow down what is measured.
fn slowest_write(rig: &Rig, lasting: Duration) -> Result<Duration> {
    rig.cluster().apply(&json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": "default", "name": "control"},
        "spec": {"holderIdentity": "nobody", "leaseDurationSeconds": 1},
    }))?;
    let (begin, mut slowest) = (Stamp::now(), Duration::ZERO);
    for count in 0.. {
        let at = Stamp::now();
        if at.since(begin) >= lasting {
            break;
        }
        let write = json!({"spec": {"leaseTransitions": count}});
        rig.cluster().merge("leases", "default", "control", &write)?;
        slowest = slowest.max(Stamp::now().since(at));
        std::thread::sleep(WRITE_PAUSE);
    }
    Ok(slowest)
}
