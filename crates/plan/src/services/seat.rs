//! A group on this node: its addresses, its elections, and what follows for each of its Services.

use std::net::IpAddr;

use vip_model::members::{Role, Vacancy};
use vip_model::plan::{ElectionWant, Footprint, NodePlan, Standing};
use vip_model::verdict::{Reason, Verdict};
use vip_model::{LeaseName, LinkIndex};

use super::brief::{Brief, Hope};
use super::election::{Ballot, Chair, Wants, footprint, want};
use super::ground::{Ground, is_holder};
use super::member::Member;
use super::spot::Spot;
use crate::vip::other_holder;

/// What was decided about one Service.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    /// The link of its first address that has one.
    pub(super) link: Option<LinkIndex>,
    /// Its addresses that the kernel has and that are answered for.
    pub(super) served: Vec<IpAddr>,
    pub(super) progress: Progress,
    /// The election that decides.
    pub(super) lease: Decider,
    pub(super) tenure: Tenure,
    pub(super) hope: Hope,
}

/// Whether the picture of a Service will change by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something is under way: an address is being installed or asked for.
    Moving,
    /// Nothing is.
    Settled,
}

/// Whose election decides about a Service.
#[derive(Debug)]
pub(super) enum Decider {
    /// That of its own ballot.
    Own,
    /// Another one.
    Other(Option<LeaseName>),
}

/// Who decides about a Service now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenure {
    /// This node.
    Ours,
    /// Another node, or that is not known yet.
    Theirs,
    /// Nobody, as far as is known.
    Nobodys,
    /// Nobody who lives, for so long that nobody seems able to.
    Deserted,
}

/// What a group adds to the sums over all groups.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// Its Services that have a link here.
    pub(super) linked: usize,
    /// Its addresses in the kernel.
    pub(super) present: usize,
}

/// Plans one group. `decide` is told about each of its members.
pub(super) fn seat(
    (ground, members): (&Ground<'_>, &[Member<'_>]),
    brief: &Brief<'_>,
    (plan, wants): (&mut NodePlan, &mut Wants),
    mut decide: impl FnMut(usize, Decision),
) -> Share {
    let users = users(members, brief);
    let spots: Vec<_> = users
        .chunk_by(|one, other| one.0 == other.0)
        .map(|users| Spot::new(ground, members, users))
        .collect();
    let chair = Chair::new(ground, members, brief, &spots);
    let present = spots.iter().filter(|spot| spot.is_present(ground)).count();
    wants.gather(ground, (brief, &chair), footprint(ground, present));
    want_control_plane(ground, brief, footprint(ground, present), plan);
    let verdicts: Vec<_> =
        spots.iter().map(|spot| spot.settle((ground, members), (&chair, brief), plan)).collect();
    let view = View { ground, members, brief, chair: &chair, spots: &spots, verdicts: &verdicts };
    let mut linked = 0;
    for at in brief.group {
        let decision = view.decision(*at);
        linked += usize::from(decision.link.is_some());
        decide(*at, decision);
    }
    Share { linked, present }
}

/// Who uses which address of the group, by address.
fn users(members: &[Member<'_>], brief: &Brief<'_>) -> Vec<(IpAddr, usize)> {
    let mut users = Vec::new();
    for at in brief.group {
        users.extend(members[*at].addrs.iter().map(|addr| (*addr, *at)));
    }
    users.sort_unstable();
    users
}

/// The control plane's own want stays as it is, but for what depends on it now.
fn want_control_plane(ground: &Ground<'_>, brief: &Brief<'_>, footprint: Footprint, plan: &mut NodePlan) {
    let control_plane = ground.world.config.control_plane.as_ref();
    if let (Ballot::ControlPlane, Some(control_plane)) = (brief.ballot, control_plane) {
        let election = &control_plane.election;
        let wanted = ElectionWant {
            timings: election.timings,
            annotations: election.annotations.clone(),
            standing: if ground.world.life == crate::world::Life::Stopping {
                Standing::HandOver
            } else {
                Standing::Contend
            },
            rank: 0,
            footprint,
            heard: None,
            group: None,
        };
        want(plan, &election.lease, wanted);
    }
}

/// A group after its addresses were decided about.
struct View<'v> {
    ground: &'v Ground<'v>,
    members: &'v [Member<'v>],
    brief: &'v Brief<'v>,
    chair: &'v Chair<'v>,
    spots: &'v [Spot<'v>],
    verdicts: &'v [Verdict],
}

impl View<'_> {
    fn decision(&self, at: usize) -> Decision {
        let member = &self.members[at];
        let of = |addr: &IpAddr| self.spots.binary_search_by_key(addr, |spot| spot.addr).ok();
        let mine = || member.addrs.iter().filter_map(of);
        let reason = self.obstacle(at).or_else(|| {
            mine().find_map(|spot| match &self.verdicts[spot] {
                Verdict::Announce => None,
                Verdict::Skip(reason) => Some(reason.clone()),
            })
        });
        let is_kept_out = self.obstacle(at).is_some();
        let is_served = |spot: &usize| !is_kept_out && self.verdicts[*spot] == Verdict::Announce;
        let is_moving = |spot: usize| {
            matches!(&self.verdicts[spot], Verdict::Skip(reason) if !matches!(reason,
                Reason::Conflict(_) | Reason::NodeAddress(_) | Reason::NoLinkFits | Reason::LinkMissing(_)
                    | Reason::LinkDown(_)))
        };
        Decision {
            link: mine().find_map(|spot| self.spots[spot].link.as_ref().ok().map(|link| link.index)),
            served: mine().filter(is_served).map(|spot| self.spots[spot].addr).collect(),
            progress: if mine().any(is_moving) { Progress::Moving } else { Progress::Settled },
            lease: match (self.brief.ballot, &member.ballot) {
                (Ballot::Own(lease), Ballot::Own(own)) if lease == own => Decider::Own,
                _ => Decider::Other(self.brief.lease.cloned()),
            },
            tenure: self.tenure(),
            hope: self.brief.hope,
            verdict: reason.map_or(Verdict::Announce, Verdict::Skip),
        }
    }

    /// What keeps this node from one Service, before its addresses are looked at.
    fn obstacle(&self, at: usize) -> Option<Reason> {
        let member = &self.members[at];
        if let Some(reason) = self.chair.bar.clone().or(member.backing.obstacle()) {
            return Some(reason);
        }
        let authority = self.brief.authority;
        let shares = |with: usize| Some(Reason::SharedWith(self.members[with].name.clone()));
        let first = self.brief.group[0];
        if let (Ballot::Own(_), Ballot::Own(_)) = (self.brief.ballot, &member.ballot)
            && member.ballot != *self.brief.ballot
            && !is_holder(self.chair.election)
            && authority.role != Role::Undecided
        {
            return shares(first);
        }
        match (&self.chair.obstacle, self.chair.lead) {
            (Some(_), Some(lead)) if lead != at && self.members[lead].backing.obstacle().is_some() => {
                shares(lead)
            }
            (obstacle, _) => obstacle.clone(),
        }
    }

    fn tenure(&self) -> Tenure {
        if is_holder(self.chair.election) {
            Tenure::Ours
        } else if self.chair.is_unseen() {
            Tenure::Theirs
        } else if self.chair.election.vacancy == Vacancy::Lasting {
            Tenure::Deserted
        } else if other_holder(&self.ground.world, self.chair.election).is_some() {
            Tenure::Theirs
        } else {
            Tenure::Nobodys
        }
    }
}
