//! What every decision about Services looks at: the world, and indexes over its parts, made once for a plan.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vip_model::config::{Preference, ServiceElection, Services};
use vip_model::members::{ElectionState, Role};
use vip_model::{LeaseName, NodeName, VipNet};

use crate::place::Links;
use crate::services::election::Ballot;
use crate::services::rank::Runner;
use crate::shown::Shown;
use crate::world::World;

/// The world as the plan for Services needs it.
pub(super) struct Ground<'a> {
    pub(super) world: World<'a>,
    pub(super) services: &'a Services,
    /// None while the kernel was not read.
    pub(super) kernel: Option<Kernel<'a>>,
    pub(super) cluster: Cluster<'a>,
    /// The ballot of Services without an election of their own.
    pub(super) common: Ballot,
    /// Whether the store is known to have newer versions of Leases than this node sees: what it sees of Services may be
    /// old, too.
    pub(super) is_outdated: bool,
    /// Stands for an election that nothing was heard of.
    unheard: ElectionState,
}

/// The kernel's picture, indexed.
pub(super) struct Kernel<'a> {
    pub(super) links: Links<'a>,
    pub(super) shown: Shown<'a>,
    /// The tag of this instance.
    pub(super) tag: u8,
}

/// The nodes of the cluster, indexed.
pub(super) struct Cluster<'a> {
    /// Nodes that are ready and not excluded, in the order of their names.
    pub(super) runners: Vec<Runner<'a>>,
    /// Which node has an address.
    owners: BTreeMap<IpAddr, &'a NodeName>,
    /// Why this node is taken out of load balancing.
    pub(super) excluded: Option<&'a str>,
    /// The same, when a user drained it: the control plane's VIP leaves, too.
    pub(super) drained: Option<&'a str>,
    /// Nodes that are ready, in the order of their names.
    ready: Vec<&'a NodeName>,
    /// All nodes, in the order of their names.
    all: Vec<&'a NodeName>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(world: &World<'a>, services: &'a Services) -> Self {
        let tag = world.config.instance.address_tag();
        let kernel = world.actual.get().map(|actual| Kernel {
            links: Links::new(world.config, actual),
            shown: Shown::new(actual),
            tag,
        });
        Self {
            world: *world,
            services,
            kernel,
            cluster: Cluster::new(world),
            common: common(world, services),
            is_outdated: world.members.elections.values().any(|state| state.said.is_outdated),
            unheard: ElectionState::default(),
        }
    }

    /// The state of an election.
    pub(super) fn state(&self, lease: &LeaseName) -> &ElectionState {
        self.world.members.elections.get(lease).unwrap_or(&self.unheard)
    }

    /// The state of an election that there may not be.
    pub(super) fn state_of(&self, lease: Option<&LeaseName>) -> &ElectionState {
        lease.map_or(&self.unheard, |lease| self.state(lease))
    }

    /// Whether the Lease names this node: what is on it stays on it until more is known.
    pub(super) fn names_us(&self, election: &ElectionState) -> bool {
        is_holder(election) || election.holder.as_deref() == Some(self.world.config.node.as_str())
    }

    /// The control-plane VIP with this address.
    pub(super) fn control_plane_vip(&self, addr: IpAddr) -> Option<VipNet> {
        let control_plane = self.world.config.control_plane.as_ref()?;
        control_plane.vips.iter().copied().find(|vip| vip.addr() == addr)
    }
}

/// The global election, which is the control plane's when both have one Lease name.
fn common(world: &World<'_>, services: &Services) -> Ballot {
    match (&services.election, &world.config.control_plane) {
        (ServiceElection::Global(election), Some(control_plane))
            if control_plane.election.lease == election.lease =>
        {
            Ballot::ControlPlane
        }
        _ => Ballot::Global,
    }
}

pub(super) const fn is_holder(election: &ElectionState) -> bool {
    matches!(election.role, Role::Holder { .. })
}

impl<'a> Cluster<'a> {
    fn new(world: &World<'a>) -> Self {
        let me = &world.config.node;
        let nodes = world.snapshot.nodes.get().map(|nodes| nodes.iter()).into_iter().flatten();
        let ready = nodes.clone().filter(|(_, facts)| facts.ready);
        let own = nodes.clone().find(|(name, _)| *name == me).map(|(_, facts)| facts);
        let free = ready.clone().filter(|(_, facts)| facts.excluded.is_none());
        Self {
            runners: free
                .map(|(name, facts)| {
                    Runner::new(name, Preference::score(&world.config.preferred, &facts.traits))
                })
                .collect(),
            owners: nodes
                .clone()
                .flat_map(|(name, facts)| facts.addresses.iter().map(move |addr| (*addr, name)))
                .collect(),
            excluded: own.and_then(|facts| facts.excluded.as_deref()),
            drained: own.filter(|facts| facts.is_drained()).and_then(|facts| facts.excluded.as_deref()),
            ready: ready.map(|(name, _)| name).collect(),
            all: nodes.map(|(name, _)| name).collect(),
        }
    }

    /// The node that lists this address as its own.
    pub(super) fn owner(&self, addr: IpAddr) -> Option<&'a NodeName> {
        self.owners.get(&addr).copied()
    }

    /// The names of the nodes that are ready, in their order.
    pub(super) fn ready(&self) -> impl Iterator<Item = &str> {
        self.ready.iter().map(|name| name.as_str())
    }

    /// Whether there is a node of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// The index of a node that could hold groups.
    pub(super) fn runner(&self, name: &str) -> Option<usize> {
        self.runners.binary_search_by(|runner| runner.name.as_str().cmp(name)).ok()
    }
}
