//! Services by the hundred: made at once, with an election each, and looked at all together.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vip_lab::bench::{Census, Span, Stamp};

use crate::rig::Rig;
use crate::rig::draft::{Draft, Stack};

pub(crate) const ALL: [u8; 3] = [1, 2, 3];
/// Every address is answered for so long after the Services were created, on a machine with two cores.
const FIRST_UP: Duration = Duration::from_secs(20);
/// How long the slowest take-over is waited for, and the status that names the new holder.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at everything.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// No node has more than a quarter above the mean.
const UNEVENNESS: f64 = 1.25;

/// All Services, with addresses outside of the nodes' network.
pub(crate) fn drafts(count: u16) -> Vec<Draft> {
    let draft = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let addr = Ipv4Addr::new(10, 78, high, low).into();
        Draft::new(&format!("s{number:03}"), Stack::V4).on(vec![addr])
    };
    (1..=count).map(draft).collect()
}

/// The node that serves each Service, by what its status and annotation, its Lease and all kernels say; none while they
/// disagree about one.
pub(crate) fn servers(rig: &Rig, drafts: &[Draft]) -> Option<BTreeMap<IpAddr, u8>> {
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
pub(crate) fn spread(servers: &BTreeMap<IpAddr, u8>, nodes: &[u8]) -> Result<()> {
    let count = |node: &u8| servers.values().filter(|server| *server == node).count();
    let counts: Vec<_> = nodes.iter().map(count).collect();
    let (most, mean) = (counts.iter().max().copied().unwrap_or(0), servers.len() as f64 / nodes.len() as f64);
    println!("  on nodes {nodes:?}: {counts:?}, max/mean {:.2}", most as f64 / mean);
    ensure!(counts.iter().sum::<usize>() == servers.len(), "some are on other nodes than {nodes:?}");
    ensure!(most as f64 <= UNEVENNESS * mean, "{most} on one node, {mean} in the mean");
    Ok(())
}

/// Longest silence among these addresses since a moment, as questions see it; two nodes never answer for one.
pub(crate) fn silence<'a>(
    census: &Census,
    since: Stamp,
    addrs: impl IntoIterator<Item = &'a IpAddr>,
) -> Result<Duration> {
    let (silence, overlap) = silence_and_overlap(census, since, addrs)?;
    ensure!(overlap.is_zero(), "two nodes answered for one address for {overlap:?}");
    Ok(silence)
}

/// Longest silence, and longest time in which two nodes answered, among these addresses since a moment.
pub(crate) fn silence_and_overlap<'a>(
    census: &Census,
    since: Stamp,
    addrs: impl IntoIterator<Item = &'a IpAddr>,
) -> Result<(Duration, Duration)> {
    std::thread::sleep(2 * census.round()); // the last questions and their answers
    let (window, seen) = (Span::new(since, Stamp::now().before(census.round())), census.sightings());
    let (mut worst, mut both) = (Duration::ZERO, Duration::ZERO);
    for addr in addrs {
        let sightings = seen.get(addr).context("the census asks for it")?;
        both = both.max(sightings.overlap(window).longest);
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
    Ok((worst, both))
}

/// Starts all agents with these settings, creates the Services and waits until all are served.
pub(crate) fn create(rig: &mut Rig, drafts: &[Draft], settings: &[(&str, &str)]) -> Result<()> {
    rig.start_all(settings)?;
    rig.ready(&ALL)?;
    for draft in drafts {
        rig.back(draft, &ALL)?;
        rig.write(draft)?;
    }
    let at = Stamp::now();
    rig.within(FIRST_UP, "all Services", |rig| servers(rig, drafts))?;
    println!(
        "  {} Services at once: all installed, status written {:?} after the last one",
        drafts.len(),
        Stamp::now().since(at)
    );
    Ok(())
}
