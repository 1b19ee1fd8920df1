//! One address of a group on this node: its link, how it would be installed, whether it may be, and what became of it.
//! Fed with the Services that use the address and the chair of their group.
//!
//! Where several Services share an address the one with the lowest name says on which interface it goes.

use std::net::IpAddr;

use ipnet::IpNet;
use vip_model::config::{OnLoss, PrefixRule, Scope};
use vip_model::kernel::{Address, Link};
use vip_model::members::{History, Role};
use vip_model::plan::{NodePlan, Presence};
use vip_model::verdict::{Reason, Subject, Verdict};
use vip_model::{Family, ScopedAddr, VipNet};

use super::election::{Ballot, Chair};
use super::endpoint::Backing;
use super::filter;
use super::ground::{Ground, Kernel, is_holder};
use super::member::Member;
use super::request::Source;
use crate::place;
use crate::vip::{Novelty, Vip, other_holder};

/// The annotation that names a Service's interface; `auto` finds the one whose network contains the address.
const INTERFACE: &str = "kube-vip.io/serviceInterface";

/// An address of a group.
pub(super) struct Spot<'g> {
    pub(super) addr: IpAddr,
    /// Its link here, or why there is none.
    pub(super) link: Result<&'g Link, Reason>,
    /// Those who use it: indexes of members, lowest first.
    users: &'g [(IpAddr, usize)],
}

impl<'g> Spot<'g> {
    /// The spot of one address. `users` is never empty.
    pub(super) fn new(ground: &'g Ground<'_>, members: &[Member<'_>], users: &'g [(IpAddr, usize)]) -> Self {
        let (addr, first) = users[0];
        let link = match &ground.kernel {
            Some(kernel) => link(ground, kernel, &members[first], addr),
            None => Err(Reason::KernelUnknown),
        };
        Self { addr, link, users }
    }

    /// Whether the address is in the kernel by our hand, or lies there for us to adopt.
    pub(super) fn is_present(&self, ground: &Ground<'_>) -> bool {
        let Some(kernel) = &ground.kernel else { return false };
        let is_tagged = || kernel.shown.at(self.addr).any(|address| address.tag == kernel.tag);
        is_tagged() || self.leftover(ground, kernel).is_some()
    }

    /// An untagged address that an agent which does not tag left behind where ours would be. One that a Node lists as
    /// its own, or with another length, is no leftover.
    fn leftover(&self, ground: &Ground<'_>, kernel: &Kernel<'g>) -> Option<&'g Address> {
        let link = self.link.as_ref().ok()?;
        let net = self.net(ground, kernel, link);
        let is_left = |address: &&Address| {
            let is_host = address.net.prefix_len() == address.net.max_prefix_len();
            address.tag == 0 && address.link == link.index && (is_host || address.net == net.0)
        };
        kernel.shown.at(self.addr).find(is_left).filter(|_| ground.cluster.owner(self.addr).is_none())
    }

    fn net(&self, ground: &Ground<'_>, kernel: &Kernel<'_>, link: &Link) -> VipNet {
        let (rule, longest) = match Family::of(self.addr) {
            Family::V4 => (ground.services.prefix_v4, 32),
            Family::V6 => (ground.services.prefix_v6, 128),
        };
        let length = match rule {
            PrefixRule::Fixed(length) => length.min(longest),
            PrefixRule::OfLink => kernel.links.prefix_around(link, self.addr).unwrap_or(longest),
        };
        VipNet(IpNet::new(self.addr, length).expect("no longer than the family's longest"))
    }

    /// Decides about the address and plans it.
    pub(super) fn settle(
        &self,
        (ground, members): (&Ground<'_>, &[Member<'_>]),
        (chair, ballot): (&Chair<'_>, &Ballot),
        plan: &mut NodePlan,
    ) -> Verdict {
        if ground.control_plane_vip(self.addr).is_some() {
            let subject = Subject::ControlPlane(self.addr);
            return plan.verdicts.get(&subject).cloned().unwrap_or(Verdict::Skip(Reason::KernelUnknown));
        }
        let (kernel, link) = match (&chair.obstacle, &ground.kernel, &self.link) {
            (None, Some(kernel), Ok(link)) => (kernel, *link),
            (Some(reason), ..) | (None, _, Err(reason)) => return Verdict::Skip(reason.clone()),
            (None, None, Ok(_)) => return Verdict::Skip(Reason::KernelUnknown),
        };
        let at = ScopedAddr { addr: self.addr, link: link.index };
        if self.leftover(ground, kernel).is_some() {
            plan.addresses.ours_untagged_at.insert(at);
        }
        // The Services say themselves why they are not served.
        let Some(best) = self.backing(members) else { return Verdict::Skip(Reason::NoEndpoint) };
        let novelty = self.novelty((ground, members), (chair, ballot));
        if let Some(reason) = self.refusal((ground, kernel, link), members, novelty) {
            return Verdict::Skip(reason);
        }
        let net = self.net(ground, kernel, link);
        let installed = kernel.shown.at(self.addr).find(|it| it.link == link.index && it.net == net.0);
        if is_holder(chair.election) && installed.is_none() {
            let unknown = (best == Backing::Unknown).then_some(Reason::EndpointsUnknown);
            if let Some(reason) = chair.freeze.clone().or(unknown) {
                return Verdict::Skip(reason);
            }
        }
        if chair.election.role == Role::Undecided {
            plan.addresses.undecided.insert(self.addr);
        }
        let scope = place::scope(Scope::Host, link);
        let vip = Vip { net, link, scope, installed, novelty, on_loss: OnLoss::Remove };
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
        novelty: Novelty,
    ) -> Option<Reason> {
        let net = self.net(ground, kernel, link);
        let mut is_hosts_own = false;
        for address in kernel.shown.at(self.addr) {
            if address.tag == kernel.tag {
                return None;
            }
            let is_host = address.net.prefix_len() == address.net.max_prefix_len();
            let is_ours_to_be = is_host || (address.link == link.index && address.net == net.0);
            is_hosts_own |= address.tag != 0 || !is_ours_to_be;
        }
        if is_hosts_own {
            return Some(Reason::NodeAddress(ground.world.config.node.to_string()));
        }
        // A status alone may come from a load balancer that shows the nodes' own addresses.
        let is_asked_for = self.users.iter().any(|(_, user)| members[*user].source != Source::Status);
        let node = ground.cluster.owner(self.addr)?;
        (novelty == Novelty::New || !is_asked_for).then(|| Reason::NodeAddress(node.to_string()))
    }

    /// Opens the Services' ports for an address that is or stays here.
    fn open(&self, members: &[Member<'_>], at: ScopedAddr, plan: &mut NodePlan) {
        let is_here = plan.addresses.set.get(&at).is_some_and(|planned| match planned.presence {
            Presence::Install { .. } | Presence::Keep { .. } => true,
        });
        if let (true, Some(packets)) = (is_here, &mut plan.filter) {
            filter::open(packets, self.addr, self.users.iter().map(|(_, user)| members[*user].service));
        }
    }
}

fn link<'g>(
    ground: &Ground<'_>,
    kernel: &'g Kernel<'_>,
    member: &Member<'_>,
    addr: IpAddr,
) -> Result<&'g Link, Reason> {
    let down = ground.services.link_down;
    match member.service.annotations.get(INTERFACE).map(|name| name.trim()).filter(|name| !name.is_empty()) {
        Some("auto") => kernel.links.around(addr, down),
        Some(name) => kernel.links.named(name, down),
        None => kernel.links.choose(&ground.services.interface, down, addr),
    }
}
