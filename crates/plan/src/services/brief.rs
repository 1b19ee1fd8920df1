//! What is known of a group before this node's part in it is decided: whose election is the authority, which member
//! leads, and how many nodes come first. Made for all groups together, because placement looks at all of them.

use std::collections::BTreeSet;

use vip_model::members::ElectionState;
use vip_model::service::TrafficPolicy;
use vip_model::{LeaseName, NodeName, Walk};

use super::election::{Ballot, lease_of};
use super::endpoint::{self, Backing};
use super::ground::Ground;
use super::group::Groups;
use super::member::Member;
use super::rank::{Field, Race, crowds, ranks};

/// A group and what is known of it.
pub(super) struct Brief<'g> {
    /// Its members, in the order of their names. Never empty.
    pub(super) group: &'g [usize],
    /// The authority's ballot.
    pub(super) ballot: &'g Ballot,
    /// Its Lease.
    pub(super) lease: Option<&'g LeaseName>,
    /// The state of its election.
    pub(super) authority: &'g ElectionState,
    /// The lowest member that can be served on any node.
    pub(super) lead: Option<usize>,
    /// Whether any node could serve the group.
    pub(super) hope: Hope,
    /// How many nodes come first, when the authority is one of the group's own Leases.
    pub(super) rank: u32,
    /// Nodes that it shall not be on while another one can have it, when this node holds it.
    pub(super) avoid: BTreeSet<NodeName>,
}

/// Whether any node could serve a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hope {
    /// None could: no endpoint takes traffic, or all nodes that could are not ready or taken out of load balancing.
    None,
    /// One could, as far as is known.
    Some,
}

/// Briefs for all groups.
pub(super) fn briefs<'g>(
    ground: &'g Ground<'_>,
    members: &'g [Member<'_>],
    groups: &'g Groups,
) -> Vec<Brief<'g>> {
    let mut states = Walk::new(&ground.world.members.elections);
    let mut briefs: Vec<_> =
        groups.iter().map(|group| brief((ground, members), &mut states, group)).collect();
    let mut racing: Vec<_> = (0..briefs.len())
        .filter(|at| matches!(briefs[*at].ballot, Ballot::Own(_)) && briefs[*at].lead.is_some())
        .collect();
    racing.sort_by_key(|at| members[briefs[*at].group[0]].created); // stable: then by name
    let races: Vec<_> = racing.iter().filter_map(|at| race(ground, members, &briefs[*at])).collect();
    let me = ground.cluster.runner(ground.world.config.node.as_str());
    let runners = &ground.cluster.runners;
    let crowds = crowds(me, &races);
    for ((at, rank), crowd) in racing.into_iter().zip(ranks(runners, me, &races)).zip(crowds) {
        briefs[at].rank = rank;
        briefs[at].avoid = crowd.into_iter().map(|node| runners[node].name.clone()).collect();
    }
    briefs
}

fn brief<'g>(
    (ground, members): (&'g Ground<'_>, &'g [Member<'_>]),
    states: &mut Walk<'g, LeaseName, ElectionState>,
    group: &'g [usize],
) -> Brief<'g> {
    let shares_vip =
        |member: &Member<'_>| member.addrs.iter().any(|addr| ground.control_plane_vip(*addr).is_some());
    let all = || group.iter().map(|at| &members[*at]);
    let has = |ballot: &Ballot| all().any(|member| member.ballot == *ballot);
    let ballot = if has(&Ballot::ControlPlane) || all().any(shares_vip) {
        &Ballot::ControlPlane
    } else if has(&Ballot::Global) {
        &Ballot::Global
    } else {
        &members[group[0]].ballot
    };
    let lease = lease_of(ground, ballot);
    let authority = match (lease, ballot) {
        (Some(lease), Ballot::Own(_)) => states.find(lease).unwrap_or(ground.state_of(None)),
        (lease, _) => ground.state_of(lease),
    };
    let lead = group.iter().copied().find(|at| members[*at].backing.serves());
    let hope = hope(ground, (members, group), (ballot, lead));
    Brief { group, ballot, lease, authority, lead, hope, rank: 0, avoid: BTreeSet::new() }
}

fn hope(
    ground: &Ground<'_>,
    (members, group): (&[Member<'_>], &[usize]),
    (ballot, lead): (&Ballot, Option<usize>),
) -> Hope {
    let has_hope = match (ballot, lead) {
        (Ballot::ControlPlane, _) => true,
        (Ballot::Global, _) => !ground.cluster.runners.is_empty(),
        (Ballot::Own(_), None) => group.iter().any(|at| members[*at].backing == Backing::Unknown),
        (Ballot::Own(_), Some(lead)) if members[lead].traffic == TrafficPolicy::Local => {
            endpoint::nodes(members[lead].endpoints).any(|name| ground.cluster.runner(name).is_some())
        }
        (Ballot::Own(_), Some(_)) => !ground.cluster.runners.is_empty(),
    };
    if has_hope { Hope::Some } else { Hope::None }
}

fn race<'g>(ground: &Ground<'_>, members: &'g [Member<'_>], brief: &Brief<'g>) -> Option<Race<'g>> {
    let lead = &members[brief.lead?];
    let field = match lead.traffic {
        TrafficPolicy::Cluster => Field::All,
        TrafficPolicy::Local => {
            let names = endpoint::nodes(lead.endpoints);
            let mut nodes: Vec<_> = names.filter_map(|name| ground.cluster.runner(name)).collect();
            nodes.sort_unstable();
            nodes.dedup();
            Field::Only(nodes)
        }
    };
    let holder = brief.authority.holder.as_deref().and_then(|holder| ground.cluster.runner(holder));
    let key = members[brief.group[0]].name;
    let apart = brief.group.iter().find_map(|at| members[*at].notes.apart);
    Some(Race { key, field, holder, apart: apart.map(|name| (key.namespace(), name)) })
}
