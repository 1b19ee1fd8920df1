//! How the agents of a world look after Services.

use vip_model::config::{
    ClassRule, EndpointSource, InterfaceChoice, Ipam, OnDemand, PrefixRule, ServiceElection, ServiceLabels,
    ServiceSecurity, ServiceUpdates, Services, UnsetClass,
};
use vip_model::{LeaseName, Random};

use super::Setup;

/// The class that is ours.
pub const CLASS: &str = "kube-vip.io/kube-vip-class";
/// Namespace and name of the pools' `ConfigMap`.
const POOLS: (&str, &str) = ("kube-system", "kubevip");

/// How the agents of a world look after Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicesSetup {
    /// Who holds their addresses.
    pub election: Election,
    /// `per_service_election_on_demand`.
    pub on_demand: Switch,
    /// Only Services of this namespace.
    pub namespace: Option<String>,
    /// Whether Services without a class are ours.
    pub unset: UnsetClass,
    /// `svc_ipam`.
    pub ipam: Switch,
    /// `enable_node_labeling`.
    pub node_labels: ServiceLabels,
    /// `enable_service_security`.
    pub security: ServiceSecurity,
    /// `disable_service_updates`.
    pub updates: Writes,
    /// Whether agents may post Events.
    pub events: EventRights,
    /// How many Services a generator may make.
    pub count: u32,
}

/// Whether the agent that looks after Services holds control-plane VIPs, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shares {
    /// It does not.
    No,
    /// It does.
    Yes,
}

/// Whether something is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It is not.
    Off,
    /// It is.
    On,
}

/// Who holds the addresses of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The holder of one Lease.
    Global(CommonLease),
    /// The holder of each Service's own.
    PerService,
}

/// Which Lease the global election has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommonLease {
    /// One of its own.
    Own,
    /// The control plane's.
    ControlPlane,
}

/// Whether Services are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They are.
    On,
    /// They are not.
    Off,
}

/// Whether agents may post Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventRights {
    /// They may.
    Granted,
    /// RBAC answers 403.
    Missing,
}

impl ServicesSetup {
    /// One global election, nothing special: what a person starts from.
    pub fn plain() -> Self {
        Self {
            election: Election::Global(CommonLease::Own),
            on_demand: Switch::Off,
            namespace: None,
            unset: UnsetClass::Ours,
            ipam: Switch::Off,
            node_labels: ServiceLabels::Off,
            security: ServiceSecurity::Off,
            updates: Writes::On,
            events: EventRights::Granted,
            count: 0,
        }
    }

    /// Drawn from dice. `shares` says whether the agent holds control-plane VIPs, too.
    pub(super) fn draw(dice: &mut Random, shares: Shares) -> Self {
        let mut chance = |per_cent| dice.below(100) < per_cent;
        let election = match (chance(45), shares) {
            (true, _) => Election::PerService,
            (false, Shares::Yes) if chance(40) => Election::Global(CommonLease::ControlPlane),
            (false, _) => Election::Global(CommonLease::Own),
        };
        let switch = |yes| if yes { Switch::On } else { Switch::Off };
        let mut drawn = Self {
            election,
            on_demand: switch(election != Election::PerService && chance(35)),
            namespace: chance(10).then(|| "default".to_owned()),
            unset: if chance(8) { UnsetClass::NotOurs } else { UnsetClass::Ours },
            ipam: switch(chance(35)),
            node_labels: if chance(20) { ServiceLabels::On } else { ServiceLabels::Off },
            security: if chance(20) { ServiceSecurity::On } else { ServiceSecurity::Off },
            updates: if chance(5) { Writes::Off } else { Writes::On },
            events: if chance(20) { EventRights::Missing } else { EventRights::Granted },
            count: 0,
        };
        let is_many = dice.below(80) == 0;
        drawn.count = match (is_many, election) {
            (true, Election::Global(_)) => 60 + u32::try_from(dice.below(41)).expect("small"),
            (true, Election::PerService) => 20 + u32::try_from(dice.below(21)).expect("small"),
            (false, _) => [1, 2, 2, 3, 3, 4, 5, 6][super::pick(dice, 8)],
        };
        drawn
    }

    /// The Lease of the global election, when there is one.
    pub fn global_lease(&self, setup: &Setup, agent: usize) -> Option<LeaseName> {
        match self.election {
            Election::Global(CommonLease::Own) => Some(LeaseName::new("kube-system", "plndr-svcs-lock")),
            Election::Global(CommonLease::ControlPlane) => Some(setup.lease(agent)),
            Election::PerService => None,
        }
    }

    /// The Lease of the address management.
    pub fn ipam_lease() -> LeaseName {
        LeaseName::new("kube-system", "kubevip-ipam")
    }

    /// The configuration of agent number `agent`.
    pub(super) fn config(&self, setup: &Setup, agent: usize) -> Services {
        let is_on = |switch| switch == Switch::On;
        Services {
            namespace: self.namespace.clone(),
            class: ClassRule { name: CLASS.to_owned(), unset: self.unset },
            interface: match &setup.interface {
                // The VIP of a Service on `lo` would be nobody's to announce.
                InterfaceChoice::Named(_) => InterfaceChoice::Named(super::VIP_LINK.to_owned()),
                InterfaceChoice::Auto => InterfaceChoice::Auto,
            },
            link_down: setup.link_down,
            prefix_v4: PrefixRule::Fixed(32),
            prefix_v6: PrefixRule::Fixed(128),
            election: match self.global_lease(setup, agent) {
                Some(lease) => ServiceElection::Global(setup.election(lease)),
                None => ServiceElection::PerService(setup.timings),
            },
            on_demand: if is_on(self.on_demand) { OnDemand::On(setup.timings) } else { OnDemand::Off },
            endpoints: EndpointSource::Slices,
            updates: match self.updates {
                Writes::On => ServiceUpdates::On,
                Writes::Off => ServiceUpdates::Off,
            },
            security: self.security,
            node_labels: self.node_labels,
            ipam: is_on(self.ipam).then(|| Ipam {
                namespace: POOLS.0.to_owned(),
                config_map: POOLS.1.to_owned(),
                election: setup.election(Self::ipam_lease()),
            }),
        }
    }
}
