//! Address groups: Services whose addresses move together, because they share one or because they share a Lease. Fed
//! with all Services of ours; gives back the groups, and which Service loses a port to an earlier one.
//!
//! Services on one address need disjoint (protocol, port) pairs. Of two that clash the later one (creation time, then
//! name) drops out with a reason and has no part in any group. Near-linear: one sort over all addresses, one union-find.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vip_model::service::{Protocol, ServiceName, ServicePort};
use vip_model::verdict::Reason;

use super::election::Ballot;
use super::ground::Ground;
use super::member::Member;

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Indexes of members, group by group, each in the order of names.
    order: Vec<usize>,
    /// The lowest member of each member's group.
    roots: Vec<usize>,
    /// Members that are in no group, with the reason; in their order.
    pub(super) dropped: Vec<(usize, Reason)>,
}

impl Groups {
    /// Groups the members, which come in the order of their names.
    pub(super) fn new(ground: &Ground<'_>, members: &[Member<'_>]) -> Self {
        let uses = uses(members);
        let dropped = clashes(ground, members, &uses);
        let mut is_dropped = vec![false; members.len()];
        for (member, _) in &dropped {
            is_dropped[*member] = true;
        }
        let mut forest = Forest::new(members.len());
        let live = |member: &usize| !is_dropped[*member];
        for run in uses.chunk_by(|one, other| one.0 == other.0).filter(|run| run.len() > 1) {
            forest.join(run.iter().map(|(_, member)| *member).filter(live));
        }
        let leases = leases(members);
        for run in leases.chunk_by(|one, other| one.0 == other.0).filter(|run| run.len() > 1) {
            forest.join(run.iter().map(|(_, member)| *member).filter(live));
        }
        let roots: Vec<_> = (0..members.len()).map(|member| forest.root(member)).collect();
        let mut order: Vec<_> = (0..members.len()).filter(live).collect();
        order.sort_by_key(|member| roots[*member]); // stable: names stay in order
        Self { order, roots, dropped }
    }

    /// Each group's members, in the order of their names. No group is empty.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[usize]> {
        self.order.chunk_by(|one, other| self.roots[*one] == self.roots[*other])
    }
}

/// Who uses which address, by address.
fn uses(members: &[Member<'_>]) -> Vec<(IpAddr, usize)> {
    let mut uses = Vec::with_capacity(members.len());
    for (at, member) in members.iter().enumerate() {
        uses.extend(member.addrs.iter().map(|addr| (*addr, at)));
    }
    uses.sort_unstable();
    uses
}

/// Who has which Lease of its own, by Lease. Nearly in order already, which the sort makes use of.
fn leases<'m>(members: &'m [Member<'_>]) -> Vec<(&'m vip_model::LeaseName, usize)> {
    let of = |(at, member): (usize, &'m Member<'_>)| match &member.ballot {
        Ballot::Own(lease) => Some((lease, at)),
        Ballot::ControlPlane | Ballot::Global => None,
    };
    let mut leases: Vec<_> = members.iter().enumerate().filter_map(of).collect();
    leases.sort();
    leases
}

/// Members that want a port which an earlier one has.
fn clashes(ground: &Ground<'_>, members: &[Member<'_>], uses: &[(IpAddr, usize)]) -> Vec<(usize, Reason)> {
    let control_plane = ground.world.config.control_plane.as_ref();
    let mut rivals = Vec::new();
    for run in uses.chunk_by(|one, other| one.0 == other.0) {
        if run.len() > 1 || ground.control_plane_vip(run[0].0).is_some() {
            rivals.extend(run.iter().map(|(_, member)| *member));
        }
    }
    rivals.sort_unstable_by_key(|member| (members[*member].created, *member));
    rivals.dedup();
    let mut taken: BTreeMap<(IpAddr, ServicePort), Option<&ServiceName>> = BTreeMap::new();
    for vip in control_plane.iter().flat_map(|control_plane| &control_plane.vips) {
        let port = control_plane.map_or(0, |control_plane| control_plane.port);
        taken.insert((vip.addr(), ServicePort { protocol: Protocol::Tcp, port }), None);
    }
    let mut dropped = Vec::new();
    for rival in rivals {
        let member = &members[rival];
        let wanted = || member.addrs.iter().flat_map(|addr| member.ports.iter().map(|port| (*addr, *port)));
        if let Some((key, owner)) = wanted().find_map(|key| Some((key, *taken.get(&key)?))) {
            dropped.push((rival, clash(key, owner)));
        } else {
            taken.extend(wanted().map(|key| (key, Some(member.name))));
        }
    }
    dropped.sort_unstable_by_key(|(member, _)| *member);
    dropped
}

fn clash((addr, port): (IpAddr, ServicePort), owner: Option<&ServiceName>) -> Reason {
    match owner {
        Some(owner) => Reason::PortClash(owner.clone()),
        None => Reason::Invalid(format!("the control plane already uses {addr} with TCP port {}", port.port)),
    }
}

/// Union-find with the lowest index as the root.
struct Forest(Vec<usize>);

impl Forest {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&mut self, mut node: usize) -> usize {
        while self.0[node] != node {
            self.0[node] = self.0[self.0[node]];
            node = self.0[node];
        }
        node
    }

    fn join(&mut self, mut nodes: impl Iterator<Item = usize>) {
        let Some(first) = nodes.next() else { return };
        for node in nodes {
            let (one, other) = (self.root(first), self.root(node));
            self.0[one.max(other)] = one.min(other);
        }
    }
}
