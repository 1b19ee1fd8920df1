//! What mode `session` needs to know of each claim beside what every election wants: where its addresses can be looked
//! for, which nodes could serve it, how far this node is. Made last, from the finished plan.

use std::collections::{BTreeMap, BTreeSet};

use vip_model::config::{Preference, SessionSettings};
use vip_model::plan::{GroupWant, Look, NodePlan, Progress};
use vip_model::service::TrafficPolicy;
use vip_model::store::NodeFacts;
use vip_model::verdict::{Subject, Verdict};
use vip_model::{LeaseName, LinkIndex, NodeName, ScopedAddr};

use crate::place::link_addresses;
use crate::services::endpoint;
use crate::world::World;

/// Addresses of one claim that are looked at, at most: a global election has those of all Services.
const LOOKS: usize = 64;

pub(crate) fn plan(world: &World<'_>, settings: &SessionSettings, plan: &mut NodePlan) {
    let mut groups: BTreeMap<LeaseName, GroupWant> = BTreeMap::new();
    plan.preferences = preferences(world);
    let fresh = |lifetime| GroupWant {
        lifetime,
        looks: Vec::new(),
        heirs: None,
        avoid: BTreeSet::new(),
        progress: Progress::Announced,
    };
    if let Some(control_plane) = &world.config.control_plane {
        let group = fresh(settings.control_plane_lifetime);
        let group = groups.entry(control_plane.election.lease.clone()).or_insert(group);
        for vip in &control_plane.vips {
            let subject = Subject::ControlPlane(vip.addr());
            add(world, plan, (&subject, &[vip.addr()]), group);
        }
    }
    for (name, service) in &plan.services {
        let Some(lease) = &service.lease else { continue };
        let group = groups.entry(lease.clone()).or_insert_with(|| fresh(settings.service_lifetime));
        let subject = Subject::Service(name.clone());
        add(world, plan, (&subject, &service.addrs), group);
        if let Some(heirs) = local_nodes(world, name) {
            group.heirs = Some(heirs);
        }
    }
    for (lease, want) in &mut plan.elections {
        let mut group = groups.remove(lease).unwrap_or_else(|| fresh(settings.service_lifetime));
        if group.looks.is_empty() {
            group.progress = Progress::Announced; // nothing to serve
        }
        group.avoid = plan.avoid.remove(lease).unwrap_or_default();
        want.group = Some(group);
    }
}

fn add(
    world: &World<'_>,
    plan: &NodePlan,
    (subject, addrs): (&Subject, &[std::net::IpAddr]),
    group: &mut GroupWant,
) {
    let Some(link) = plan.places.get(subject).copied() else { return };
    if plan.verdicts.get(subject) != Some(&Verdict::Announce) {
        group.progress = Progress::Pending;
    }
    let Some(own) = link_addr(world, link) else { return };
    for addr in addrs {
        if group.looks.len() < LOOKS {
            group.looks.push(Look { at: ScopedAddr { addr: *addr, link }, addr: own.clone() });
        }
    }
}

/// How much nodes are preferred, but for those that are not at all.
fn preferences(world: &World<'_>) -> BTreeMap<NodeName, u32> {
    let wishes = &world.config.preferred;
    let nodes = world.snapshot.nodes.get().filter(|_| !wishes.is_empty());
    let score = |facts: &NodeFacts| Preference::score(wishes, &facts.traits);
    let scores = nodes.into_iter().flat_map(|nodes| nodes.iter().map(|(name, facts)| (name, score(facts))));
    scores.filter(|(_, score)| *score > 0).map(|(name, score)| (name.clone(), score)).collect()
}

fn link_addr(world: &World<'_>, link: LinkIndex) -> Option<vip_model::LinkAddr> {
    let link = world.actual.get()?.links.get(&link)?;
    link_addresses(link).map(|(addr, _)| addr)
}

/// The nodes that can serve a Service of policy `Local`; none for other policies.
fn local_nodes(world: &World<'_>, name: &vip_model::service::ServiceName) -> Option<Vec<NodeName>> {
    let service = world.snapshot.services.get()?.get(name)?;
    if service.traffic != TrafficPolicy::Local {
        return None;
    }
    let endpoints = endpoint::of_families(world.snapshot.endpoints.get()?.get(name)?, &service.families);
    let mut nodes: Vec<NodeName> = endpoint::nodes(endpoints).map(NodeName::new).collect();
    nodes.sort_unstable();
    nodes.dedup();
    Some(nodes)
}
