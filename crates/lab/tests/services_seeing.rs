//! What people see of Services with the real binary: `kube-vip status services`, `kube-vip explain`, and a reason for every
//! one of a thousand malformed Services, which cost the good ones beside them nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "../../plan/src/services/tests/malformed/generator.rs"]
mod generator;
#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vip_lab::bench::Stamp;
use vip_model::explanation::{Explanation, Outcome, Stage};
use vip_model::verdict::{Reason, Verdict};
use vip_model::view::ServiceView;

use generator::Malformed;
use rig::draft::{Draft, Policy, Stack};
use rig::{Rig, gap, play_bare};

const ALL: [u8; 3] = [1, 2, 3];
const SOON: Duration = Duration::from_secs(1);
/// A thousand Services are created within a moment and each is written to once by one node.
const MANY: Duration = Duration::from_secs(20);
const CASES: u64 = 1_000;

/// What the agent of a node shows of Services, by name.
fn services(rig: &Rig, number: u8) -> Result<BTreeMap<String, ServiceView>> {
    let (code, said) = rig.command(number, &["status", "services", "-o", "json"])?;
    ensure!(code == 0, "status services: {said}");
    let views: Vec<ServiceView> = serde_json::from_str(&said)?;
    Ok(views.into_iter().map(|view| (view.service.to_string(), view)).collect())
}

fn explain(rig: &Rig, number: u8, service: &str) -> Result<Explanation> {
    let (code, said) = rig.command(number, &["explain", service, "-o", "json"])?;
    ensure!(code == 0, "explain {service}: {said}");
    serde_json::from_str(&said).context("an explanation")
}

#[test]
fn status_and_explain_say_where_a_service_is_and_why() {
    play_bare("status_and_explain_say_where_a_service_is_and_why", |rig| {
        rig.start_all(&[("svc_election", "true")])?;
        rig.ready(&ALL)?;
        let web = Draft::new("web", Stack::V4First).at(210);
        let local = Draft::new("local", Stack::V4).policy(Policy::Local).at(211);
        rig.back(&web, &ALL)?;
        rig.back(&local, &[2])?;
        for draft in [&web, &local] {
            rig.write(draft)?;
        }
        let server = rig.within(SOON, "web", |rig| rig.server(&web))?;
        ensure!(rig.within(SOON, "local", |rig| rig.server(&local))? == 2, "its only pod is on n2");
        for number in ALL {
            let seen = services(rig, number)?.remove("default/web").context("it is shown")?;
            ensure!(seen.addrs == web.addrs && seen.holder == Some(format!("n{server}")), "{seen:?}");
            // One slice for each family.
            ensure!((seen.endpoints.taking, seen.endpoints.here) == (6, 2), "{seen:?}");
            let is_here = seen.verdict == Verdict::Announce;
            ensure!(is_here == (number == server), "n{number}: {:?}", seen.verdict);
            let why = explain(rig, number, "default/web")?;
            ensure!((why.verdict == Verdict::Announce) == is_here && why.since.is_some(), "{why:?}");
            let stopped = why.findings.iter().find(|finding| finding.outcome == Outcome::Stops);
            ensure!(stopped.map(|finding| finding.stage) == (!is_here).then_some(Stage::Election), "{why:?}");
        }
        let elsewhere = explain(rig, 1, "default/local")?;
        ensure!(elsewhere.verdict == Verdict::Skip(Reason::NoLocalEndpoint), "{elsewhere:?}");
        // For people.
        let (_, table) = rig.command(server, &["status", "services"])?;
        let row = table.lines().find(|line| line.starts_with("default/web")).context("a row")?;
        ensure!(row.contains("10.77.0.210,fd77::210") && row.contains("held by this node"), "{table}");
        let (_, text) = rig.command(1, &["explain", "default/local"])?;
        ensure!(text.contains("1 of 1 endpoints take traffic, 0 on this node; policy Local"), "{text}");
        println!("{text}");
        // Without the API, from the local agent alone.
        rig.weather(|knobs| knobs.reach = vip_lab::api::Reach::Down)?;
        ensure!(explain(rig, server, "default/web")?.service.to_string() == "default/web", "without the API");
        let (code, said) = rig.command(1, &["explain", "default/nobody"])?;
        ensure!(code != 0 && said.contains("default/nobody"), "{said}");
        rig.weather(|knobs| *knobs = vip_lab::api::Knobs::default())
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
