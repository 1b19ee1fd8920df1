//! Three hundred Services with an election each on three nodes: spread evenly, one node loses its power, every address is
//! answered for again within the bound of mode `lease`, and the node that returns changes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vip_lab::bench::census::ROUND;
use vip_lab::bench::{Census, Span, Stamp};

use crate::rig::Rig;
use crate::rig::draft::{Draft, Stack};

const ALL: [u8; 3] = [1, 2, 3];
const SERVICES: u16 = 300;
/// Every address is answered for so long after the Services were created, on a machine with two cores.
const FIRST_UP: Duration = Duration::from_secs(10);
/// Timings of Leases as the settings name them; in the bound of mode `lease` a dead node's run out so long after their last
/// renewal, and a take-over takes 300 ms.
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
/// How long the slowest take-over is waited for, and the status that names the new holder.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at everything.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// No node has more than a quarter above the mean.
const UNEVENNESS: f64 = 1.25;

/// All Services, with addresses outside of the nodes' network.
fn drafts() -> Vec<Draft> {
    let draft = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let addr = Ipv4Addr::new(10, 78, high, low).into();
        Draft::new(&format!("s{number:03}"), Stack::V4).on(vec![addr])
    };
    (1..=SERVICES).map(draft).collect()
}

/// The node that serves each Service, by what its status and annotation, its Lease and all kernels say; none while they
/// disagree about one.
fn servers(rig: &Rig, drafts: &[Draft]) -> Option<BTreeMap<IpAddr, u8>> {
    std::thread::sleep(LOOK_PAUSE); // three hundred objects are looked at in one go
    let places = rig.places().ok()?;
    let (services, leases) = (named(rig, "services").ok()?, named(rig, "leases").ok()?);
    let number = |text: &Value| text.as_str()?.strip_prefix('n')?.parse::<u8>().ok();
    let server = |draft: &Draft| {
        let addr = draft.addrs[0];
        let service = services.get(&draft.name)?;
        let lease = leases.get(&format!("kubevip-{}", draft.name))?;
        let host = number(&service["metadata"]["annotations"]["kube-vip.io/vipHost"])?;
        let is_alone = places.get(&addr)?.iter().eq([&host]);
        let is_shown = service["status"]["loadBalancer"]["ingress"][0]["ip"] == addr.to_string().as_str();
        (is_alone && is_shown && number(&lease["spec"]["holderIdentity"]) == Some(host))
            .then_some((addr, host))
    };
    drafts.iter().map(server).collect()
}

/// All objects of a kind, by name: those of one namespace matter here.
fn named(rig: &Rig, resource: &str) -> Result<BTreeMap<String, Value>> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(rig.cluster().list(resource)?.into_iter().map(|object| (name(&object), object)).collect())
}

/// How many Services each node has, and whether that is even.
fn spread(servers: &BTreeMap<IpAddr, u8>, nodes: &[u8]) -> Result<()> {
    let count = |node: &u8| servers.values().filter(|server| *server == node).count();
    let counts: Vec<_> = nodes.iter().map(count).collect();
    let (most, mean) = (counts.iter().max().copied().unwrap_or(0), servers.len() as f64 / nodes.len() as f64);
    println!("  on nodes {nodes:?}: {counts:?}, max/mean {:.2}", most as f64 / mean);
    ensure!(counts.iter().sum::<usize>() == servers.len(), "some are on other nodes than {nodes:?}");
    ensure!(most as f64 <= UNEVENNESS * mean, "{most} on one node, {mean} in the mean");
    Ok(())
}

/// Longest silence among these addresses since a moment; two nodes never answer for one.
fn silence<'a>(
    census: &Census,
    since: Stamp,
    addrs: impl IntoIterator<Item = &'a IpAddr>,
) -> Result<Duration> {
    std::thread::sleep(2 * ROUND); // the last questions and their answers
    let (window, seen) = (Span::new(since, Stamp::now().before(ROUND)), census.sightings());
    let mut worst = Duration::ZERO;
    for addr in addrs {
        let sightings = seen.get(addr).context("the census asks for it")?;
        let overlap = sightings.overlap(window);
        ensure!(overlap.is_zero(), "{addr}: two nodes answered for {:?}", overlap.total);
        let mut quiet_since = None;
        for question in sightings.questions.iter().filter(|question| window.holds(question.sent)) {
            let from = quiet_since.get_or_insert(question.sent);
            worst = worst.max(question.sent.since(*from));
            if !question.answers.is_empty() {
                quiet_since = None;
            }
        }
        ensure!(quiet_since.is_none(), "{addr} is not answered for");
    }
    Ok(worst)
}

fn create(rig: &mut Rig, drafts: &[Draft], timings: &Timings) -> Result<()> {
    let settings = [&[("svc_election", "true")], &timings.settings[..]].concat();
    rig.start_all(&settings)?;
    rig.ready(&ALL)?;
    for draft in drafts {
        rig.back(draft, &ALL)?;
        rig.write(draft)?;
    }
    let at = Stamp::now();
    rig.within(FIRST_UP, "all Services", |rig| servers(rig, drafts))?;
    println!(
        "  {SERVICES} Services at once: all installed, status written {:?} after the last one",
        Stamp::now().since(at)
    );
    Ok(())
}

/// The whole story, over the lab's own API server.
pub(crate) fn power_failure(rig: &mut Rig) -> Result<()> {
    story(rig, &SHORT)
}

/// The same over the real one.
pub(crate) fn real_power_failure(rig: &mut Rig) -> Result<()> {
    story(rig, &USUAL)
}

fn story(rig: &mut Rig, timings: &Timings) -> Result<()> {
    let drafts = drafts();
    let addrs: Vec<_> = drafts.iter().map(|draft| draft.addrs[0]).collect();
    create(rig, &drafts, timings)?;
    let before = rig.within(LIMIT, "all Services", |rig| servers(rig, &drafts))?;
    spread(&before, &ALL)?;

    let census = rig.lab().count(&addrs)?;
    std::thread::sleep(Duration::from_secs(1));
    let at = rig.power_off(2)?;
    let after = rig.within(LIMIT, "all Services on two nodes", |rig| servers(rig, &drafts))?;
    println!("  power-off of n2: all named rightly after {:?}", Stamp::now().since(at));
    let (moved, stayed): (Vec<_>, Vec<_>) = addrs.iter().partition(|addr| before[*addr] == 2);
    let (moved, stayed) = (silence(&census, at, moved)?, silence(&census, at, stayed)?);
    println!("  longest silence of what moved {moved:?}, of what stayed {stayed:?}");
    ensure!(moved <= timings.expired, "{moved:?}");
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
