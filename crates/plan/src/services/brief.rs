//! What is known of a group before this node's part in it is decided: whose election is the authority, which member
//! leads, and how many nodes come first. Made for all groups together, because placement looks at all of them.

use super::election::{Ballot, lease_of};
use super::endpoint::{self, Backing};
use super::ground::Ground;
use super::group::Groups;
use super::member::Member;
use super::rank::{Field, Race, ranks};
use vip_model::service::TrafficPolicy;

/// A group and what is known of it.
pub(super) struct Brief<'g> {
    /// Its members, in the order of their names. Never empty.
    pub(super) group: &'g [usize],
    /// The authority's ballot.
    pub(super) ballot: &'g Ballot,
    /// The lowest member that can be served on any node.
    pub(super) lead: Option<usize>,
    /// How many nodes come first, when the authority is one of the group's own Leases.
    pub(super) rank: u32,
}

/// Briefs for all groups.
pub(super) fn briefs<'g>(
    ground: &Ground<'_>,
    members: &'g [Member<'_>],
    groups: &'g Groups,
) -> Vec<Brief<'g>> {
    let mut briefs: Vec<_> = groups.iter().map(|group| brief(ground, members, group)).collect();
    let mut racing: Vec<_> = (0..briefs.len())
        .filter(|at| matches!(briefs[*at].ballot, Ballot::Own(_)) && briefs[*at].lead.is_some())
        .collect();
    racing.sort_by_key(|at| &members[briefs[*at].group[0]].service.created); // stable: then by name
    let races: Vec<_> = racing.iter().filter_map(|at| race(ground, members, &briefs[*at])).collect();
    let me = ground.cluster.runner(ground.world.config.node.as_str());
    for (at, rank) in racing.into_iter().zip(ranks(&ground.cluster.runners, me, &races)) {
        briefs[at].rank = rank;
    }
    briefs
}

fn brief<'g>(ground: &Ground<'_>, members: &'g [Member<'_>], group: &'g [usize]) -> Brief<'g> {
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
    let can_serve = |at: &usize| matches!(members[*at].backing, Backing::Here | Backing::Elsewhere);
    Brief { group, ballot, lead: group.iter().copied().find(can_serve), rank: 0 }
}

fn race<'g>(ground: &Ground<'_>, members: &'g [Member<'_>], brief: &Brief<'g>) -> Option<Race<'g>> {
    let lead = &members[brief.lead?];
    let field = match lead.service.traffic {
        TrafficPolicy::Cluster => Field::All,
        TrafficPolicy::Local => {
            let names = endpoint::nodes(lead.endpoints);
            let mut nodes: Vec<_> = names.filter_map(|name| ground.cluster.runner(name)).collect();
            nodes.sort_unstable();
            nodes.dedup();
            Field::Only(nodes)
        }
    };
    let holder = ground.state_of(lease_of(ground, brief.ballot)).holder.as_deref();
    let holder = holder.and_then(|holder| ground.cluster.runner(holder));
    Some(Race { key: members[brief.group[0]].name, field, holder })
}
