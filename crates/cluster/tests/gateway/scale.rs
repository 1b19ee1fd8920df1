//! Large clusters: how long the first look takes, what it costs to keep it, and what many Leases cost.
//!
//! The bounds here hold for an unoptimised build on a busy machine. `cargo test --profile sim … -- --ignored
//! --nocapture` prints figures: there the API server has a process of its own.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;
use vip_cluster::ClusterEvent;
use vip_lab::api::{Kind, Verb};
use vip_model::LeaseName;
use vip_model::config::EndpointSource;
use vip_model::service::ServiceName;
use vip_model::store::{Answer, Ask, Expect, Purpose, ServiceWatch, Snapshot, Watches};

use crate::rig::{Ear, LONG, Rig, present, write};

const SERVICES: usize = 5_000;

fn service(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": format!("service-{number}"), "namespace": "default",
            "annotations": {
                "kube-vip.io/loadbalancerIPs": format!("10.7.{}.{}", number / 250, number % 250),
                "kubectl.kubernetes.io/last-applied-configuration": "x".repeat(800),
            },
            "labels": {"app": "web", "team": "shop"},
        },
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "targetPort": 8080}], "selector": {"app": "web"}},
    })
}

fn slice(number: usize) -> Value {
    let endpoints: Vec<Value> = (0..3)
        .map(|pod| {
            json!({
                "addresses": [format!("10.1.{}.{}", number / 80, number % 80 * 3 + pod)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("worker-{}.example.internal", (number + pod) % 100),
                "targetRef": {"kind": "Pod", "name": format!("service-{number}-{pod}"), "namespace": "default"},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("service-{number}-abcde"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": format!("service-{number}")},
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080, "name": "", "protocol": "TCP"}],
    })
}

fn seed(rig: &Rig) {
    for number in 0..SERVICES {
        rig.server.store().apply(&service(number)).expect("the store takes it");
        rig.server.store().apply(&slice(number)).expect("the store takes it");
    }
}

fn watches() -> Watches {
    let services = ServiceWatch { namespace: None, endpoints: EndpointSource::Slices };
    Watches { services: Some(services), ..Watches::default() }
}

async fn snapshot<T>(ear: &mut Ear, pick: impl Fn(&Snapshot) -> Option<T>) -> T {
    let pick = |event: &ClusterEvent| match event {
        ClusterEvent::Snapshot(snapshot) => pick(snapshot),
        _ => None,
    };
    let found = ear.wait(Duration::from_secs(60), pick).await.expect("such a snapshot is told");
    drop(ear.rest());
    found
}

async fn first_look(ear: &mut Ear) -> Snapshot {
    snapshot(ear, |snapshot| {
        let all = snapshot.services.get()?.len() == SERVICES && snapshot.endpoints.get()?.len() == SERVICES;
        all.then(|| snapshot.clone())
    })
    .await
}

#[tokio::test]
async fn five_thousand_services_and_their_slices_are_seen_within_seconds() {
    let rig = Rig::with_admin(1);
    seed(&rig);
    let start = Instant::now();
    let mut ear = rig.start();
    ear.cluster.watch(watches());
    let seen = first_look(&mut ear).await;
    let took = start.elapsed();
    println!("5,000 Services and 5,000 slices seen after {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(seen.endpoints.get().unwrap().values().all(|endpoints| endpoints.len() == 3));
    sleep(Duration::from_millis(300)).await;
    // One change in so many is felt as soon as in few, although somebody holds the snapshot before it.
    let name = ServiceName::new("default", "service-2500");
    for round in 0..5 {
        let mut changed = service(2_500);
        changed["metadata"]["annotations"]["kube-vip.io/round"] = json!(round.to_string());
        rig.server.store().apply(&changed).unwrap();
        let start = Instant::now();
        snapshot(&mut ear, |snapshot| {
            let service = &snapshot.services.get()?[&name];
            (service.annotations.get("kube-vip.io/round")? == &round.to_string()).then_some(())
        })
        .await;
        println!("one change seen after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    }
    assert!(!seen.services.get().unwrap()[&name].annotations.contains_key("kube-vip.io/round"));
}

fn leases(count: usize) -> Vec<LeaseName> {
    (0..count).map(|number| LeaseName::new("default", format!("kubevip-service-{number}"))).collect()
}

#[tokio::test]
async fn four_hundred_leases_cost_one_watch_and_are_taken_at_once() {
    let rig = Rig::with_admin(1);
    let leases = leases(400);
    let mut ear = rig.start();
    let wanted: BTreeSet<LeaseName> = leases.iter().cloned().collect();
    ear.cluster.watch(Watches { leases: wanted, ..Watches::default() });
    assert!(ear.sight(&leases[399], LONG).await.is_some());
    let start = Instant::now();
    let questions: Vec<_> = leases
        .iter()
        .map(|lease| ear.ask_only(Ask::WriteLease(write(lease, Expect::Absent, Purpose::Take)), LONG))
        .collect();
    for id in questions {
        let answer = ear
            .wait(LONG, |event| match event {
                ClusterEvent::Answer(of, answer) if *of == id => Some(answer.clone()),
                _ => None,
            })
            .await;
        present(answer.expect("every question is answered"));
    }
    println!("400 Leases taken in {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    sleep(Duration::from_millis(300)).await;
    let watches: u64 =
        rig.server.counts().iter().filter(|(call, _)| call.verb == Verb::Watch).map(|(_, count)| count).sum();
    assert_eq!(watches, 1);
}

/// What a process costs.
pub(crate) struct Cost {
    pub(crate) resident_kib: u64,
    pub(crate) peak_kib: u64,
    pub(crate) cpu: Duration,
}

pub(crate) fn cost() -> Cost {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc has it");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("proc has it");
        line.split_whitespace().nth(1).expect("proc has it").parse().expect("proc has it")
    };
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc has it");
    let ticks: u64 = stat
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("proc has it"))
        .sum();
    Cost { resident_kib: field("VmRSS:"), peak_kib: field("VmHWM:"), cpu: Duration::from_millis(ticks * 10) }
}

/// The gateway alone, in a process of its own, against the server of the test that started it.
#[tokio::test]
#[ignore = "the other half of a measurement"]
async fn watcher_process() {
    let Ok(folder) = std::env::var("VIP_SCALE_FOLDER") else { return };
    let before = cost();
    let start = Instant::now();
    let mut ear = Ear::of(crate::rig::settings(folder.as_ref(), 0));
    ear.cluster.watch(watches());
    let mut held = first_look(&mut ear).await;
    let (took, after) = (start.elapsed(), cost());
    println!("first look after {took:?}, {} ms of CPU", after.cpu.saturating_sub(before.cpu).as_millis());
    println!(
        "resident {} KiB before, {} after, peak {}",
        before.resident_kib, after.resident_kib, after.peak_kib
    );
    let mut told = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        let next = ear.wait(Duration::from_millis(100), |event| match event {
            ClusterEvent::Snapshot(snapshot) => Some(snapshot.clone()),
            _ => None,
        });
        if let Some(newer) = next.await {
            held = newer;
            told += 1;
        }
    }
    let end = cost();
    println!(
        "{told} snapshots in 10 s of changes, {} ms of CPU",
        end.cpu.saturating_sub(after.cpu).as_millis()
    );
    println!(
        "resident {} KiB, peak {}, {} Services",
        end.resident_kib,
        end.peak_kib,
        held.services.get().unwrap().len()
    );
}

/// 400 elections of this node, renewed every two seconds, and a watch that shows them all.
#[tokio::test]
#[ignore = "the other half of a measurement"]
async fn elector_process() {
    let Ok(folder) = std::env::var("VIP_SCALE_FOLDER") else { return };
    let leases = leases(400);
    let mut ear = Ear::of(crate::rig::settings(folder.as_ref(), 0));
    let wanted: BTreeSet<LeaseName> = leases.iter().cloned().collect();
    ear.cluster.watch(Watches { leases: wanted, ..Watches::default() });
    assert!(ear.sight(&leases[399], LONG).await.is_some());
    let mut versions = Vec::new();
    let start = Instant::now();
    let questions: Vec<_> = leases
        .iter()
        .map(|lease| ear.ask_only(Ask::WriteLease(write(lease, Expect::Absent, Purpose::Take)), LONG))
        .collect();
    for id in questions {
        versions.push(present(answer(&mut ear, id).await).0);
    }
    println!("400 Leases taken in {:?}", start.elapsed());
    let before = cost();
    let start = Instant::now();
    for round in 1..=3_u32 {
        let mut asked = Vec::new();
        for (number, lease) in leases.iter().enumerate() {
            let renew = write(lease, Expect::Version(versions[number].clone()), Purpose::Renew);
            asked.push(ear.ask_only(Ask::WriteLease(renew), LONG));
            if number % 10 == 9 {
                sleep(Duration::from_millis(45)).await;
            }
        }
        for (number, id) in asked.into_iter().enumerate() {
            versions[number] = present(answer(&mut ear, id).await).0;
        }
        drop(ear.rest());
        sleep((Duration::from_secs(2) * round).saturating_sub(start.elapsed())).await;
    }
    let after = cost();
    println!(
        "1,200 renewals in {:?}: {} ms of CPU",
        start.elapsed(),
        after.cpu.saturating_sub(before.cpu).as_millis()
    );
    println!("resident {} KiB, peak {}", after.resident_kib, after.peak_kib);
}

async fn answer(ear: &mut Ear, id: vip_model::QuestionId) -> Answer {
    let pick = |event: &ClusterEvent| match event {
        ClusterEvent::Answer(of, answer) if *of == id => Some(answer.clone()),
        _ => None,
    };
    ear.wait(LONG, pick).await.expect("every question is answered")
}

pub(crate) fn other_half(rig: &Rig, test: &str) -> tokio::task::JoinHandle<()> {
    let mut command = Command::new(std::env::current_exe().expect("the other half runs"));
    command.args([test, "--exact", "--ignored", "--nocapture"]);
    command.env("VIP_SCALE_FOLDER", rig.files.path());
    tokio::task::spawn_blocking(move || assert!(command.status().expect("the other half runs").success()))
}

#[tokio::test]
#[ignore = "a measurement"]
async fn figures_of_five_thousand_services() {
    let rig = Rig::with_admin(1);
    seed(&rig);
    let mut other = other_half(&rig, "scale::watcher_process");
    let mut round = 0_usize;
    while tokio::time::timeout(Duration::from_millis(10), &mut other).await.is_err() {
        round += 1;
        let mut changed = slice(round % SERVICES);
        changed["endpoints"][0]["conditions"]["ready"] = json!(round / SERVICES % 2 == 1);
        rig.server.store().apply(&changed).unwrap();
    }
    assert!(rig.server.store().get(Kind::named("services").unwrap(), "default", "service-1").is_some());
}

#[tokio::test]
#[ignore = "a measurement"]
async fn figures_of_four_hundred_leases() {
    let rig = Rig::with_admin(1);
    other_half(&rig, "scale::elector_process").await.unwrap();
    let counts = rig.server.counts();
    for ((verb, resource), count) in counts.iter().map(|(call, count)| ((call.verb, &call.resource), count)) {
        println!("{verb:?} {resource}: {count}");
    }
}
