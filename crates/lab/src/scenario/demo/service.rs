//! The Service of the demo: created, answered by two pods, its holder stopped. Fed with the stage after its faults; gives
//! back the figures and the pods, which go on running.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::bench::{Detector, Pod, Prober, Responder, Span, Stamp, net, pod};
use crate::report::Table;
use crate::scenario::Stage;
use crate::scenario::proxy;
use crate::scenario::service::{self, Backend, Family, FirstAnswers, PORT, Standing};
use crate::scenario::table::{Action, Setup};

/// Last number of the Service's addresses.
const NUMBER: u8 = 210;
/// Number of the pods.
const POD: u8 = 5;
/// The nodes with a pod.
const NODES: [u8; 2] = [1, 2];
/// The calm time before its holder is stopped.
const CALM: Duration = Duration::from_millis(800);
/// How long whatever happens at once may take before the demo gives up.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a client is watched after the stop.
const WATCHED: Duration = Duration::from_millis(1500);
/// The bounds: to the first answer of a node, to that of a pod, without an answer after the stop, and for how long two answer
/// in a hand-over, which is make before break.
const BOUNDS: [Duration; 4] = [
    Duration::from_millis(120),
    Duration::from_millis(250),
    Duration::from_millis(10),
    Duration::from_millis(30),
];

/// One figure of both families.
struct Figure {
    label: &'static str,
    values: [Duration; 2],
    bound: Duration,
    calm: Duration,
}

impl Figure {
    fn kept(&self) -> bool {
        self.values.iter().all(|value| *value <= self.bound + self.calm)
    }
}

/// What came out, and the pods.
pub(super) struct Web {
    pub(super) pods: Vec<Pod>,
    figures: Vec<Figure>,
}

impl Web {
    /// Are all bounds kept?
    pub(super) fn kept(&self) -> bool {
        self.figures.iter().all(Figure::kept)
    }

    /// The table of its figures.
    pub(super) fn render(&self) -> String {
        let mut table =
            Table::new(&["Service with two pods", "IPv4 ms", "IPv6 ms", "bound", "calm", "verdict"]);
        for figure in &self.figures {
            let bound = format!("<= {}", figure.bound.as_millis());
            let verdict = if figure.kept() { "kept" } else { "BROKEN" };
            let [v4, v6] = figure.values.map(ms);
            table.row(&[figure.label, &v4, &v6, &bound, &ms(figure.calm), verdict]);
        }
        table.render()
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// Its addresses.
fn addresses() -> [IpAddr; 2] {
    [net::v4(NUMBER).into(), net::v6(NUMBER).into()]
}

/// Shows it on a stage whose nodes all run.
pub(super) fn show(stage: &mut Stage) -> Result<Web> {
    stage.restore(Setup::default())?;
    let pods = prepare(stage)?;
    let [v4, v6] = addresses();
    stage.screen().say(&format!("\nService `web` at {v4} and {v6} with a pod on n1 and one on n2"));
    let first = create(stage, &pods)?;
    for (first, of) in first.iter().zip(addresses()) {
        stage.screen().say(&format!(
            "  created; a node answers for {of} after {} ms, a pod through it after {} ms",
            ms(first.address),
            ms(first.pod)
        ));
    }
    ask(stage)?;
    let stopped = stop_holder(stage)?;
    ask(stage)?;
    let [to_address, to_pod, without, handed] = BOUNDS;
    let none = Duration::ZERO;
    let figures = vec![
        Figure {
            label: "created to a node's answer",
            values: first.map(|first| first.address),
            bound: to_address,
            calm: none,
        },
        Figure {
            label: "created to a pod's answer",
            values: first.map(|first| first.pod),
            bound: to_pod,
            calm: none,
        },
        Figure {
            label: "SIGTERM of its holder: gap",
            values: stopped.gaps,
            bound: without,
            calm: stopped.calm,
        },
        Figure { label: "two nodes answer", values: stopped.overlaps, bound: handed, calm: none },
    ];
    Ok(Web { pods, figures })
}

/// Proxies on all nodes, pods on some.
fn prepare(stage: &Stage) -> Result<Vec<Pod>> {
    let objects = proxy::follow(stage.plane().server())?;
    for node in stage.lab().nodes() {
        pod::furnish(stage.lab(), node)?;
        proxy::start(node, &objects)?;
    }
    NODES.into_iter().map(|number| Ok(Pod::start(stage.lab().node(number)?, POD)?)).collect()
}

/// Creates the Service; gives the times to its first answers.
fn create(stage: &Stage, pods: &[Pod]) -> Result<[FirstAnswers; 2]> {
    let store = stage.plane().server().store();
    let of = |pod: &Pod| {
        let node = pod.who().node;
        pod.addresses().map(|address| Backend { address, node, standing: Standing::Ready })
    };
    let backends: Vec<Backend> = pods.iter().flat_map(of).collect();
    for family in [Family::V4, Family::V6] {
        store.apply(&service::slice("web", family, &backends))?;
    }
    let object = service::service("web", &addresses(), json!({}));
    let first = service::first_answers(stage.lab(), &addresses(), LIMIT, || {
        let at = Stamp::now();
        store.apply(&object)?;
        Ok(at)
    })?;
    first.try_into().ok().context("an answer for each address")
}

/// Asks over TCP, through both addresses, who answers.
fn ask(stage: &Stage) -> Result<()> {
    for address in addresses() {
        let target = SocketAddr::new(address, PORT);
        let mut seen: BTreeSet<Responder> = BTreeSet::new();
        for _ in 0..16 {
            seen.insert(pod::ask(stage.lab().client(), target, LIMIT)?);
        }
        let names: Vec<String> = seen.iter().map(|who| format!("pod {} of n{}", who.pod, who.node)).collect();
        stage.screen().say(&format!("  16 connections to {target}: answered by {}", names.join(" and ")));
        ensure!(seen.iter().all(|who| who.pod == POD && NODES.contains(&who.node)), "{target} leads astray");
    }
    Ok(())
}

/// What a client saw when the holder was stopped, in both families.
struct Stopped {
    gaps: [Duration; 2],
    overlaps: [Duration; 2],
    /// The longest gap before it.
    calm: Duration,
}

/// Stops the agent that holds the Service, and starts it again.
fn stop_holder(stage: &mut Stage) -> Result<Stopped> {
    let begin = Stamp::now();
    let lab = stage.lab();
    let [v4, v6] = addresses();
    let start = |address| lab.probe_service(SocketAddr::new(address, PORT));
    let probers: [Prober; 2] = [start(v4)?, start(v6)?];
    let detectors: [Detector; 2] = [lab.detect(v4)?, lab.detect(v6)?];
    for prober in &probers {
        prober.wait_answer(begin, LIMIT, |answer| answer.pod != 0)?;
    }
    let from = Stamp::now();
    std::thread::sleep(CALM);
    let calm = Span::new(from, Stamp::now());
    let holder = |window: Span| {
        let who = detectors[0].sightings().answerers(window);
        who.into_iter().max_by_key(|(_, seen)| seen.until).and_then(|(mac, _)| mac.node())
    };
    let victim = holder(calm).context("nobody holds the Service")?;
    stage.screen().at(
        begin,
        Stamp::now(),
        &format!("SIGTERM to the agent of n{victim}, which holds the Service"),
    );
    let at = stage.act(Action::Signal(Signal::SIGTERM), victim)?;
    std::thread::sleep(WATCHED);
    let after = Span::new(at, Stamp::now());
    let heir = holder(after).context("nobody holds the Service any more")?;
    stage.screen().at(begin, Stamp::now(), &format!("n{heir} holds it"));
    ensure!(heir != victim, "n{victim} was stopped and still holds the Service");
    let gaps = probers.each_ref().map(|prober| prober.trace().outage(after).unwrap_or(Duration::MAX));
    let overlaps = detectors.each_ref().map(|detector| detector.sightings().overlap(after).longest);
    let calm = probers.iter().map(|prober| prober.trace().gap(calm).length()).max().unwrap_or_default();
    stage.act(Action::StartVictim, victim)?;
    Ok(Stopped { gaps, overlaps, calm })
}
