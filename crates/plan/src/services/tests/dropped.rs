//! Services that drop out of a group (a port clash, a mistake, a deletion that a finalizer holds up) have no part in what
//! becomes of the others: laws over the same worlds, and over the step in which one drops out.

use vip_model::Random;
use vip_model::kernel::Change;
use vip_model::service::{ObjectLife, ServiceName, TrafficPolicy};
use vip_model::verdict::{Reason, Subject, Verdict};

use super::laws::{WORLDS, bad, pick, world};
use super::scene::{Scene, lease, name, ready, tcp};

/// The Services that nobody can serve, whoever holds what.
fn dropped(scene: &Scene) -> Vec<ServiceName> {
    let is_dropped = |verdict: &Verdict| {
        matches!(
            verdict,
            Verdict::Skip(
                Reason::PortClash(_) | Reason::Invalid(_) | Reason::NotSupported(_) | Reason::Deleting
            )
        )
    };
    let plan = scene.plan();
    let names = scene.services.keys();
    let all =
        names.filter(|name| plan.verdicts.get(&Subject::Service((*name).clone())).is_some_and(is_dropped));
    all.cloned().collect()
}

#[test]
fn a_world_without_those_that_drop_out_has_the_same_plan() {
    let mut seen = 0;
    for seed in 0..WORLDS {
        let scene = world(seed);
        let mut left = scene.clone();
        let (mut with, dropped) = (scene.plan(), dropped(&scene));
        for name in &dropped {
            left.services.remove(name);
            left.endpoints.remove(name);
            with.verdicts.remove(&Subject::Service(name.clone()));
            with.services.remove(name);
        }
        let mut without = left.plan();
        for plan in [&mut with, &mut without] {
            plan.node_labels.retain(|_, value| value.is_some());
            plan.unsaid = None; // is about those that drop out
        }
        assert_eq!(with, without, "seed {seed}: {dropped:?}");
        seen += dropped.len();
    }
    assert!(seen > 500, "only {seen} drop out");
}

/// A world at rest in which this node holds every Lease and every Service can be served here.
fn served(seed: u64) -> Option<Scene> {
    let mut scene = world(seed);
    (scene.listed, scene.endpoints_listed) = (true, true);
    scene.nodes.values_mut().for_each(|facts| facts.excluded = None);
    if !scene.actual.is_known() || scene.life != crate::Life::Running {
        return None;
    }
    scene.kernel_work = crate::KernelWork::Settled;
    for service in scene.services.values_mut() {
        service.traffic = TrafficPolicy::Cluster;
        service.annotations.remove("kube-vip.io/serviceInterface");
    }
    let names: Vec<_> = scene.services.keys().map(ToString::to_string).collect();
    for name in &names {
        scene = scene.endpoints(name, &[ready("n1")]);
    }
    for _ in 0..2 {
        let leases: Vec<_> = scene.plan().elections.keys().map(ToString::to_string).collect();
        scene = leases.iter().fold(scene, |scene, lease| scene.holding(lease));
    }
    Some(scene.run())
}

/// One Service loses what it asks for: in its words, by a clash with another one, or because it is deleted.
fn drop_one(random: &mut Random, scene: &mut Scene) -> Option<ServiceName> {
    let names: Vec<_> = scene.services.keys().map(ToString::to_string).collect();
    let texts: Vec<_> = names.iter().map(String::as_str).collect();
    let chosen = name(pick(random, &texts));
    let older = name(pick(random, &texts));
    let of_older = scene.services[&older].clone();
    let service = scene.services.get_mut(&chosen)?;
    match random.below(3) {
        0 if older != chosen => {
            (service.created, service.annotations) = ("2027".to_owned(), of_older.annotations);
            (service.spec_ip, service.ingress) = (of_older.spec_ip, of_older.ingress);
            service.ports = of_older.ports;
        }
        1 => service.life = ObjectLife::Deleting,
        _ => bad(random, service),
    }
    service.traffic = TrafficPolicy::Cluster;
    service.annotations.remove("kube-vip.io/serviceInterface");
    Some(chosen)
}

#[test]
fn who_drops_out_takes_nothing_from_those_that_stay() {
    let mut stayed = 0;
    for seed in 0..WORLDS / 5 {
        let Some(before) = served(seed) else { continue };
        if before.services.is_empty() {
            continue;
        }
        let mut after = before.clone();
        let Some(chosen) = drop_one(&mut Random::new(seed ^ 0xd209), &mut after) else { continue };
        after.former = Some(before.plan());
        let (then, now) = (before.plan(), after.plan());
        // An older Service that the chosen one had kept out comes back, and younger ones give way to it.
        let is_back = dropped(&before).iter().any(|name| *name != chosen && !dropped(&after).contains(name));
        if is_back || !dropped(&after).contains(&chosen) {
            continue;
        }
        let removed: Vec<_> = after
            .changes()
            .into_iter()
            .filter_map(|change| match change {
                Change::DelAddress { net, .. } => Some(net.addr()),
                Change::SetAddress(_) | Change::SetFilter { .. } => None,
            })
            .collect();
        for service in before.services.keys().filter(|name| **name != chosen) {
            let subject = Subject::Service(service.clone());
            if then.verdicts[&subject] == Verdict::Announce {
                stayed += 1;
                assert_eq!(
                    now.verdicts[&subject],
                    Verdict::Announce,
                    "seed {seed}: {service}, {chosen} went"
                );
                let addrs = &now.services[service].addrs;
                assert!(!addrs.iter().any(|addr| removed.contains(addr)), "seed {seed}: {removed:?}");
            }
        }
    }
    assert!(stayed > 200, "only {stayed} stay");
}

#[test]
fn the_lease_of_one_that_drops_out_is_given_up_and_blocks_nobody() {
    let (first, second) = ("alpha/kubevip-a", "beta/kubevip-b");
    let scene = Scene::per_service()
        .service("alpha/a", "10.0.0.50")
        .service_with("beta/b", "10.0.0.50", |service| service.ports = vec![tcp(443)])
        .holding(first)
        .holding(second)
        .run();
    // The lower name clashes with an older Service on another address, and leaves.
    let scene = scene
        .service_with("gamma/c", "10.0.0.51", |service| service.created = "2025".to_owned())
        .annotate("alpha/a", "loadbalancerIPs", "10.0.0.51")
        .held_by("gamma/kubevip-c", "n2");
    assert_eq!(scene.reason("alpha/a"), Reason::PortClash(name("gamma/c")));
    assert_eq!((scene.verdict("beta/b"), scene.changes()), (Verdict::Announce, vec![]));
    assert!(!scene.plan().elections.contains_key(&lease(first)), "nobody asks for it any more");
    assert_eq!(scene.want(second).rank, 0);
}
