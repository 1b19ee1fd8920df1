//! What people see of Services with the real binary: `kube-vip status services`, `kube-vip explain`, Events; and a reason
//! for every one of a thousand malformed Services, which cost the good ones beside them nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "../../plan/src/services/tests/malformed/generator.rs"]
mod generator;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;
#[path = "services/seeing.rs"]
mod seeing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vip_lab::api::{Call, Verb};
use vip_lab::bench::Stamp;
use vip_model::explanation::Outcome;
use vip_model::verdict::{Reason, Verdict};

use generator::Malformed;
use rig::draft::{Draft, Policy, Stack};
use rig::{Rig, gap, play_bare};
use seeing::{explain, services};

const ALL: [u8; 3] = [1, 2, 3];
const SOON: Duration = Duration::from_secs(1);
/// A thousand Services are created within a moment and each is written to once by one node.
const MANY: Duration = Duration::from_secs(20);
const CASES: u64 = 1_000;
/// How often endpoints move, and the time between two moves.
const FLAPS: u32 = 60;
const FLAP: Duration = Duration::from_millis(150);
/// Of one Service a node tells ten times in a row, and then once in so long.
const IN_A_ROW: u64 = 10;
const REFILL: Duration = Duration::from_secs(30);
/// A Service to which nothing happens is told of when it comes into service.
const CALM: u64 = 1;

#[test]
fn status_and_explain_say_where_a_service_is_and_why() {
    play_bare("status_and_explain_say_where_a_service_is_and_why", seeing::where_and_why);
}

/// What Events there are about a Service: reason, text and how often it was told.
fn events(rig: &Rig, draft: &Draft) -> Result<Vec<(String, String, u64)>> {
    let about = |event: &Value| event["involvedObject"]["name"] == draft.name.as_str();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |event: Value| {
        (text(&event["reason"]), text(&event["message"]), event["count"].as_u64().unwrap_or_default())
    };
    Ok(rig.cluster().list("events")?.into_iter().filter(about).map(row).collect())
}

/// How many Events were written, new ones and those that were brought up to date.
fn event_writes(rig: &Rig) -> Result<u64> {
    let counts = rig.plane()?.server().counts();
    let writes = [Verb::Create, Verb::Update, Verb::Patch];
    let is_ours = |call: &Call| call.resource == "events" && writes.contains(&call.verb);
    Ok(counts.iter().filter(|(call, _)| is_ours(call)).map(|(_, count)| count).sum())
}

#[test]
fn a_service_that_flaps_is_told_of_in_few_events_that_count() {
    play_bare("a_service_that_flaps_is_told_of_in_few_events_that_count", |rig| {
        rig.start_all(&[("svc_election", "true")])?;
        rig.ready(&ALL)?;
        let (flapping, calm) = (
            Draft::new("flapping", Stack::V4).policy(Policy::Local).at(210),
            Draft::new("calm", Stack::V4).at(211),
        );
        for draft in [&flapping, &calm] {
            rig.back(draft, &[1])?;
            rig.write(draft)?;
            rig.within(SOON, &draft.title(), |rig| rig.server(draft))?;
        }
        let (begin, mut moved, mut node) = (Instant::now(), 0_u64, 1);
        for turn in 0..FLAPS {
            let next = if turn % 2 == 0 { 2 } else { 1 };
            rig.back(&flapping, &[next])?;
            std::thread::sleep(FLAP);
            let server = rig.server(&flapping);
            moved += u64::from(server.is_some_and(|server| server != node));
            node = server.unwrap_or(node);
        }
        rig.within(SOON, "it comes to rest", |rig| rig.server(&flapping).filter(|server| *server == 1))?;
        std::thread::sleep(SOON);
        let (told, writes) = (events(rig, &flapping)?, event_writes(rig)?);
        println!("  {moved} moves seen: {} Events, {writes} written; {told:?}", told.len());
        ensure!(moved >= u64::from(FLAPS) / 2, "only {moved} of {FLAPS} moves: it did not flap");
        // The same text is one Event with a count: who serves now and who did before make two for two nodes.
        let texts: BTreeSet<_> = told.iter().map(|(reason, text, _)| (reason, text)).collect();
        ensure!(texts.len() == told.len(), "an Event stands there twice: {told:?}");
        let moves = || told.iter().filter(|(reason, ..)| reason == "Moved");
        ensure!((1..=2).contains(&moves().count()), "{told:?}");
        ensure!(moves().any(|(.., count)| *count > 1), "none was told again with its count: {told:?}");
        // Two nodes have something to say.
        let allowed = 2 * (IN_A_ROW + begin.elapsed().as_secs() / REFILL.as_secs()) + CALM;
        ensure!(writes <= allowed, "{writes} Events were written, {allowed} are allowed");
        ensure!(writes < moved, "{writes} Events were written for {moved} moves");
        let calm = events(rig, &calm)?;
        ensure!(calm.len() as u64 == CALM, "nothing happened to it: {calm:?}");
        Ok(())
    });
}

/// A malformed Service as the API takes it.
fn object(seed: u64) -> Value {
    let bad = Malformed::from_seed(seed);
    let notes: BTreeMap<_, _> =
        bad.notes.iter().map(|(key, text)| (format!("kube-vip.io/{key}"), text.clone())).collect();
    let mut spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": bad.traffic, "ipFamilies": [bad.family],
        "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80, "protocol": "TCP"}],
    });
    if let Some(text) = &bad.spec_ip {
        spec["loadBalancerIP"] = json!(text);
    }
    json!({
        "apiVersion": "v1", "kind": "Service", "spec": spec,
        "metadata": {"name": format!("s{seed}"), "namespace": "bad", "annotations": notes},
    })
}

/// Every malformed Service has a reason in words, on every node.
fn each_has_a_reason(rig: &Rig) -> Result<()> {
    for number in ALL {
        let seen = services(rig, number)?;
        for seed in 0..CASES {
            let view =
                seen.get(&format!("bad/s{seed}")).with_context(|| format!("seed {seed} is not shown"))?;
            let Verdict::Skip(Reason::Invalid(text) | Reason::NotSupported(text)) = &view.verdict else {
                let case = Malformed::from_seed(seed);
                anyhow::bail!("n{number}, seed {seed}: {:?} for {case:?}", view.verdict);
            };
            ensure!(text.len() > 20, "n{number}, seed {seed}: {text}");
        }
    }
    Ok(())
}

#[test]
fn a_thousand_malformed_services_get_a_reason_each_and_cost_the_good_ones_nothing() {
    play_bare("a_thousand_malformed_services_get_a_reason_each_and_cost_the_good_ones_nothing", |rig| {
        rig.namespace("bad")?;
        let meta = json!({"name": "kubevip", "namespace": "kube-system"});
        let pools =
            json!({"cidr-global": "nonsense,10.78.0.8/29", "range-x": "9-1", "allow-share-global": "maybe"});
        rig.store()
            .apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": pools}))?;
        rig.start_all(&[("svc_election", "true"), ("svc_ipam", "true")])?;
        rig.ready(&ALL)?;
        let good = [Draft::new("web", Stack::V4).at(210), Draft::new("dual", Stack::V6First).at(211)];
        for draft in &good {
            rig.back(draft, &ALL)?;
            rig.write(draft)?;
        }
        let before = good.iter().map(|draft| rig.within(SOON, "served", |rig| rig.server(draft)));
        let before: Vec<u8> = before.collect::<Result<_>>()?;
        let watches: Vec<_> =
            good.iter().map(|draft| rig.watch(&draft.addrs[0].to_string())).collect::<Result<_>>()?;
        let at = Stamp::now();
        for seed in 0..CASES {
            rig.store().apply(&object(seed)).with_context(|| format!("seed {seed}"))?;
        }
        // A new good one is served as soon as ever, and gets an address of the pool beside the bad entry.
        let late = Draft::new("late", Stack::V4).at(212);
        let pooled = Draft::new("pooled", Stack::V4);
        for draft in [&late, &pooled] {
            rig.back(draft, &ALL)?;
            rig.write(draft)?;
        }
        rig.within(MANY, "a new Service among a thousand bad ones", |rig| rig.server(&late))?;
        println!(
            "  a new one beside {CASES} bad ones is served {:?} after the first of them",
            Stamp::now().since(at)
        );
        rig.within(MANY, "an address of the pool", |rig| {
            let list =
                rig.service(&pooled)?["metadata"]["annotations"]["kube-vip.io/loadbalancerIPs"].clone();
            (list == "10.78.0.8").then_some(())
        })?;
        each_has_a_reason(rig)?;
        for seed in 0..11 {
            let why = explain(rig, 1, &format!("bad/s{seed}"))?;
            ensure!(
                why.findings.last().is_some_and(|last| last.outcome == Outcome::Stops),
                "seed {seed}: {why:?}"
            );
        }
        for ((draft, watch), server) in good.iter().zip(&watches).zip(before) {
            let (silence, overlap) = gap(watch, at, Duration::ZERO);
            ensure!(
                silence.is_zero() && overlap.is_zero(),
                "{}: gap {silence:?}, overlap {overlap:?}",
                draft.title()
            );
            ensure!(rig.server(draft) == Some(server), "{} has moved", draft.title());
        }
        Ok(())
    });
}
