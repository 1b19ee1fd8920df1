//! The store (the Kubernetes API) as the node sees it: questions with ids, answers that carry them back, watched
//! Leases, classified failures.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::EndpointSource;
use crate::service::{Condition, Endpoint, Ingress, Service, ServiceName};
use crate::session::{SessionSeen, SessionWrite};
use crate::{InstanceName, Known, LeaseName, NodeName, QuestionId};

/// A `metadata.resourceVersion`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub String);

impl Version {
    /// Whether `self` is older than `other`. Versions that are not numbers have no order and are never older: what
    /// cannot be compared is taken as news.
    pub fn is_older_than(&self, other: &Self) -> bool {
        match (self.0.parse::<u64>(), other.0.parse::<u64>()) {
            (Ok(this), Ok(that)) => this < that,
            _ => false,
        }
    }

    /// The revision of the store that it names, when it is a number.
    pub fn revision(&self) -> Option<Revision> {
        self.0.parse().ok().map(Revision)
    }
}

/// A revision of the store: what was true at one includes all that was true before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// What a Lease says, as far as an election cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// `spec.holderIdentity`; none when absent or empty.
    pub holder: Option<String>,
    /// `spec.leaseDurationSeconds`, when present and positive.
    pub duration: Option<Duration>,
    /// `spec.leaseTransitions`, 0 when absent.
    pub transitions: u32,
    /// `spec.acquireTime` exactly as stored. Compared, never computed with: it is another node's clock.
    pub acquired: Option<String>,
    /// `spec.renewTime` exactly as stored. As above.
    pub renewed: Option<String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
}

/// The annotation of a Lease that its last holder gave up because nobody asks for it any more: the revision of the
/// Services as that holder knew them, or `"true"`.
pub const RETIRED: &str = "kube-vip.io/retired";

/// The annotation of a Lease that says up to which revision of the Services its holder has acted: of addresses that they
/// put under other Leases by then nothing is in its kernel, nor on its way there.
pub const ACTED: &str = "kube-vip.io/acted";
/// The annotation of a Lease that says at which revision of the Services an address last left it for another Lease, while
/// that is not long ago: whoever takes it and knows them up to an older one only has missed that.
pub const MOVED: &str = "kube-vip.io/moved";

impl LeaseRecord {
    /// Up to which revision of the Services its holder, or the last one, has acted. None where it does not say so.
    pub fn acted(&self) -> Option<Revision> {
        self.revision(ACTED)
    }

    /// At which revision of the Services an address left it a short time ago.
    pub fn moved(&self) -> Option<Revision> {
        self.revision(MOVED)
    }

    fn revision(&self, key: &str) -> Option<Revision> {
        self.annotations
            .get(key)
            .filter(|said| !said.is_empty())
            .and_then(|said| Version(said.clone()).revision())
    }

    /// Whether its last holder gave it up because nobody asked for it any more, and at which revision of the Services.
    pub fn retired(&self) -> Option<Revision> {
        let said = self.annotations.get(RETIRED).filter(|_| self.holder.is_none() && self.says_retired())?;
        Some(Version(said.clone()).revision().unwrap_or_default())
    }

    /// Whether the annotation says so, which a client that does not know it leaves there.
    pub fn says_retired(&self) -> bool {
        self.annotations.get(RETIRED).is_some_and(|said| !said.is_empty())
    }
}

/// One sight of a Lease: from a watch, a read or our own write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSeen {
    /// The Lease.
    pub lease: LeaseName,
    /// What was seen.
    pub sight: Sight,
}

/// What a look at a Lease showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// It does not exist. The version is the store's when known (a list or a deletion event tells it).
    Absent(Option<Version>),
    /// It exists.
    Present {
        /// Its version.
        version: Version,
        /// What it says.
        record: LeaseRecord,
    },
}

/// A question to the store. Its answer carries the id back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The id.
    pub id: QuestionId,
    /// How long an answer is worth waiting for. The gateway answers `Failed(Timeout)` by then, always.
    pub timeout: Duration,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Read a Lease, freshly (no cache).
    ReadLease(LeaseName),
    /// Write a Lease, if it still is as expected.
    WriteLease(LeaseWrite),
    /// Set (or remove, with `None`) labels of a Node by a merge patch.
    LabelNode {
        /// The Node.
        node: NodeName,
        /// Key to value; `None` removes the key.
        labels: BTreeMap<String, Option<String>>,
    },
    /// Change annotations, labels or `spec.loadBalancerIP` of a Service (PUT with its resourceVersion).
    WriteService(ServiceWrite),
    /// Replace `status.loadBalancer.ingress` and our conditions of a Service (PUT of `status`).
    WriteServiceStatus(ServiceStatusWrite),
    /// Post an Event (`events`, core/v1).
    PostEvent(EventPost),
    /// Read a session Lease, freshly.
    ReadSession(LeaseName),
    /// Write a session Lease, if it still is as expected.
    WriteSession(Box<SessionWrite>),
}

/// A compare-and-swap change of a Service's metadata and address. What is not named is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceWrite {
    /// The Service.
    pub service: ServiceName,
    /// It must still have this version.
    pub expect: Version,
    /// Annotations to set, or with `None` to remove.
    pub annotations: BTreeMap<String, Option<String>>,
    /// Labels to set, or with `None` to remove.
    pub labels: BTreeMap<String, Option<String>>,
    /// `spec.loadBalancerIP`, when it is to be set.
    pub spec_ip: Option<String>,
}

/// A compare-and-swap change of a Service's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatusWrite {
    /// The Service.
    pub service: ServiceName,
    /// It must still have this version.
    pub expect: Version,
    /// The whole `status.loadBalancer.ingress`.
    pub ingress: Vec<Ingress>,
    /// Conditions to set, or with `None` to remove; others are kept. `lastTransitionTime` is the gateway's wall clock
    /// when the status of a condition changes.
    pub conditions: BTreeMap<String, Option<Condition>>,
}

/// An Event about a Service. Name and times are the gateway's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPost {
    /// The Service.
    pub service: ServiceName,
    /// Its uid.
    pub uid: String,
    /// `Normal` or `Warning`.
    pub weight: EventWeight,
    /// A word in camel case.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// How often it came to that in this life of the agent, this time included: what was told before is brought up to
    /// date instead of told again.
    pub count: u32,
}

/// `type` of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventWeight {
    /// Something that is as it should be.
    Normal,
    /// Something that somebody should look at.
    Warning,
}

/// A compare-and-swap write of a Lease. `spec.renewTime` is always the gateway's wall clock at the moment of sending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseWrite {
    /// The Lease.
    pub lease: LeaseName,
    /// What must still hold.
    pub expect: Expect,
    /// Why: for logs, metrics and the simulator.
    pub purpose: Purpose,
    /// `spec.holderIdentity`; none writes the empty string, as client-go does on release.
    pub holder: Option<NodeName>,
    /// `spec.leaseDurationSeconds`, whole seconds, at least 1.
    pub duration: Duration,
    /// `spec.acquireTime`.
    pub acquired: Acquired,
    /// `spec.leaseTransitions`.
    pub transitions: u32,
    /// Annotations to set; others on the object are kept.
    pub annotations: BTreeMap<String, String>,
}

/// The premise of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// The Lease does not exist: create it.
    Absent,
    /// The Lease still has this version: replace it.
    Version(Version),
}

/// Why a Lease is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To become its holder.
    Take,
    /// To stay its holder.
    Renew,
    /// To give it up.
    Release,
    /// To name the heir of another node's session.
    Depose,
    /// To give it to a successor that is named.
    HandOver,
}

/// What `spec.acquireTime` becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acquired {
    /// The gateway's wall clock.
    Now,
    /// This text, as read before.
    Keep(String),
}

/// What the store says to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The Lease as read or as written.
    Lease(LeaseSeen),
    /// The session Lease as read or as written; none when there is none (or none that can be understood).
    Session(LeaseName, Option<Box<SessionSeen>>),
    /// The premise of a write no longer holds (409 Conflict or `AlreadyExists`, or 404 on a replace): look again.
    Conflict,
    /// Done, nothing more to say.
    Done,
    /// No answer that helps.
    Failed(Failure),
}

/// Why the store gave no answer that helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its class, on which decisions are made.
    pub class: FailureClass,
    /// Its text, for people: what was asked, of which server, what it said.
    pub text: String,
}

/// Classes of failures (design: transient ones are retried inside the deadline, permanent ones slowly).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Connection refused, reset, no route, name not found.
    Unreachable,
    /// No answer in time, by our clock or by the server's word (504, `etcdserver: request timed out`).
    Timeout,
    /// 429.
    Throttled,
    /// 5xx.
    Server,
    /// 410: the version asked for is gone.
    Gone,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404 where the object's absence is not the answer (namespace or resource kind missing).
    NotFound,
    /// The server's certificate is not trusted, or a credential file is broken.
    Tls,
    /// The server understood and refused (400, 422), or said something that we do not understand.
    Invalid,
}

impl FailureClass {
    /// All classes, for metrics.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Throttled,
        Self::Server,
        Self::Gone,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Tls,
        Self::Invalid,
    ];

    /// Whether trying again soon can help.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout | Self::Throttled | Self::Server | Self::Gone)
    }

    /// The class as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::Server => "server",
            Self::Gone => "gone",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Tls => "tls",
            Self::Invalid => "invalid",
        }
    }
}

/// The whole set of things that the node wants to be told about, as they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watches {
    /// Leases.
    pub leases: BTreeSet<LeaseName>,
    /// Whether Nodes are of interest (their addresses and our labels).
    pub nodes: bool,
    /// Services and their endpoints, when they are of interest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceWatch>,
    /// Namespace and name of the pools' ConfigMap, when it is of interest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<(String, String)>,
    /// The session Leases of an instance, when they are of interest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionWatch>,
}

/// Which session Leases are watched: those with the label `kube-vip.io/session-of=<instance>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionWatch {
    /// Their namespace.
    pub namespace: String,
    /// The instance.
    pub instance: InstanceName,
}

/// Which Services are watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceWatch {
    /// Only those of this namespace; all when none.
    pub namespace: Option<String>,
    /// Where endpoints are read.
    pub endpoints: EndpointSource,
}

/// What the cluster says, as a whole. Domains become known one by one and are never unknown again: when the API is
/// lost they are stale, which `View` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Nodes by name.
    pub nodes: Known<Arc<BTreeMap<NodeName, NodeFacts>>>,
    /// Services by name, of all types, in the namespaces that are watched.
    #[serde(default)]
    pub services: Known<Arc<BTreeMap<ServiceName, Arc<Service>>>>,
    /// The version of the store up to which `services` tells everything. Empty where that is not known.
    #[serde(default)]
    pub services_at: Version,
    /// Endpoints by Service, sorted and without duplicates.
    #[serde(default)]
    pub endpoints: Known<Arc<BTreeMap<ServiceName, Vec<Endpoint>>>>,
    /// The data of the pools' ConfigMap; empty when it does not exist.
    #[serde(default)]
    pub pools: Known<Arc<BTreeMap<String, String>>>,
}

/// What we need to know of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// `status.addresses` of types `InternalIP` and `ExternalIP`: never a VIP.
    pub addresses: BTreeSet<IpAddr>,
    /// Its labels under `kube-vip.io/` and `service-provided.kube-vip.io/`.
    pub labels: BTreeMap<String, String>,
    /// Those of its labels that decide where addresses shall be (`Config::preferred`), and maybe others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub traits: BTreeMap<String, String>,
    /// Why no address may be on it, when it says so: `node.kubernetes.io/exclude-from-external-load-balancers`, the
    /// annotation `kube-vip.io/drain: "true"`, or the taint `node.kubernetes.io/out-of-service`.
    #[serde(default)]
    pub excluded: Option<String>,
    /// Whether its `Ready` condition is `True`.
    #[serde(default)]
    pub ready: bool,
}

/// The annotation of a Node with which a user takes everything off it: `"true"`.
pub const DRAIN: &str = "kube-vip.io/drain";

impl NodeFacts {
    /// Whether a user drained it: then the control plane's VIP leaves, too, which the label for load balancers does not ask
    /// for (kubeadm puts it on every control-plane node).
    pub fn is_drained(&self) -> bool {
        self.excluded.as_deref().is_some_and(|why| why.contains(DRAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_have_an_order() {
        let v = |text: &str| Version(text.to_owned());
        assert!(v("9").is_older_than(&v("10")));
        assert!(!v("10").is_older_than(&v("10")));
        assert!(!v("a").is_older_than(&v("10")));
    }
}
