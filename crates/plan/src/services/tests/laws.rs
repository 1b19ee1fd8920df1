//! Laws that hold in every world. Worlds are made from seeds: a few names, addresses and Leases, so that Services meet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use vip_model::config::{LeaseTimings, OnDemand, ServiceElection, ServiceLabels, ServiceSecurity};
use vip_model::observed::ProbeState;
use vip_model::plan::{NodePlan, Presence};
use vip_model::service::{EndpointState, ObjectLife, Service, ServiceKind, ServiceName, TrafficPolicy};
use vip_model::verdict::{Reason, Subject, Verdict};
use vip_model::{Known, NodeName, Random};

use super::scene::{GLOBAL, Scene, endpoint, ip, mac, name, shown, tcp};
use crate::services::notes::Notes;
use crate::services::request::request;
use crate::world::{KernelWork, Life};

pub(super) const WORLDS: u64 = 3000;
const CONTROL_PLANE: &str = "kube-system/plndr-cp-lock";

pub(super) fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[usize::try_from(random.below(from.len() as u64)).unwrap()]
}

/// A Service that asks for something that can be had.
fn good(random: &mut Random, service: &mut Service) {
    let addr = pick(
        random,
        &["10.0.0.50", "10.0.0.51", "10.0.0.52,fd00::52", "fd00::52", "10.0.0.53", "10.0.0.100"],
    );
    match random.below(4) {
        0 => service.spec_ip = Some(addr.split(',').next().unwrap().to_owned()),
        1 => service.ingress = addr.split(',').map(shown).collect(),
        _ => drop(service.annotations.insert("kube-vip.io/loadbalancerIPs".into(), addr.into())),
    }
    service.created = format!("2026-01-01T00:00:0{}Z", random.below(5));
    service.ports =
        (0..=random.below(2)).map(|_| tcp(80 + u16::try_from(random.below(6)).unwrap())).collect();
    let mut annotate = |key: &str, value: &str, chance| {
        if random.chance(chance) {
            service.annotations.insert(format!("kube-vip.io/{key}"), value.to_owned());
        }
    };
    annotate("forcePerServiceElection", "true", 0.2);
    annotate("serviceInterface", "eth0", 0.1);
    annotate("serviceInterface", "eth9", 0.05);
    annotate("allow-reconcile-without-endpoints", "true", 0.1);
    annotate("ignore-service-security", "true", 0.1);
    if random.chance(0.3) {
        service.traffic = TrafficPolicy::Local;
    } else if random.chance(0.2) {
        service.annotations.insert("kube-vip.io/leaseName".into(), "alpha/common".into());
    }
}

/// A Service that is not ours, or asks for what nobody can have.
pub(super) fn bad(random: &mut Random, service: &mut Service) {
    good(random, service);
    let (key, value) = match random.below(8) {
        0 => return service.kind = ServiceKind::Other,
        1 => return service.life = ObjectLife::Deleting,
        2 => return service.class = Some("other".to_owned()),
        3 => ("ignore", "true"),
        4 => ("loadbalancerIPs", "10.0.0.999"),
        5 => ("loadbalancerIPs", "10.0.0.50,0.0.0.0"),
        6 => ("serviceVLAN", "eth0.7"),
        _ => {
            service.spec_ip = None;
            service.ingress.clear();
            ("loadbalancerIPs", "")
        }
    };
    service.annotations.insert(format!("kube-vip.io/{key}"), value.to_owned());
}

pub(super) fn world(seed: u64) -> Scene {
    let random = &mut Random::new(seed);
    let mut scene = if random.chance(0.5) { Scene::new() } else { Scene::per_service() };
    if random.chance(0.4) {
        let lease = pick(random, &[CONTROL_PLANE, CONTROL_PLANE, GLOBAL]);
        scene = scene.with_control_plane(lease);
    }
    scene = scene.set(|services| {
        if random.chance(0.5) {
            services.on_demand = OnDemand::On(LeaseTimings::default());
        }
        services.security = if random.chance(0.5) { ServiceSecurity::On } else { ServiceSecurity::Off };
        services.node_labels = if random.chance(0.5) { ServiceLabels::On } else { ServiceLabels::Off };
    });
    for service in ["alpha/a", "alpha/b", "beta/a", "beta/c", "gamma/d", "gamma/e"] {
        if random.chance(0.8) {
            scene = scene.service_with(service, "", |service| good(random, service));
            let state = [EndpointState::Ready, EndpointState::ServingTerminating, EndpointState::NotReady];
            let endpoints: Vec<_> = (0..random.below(3))
                .map(|_| {
                    let node = pick(random, &["n1", "n1", "n2", "n3", ""]);
                    endpoint(node, state[usize::try_from(random.below(3)).unwrap()])
                })
                .collect();
            scene = scene.endpoints(service, &endpoints);
        }
    }
    roles(random, scene)
}

/// Roles, what the kernel has, and what is unknown.
fn roles(random: &mut Random, mut scene: Scene) -> Scene {
    let leases: Vec<_> = scene.plan().elections.keys().map(ToString::to_string).collect();
    for lease in leases.iter().map(String::as_str) {
        scene = match random.below(5) {
            0 => scene.undecided(lease),
            1 => scene.free(lease),
            2 => scene.held_by(lease, "n2"),
            _ => scene.holding(lease),
        };
    }
    for net in ["10.0.0.50/32", "10.0.0.51/32", "fd00::52/128", "10.0.0.60/32"] {
        if random.chance(0.3) {
            scene = scene.installed(net);
        }
    }
    for at in scene.plan().probes {
        let state = match random.below(3) {
            0 => ProbeState::Asking,
            1 => ProbeState::Silent,
            _ => ProbeState::Answered(mac(9)),
        };
        scene.observed.probes.insert(at, state);
    }
    scene.listed = !random.chance(0.05);
    scene.endpoints_listed = !random.chance(0.1);
    scene.life = if random.chance(0.05) { Life::Stopping } else { Life::Running };
    scene.kernel_work = if random.chance(0.2) { KernelWork::InFlight } else { KernelWork::Settled };
    if random.chance(0.1) {
        scene.nodes.get_mut(&NodeName::new("n1")).unwrap().excluded = Some("drain".to_owned());
    }
    if random.chance(0.05) {
        scene.actual = Known::Unknown;
    }
    scene
}

fn asked(service: &Service) -> Vec<IpAddr> {
    request(service, &Notes::of(service)).map(|request| request.addrs).unwrap_or_default()
}

/// Whether a reason says that nothing at all is done for a Service on this node.
fn is_hard(reason: &Reason) -> bool {
    !matches!(
        reason,
        Reason::Installing
            | Reason::Probing
            | Reason::Conflict(_)
            | Reason::NodeAddress(_)
            | Reason::LeaseUnknown
            | Reason::LinkMissing(_)
            | Reason::EndpointsUnknown
            | Reason::LeaseFree
            | Reason::HeldBy(_)
    )
}

/// Addresses that a Service may have planned here.
fn covered(scene: &Scene, plan: &NodePlan) -> BTreeSet<IpAddr> {
    let may = |name: &ServiceName| match &plan.verdicts[&Subject::Service(name.clone())] {
        Verdict::Announce => true,
        Verdict::Skip(reason) => !is_hard(reason),
    };
    scene.services.iter().filter(|(name, _)| may(name)).flat_map(|(_, service)| asked(service)).collect()
}

#[test]
fn every_service_that_is_seen_has_a_verdict_and_no_address_is_planned_without_one_that_allows_it() {
    for seed in 0..WORLDS {
        let scene = world(seed);
        let plan = scene.plan();
        if !scene.listed {
            assert!(plan.addresses.set.keys().all(|at| at.addr == ip("10.0.0.100")), "seed {seed}");
            continue;
        }
        let covered = covered(&scene, &plan);
        for at in plan.addresses.set.keys().filter(|at| at.addr != ip("10.0.0.100")) {
            assert!(covered.contains(&at.addr), "seed {seed}: {at}: {:?}", plan.verdicts);
        }
    }
}

#[test]
fn what_is_announced_or_shown_in_a_status_is_in_the_kernel() {
    for seed in 0..WORLDS {
        let scene = world(seed);
        let plan = scene.plan();
        let Some(actual) = scene.actual.get() else {
            assert!(plan.claims.is_empty(), "seed {seed}");
            continue;
        };
        let has = |addr: IpAddr| actual.addresses.iter().any(|address| address.addr() == addr);
        for at in plan.claims.keys() {
            assert!(has(at.addr), "seed {seed}: {at}");
            assert!(matches!(plan.addresses.set[at].presence, Presence::Install { .. }), "seed {seed}: {at}");
        }
        for (name, written) in &plan.services {
            let shown = written.ingress.iter().flatten().filter_map(|ingress| ingress.ip);
            assert!(shown.clone().all(has), "seed {seed}: {name}");
            assert!(
                shown.clone().all(|addr| asked(&scene.services[name]).contains(&addr)),
                "seed {seed}: {name}"
            );
        }
    }
}

#[test]
fn the_same_world_has_the_same_plan() {
    for seed in 0..300 {
        assert_eq!(world(seed).plan(), world(seed).plan(), "seed {seed}");
    }
}

#[test]
fn bad_services_change_nothing_for_good_ones() {
    for seed in 0..WORLDS {
        let scene = world(seed);
        let random = &mut Random::new(seed ^ 0xbad);
        let mut mixed = scene.clone();
        let bads = ["alpha/A-bad", "alpha/aa-bad", "beta/bad", "zeta/bad"];
        for service in bads {
            mixed = mixed.service_with(service, "", |service| bad(random, service));
        }
        let (mut with, mut without) = (mixed.plan(), scene.plan());
        for service in bads.map(name) {
            let subject = Subject::Service(service.clone());
            let verdict = with.verdicts.remove(&subject);
            assert_eq!(verdict.is_some(), scene.listed, "seed {seed}: {service}");
            assert!(!matches!(verdict, Some(Verdict::Announce)), "seed {seed}: {service}");
            with.services.remove(&service);
        }
        for plan in [&mut with, &mut without] {
            plan.node_labels.retain(|_, value| value.is_some());
            plan.unsaid = None; // names any of those about which others should speak, the bad ones, too
        }
        assert_eq!(with, without, "seed {seed}");
    }
}

#[test]
fn a_world_left_alone_comes_to_rest() {
    for seed in 0..300 {
        let scene = world(seed);
        if scene.actual.is_known() {
            let quiet = scene.run();
            assert_eq!(quiet.changes(), [], "seed {seed}");
        }
    }
}

#[test]
fn an_address_needs_a_held_election_of_its_group() {
    for seed in 0..WORLDS {
        let scene = world(seed);
        let holds_any = scene
            .members
            .elections
            .values()
            .any(|state| matches!(state.role, vip_model::members::Role::Holder { .. }));
        let plan = scene.plan();
        let installs =
            plan.addresses.set.values().any(|planned| matches!(planned.presence, Presence::Install { .. }));
        assert!(holds_any || !installs, "seed {seed}");
        if let ServiceElection::Global(_) = scene.config.services.as_ref().unwrap().election {
            assert!(plan.elections.contains_key(&super::scene::lease(GLOBAL)), "seed {seed}");
        }
    }
}
