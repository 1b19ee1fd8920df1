//! The rights that `kube-vip manifest rbac` prints for some settings are enough for agents with these settings, and no
//! agent asks for more: the lab's API server checks every request against exactly these roles.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vip_lab::api::{Kind, Login};
use vip_lab::scenario::agent;
use vip_lab::scenario::control_plane::PORT;

use rig::{Rig, play_bare};

const V4: &str = "10.77.0.210";
const LIMIT: Duration = Duration::from_secs(8);
/// A session of 5 s has run out, and its address is followed.
const FOLLOWED: Duration = Duration::from_secs(8);
const MISSING: &str = "a right is missing";

/// Gives agents the rights that the binary prints for these flags, and nothing else.
fn grant(rig: &Rig, flags: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let printed = Command::new(agent::binary()?)
        .args(["manifest", "rbac"])
        .args(flags)
        .envs(environment.iter().copied())
        .output()?;
    ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    give(rig, &String::from_utf8(printed.stdout)?)
}

/// Gives agents the rights of these roles, and nothing else.
fn give(rig: &Rig, roles: &str) -> Result<()> {
    let server = rig.plane()?.server();
    server.store().apply_yaml(roles)?;
    let token = server.credentials().service_account_token("kube-system", "kube-vip");
    let config =
        server.credentials().kubeconfig(Login::Token(&token), &format!("https://127.0.0.1:{PORT}"))?;
    rig.lab().nodes().iter().try_for_each(|node| node.write("/etc/kubernetes/admin.conf", &config))?;
    Ok(())
}

/// What upstream's `manifest rbac` gives (upstream.md §1.7), as it is in clusters that change over by the image alone.
const UPSTREAM: &str = r#"
{apiVersion: v1, kind: ServiceAccount, metadata: {name: kube-vip, namespace: kube-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:kube-vip-role"}
rules:
  - {apiGroups: [""], resources: [services/status], verbs: [update]}
  - {apiGroups: [""], resources: [services, endpoints], verbs: [list, get, watch, update]}
  - {apiGroups: [""], resources: [nodes], verbs: [list, get, watch, update, patch]}
  - {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [list, get, watch, update, create]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, get, watch, update]}
  - {apiGroups: [""], resources: [pods], verbs: [list]}
  - {apiGroups: [networking.k8s.io], resources: [servicecidrs], verbs: [list, get, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:kube-vip-binding"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kube-vip-role"}
subjects: [{kind: ServiceAccount, name: kube-vip, namespace: kube-system}]
"#;

/// What the agents said about rights that they lack.
fn complaints(rig: &Rig) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for node in rig.lab().nodes() {
        let file = rig.lab().logs().join(format!("{}-kube-vip.log", node.name()));
        let text = std::fs::read_to_string(&file)?;
        ensure!(!text.is_empty(), "{} logged nothing", node.name());
        let said = |line: &&str| {
            [MISSING, "403 Forbidden", "class=forbidden"].iter().any(|said| line.contains(said))
        };
        found.extend(text.lines().filter(said).map(str::to_owned));
    }
    Ok(found)
}

fn kind(resource: &str) -> &'static Kind {
    Kind::named(resource).expect("a kind of the lab")
}

fn events(rig: &Rig) -> Result<usize> {
    Ok(rig.plane()?.server().store().list(kind("events")).len())
}

/// A Service is served, its status says so, and an Event tells it.
fn serves(rig: &Rig, name: &str, addresses: &str, expected: &str) -> Result<()> {
    rig.endpoints(name, &[("10.1.0.5", 1)])?;
    rig.create(name, addresses, json!({}))?;
    rig.wait_status(name, expected)?;
    Ok(())
}

#[test]
fn the_rights_for_services_with_one_election_are_enough_and_no_more_is_asked_for() {
    play_bare(
        "the_rights_for_services_with_one_election_are_enough_and_no_more_is_asked_for",
        |rig: &mut Rig| {
            grant(rig, &["--services", "--enableNodeLabeling"], &[])?;
            rig.start_all(&[("enable_node_labeling", "true")])?;
            serves(rig, "web", V4, V4)?;
            rig.within(LIMIT, "an Event", |rig| (events(rig).ok()? > 0).then_some(()))?;
            rig.within(LIMIT, "a label", |rig| {
                let nodes = rig.plane().ok()?.server().store().list(kind("nodes"));
                let is_labelled = |node: &Value| {
                    node["metadata"]["labels"]["service-provided.kube-vip.io/web.default"] == V4
                };
                nodes.iter().any(|node| is_labelled(node)).then_some(())
            })?;
            rig.delete("web")?;
            rig.wait_gone(V4, Duration::from_secs(2))?;
            let found = complaints(rig)?;
            ensure!(found.is_empty(), "{found:?}");
            Ok(())
        },
    );
}

#[test]
fn the_rights_for_an_election_each_with_pools_and_endpoints_are_enough() {
    play_bare("the_rights_for_an_election_each_with_pools_and_endpoints_are_enough", |rig: &mut Rig| {
        let flags = ["--services", "--servicesElection", "--servicesIpam", "--enableEndpoints"];
        let environment = [("KUBEVIP_NAMESPACE", "default"), ("KUBEVIP_CONFIG_MAP", "pools")];
        grant(rig, &flags, &environment)?;
        rig.cluster().apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "pools", "namespace": "default"}, "data": {"range-global": format!("{V4}-{V4}")},
        }))?;
        let settings = [("svc_election", "true"), ("svc_ipam", "true"), ("enable_endpoints", "true")];
        rig.start_all(&settings.iter().chain(&environment).copied().collect::<Vec<_>>())?;
        rig.cluster().apply(&json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": "10.1.0.5", "nodeName": "n1"}], "ports": [{"port": 7007}]}],
        }))?;
        let mut service = rig::object("web", V4, json!({}))?;
        service["metadata"]["annotations"] = json!({});
        rig.cluster().apply(&service)?;
        rig.wait_status("web", V4)?;
        rig.within(LIMIT, "an Event", |rig| (events(rig).ok()? > 0).then_some(()))?;
        let found = complaints(rig)?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    });
}

#[test]
fn without_the_right_to_events_services_are_served_and_it_is_said_once() {
    play_bare("without_the_right_to_events_services_are_served_and_it_is_said_once", |rig: &mut Rig| {
        grant(rig, &["--services"], &[])?;
        let store = rig.plane()?.server().store();
        let role = store.get(kind("clusterroles"), "", "system:kube-vip-role").context("the role")?;
        let mut role = (*role).clone();
        let rules = role["rules"].as_array_mut().context("rules")?;
        rules.retain(|rule| rule["resources"] != json!(["events"]));
        store.apply(&role)?;
        rig.start_all(&[])?;
        for number in 0..4 {
            let address = format!("10.77.0.{}", 211 + number);
            serves(rig, &format!("web-{number}"), &address, &address)?;
        }
        ensure!(events(rig)? == 0, "an Event was written without the right");
        let found = complaints(rig)?;
        let of_events = |line: &&String| line.contains(MISSING) && line.contains("events");
        ensure!(found.iter().filter(of_events).count() == 1 && found.len() == 1, "{found:?}");
        rig.signal(1, Signal::SIGTERM)?;
        Ok(())
    });
}

#[test]
fn under_upstreams_rights_the_default_works_at_the_speed_of_leases_and_says_what_is_missing() {
    let name = "under_upstreams_rights_the_default_works_at_the_speed_of_leases_and_says_what_is_missing";
    play_bare(name, |rig: &mut Rig| {
        give(rig, UPSTREAM)?;
        rig.start_all(&[("election_mode", "session")])?;
        serves(rig, "web", V4, V4)?;
        let of_keys = |line: &&String| line.contains("the keys for heartbeats cannot be had");
        let told = |rig: &Rig| {
            let found = complaints(rig).ok()?;
            (found.iter().filter(of_keys).count() == 3).then_some(found)
        };
        let found = rig.within(LIMIT, "each agent says that it may not read the key", told)?;
        // Events are the other right that upstream's role lacks.
        let of_events = |line: &&String| line.contains(MISSING) && line.contains("events");
        let others = found.iter().filter(|line| !of_keys(line) && !of_events(line)).count();
        ensure!(others == 0, "{found:?}");
        let holder =
            (1..=3).find(|&node| rig.has_address(node, V4).is_ok_and(|has| has)).context("a holder")?;
        let watch = rig.watch(V4)?;
        let at = rig.power_off(holder)?;
        let (gap, overlap) = rig::gap(&watch, at, FOLLOWED);
        println!(
            "  power-off of the holder without heartbeats: nobody answered for {gap:?}, two for {overlap:?}"
        );
        ensure!(
            overlap.is_zero() && gap + Duration::from_secs(1) < FOLLOWED,
            "nobody answered for {gap:?}, two for {overlap:?}"
        );
        Ok(())
    });
}
