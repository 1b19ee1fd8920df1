//! Services of type LoadBalancer and what stands behind them, as the cluster describes them. Foreign objects become
//! these types at the door (`cluster`); annotations stay text here, because what is wrong with one is a verdict and
//! not an error.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::store::Version;
use crate::{Family, NodeName, ObjectName};

/// The annotation that names the node which serves a Service.
pub const HOST: &str = "kube-vip.io/vipHost";

/// What a [`ServiceName`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OfService {}

/// Namespace and name of a Service.
pub type ServiceName = ObjectName<OfService>;

/// One Service, of any type: one that stops being a load balancer must still be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `metadata.uid`: another life under the same name is another Service.
    pub uid: String,
    /// `metadata.resourceVersion`, for compare-and-swap.
    pub version: Version,
    /// `metadata.creationTimestamp` as stored (RFC 3339, UTC): ordered as text.
    pub created: String,
    /// `spec.type`.
    pub kind: ServiceKind,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// `spec.ipFamilies`, in order.
    pub families: Vec<Family>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: FamilyPolicy,
    /// `spec.externalTrafficPolicy`.
    pub traffic: TrafficPolicy,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.loadBalancerIP`, as written.
    pub spec_ip: Option<String>,
    /// `status.loadBalancer.ingress`.
    pub ingress: Vec<Ingress>,
    /// Annotations under `kube-vip.io/`.
    pub annotations: BTreeMap<String, String>,
    /// The labels `implementation` and `ipam-address`, when present (the external cloud-provider's).
    pub labels: BTreeMap<String, String>,
    /// `status.conditions` whose type begins with `kube-vip.io/`.
    pub conditions: BTreeMap<String, Condition>,
    /// Whether it is being deleted (`metadata.deletionTimestamp`).
    pub life: ObjectLife,
}

/// `spec.type`, as far as we care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceKind {
    /// `LoadBalancer`.
    LoadBalancer,
    /// Any other type.
    Other,
}

/// Whether an object is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectLife {
    /// It lives.
    Alive,
    /// It has a deletion timestamp.
    Deleting,
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FamilyPolicy {
    /// `SingleStack`, also when nothing is said.
    SingleStack,
    /// `PreferDualStack`.
    PreferDualStack,
    /// `RequireDualStack`.
    RequireDualStack,
}

/// `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficPolicy {
    /// `Cluster`, also when nothing is said: any node forwards.
    Cluster,
    /// `Local`: only nodes with an endpoint of their own serve.
    Local,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One of `spec.ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// One of `status.loadBalancer.ingress`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingress {
    /// Its address, when it has one that can be read.
    pub ip: Option<IpAddr>,
    /// Its host name.
    pub hostname: Option<String>,
    /// `ipMode`, as stored (`VIP` or `Proxy`).
    pub mode: Option<String>,
    /// `ports`, without errors.
    pub ports: Vec<ServicePort>,
}

/// One of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word in camel case.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// One endpoint of a Service, merged from all its slices (or from its Endpoints object).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address.
    pub addr: IpAddr,
    /// The node on which it runs, when the slice says so.
    pub node: Option<NodeName>,
    /// Its host name, which stands in for a missing node name.
    pub host: Option<String>,
    /// Its conditions.
    pub state: EndpointState,
}

/// What the conditions of an endpoint come to, as kube-proxy reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// `ready`, or no word about it.
    Ready,
    /// Not ready, but `serving` and `terminating`: the last resort when nothing is ready.
    ServingTerminating,
    /// Neither: no traffic.
    NotReady,
}

/// How many endpoints a Service has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCount {
    /// All of them.
    pub all: u32,
    /// Those that take traffic.
    pub taking: u32,
    /// Those of them on this node.
    pub here: u32,
}

impl EndpointCount {
    /// No endpoint.
    pub const NONE: Self = Self { all: 0, taking: 0, here: 0 };

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all == 0
    }
}
