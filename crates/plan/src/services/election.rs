//! Which Lease decides about a group, and how this node stands for it. Fed with the groups and the state of all
//! elections; gives back, for each group, the chair: the election that counts, and what keeps this node from it.
//!
//! A Service's own ballot is the global election, or one of its own: `kubevip-<name>` in its namespace, or what the
//! annotation `leaseName` says. A group has one authority among its members' ballots: the control plane's election when
//! the group shares its VIP, else the global one, else that of the member with the lowest (namespace, name). The other
//! Leases of the group are stood for only while the authority's is held here, and nothing new is installed before all of
//! them are: an agent that sees an older picture of the Services may still act on one of them.
//!
//! For a group with its own authority this node stands when it is not excluded, when its *lead* can be served here, and
//! when a link carries one of the lead's addresses. The lead is the lowest member that can be served anywhere and names no
//! interface that is missing here: a Service without endpoints, or with a mistake, takes nothing down that shares its
//! address or its Lease. For the global election the node stands when it is not
//! excluded and has a link to serve on; single Services without a (local) endpoint are just not installed. The control
//! plane's election decides about what shares its VIP, on a drained node only not: kubeadm puts the excluding label on every
//! control-plane node. When both use one Lease name there is one election; from Services it gets only their link.

use std::collections::btree_map::Entry;

use vip_model::LeaseName;
use vip_model::config::{InterfaceChoice, OnDemand, ServiceElection};
use vip_model::kernel::Link;
use vip_model::members::{ElectionState, History, Role};
use vip_model::plan::{ElectionWant, Footprint, NodePlan, Standing};
use vip_model::service::{ServiceName, TrafficPolicy};
use vip_model::verdict::Reason;

use super::brief::Brief;
use super::endpoint::Backing;
use super::ground::{Ground, is_holder};
use super::member::Member;
use super::notes::Notes;
use super::spot::Spot;
use crate::vip::other_holder;
use crate::world::Life;

/// The annotation that names the Lease of a Service.
const LEASE: &str = "kube-vip.io/leaseName";
/// The longest name of a namespace (RFC 1123 §2.1 label) and of a Lease (subdomain).
const NAMESPACE_LIMIT: usize = 63;
const NAME_LIMIT: usize = 253;

/// The election that a Service takes part in by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ballot {
    /// The control plane's: it has the same Lease.
    ControlPlane,
    /// The global one for Services.
    Global,
    /// One of its own, or one that it shares by annotation.
    Own(LeaseName),
}

impl Ballot {
    /// Takes the name of its own Lease out of a ballot that is no longer needed.
    pub(super) fn take_own(&mut self) -> Option<LeaseName> {
        match std::mem::replace(self, Self::Global) {
            Self::Own(lease) => Some(lease),
            Self::ControlPlane | Self::Global => None,
        }
    }
}

/// The election of a Service; `Err` says what is wrong with its annotation.
pub(super) fn ballot(
    ground: &Ground<'_>,
    name: &ServiceName,
    (traffic, notes): (TrafficPolicy, &Notes<'_>),
) -> Result<Ballot, Reason> {
    let is_own = match (&ground.services.election, &ground.services.on_demand) {
        (ServiceElection::PerService(_), _) => true,
        (ServiceElection::Global(_), OnDemand::On(_)) => notes.is_forced(),
        (ServiceElection::Global(_), OnDemand::Off) => false,
    };
    if !is_own {
        return Ok(ground.common.clone());
    }
    let lease = own_lease(name, (traffic, notes))?;
    if ground.world.config.control_plane.as_ref().is_some_and(|it| it.election.lease == lease) {
        return Ok(Ballot::ControlPlane);
    }
    if ground.services.ipam.as_ref().is_some_and(|ipam| ipam.election.lease == lease) {
        let text =
            format!("annotation {LEASE}: {lease} is the Lease of the address management; name another");
        return Err(Reason::Invalid(text));
    }
    match &ground.services.election {
        ServiceElection::Global(election) if election.lease == lease => Ok(Ballot::Global),
        ServiceElection::Global(_) | ServiceElection::PerService(_) => Ok(Ballot::Own(lease)),
    }
}

fn own_lease(name: &ServiceName, (traffic, notes): (TrafficPolicy, &Notes<'_>)) -> Result<LeaseName, Reason> {
    let Some(text) = notes.lease else {
        return Ok(LeaseName::new(name.namespace(), format!("kubevip-{}", name.name())));
    };
    if traffic == TrafficPolicy::Local {
        let text = format!(
            "annotation {LEASE}: Services that share a Lease are served by one node, which externalTrafficPolicy Local \
             does not allow; remove the annotation or use policy Cluster"
        );
        return Err(Reason::Invalid(text));
    }
    let (namespace, lease) = text.split_once('/').unwrap_or((name.namespace(), text));
    let is_legal =
        is_name(namespace, NAMESPACE_LIMIT) && !namespace.contains('.') && is_name(lease, NAME_LIMIT);
    if !is_legal {
        let text: String = text.chars().take(60).collect();
        let text = format!("annotation {LEASE}: {text:?} names no Lease; name or namespace/name is accepted");
        return Err(Reason::Invalid(text));
    }
    Ok(LeaseName::new(namespace, lease))
}

/// Whether a text can be the name of an object (RFC 1123 §2.1, lower case).
fn is_name(text: &str, limit: usize) -> bool {
    let is_end =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    text.len() <= limit
        && text.bytes().all(is_inner)
        && is_end(text.as_bytes().first())
        && is_end(text.as_bytes().last())
}

/// The Lease behind a ballot.
pub(super) fn lease_of<'g>(ground: &'g Ground<'_>, ballot: &'g Ballot) -> Option<&'g LeaseName> {
    match (ballot, &ground.services.election) {
        (Ballot::Own(lease), _) => Some(lease),
        (Ballot::Global, ServiceElection::Global(election)) => Some(&election.lease),
        (Ballot::Global, ServiceElection::PerService(_)) => None,
        (Ballot::ControlPlane, _) => {
            ground.world.config.control_plane.as_ref().map(|control_plane| &control_plane.election.lease)
        }
    }
}

/// What decides about a group, seen from this node.
pub(super) struct Chair<'g> {
    /// The Leases of the group beside its authority's, in order.
    siblings: Vec<&'g LeaseName>,
    /// The member for whose sake this node stands.
    pub(super) lead: Option<usize>,
    /// The election that counts.
    pub(super) election: &'g ElectionState,
    /// What keeps this node from all of its Services, whatever they are.
    pub(super) bar: Option<Reason>,
    /// What keeps this node from the group.
    pub(super) obstacle: Option<Reason>,
    /// Why another node should have the group, which this one serves until then.
    pub(super) gives: Option<Reason>,
    /// While this is set what is installed stays, and nothing is added.
    pub(super) freeze: Option<Reason>,
}

impl<'g> Chair<'g> {
    pub(super) fn new(
        ground: &'g Ground<'_>,
        members: &'g [Member<'_>],
        brief: &Brief<'g>,
        spots: &[Spot<'_>],
    ) -> Self {
        let authority = brief.authority;
        let siblings = siblings(members, brief);
        let lead = lead(members, brief, spots);
        let obstacle = match brief.ballot {
            Ballot::Own(_) => group_obstacle(ground, (members, brief, lead), (authority, spots)),
            Ballot::Global | Ballot::ControlPlane => None,
        };
        // A lower name that has just joined becomes the authority; until somebody holds its Lease, who holds another one
        // of the group keeps what is installed.
        let regent = siblings.iter().map(|lease| ground.state(lease)).find(|state| is_holder(state));
        let election = match regent {
            Some(regent) if !is_holder(authority) && other_holder(&ground.world, authority).is_none() => {
                regent
            }
            _ => authority,
        };
        let (bar, gives) = soften(ground, bar(ground, brief.ballot), election);
        let mut all = siblings.iter().map(|lease| ground.state(lease)).chain([authority]);
        let freeze = is_holder(election).then(|| all.find_map(|state| missing(ground, state))).flatten();
        Self { siblings, lead, election, obstacle: bar.clone().or(obstacle), bar, gives, freeze }
    }
}

impl Chair<'_> {
    /// What keeps this node from having an address of the group at all. While neither the endpoints nor the Lease were
    /// seen, what an earlier life of the agent installed stays.
    pub(super) fn obstacle_to_stay(&self) -> Option<&Reason> {
        self.obstacle.as_ref().filter(|reason| **reason != Reason::EndpointsUnknown || !self.is_unseen())
    }

    /// Whether the Lease was not seen yet.
    pub(super) fn is_unseen(&self) -> bool {
        self.election.role == Role::Undecided && self.election.history == History::Unknown
    }
}

/// Why a Lease of the group is not ours to act on. One that was never seen and cannot be read blocks nobody: it may be a
/// mistake in an annotation.
fn missing(ground: &Ground<'_>, state: &ElectionState) -> Option<Reason> {
    let is_unreadable = state.holder.is_none() && state.trouble.is_some();
    if is_holder(state) || is_unreadable {
        return None;
    }
    Some(
        other_holder(&ground.world, state)
            .map_or(Reason::LeaseFree, |other| Reason::HeldBy(other.to_owned())),
    )
}

/// The Leases of a group beside its authority's, in order.
fn siblings<'g>(members: &'g [Member<'_>], brief: &Brief<'g>) -> Vec<&'g LeaseName> {
    let mut leases = Vec::new();
    for member in brief.group.iter().map(|at| &members[*at]) {
        match &member.ballot {
            Ballot::Own(lease) if member.ballot != *brief.ballot => leases.push(lease),
            Ballot::Own(_) | Ballot::Global | Ballot::ControlPlane => {}
        }
    }
    leases.sort_unstable();
    leases.dedup();
    leases
}

/// In mode `session` a holder that stops or is excluded serves on until its successor does.
fn soften(
    ground: &Ground<'_>,
    bar: Option<Reason>,
    election: &ElectionState,
) -> (Option<Reason>, Option<Reason>) {
    let is_soft = matches!(bar, Some(Reason::Stopping | Reason::NodeExcluded(_)));
    if is_soft && is_holder(election) && ground.world.hands_over() { (None, bar) } else { (bar, None) }
}

fn bar(ground: &Ground<'_>, ballot: &Ballot) -> Option<Reason> {
    let excluded = match ballot {
        Ballot::Global | Ballot::Own(_) => ground.cluster.excluded,
        Ballot::ControlPlane => ground.cluster.drained,
    };
    match (ground.world.life, &ground.kernel, excluded) {
        (Life::Stopping, ..) => Some(Reason::Stopping),
        (_, None, _) => Some(Reason::KernelUnknown),
        (_, _, Some(why)) => Some(Reason::NodeExcluded(why.to_owned())),
        (_, _, None) => None,
    }
}

/// The lowest member that can be served anywhere and whose own interface is there: what one Service names by mistake
/// takes nobody down that shares its Lease. When there is none, the lowest that can be served anywhere.
fn lead(members: &[Member<'_>], brief: &Brief<'_>, spots: &[Spot<'_>]) -> Option<usize> {
    let is_placed = |at: &usize| {
        let mut links = links(&members[*at], spots);
        links.any(|link| !matches!(link, Err(Reason::LinkMissing(_) | Reason::NoLinkFits)))
    };
    let able = brief.group.iter().copied().filter(|at| members[*at].backing.serves());
    able.clone().find(is_placed).or(brief.lead)
}

/// The links of a member's addresses, or why they have none.
fn links<'s>(
    member: &Member<'_>,
    spots: &'s [Spot<'_>],
) -> impl Iterator<Item = &'s Result<&'s Link, Reason>> {
    spots.iter().filter(|spot| member.addrs.contains(&spot.addr)).map(|spot| &spot.link)
}

fn group_obstacle(
    ground: &Ground<'_>,
    (members, brief, lead): (&[Member<'_>], &Brief<'_>, Option<usize>),
    (authority, spots): (&ElectionState, &[Spot<'_>]),
) -> Option<Reason> {
    let first = &members[brief.group[0]];
    let is_unknown = brief.group.iter().any(|at| members[*at].backing == Backing::Unknown);
    let lead = match lead {
        Some(lead) => &members[lead],
        None if is_unknown && ground.names_us(authority) => first,
        None if is_unknown => return Some(Reason::EndpointsUnknown),
        None => return first.backing.obstacle(),
    };
    if let Some(reason) = lead.backing.obstacle() {
        return Some(reason);
    }
    if links(lead, spots).any(Result::is_ok) {
        return None;
    }
    links(lead, spots).find_map(|link| link.as_ref().err().cloned())
}

/// What is wanted of the Services' own elections, gathered to be planned at once.
#[derive(Default)]
pub(super) struct Wants(Vec<(LeaseName, ElectionWant)>);

impl Wants {
    /// Stands (or does not) for the group's own Leases.
    pub(super) fn gather(
        &mut self,
        ground: &Ground<'_>,
        (brief, chair): (&Brief<'_>, &Chair<'_>),
        footprint: Footprint,
    ) {
        let authority = brief.authority;
        // Until the endpoints are known a Lease is neither taken nor given up: it may name this node, as the next turn sees.
        let footprint = match &chair.obstacle {
            Some(Reason::EndpointsUnknown) => Footprint::Present,
            _ => footprint,
        };
        if let Ballot::Own(lease) = brief.ballot {
            let standing = match (&chair.obstacle, &chair.gives) {
                (Some(Reason::NoLocalEndpoint), _) if ground.world.hands_over() => Standing::HandOver,
                (Some(_), _) => Standing::Leave,
                (None, Some(_)) => Standing::HandOver,
                (None, None) => Standing::Contend,
            };
            // Who holds a part of the group gets the rest before others try.
            let mut states = chair.siblings.iter().map(|lease| ground.state(lease));
            let rank = if states.clone().any(is_holder) {
                0
            } else {
                let is_elsewhere = states.any(|state| other_holder(&ground.world, state).is_some());
                // A node that can serve the first of them, too, goes first.
                let lacks_first = chair.lead != brief.lead;
                brief.rank.saturating_add(u32::from(is_elsewhere)).saturating_add(u32::from(lacks_first))
            };
            self.0.push((lease.clone(), own_want(ground, standing, rank, footprint)));
        }
        for lease in &chair.siblings {
            let keeps = is_holder(ground.state(lease)) && other_holder(&ground.world, authority).is_none();
            let stands = chair.obstacle.is_none() && (is_holder(authority) || keeps);
            let standing = match &chair.gives {
                _ if !stands => Standing::Leave,
                Some(_) => Standing::HandOver,
                None => Standing::Contend,
            };
            self.0.push(((*lease).clone(), own_want(ground, standing, 0, footprint)));
        }
    }

    /// A Lease of their own belongs to one group only, and is no other election's.
    pub(super) fn add_to(self, plan: &mut NodePlan) {
        plan.elections.append(&mut self.0.into_iter().collect());
    }
}

pub(super) fn own_want(
    ground: &Ground<'_>,
    standing: Standing,
    rank: u32,
    footprint: Footprint,
) -> ElectionWant {
    let timings = match (&ground.services.election, &ground.services.on_demand) {
        (ServiceElection::PerService(timings), _) | (_, OnDemand::On(timings)) => *timings,
        (ServiceElection::Global(election), OnDemand::Off) => election.timings,
    };
    ElectionWant {
        timings,
        annotations: std::collections::BTreeMap::new(),
        standing,
        rank,
        footprint,
        heard: None,
        group: None,
    }
}

/// What the groups under the global election have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Services under it.
    pub(super) members: usize,
    /// Those of them that have a link here.
    pub(super) linked: usize,
    /// Addresses in the kernel that depend on it.
    pub(super) present: usize,
}

/// Stands (or does not) for the global election. `tally` is none while the Services are unknown.
pub(super) fn want_global(ground: &Ground<'_>, tally: Option<Tally>, plan: &mut NodePlan) {
    let ServiceElection::Global(election) = &ground.services.election else { return };
    let ballot = &ground.common;
    let state = ground.state(&election.lease);
    let is_known = tally.is_some() && ground.world.snapshot.endpoints.is_known();
    let may_take = is_known || *ballot == Ballot::ControlPlane || ground.names_us(state);
    let (bar, gives) = soften(ground, bar(ground, ballot), state);
    let is_barred = bar.is_some();
    let stands = !is_barred && may_take && has_link(ground, ballot, tally);
    let want_of_ours = ElectionWant {
        timings: election.timings,
        annotations: election.annotations.clone(),
        standing: match gives {
            _ if !stands => Standing::Leave,
            Some(_) => Standing::HandOver,
            None => Standing::Contend,
        },
        rank: 0,
        footprint: match tally {
            None if *ballot == Ballot::Global => Footprint::Present,
            Some(_) if !may_take && !is_barred => Footprint::Present,
            tally => footprint(ground, tally.unwrap_or_default().present),
        },
        heard: None,
        group: None,
    };
    want(plan, &election.lease, want_of_ours);
}

/// The configured link, else any that one of the Services would use. The control plane knows its own: an interface that
/// a Service names by mistake does not take its VIP away.
fn has_link(ground: &Ground<'_>, ballot: &Ballot, tally: Option<Tally>) -> bool {
    let Some(kernel) = &ground.kernel else { return false };
    match &ground.services.interface {
        InterfaceChoice::Named(name) => kernel.links.named(name, ground.services.link_down).is_ok(),
        InterfaceChoice::Auto if *ballot == Ballot::ControlPlane => true,
        InterfaceChoice::Auto => tally.is_none_or(|tally| tally.members == 0 || tally.linked > 0),
    }
}

/// What an election has left in the kernel, when this many of its addresses are there.
pub(super) fn footprint(ground: &Ground<'_>, present: usize) -> Footprint {
    let is_settled = ground.kernel.is_some() && ground.world.kernel_work == crate::world::KernelWork::Settled;
    if present == 0 && is_settled { Footprint::Clear } else { Footprint::Present }
}

/// Adds what Services want of an election. What the control plane wants of the same one stays; the stricter standing
/// counts.
pub(super) fn want(plan: &mut NodePlan, lease: &LeaseName, wanted: ElectionWant) {
    match plan.elections.entry(lease.clone()) {
        Entry::Vacant(vacant) => {
            vacant.insert(wanted);
        }
        Entry::Occupied(mut occupied) => {
            let present = occupied.get_mut();
            present.standing = stricter(present.standing, wanted.standing);
            present.rank = present.rank.min(wanted.rank);
            if wanted.footprint == Footprint::Present {
                present.footprint = Footprint::Present;
            }
        }
    }
}

fn stricter(one: Standing, other: Standing) -> Standing {
    match (one, other) {
        (Standing::Leave, _) | (_, Standing::Leave) => Standing::Leave,
        (Standing::HandOver, _) | (_, Standing::HandOver) => Standing::HandOver,
        (Standing::Reluctant, _) | (_, Standing::Reluctant) => Standing::Reluctant,
        (Standing::Contend, Standing::Contend) => Standing::Contend,
    }
}
