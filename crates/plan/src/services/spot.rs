//! One address of a group on this node: its link, how it would be installed, whether it may be, and what became of it.
//! Fed with the Services that use the address and the chair of their group.
//!
//! Where several Services share an address the one with the lowest name says on which interface it goes, unless that does
//! not exist: the mistake of one has no part in what becomes of another.

use std::net::IpAddr;

use ipnet::IpNet;
use vip_model::config::{OnLoss, PrefixRule, Scope};
use vip_model::kernel::{Address, Link};
use vip_model::members::{History, Role};
use vip_model::plan::{NodePlan, Presence};
use vip_model::verdict::{Reason, Subject, Verdict};
use vip_model::{Family, ScopedAddr, VipNet};

use super::brief::Brief;
use super::election::{Ballot, Chair};
use super::endpoint::Backing;
use super::filter;
use super::ground::{Ground, Kernel, is_holder};
use super::member::Member;
use super::request::Source;
use super::trail;
use crate::place;
use crate::vip::{Certainty, Novelty, Vip, other_holder};

/// An address of a group.
pub(super) struct Spot<'g> {
    pub(super) addr: IpAddr,
    /// Its link here, or why there is none.
    pub(super) link: Result<&'g Link, Reason>,
    /// How it is installed there.
    net: VipNet,
    /// Where the kernel has it, on any link and by anybody's hand.
    shown: &'g [(IpAddr, &'g Address)],
    /// Those who use it: indexes of members, lowest first.
    users: &'g [(IpAddr, usize)],
}

impl<'g> Spot<'g> {
    /// The spot of one address. `users` is never empty.
    pub(super) fn new(ground: &'g Ground<'_>, members: &[Member<'_>], users: &'g [(IpAddr, usize)]) -> Self {
        let (addr, first) = users[0];
        let (link, shown) = match &ground.kernel {
            Some(kernel) => {
                let mut choices = users.iter().map(|(_, user)| link(ground, kernel, &members[*user], addr));
                let choice = choices.find(|choice| !matches!(choice, Err(Reason::LinkMissing(_))));
                let choice = choice.unwrap_or_else(|| link(ground, kernel, &members[first], addr));
                (choice, kernel.shown.at(addr))
            }
            None => (Err(Reason::KernelUnknown), [].as_slice()),
        };
        let net = net(ground, link.as_ref().ok().copied(), addr);
        Self { addr, link, net, shown, users }
    }

    /// Whether the address is in the kernel by our hand, or lies there for us to adopt.
    pub(super) fn is_present(&self, ground: &Ground<'_>) -> bool {
        let is_ours = |address: &Address| ground.kernel.as_ref().is_some_and(|it| it.tag == address.tag);
        self.shown.iter().any(|(_, address)| is_ours(address)) || self.has_leftover(ground)
    }

    /// Whether an agent that does not tag left the address behind where ours would be. One that a Node lists as its own,
    /// or with another length, is no leftover.
    fn has_leftover(&self, ground: &Ground<'_>) -> bool {
        let is_left = |address: &Address| {
            let is_here = self.link.as_ref().is_ok_and(|link| link.index == address.link);
            address.tag == 0 && is_here && (is_bare(address) || address.net == self.net.0)
        };
        self.shown.iter().any(|(_, address)| is_left(address)) && ground.cluster.owner(self.addr).is_none()
    }

    /// Decides about the address and plans it.
    pub(super) fn settle(
        &self,
        (ground, members): (&Ground<'_>, &[Member<'_>]),
        (chair, brief): (&Chair<'_>, &Brief<'_>),
        plan: &mut NodePlan,
    ) -> Verdict {
        if ground.control_plane_vip(self.addr).is_some() {
            let subject = Subject::ControlPlane(self.addr);
            return plan.verdicts.get(&subject).cloned().unwrap_or(Verdict::Skip(Reason::KernelUnknown));
        }
        let (kernel, link) = match (chair.obstacle_to_stay(), &ground.kernel, &self.link) {
            (None, Some(kernel), Ok(link)) => (kernel, *link),
            (Some(reason), ..) | (None, _, Err(reason)) => return Verdict::Skip(reason.clone()),
            (None, None, Ok(_)) => return Verdict::Skip(Reason::KernelUnknown),
        };
        let at = ScopedAddr { addr: self.addr, link: link.index };
        if self.has_leftover(ground) {
            plan.addresses.ours_untagged_at.insert(at);
        }
        // The Services say themselves why they are not served.
        let Some(best) = self.backing(members) else { return Verdict::Skip(Reason::NoEndpoint) };
        let is_blind = best == Backing::Unknown && chair.election.role == Role::Undecided;
        if is_blind && !chair.is_unseen() && !ground.names_us(chair.election) {
            return Verdict::Skip(Reason::EndpointsUnknown); // others may take the Lease, we may not
        }
        let novelty = self.novelty((ground, members), (chair, brief.ballot));
        if let Some(reason) = self.refusal((ground, kernel, link), members, (novelty, chair.election.role)) {
            return Verdict::Skip(reason);
        }
        let mut shown = self.shown.iter().map(|(_, address)| *address);
        let installed = shown.find(|it| it.link == link.index && it.net == self.net.0);
        if is_holder(chair.election) && installed.is_none() {
            let unknown = (best == Backing::Unknown).then_some(Reason::EndpointsUnknown);
            if let Some(reason) = chair.freeze.clone().or(unknown) {
                return Verdict::Skip(reason);
            }
        }
        if chair.election.role == Role::Undecided {
            plan.addresses.undecided.insert(self.addr);
        }
        // What is there stays: nobody else installs what somebody of ours answers for.
        let (installed, certainty) = match brief.lease {
            Some(lease)
                if installed.is_none_or(|it| it.tag == 0 && trail::has_moved(ground, (at, lease))) =>
            {
                (None, trail::certainty(ground, at, (lease, chair.election)))
            }
            _ => (installed, Certainty::Sure),
        };
        let scope = place::scope(Scope::Host, link);
        let vip = Vip { net: self.net, link, scope, installed, novelty, certainty, on_loss: OnLoss::Remove };
        let verdict = vip.plan(&ground.world, chair.election, plan);
        self.open(members, at, plan);
        verdict
    }

    /// The best that can be said of the Services that use the address; none when it is not wanted here.
    fn backing(&self, members: &[Member<'_>]) -> Option<Backing> {
        let has = |backing| self.users.iter().any(|(_, user)| members[*user].backing == backing);
        [Backing::Here, Backing::Unknown].into_iter().find(|backing| has(*backing))
    }

    /// An address is new when no status shows it, or when its Lease never named a holder. While another node may have it
    /// nothing can be said.
    fn novelty(
        &self,
        (ground, members): (&Ground<'_>, &[Member<'_>]),
        (chair, ballot): (&Chair<'_>, &Ballot),
    ) -> Novelty {
        let election = chair.election;
        if election.role == Role::Undecided || other_holder(&ground.world, election).is_some() {
            return Novelty::Old;
        }
        let is_first = matches!(ballot, Ballot::Own(_)) && election.history == History::New;
        let was_served = self.users.iter().any(|(_, user)| members[*user].shows(self.addr));
        if is_first || !was_served { Novelty::New } else { Novelty::Old }
    }

    /// An address that belongs to a host. What is installed by our hand stays: a kubelet may have picked it up.
    fn refusal(
        &self,
        (ground, kernel, link): (&Ground<'_>, &Kernel<'_>, &Link),
        members: &[Member<'_>],
        (novelty, role): (Novelty, Role),
    ) -> Option<Reason> {
        let mut is_hosts_own = false;
        for (_, address) in self.shown {
            if address.tag == kernel.tag {
                return None;
            }
            let is_ours_to_be = is_bare(address) || (address.link == link.index && address.net == self.net.0);
            is_hosts_own |= address.tag != 0 || !is_ours_to_be;
        }
        if is_hosts_own {
            return Some(Reason::NodeAddress(ground.world.config.node.to_string()));
        }
        // A status alone may come from a load balancer that shows the nodes' own addresses.
        let is_asked_for = self.users.iter().any(|(_, user)| members[*user].source != Source::Status);
        let node = ground.cluster.owner(self.addr)?;
        // While nobody is known to hold it, what somebody put here does not become ours.
        let is_unproven = novelty == Novelty::New || role == Role::Undecided;
        (is_unproven || !is_asked_for).then(|| Reason::NodeAddress(node.to_string()))
    }

    /// Opens the Services' ports for an address that is or stays here.
    fn open(&self, members: &[Member<'_>], at: ScopedAddr, plan: &mut NodePlan) {
        let is_here = plan.addresses.set.get(&at).is_some_and(|planned| match planned.presence {
            Presence::Install { .. } | Presence::Keep { .. } => true,
        });
        if let (true, Some(packets)) = (is_here, &mut plan.filter) {
            filter::open(packets, self.addr, self.users.iter().map(|(_, user)| &members[*user]));
        }
    }
}

/// Whether an address tells no network.
fn is_bare(address: &Address) -> bool {
    address.net.prefix_len() == address.net.max_prefix_len()
}

fn net(ground: &Ground<'_>, link: Option<&Link>, addr: IpAddr) -> VipNet {
    let (rule, longest) = match Family::of(addr) {
        Family::V4 => (ground.services.prefix_v4, 32),
        Family::V6 => (ground.services.prefix_v6, 128),
    };
    let of_link = || ground.kernel.as_ref()?.links.prefix_around(link?, addr);
    let length = match rule {
        PrefixRule::Fixed(length) => length.min(longest),
        PrefixRule::OfLink => of_link().unwrap_or(longest),
    };
    VipNet(IpNet::new(addr, length).expect("no longer than the family's longest"))
}

fn link<'g>(
    ground: &Ground<'_>,
    kernel: &'g Kernel<'_>,
    member: &Member<'_>,
    addr: IpAddr,
) -> Result<&'g Link, Reason> {
    let down = ground.services.link_down;
    match member.notes.interface {
        Some("auto") => kernel.links.around(addr, down),
        Some(name) => kernel.links.named(name, down),
        None => kernel.links.choose(&ground.services.interface, down, addr),
    }
}
