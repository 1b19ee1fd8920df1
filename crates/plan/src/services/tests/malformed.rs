//! Bad input from a generator: each Service gets its reason, on the way to which it is explained, and nothing else changes.

mod generator;

use vip_model::Family;
use vip_model::explanation::{Outcome, Stage};
use vip_model::service::TrafficPolicy;
use vip_model::verdict::{Reason, Subject, Verdict};

use super::scene::{Scene, lease, name};
use generator::Malformed;

const CASES: u64 = 1_000;

/// Three Services that are served, in elections of their own, beside nothing bad.
fn sound() -> Scene {
    Scene::per_service()
        .service("good/a", "10.0.0.50")
        .service("good/b", "10.0.0.51,fd00::51")
        .service("zeta/c", "10.0.0.52")
        .holding("good/kubevip-a")
        .holding("good/kubevip-b")
        .holding("zeta/kubevip-c")
        .run()
}

fn with_bad(scene: Scene, seed: u64) -> Scene {
    let bad = Malformed::from_seed(seed);
    scene.service_with(&format!("bad/s{seed}"), "", |service| {
        service.families = vec![if bad.family == "IPv4" { Family::V4 } else { Family::V6 }];
        service.traffic = if bad.traffic == "Local" { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        service.spec_ip.clone_from(&bad.spec_ip);
        for (key, text) in &bad.notes {
            service.annotations.insert(format!("kube-vip.io/{key}"), text.clone());
        }
    })
}

#[test]
fn a_thousand_malformed_services_get_a_reason_each_and_cost_nobody_anything() {
    let alone = sound().plan();
    let scene = (0..CASES).fold(sound(), with_bad);
    let plan = scene.plan();
    for seed in 0..CASES {
        let service = name(&format!("bad/s{seed}"));
        let bad = Malformed::from_seed(seed);
        let verdict = &plan.verdicts[&Subject::Service(service.clone())];
        let Verdict::Skip(reason) = verdict else { panic!("seed {seed}: {bad:?} is served") };
        assert!(
            matches!(reason, Reason::Invalid(_) | Reason::NotSupported(_)),
            "seed {seed}: {bad:?} {reason:?}"
        );
        let text = reason.to_string();
        assert!(text.len() > 20 && text.len() < 400, "seed {seed}: {text}");
        if seed % 50 < 11 {
            let findings = scene.explain(&format!("bad/s{seed}"));
            let last = findings.last().expect("something is found");
            assert_eq!(
                (last.outcome, last.text.as_str()),
                (Outcome::Stops, text.as_str()),
                "seed {seed}: {bad:?}"
            );
            assert!(matches!(last.stage, Stage::Addresses | Stage::Election), "seed {seed}: {findings:?}");
        }
    }
    // What the good ones get is what they get alone.
    let is_good = |namespace: &str| namespace != "bad";
    let verdicts = plan.verdicts.iter().filter(|(subject, _)| match subject {
        Subject::Service(service) => is_good(service.namespace()),
        Subject::ControlPlane(_) => true,
    });
    assert!(verdicts.eq(&alone.verdicts));
    assert_eq!(
        (&plan.addresses, &plan.claims, &plan.probes),
        (&alone.addresses, &alone.claims, &alone.probes)
    );
    assert_eq!(plan.elections, alone.elections);
    assert!(!plan.elections.contains_key(&lease("bad/shared")));
    let services = plan.services.iter().filter(|(service, _)| is_good(service.namespace()));
    assert!(services.eq(&alone.services));
}
