//! What people see of Services with the real binary: `kube-vip status services` and `kube-vip explain`, on every node.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vip_model::explanation::{Explanation, Outcome, Stage};
use vip_model::verdict::{Reason, Verdict};
use vip_model::view::ServiceView;

use crate::rig::Rig;
use crate::rig::cluster::Trouble;
use crate::rig::draft::{Draft, Policy, Stack};

const ALL: [u8; 3] = [1, 2, 3];
const SOON: Duration = Duration::from_secs(1);

/// What the agent of a node shows of Services, by name.
pub(crate) fn services(rig: &Rig, number: u8) -> Result<BTreeMap<String, ServiceView>> {
    let (code, said) = rig.command(number, &["status", "services", "-o", "json"])?;
    ensure!(code == 0, "status services: {said}");
    let views: Vec<ServiceView> = serde_json::from_str(&said)?;
    Ok(views.into_iter().map(|view| (view.service.to_string(), view)).collect())
}

pub(crate) fn explain(rig: &Rig, number: u8, service: &str) -> Result<Explanation> {
    let (code, said) = rig.command(number, &["explain", service, "-o", "json"])?;
    ensure!(code == 0, "explain {service}: {said}");
    serde_json::from_str(&said).context("an explanation")
}

/// Where a Service is and why, by the agents of all nodes, with the API and without.
pub(crate) fn where_and_why(rig: &mut Rig) -> Result<()> {
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
    rig.cluster().trouble(Trouble::Away)?;
    ensure!(explain(rig, server, "default/web")?.service.to_string() == "default/web", "without the API");
    let (code, said) = rig.command(1, &["explain", "default/nobody"])?;
    ensure!(code != 0 && said.contains("default/nobody"), "{said}");
    rig.cluster().trouble(Trouble::None)
}
