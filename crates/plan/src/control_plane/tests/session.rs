//! What the mode `session` and its claims mean for the control plane.

use vip_model::config::Preference;
use vip_model::members::{Found, Restraint};
use vip_model::plan::Doubt;

use super::*;

#[test]
fn an_owner_that_may_not_serve_says_what_it_waits_for() {
    let says = |restraint| {
        let scene = Scene::new().with(|scene| {
            (scene.state().role, scene.state().holder) = (Role::Follower, Some("n1".to_owned()));
            scene.state().restraint = restraint;
        });
        scene.verdict()
    };
    assert_eq!(says(Restraint::None), Verdict::Skip(Reason::Lapsed));
    assert_eq!(says(Restraint::Looks), Verdict::Skip(Reason::LookingFirst));
    assert_eq!(says(Restraint::Proof), Verdict::Skip(Reason::Unproven));
}

#[test]
fn an_heir_serves_what_nobody_answers_for_and_no_other_address() {
    let plan = |vacant: &[IpAddr]| {
        let scene = Scene::holding().with(|scene| {
            scene.control_plane().vips.push(vip6());
            scene.state().restraint = Restraint::Looks;
            scene.state().vacant = vacant.iter().copied().collect();
        });
        scene.plan()
    };
    let installs = |plan: &NodePlan| plan.addresses.set.keys().map(|at| at.addr).collect::<Vec<_>>();
    assert!(installs(&plan(&[])).is_empty());
    let first = plan(&[vip4().addr()]);
    assert_eq!(installs(&first), [vip4().addr()]);
    let waits = Verdict::Skip(Reason::LookingFirst);
    assert_eq!(first.verdicts[&Subject::ControlPlane(vip6().addr())], waits);
    assert_ne!(first.verdicts[&Subject::ControlPlane(vip4().addr())], waits);
}

#[test]
fn a_claim_whose_owner_may_live_is_not_installed_while_somebody_answers() {
    let orphaned = || Scene::holding().with(|scene| scene.state().found = Found::Orphaned);
    let at = ScopedAddr { addr: vip4().addr(), link: ETH1 };
    let plan = orphaned().plan();
    assert_eq!(plan.doubts.get(&at), Some(&Doubt::Ask(None)), "for as long as it takes");
    assert_eq!(sets(&orphaned().changes()).len(), 0);
    let answered = |state| {
        orphaned().with(|scene| {
            scene.observed.probes.insert(at, state);
        })
    };
    let other = Reason::StillAnswered(mac(9));
    assert_eq!(answered(ProbeState::Answered(mac(9))).verdict(), Verdict::Skip(other));
    assert_eq!(sets(&answered(ProbeState::Silent).changes()).len(), 1);
}

#[test]
fn every_better_placed_node_costs_a_contender_a_step() {
    let rank = |labels: &[(&str, &str)]| {
        let scene = Scene::new().with(|scene| {
            let wish = |value: &str, weight| Preference {
                label: "zone".to_owned(),
                value: Some(value.to_owned()),
                weight,
            };
            scene.config.preferred = vec![wish("a", 10), wish("b", 5)];
            let facts = |zone: &str| NodeFacts {
                traits: BTreeMap::from([("zone".to_owned(), zone.to_owned())]),
                ready: true,
                ..NodeFacts::default()
            };
            let nodes = labels.iter().map(|(node, zone)| (NodeName::new(node), facts(zone)));
            scene.snapshot.nodes = Known::Known(nodes.collect::<BTreeMap<_, _>>().into());
        });
        scene.plan().elections[&lease()].rank
    };
    assert_eq!(rank(&[("n1", "a"), ("n2", "b")]), 0);
    assert_eq!(rank(&[("n1", "b"), ("n2", "a"), ("n3", "b"), ("n4", "c")]), 1);
    assert_eq!(rank(&[("n1", "c"), ("n2", "a"), ("n3", "b")]), 2);
    assert_eq!(rank(&[]), 0);
}
