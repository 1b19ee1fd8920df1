//! Why a Service's address moves in mode `session` although nobody died: its pod does (policy Local), its Node is excluded or
//! drained, somebody asks for it, its agent stops or is upgraded. Each is make before break, with the real binary in both
//! families, and each move ends at a node that may have the address.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use vip_lab::bench::{Detector, Span, Stamp};

use rig::draft::{Draft, Policy, Stack};
use rig::{Rig, play_bare};

const SETTINGS: &[(&str, &str)] = &[("svc_election", "true"), ("election_mode", "session")];
/// What a planned move may cost, and for how long both may answer in it.
const MOVED: Duration = Duration::from_millis(10);
const HANDED: Duration = Duration::from_millis(30);
/// A move is over after this.
const WATCHED: Duration = Duration::from_millis(1500);
/// Sessions need a jury, and restarted jurors listen first.
const SETTLED: Duration = Duration::from_secs(4);
const LIMIT: Duration = Duration::from_secs(10);
/// What was answered in the last moments.
const NOW: Duration = Duration::from_millis(100);

/// A Service and who answers for its addresses.
struct Watched {
    draft: Draft,
    detectors: Vec<Detector>,
}

impl Watched {
    fn new(rig: &Rig, draft: Draft) -> Result<Self> {
        let detectors: Result<Vec<_>> = draft.addrs.iter().map(|addr| rig.watch(&addr.to_string())).collect();
        Ok(Self { draft, detectors: detectors? })
    }

    /// The one node that answers for all its addresses now.
    fn owner(&self) -> Option<u8> {
        let window = Span::new(Stamp::now().before(NOW), Stamp::now());
        let owners: Vec<Vec<Option<u8>>> = self
            .detectors
            .iter()
            .map(|watch| watch.sightings().answerers(window).keys().map(|mac| mac.node()).collect())
            .collect();
        let [first, ..] = owners.first()?[..] else { return None };
        owners.iter().all(|of| of[..] == [first]).then_some(first)?
    }

    fn wait_owner(&self) -> Result<u8> {
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            if let Some(owner) = self.owner() {
                return Ok(owner);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("no single node answers for {} after {LIMIT:?}", self.draft.title())
    }

    /// Does something, and looks at what clients saw of it. Gives the owner afterwards.
    fn judge(&self, what: &str, deed: impl FnOnce() -> Result<Stamp>) -> Result<u8> {
        let at = deed()?;
        std::thread::sleep(WATCHED);
        let window = Span::new(at, Stamp::now());
        for watch in &self.detectors {
            let seen = watch.sightings();
            let (silence, overlap) = (seen.silence(window), seen.overlap(window).longest);
            println!("  {what}: nobody answered for {silence:?}, two for {overlap:?}");
            ensure!(silence <= MOVED, "{what}: nobody answered for {silence:?}");
            ensure!(overlap <= HANDED, "{what}: two answered for {overlap:?}");
        }
        self.wait_owner()
    }
}

/// Whether a Node is kept free of load balancers' addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Excluded {
    Yes,
    No,
}

/// A worker is excluded, or a node of the control plane again, where that label says nothing (kubeadm puts it on all of them).
fn exclude(rig: &Rig, node: u8, label: Excluded) -> Result<Stamp> {
    let (label, leads) =
        if label == Excluded::Yes { (json!(""), Value::Null) } else { (Value::Null, json!("")) };
    let patch = json!({"metadata": {"labels": {
        "node.kubernetes.io/exclude-from-external-load-balancers": label,
        "node-role.kubernetes.io/control-plane": leads,
    }}});
    let at = Stamp::now();
    rig.cluster().merge("nodes", "", &format!("n{node}"), &patch)?;
    Ok(at)
}

fn annotate(rig: &Rig, node: u8, drained: Option<&str>) -> Result<Stamp> {
    let at = Stamp::now();
    let patch = json!({"metadata": {"annotations": {"kube-vip.io/drain": drained}}});
    rig.cluster().merge("nodes", "", &format!("n{node}"), &patch)?;
    Ok(at)
}

fn command(rig: &Rig, node: u8, words: &[&str]) -> Result<Stamp> {
    let at = Stamp::now();
    let words: Vec<&str> =
        words.iter().chain(&["--kubeconfig", "/etc/kubernetes/admin.conf"]).copied().collect();
    let (code, said) = rig.command(node, &words)?;
    ensure!(code == 0, "{words:?}: {said}");
    Ok(at)
}

const fn another_than(node: u8) -> u8 {
    node % 3 + 1
}

/// Policy Cluster: every node may have it.
fn moves(rig: &mut Rig) -> Result<()> {
    rig.start_all(SETTINGS)?;
    let draft = Draft::new("web", Stack::V4First).at(210);
    rig.write(&draft)?;
    rig.back(&draft, &[1, 2, 3])?;
    let web = Watched::new(rig, draft)?;
    web.wait_owner()?;
    std::thread::sleep(SETTLED);

    let owner = web.wait_owner()?;
    let after = web.judge("the exclude label", || exclude(rig, owner, Excluded::Yes))?;
    ensure!(after != owner, "n{owner} is excluded and keeps it");
    exclude(rig, owner, Excluded::No)?;
    std::thread::sleep(WATCHED);

    let owner = web.wait_owner()?;
    let after = web.judge("the drain annotation, by hand", || annotate(rig, owner, Some("true")))?;
    ensure!(after != owner, "n{owner} is drained and keeps it");
    annotate(rig, owner, None)?;
    std::thread::sleep(WATCHED);

    let owner = web.wait_owner()?;
    let (name, other) = (format!("n{owner}"), another_than(owner));
    let after = web.judge("kube-vip drain", || command(rig, other, &["drain", &name]))?;
    ensure!(after != owner, "n{owner} is drained and keeps it");
    let again = web.judge("kube-vip undrain", || command(rig, other, &["undrain", &name]))?;
    ensure!(again == after, "an undrained node gets nothing back by itself");
    std::thread::sleep(WATCHED);

    let owner = web.wait_owner()?;
    let to = another_than(owner);
    let (service, name) = (web.draft.title(), format!("n{to}"));
    let after =
        web.judge("kube-vip handover", || command(rig, to, &["handover", &service, "--to", &name]))?;
    ensure!(after == to, "it was asked for at n{to} and is at n{after}");

    let owner = web.wait_owner()?;
    let after = web.judge("an agent that stops", || rig.stop(owner))?;
    ensure!(after != owner, "the agent of n{owner} ended and keeps it");
    rig.start(owner)
}

/// Policy Local: it goes where the pod is, also when the pod's node changes in one write.
fn follows(rig: &mut Rig) -> Result<()> {
    rig.start_all(SETTINGS)?;
    let draft = Draft::new("web", Stack::V4First).at(210).policy(Policy::Local);
    rig.write(&draft)?;
    rig.back(&draft, &[1])?;
    let web = Watched::new(rig, draft)?;
    web.wait_owner()?;
    std::thread::sleep(SETTLED);
    let mut owner = web.wait_owner()?;
    ensure!(owner == 1, "its only pod is on n1, the address on n{owner}");
    for next in [2, 3, 1, 3] {
        let after = web.judge(&format!("its pod goes to n{next}"), || rig.back(&web.draft, &[next]))?;
        ensure!(after == next, "its only pod is on n{next}, the address on n{after}");
        owner = after;
    }
    // A second pod moves nothing.
    let after = web.judge("a second pod", || rig.back(&web.draft, &[owner, another_than(owner)]))?;
    ensure!(after == owner, "nothing asks it to move from n{owner} to n{after}");
    Ok(())
}

/// An agent is upgraded with `on_stop: stay`: the address stays in the kernel, and nothing moves.
fn stays(rig: &mut Rig) -> Result<()> {
    let stay: Vec<_> = SETTINGS.iter().chain(&[("on_stop", "stay")]).copied().collect();
    rig.start_all(&stay)?;
    let draft = Draft::new("web", Stack::V4First).at(210);
    rig.write(&draft)?;
    rig.back(&draft, &[1, 2, 3])?;
    let web = Watched::new(rig, draft)?;
    web.wait_owner()?;
    std::thread::sleep(SETTLED);
    let owner = web.wait_owner()?;
    let after = web.judge("an agent that is upgraded and stays", || {
        let at = rig.stop(owner)?;
        rig.start(owner)?;
        Ok(at)
    })?;
    ensure!(after == owner, "it moved from n{owner} to n{after}");
    std::thread::sleep(LIMIT);
    ensure!(web.wait_owner()? == owner, "it moved from n{owner} after a while");
    Ok(())
}

#[test]
fn a_services_address_is_handed_over_make_before_break_whatever_asks_for_it() {
    play_bare("a_services_address_is_handed_over_make_before_break_whatever_asks_for_it", moves);
}

#[test]
fn under_policy_local_the_address_follows_its_pod_without_a_loss() {
    play_bare("under_policy_local_the_address_follows_its_pod_without_a_loss", follows);
}

#[test]
fn an_upgrade_that_stays_moves_nothing() {
    play_bare("an_upgrade_that_stays_moves_nothing", stays);
}
