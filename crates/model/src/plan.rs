//! What should be: the one plan of a turn, from which every machine and every difference is fed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{HealthCheck, LeaseTimings, Scope};
use crate::kernel::Lifetime;
use crate::service::{Condition, EndpointCount, Ingress, ServiceName, ServicePort};
use crate::store::{RETIRED, Revision, Version};
use crate::verdict::{Subject, Verdict};
use crate::{Family, Instant, LeaseName, LinkAddr, LinkIndex, NodeName, ScopedAddr, VipNet};

/// What this node should be and do, as a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Elections that this node takes part in.
    pub elections: BTreeMap<LeaseName, ElectionWant>,
    /// Addresses.
    pub addresses: AddressWant,
    /// Addresses that are announced.
    pub claims: BTreeMap<ScopedAddr, Claim>,
    /// Addresses that are probed for somebody else who answers.
    pub probes: BTreeSet<ScopedAddr>,
    /// Addresses that a former holder may still have, and how that is found out. What is found comes back as what probes
    /// find (`Observed::probes`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub doubts: BTreeMap<ScopedAddr, Doubt>,
    /// The health check that runs.
    pub health: Option<HealthCheck>,
    /// Labels of our own Node: key to value, `None` for a key of ours that must not be there. Keys that are not named
    /// are left alone.
    pub node_labels: BTreeMap<String, Option<String>>,
    /// What is planned for each Service of ours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, ServicePlan>,
    /// Addresses that this node, as the allocator, gives to Services that do not show them yet. The next plan is told
    /// of them (`Observed::promised`), so that a promise stands while its write is under way.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promised: BTreeMap<ServiceName, Promise>,
    /// The address pools, when this node is the allocator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<Pools>,
    /// How much nodes are preferred, but for those that are not at all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub preferences: BTreeMap<NodeName, u32>,
    /// Nodes that groups shall not be on, by their claims (`GroupWant::avoid`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub avoid: BTreeMap<LeaseName, BTreeSet<NodeName>>,
    /// Up to which revision of the Services nothing is in the kernel, nor on its way there, that they do not put there.
    /// None when that can't be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted: Option<Revision>,
    /// What another node should say of a Service and has not, and how long this one waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaid: Option<Unsaid>,
    /// The packet filter for Services, as a whole; none when it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<PacketFilter>,
    /// The link that carries each VIP, or would if this node held it. None where no link fits.
    pub places: BTreeMap<Subject, LinkIndex>,
    /// What was decided about each thing that was asked for.
    pub verdicts: BTreeMap<Subject, Verdict>,
}

/// How it is found out whether a former holder still has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// By asking, again and again until nobody answers, or until then: whoever answers later is none of ours.
    Ask(Option<Instant>),
    /// Nobody can be asked: by then it has surely let go.
    Wait(Instant),
}

/// What is planned for one Service of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Its life.
    pub uid: String,
    /// Its addresses, in the order of its families.
    pub addrs: Vec<IpAddr>,
    /// The election that decides about it.
    pub lease: Option<LeaseName>,
    /// Its endpoints.
    #[serde(default, skip_serializing_if = "EndpointCount::is_empty")]
    pub endpoints: EndpointCount,
    /// Whether this node serves it now: everything that it needs is in the kernel.
    pub serving: Serving,
    /// Annotations that it shall have; `None` for one that it shall not have. Others are left alone.
    pub annotations: BTreeMap<String, Option<String>>,
    /// Labels, likewise.
    pub labels: BTreeMap<String, Option<String>>,
    /// `spec.loadBalancerIP`, when this node has to set it (as the allocator).
    pub spec_ip: Option<String>,
    /// `status.loadBalancer.ingress`, when this node has to write it (as the one that serves).
    pub ingress: Option<Vec<Ingress>>,
    /// Conditions that it shall have, or not have.
    pub conditions: BTreeMap<String, Option<Condition>>,
}

/// That a Service cannot be served, which a node that comes before this one should say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsaid {
    /// One such Service.
    pub service: ServiceName,
    /// How long this node waits before it says so itself.
    pub wait: Duration,
}

/// Addresses that the allocator gives to a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The Service's life.
    pub uid: String,
    /// The addresses, in the order of its families.
    pub addrs: Vec<IpAddr>,
}

/// The address pools as their ConfigMap defines them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    /// How full each pool is.
    pub usage: Vec<PoolUsage>,
    /// What is wrong in the ConfigMap: a sentence each, which begins with the key.
    pub problems: Vec<String>,
}

/// How full one pool is, for one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolUsage {
    /// Its key in the ConfigMap.
    pub key: String,
    /// The family.
    pub family: Family,
    /// How many addresses it can give; stops at `u64::MAX`.
    pub size: u64,
    /// How many of them are in use or reserved.
    pub used: u64,
    /// How many are left; stops at `u64::MAX`.
    pub free: u64,
}

/// Whether this node serves a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serving {
    /// It does.
    Here,
    /// It does not.
    NotHere,
}

/// A packet filter: for each address the ports that may be reached. Everything else to these addresses is dropped,
/// except ICMP and ICMPv6 (path MTU discovery and neighbour discovery need them) and replies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketFilter {
    /// Ports by address.
    pub open: BTreeMap<IpAddr, BTreeSet<ServicePort>>,
}

/// What is wanted of one election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionWant {
    /// Timings.
    pub timings: LeaseTimings,
    /// Annotations for the Lease.
    pub annotations: BTreeMap<String, String>,
    /// Whether we stand for it.
    pub standing: Standing,
    /// How many others come first. Each step costs a contender 30 ms, so that placement decides and not chance.
    #[serde(default)]
    pub rank: u32,
    /// Whether anything that depends on this election is still in the kernel. A Lease is released only when not.
    pub footprint: Footprint,
    /// How far this node has got with the Services, when its Lease shall say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Heard>,
    /// What mode `session` needs to know of the group; none in mode `lease`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupWant>,
}

/// How far a node has got with the Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// It has acted on them up to this revision; 0 while something of what they said before is still to be done.
    pub acted: Revision,
    /// The revision at which an address last left this Lease for another one, while that is not long ago: somebody waits
    /// for the word that it is gone.
    pub moved: Option<Revision>,
}

/// What mode `session` needs to know of an address group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupWant {
    /// How long its addresses live in the kernel without being refreshed, whole seconds.
    pub lifetime: Duration,
    /// Where its addresses can be looked for from here; empty for an election without addresses.
    pub looks: Vec<Look>,
    /// The only nodes that could serve it; none when every fit member could.
    pub heirs: Option<Vec<NodeName>>,
    /// Nodes that it shall not be on while another one can have it: they hold another group of its anti-affinity group. This
    /// node is among them when the other one comes first.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub avoid: BTreeSet<NodeName>,
    /// Whether this node serves all that it wants of the group: installed and announced.
    pub progress: Progress,
}

/// A place where an address can be looked for by unicast.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Look {
    /// The address and our link.
    pub at: ScopedAddr,
    /// Our link-layer address on that link.
    pub addr: LinkAddr,
}

impl ElectionWant {
    /// To let go of the Lease because nobody asks for it any more, as far as is known `at` this version of the Services,
    /// and to say so.
    #[must_use]
    pub fn retired(mut self, footprint: Footprint, at: &Version) -> Self {
        let said = at.revision().map_or_else(|| "true".to_owned(), |Revision(revision)| revision.to_string());
        self.annotations.insert(RETIRED.to_owned(), said);
        Self { standing: Standing::Leave, footprint, ..self }
    }
}

/// How far this node is with a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Something is still to be done, or the group is not ours.
    #[default]
    Pending,
    /// Its addresses are installed and announced.
    Announced,
}

/// Whether we stand for an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// We want it.
    Contend,
    /// Somebody healthier should have it: give it up if another takes it, hold it if nobody does.
    Reluctant,
    /// We serve it and another node should: give it to one, and serve until that one does. In mode `lease` as `Leave`.
    HandOver,
    /// We cannot serve it: let go and stay away.
    Leave,
}

/// What an election has left in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Footprint {
    /// Something is there, or the kernel has not been read.
    Present,
    /// Nothing is there.
    Clear,
}

/// The wanted addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressWant {
    /// Whether the set is the whole truth. From an incomplete set nothing is removed.
    pub completeness: Completeness,
    /// By address and link.
    pub set: BTreeMap<ScopedAddr, PlannedAddress>,
    /// Addresses that are ours even when they carry no tag, wherever they are: the configured VIPs.
    pub ours_untagged: BTreeSet<IpAddr>,
    /// Addresses that are ours even when they carry no tag, but only where a VIP of ours would be: those of Services.
    /// Elsewhere somebody else may have put them (kube-proxy in mode ipvs keeps them on a link of its own).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ours_untagged_at: BTreeSet<ScopedAddr>,
    /// Addresses of which too little is known yet: not removed, even when the rest is the whole truth.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub undecided: BTreeSet<IpAddr>,
}

/// Whether a wanted set is the whole truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// Something is still unknown: add, never remove.
    #[default]
    Partial,
    /// The whole truth: what is ours and not in the set goes.
    Complete,
}

/// One wanted address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedAddress {
    /// Address and prefix length.
    pub net: VipNet,
    /// Its link.
    pub link: LinkIndex,
    /// Its scope.
    pub scope: Scope,
    /// What is wanted of it.
    pub presence: Presence,
}

/// What is wanted of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It shall be there.
    Install {
        /// For how long.
        valid: Lifetime,
        /// The right to install it ends here.
        not_after: Instant,
    },
    /// If it is there it stays; if not it is not added (entitlement is undecided). Its lifetime may be cut to
    /// `at_most`, never lengthened.
    Keep {
        /// The longest lifetime that it may keep.
        at_most: Lifetime,
    },
}

/// An address that this node answers for and announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Our link-layer address on that link.
    pub addr: LinkAddr,
    /// The link's broadcast address.
    pub broadcast: LinkAddr,
    /// Time between two announcements after the first burst.
    pub interval: Duration,
    /// The right to announce ends here.
    pub not_after: Instant,
    /// When somebody else who answered for it, too, stopped: it is announced as if it were new.
    #[serde(default)]
    pub cleared: Option<Instant>,
}
