//! One VIP on this node: what the role in its election makes of it. Control plane and Services decide here, so that
//! both have the same address, claim and probe for the same right. Writes into the plan; gives back the verdict.

use std::time::Duration;

use vip_model::config::{Advertise, OnLoss, Scope};
use vip_model::kernel::{Address, Dad, Lifetime, Link};
use vip_model::members::{ElectionState, Found, Restraint, Role};
use vip_model::observed::ProbeState;
use vip_model::plan::{Claim, Doubt, NodePlan, PlannedAddress, Presence};
use vip_model::verdict::{Reason, Verdict};
use vip_model::{Family, Instant, ScopedAddr, VipNet};

use crate::place::link_addresses;
use crate::world::World;

/// How long an address may live in the kernel without its agent, by the defaults of the mode `session`, and a second.
const LONGEST_LIFETIME: Duration = Duration::from_secs(9);

/// A VIP that has a place and that nothing keeps from this node but its election.
pub(crate) struct Vip<'a> {
    pub(crate) net: VipNet,
    pub(crate) link: &'a Link,
    pub(crate) scope: Scope,
    /// The address as it is on its link, put there by us or to be adopted.
    pub(crate) installed: Option<&'a Address>,
    pub(crate) novelty: Novelty,
    pub(crate) certainty: Certainty,
    pub(crate) on_loss: OnLoss,
}

/// Whether a VIP was ever served. Somebody else who answers for a new one is a conflict and not a former holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// Never, as far as can be known.
    New,
    /// It was, or that is not known yet.
    Old,
}

/// Whether a former holder of a VIP may still have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// There is none, or it has let go.
    Sure,
    /// It may, until its own Lease says otherwise or this instant has come.
    Wait(Instant),
    /// It may.
    Ask {
        /// Who answers later than that is none of ours.
        until: Option<Instant>,
        /// When it has surely let go, where nobody can be asked. None: nothing speaks for a former holder but ignorance.
        otherwise: Option<Instant>,
    },
}

impl Vip<'_> {
    /// Decides about the VIP: its address, its claim, its probe.
    pub(crate) fn plan(&self, world: &World<'_>, election: &ElectionState, plan: &mut NodePlan) -> Verdict {
        let at = ScopedAddr { addr: self.net.addr(), link: self.link.index };
        let conflict = self.conflict(world, (at, election), plan);
        let planned =
            |presence| PlannedAddress { net: self.net, link: self.link.index, scope: self.scope, presence };
        match election.role {
            Role::Undecided => {
                plan.addresses.set.insert(at, planned(Presence::Keep { at_most: world.adopt_until }));
                Verdict::Skip(Reason::LeaseUnknown)
            }
            Role::Leaving => Verdict::Skip(Reason::Leaving),
            Role::Follower => {
                if self.is_preserved(world, election) {
                    plan.addresses.set.insert(at, planned(Presence::Keep { at_most: Lifetime::Forever }));
                }
                Verdict::Skip(why_not_holder(world, election))
            }
            Role::Holder { .. } if !election.may_serve(self.net.addr()) => {
                Verdict::Skip(Reason::LookingFirst)
            }
            Role::Holder { fence_until, serve_until, .. } => {
                if let Some(reason) = conflict {
                    return Verdict::Skip(reason);
                }
                let valid = match self.on_loss {
                    OnLoss::Remove => Lifetime::Until(fence_until),
                    OnLoss::Preserve => Lifetime::Forever,
                };
                plan.addresses.set.insert(at, planned(Presence::Install { valid, not_after: serve_until }));
                if self.installed.is_none_or(|address| address.dad != Dad::Ready) {
                    return Verdict::Skip(Reason::Installing);
                }
                // While it is handed over, its new owner announces it, and nobody speaks against that.
                if let (Some((addr, broadcast)), None) =
                    (link_addresses(self.link), other_holder(world, election))
                {
                    let Advertise::Arp(layer2) = &world.config.advertise;
                    let interval = layer2.announce_interval;
                    let (not_after, cleared) = (serve_until, election.cleared);
                    plan.claims.insert(at, Claim { addr, broadcast, interval, not_after, cleared });
                }
                Verdict::Announce
            }
        }
    }

    /// A *new* VIP that somebody else answers for is not taken. While that is open, the probe runs beside the election.
    /// One that a former holder may still have waits until that has let go.
    fn conflict(
        &self,
        world: &World<'_>,
        (at, election): (ScopedAddr, &ElectionState),
        plan: &mut NodePlan,
    ) -> Option<Reason> {
        let Advertise::Arp(layer2) = &world.config.advertise;
        let can_probe = link_addresses(self.link).is_some() && !layer2.skip_conflict_probe;
        let doubt = match orphaned(election).unwrap_or(self.certainty) {
            Certainty::Sure => None,
            Certainty::Wait(until) => Some(Doubt::Wait(until)),
            Certainty::Ask { until, .. } if can_probe => Some(Doubt::Ask(until)),
            Certainty::Ask { otherwise, .. } => otherwise.map(Doubt::Wait),
        };
        // What the last plan wants here was asked for before; one that an outsider removes is set again without a question.
        let is_open = || match doubt {
            None => !was_here(world, at),
            Some(Doubt::Ask(_)) => true,
            Some(Doubt::Wait(_)) => false,
        };
        let is_new = self.novelty == Novelty::New && can_probe && is_open();
        // What was asked beside the election says nothing of what happened since: who is in doubt asks now.
        let doubt = if is_new { doubt.map(|_| Doubt::Ask(None)) } else { doubt };
        if is_new && (doubt.is_none() || self.installed.is_some()) {
            plan.probes.insert(at);
        }
        if self.installed.is_some() {
            return None;
        }
        let asked = |former: &NodePlan| match &doubt {
            Some(doubt) => former.doubts.get(&at) == Some(doubt),
            None => former.probes.contains(&at),
        };
        match doubt {
            Some(doubt) => {
                plan.doubts.insert(at, doubt);
            }
            None if !is_new => return None,
            None => {}
        }
        // What was found is the answer to the last plan: to another question than today's it says nothing.
        match world.observed.probes.get(&at).filter(|_| world.former.is_none_or(asked)) {
            Some(ProbeState::Silent) => None,
            Some(ProbeState::Answered(other)) if is_new => Some(Reason::Conflict(other.clone())),
            Some(ProbeState::Answered(other)) => Some(Reason::StillAnswered(other.clone())),
            Some(ProbeState::Asking) | None => Some(Reason::Probing),
        }
    }

    /// `vip_preserve_on_leadership_loss`: an IPv4 address stays until another leader is seen.
    fn is_preserved(&self, world: &World<'_>, election: &ElectionState) -> bool {
        let other_leads = other_holder(world, election).is_some();
        self.on_loss == OnLoss::Preserve && self.net.family() == Family::V4 && !other_leads
    }
}

/// Whether the last plan wanted the address to be there.
pub(crate) fn was_here(world: &World<'_>, at: ScopedAddr) -> bool {
    let former = world.former.and_then(|plan| plan.addresses.set.get(&at));
    former.is_some_and(|planned| matches!(planned.presence, Presence::Install { .. }))
}

/// Whoever owned a claim of the mode `session` may serve on although its session has expired: it is asked for as long as it
/// takes, and where nobody can be asked, what a dead agent left in the kernel is waited for.
fn orphaned(election: &ElectionState) -> Option<Certainty> {
    match (election.role, election.found) {
        (Role::Holder { since, .. }, Found::Orphaned) => {
            Some(Certainty::Ask { until: None, otherwise: Some(since + LONGEST_LIFETIME) })
        }
        _ => None,
    }
}

/// Another node that the Lease names.
pub(crate) fn other_holder<'a>(world: &World<'_>, election: &'a ElectionState) -> Option<&'a str> {
    election.holder.as_deref().filter(|holder| *holder != world.config.node.as_str())
}

/// Why a follower does not hold the Lease.
pub(crate) fn why_not_holder(world: &World<'_>, election: &ElectionState) -> Reason {
    match (&election.holder, other_holder(world, election)) {
        (_, Some(other)) => Reason::HeldBy(other.to_owned()),
        (Some(_), None) => match election.restraint {
            Restraint::None => Reason::Lapsed,
            Restraint::Looks => Reason::LookingFirst,
            Restraint::Proof => Reason::Unproven,
        },
        (None, None) => Reason::LeaseFree,
    }
}
