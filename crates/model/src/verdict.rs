//! Decisions carry reasons: what the plan decided about each thing that the user asked for, and why.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::LinkAddr;
use crate::service::ServiceName;

/// What a verdict is about; as text `control-plane 192.0.2.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Subject {
    /// A control-plane VIP.
    ControlPlane(IpAddr),
    /// A Service.
    Service(ServiceName),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane(vip) => write!(f, "control-plane {vip}"),
            Self::Service(service) => write!(f, "service {service}"),
        }
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

/// A text that names no subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names nothing that a verdict can be about")]
pub struct NotASubject(pub String);

impl TryFrom<String> for Subject {
    type Error = NotASubject;

    fn try_from(text: String) -> Result<Self, NotASubject> {
        let vip =
            text.strip_prefix("control-plane ").and_then(|vip| vip.parse().ok()).map(Self::ControlPlane);
        let service = || text.strip_prefix("service ")?.to_owned().try_into().ok().map(Self::Service);
        vip.or_else(service).ok_or_else(|| NotASubject(text.clone()))
    }
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// This node holds it and answers for it.
    Announce,
    /// This node does not, and why.
    Skip(Reason),
}

/// Why a thing is not done, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason", content = "detail")]
pub enum Reason {
    /// The kernel has not been read yet.
    KernelUnknown,
    /// The Lease was not seen yet.
    LeaseUnknown,
    /// Another node holds the Lease.
    HeldBy(String),
    /// The Lease still names this node, but no renewal was answered in time: we may not act on it.
    Lapsed,
    /// It is ours, and first it is looked whether somebody still answers for it.
    LookingFirst,
    /// It is ours, and neither other agents nor the API prove that we may serve it.
    Unproven,
    /// Nobody holds the Lease; we contend.
    LeaseFree,
    /// We are letting go: addresses first, then the Lease.
    Leaving,
    /// The agent is stopping.
    Stopping,
    /// The configured link does not exist.
    LinkMissing(String),
    /// No link's network contains the VIP and there is no default route.
    NoLinkFits,
    /// The link is down.
    LinkDown(String),
    /// The health gate is closed.
    Unhealthy(String),
    /// The address is one of a Node's own.
    NodeAddress(String),
    /// The VIP is new and somebody else answers for it.
    Conflict(LinkAddr),
    /// It is ours, and a former holder still answers for it.
    StillAnswered(LinkAddr),
    /// We asked whether somebody else answers for the address and wait for the answer.
    Probing,
    /// The address is on its way into the kernel.
    Installing,
    /// The Service is not of type LoadBalancer.
    NotALoadBalancer,
    /// The Service is being deleted.
    Deleting,
    /// The Service has the annotation `kube-vip.io/ignore`.
    Ignored,
    /// The Service's class (or its lack of one) is somebody else's.
    OtherClass(Option<String>),
    /// Only Services of this namespace are ours.
    OtherNamespace(String),
    /// The endpoints were not listed yet.
    EndpointsUnknown,
    /// The Service has no address yet.
    NoAddress,
    /// An address, annotation or combination that can't be used, with what is accepted.
    Invalid(String),
    /// Something that is known and not built yet.
    NotSupported(String),
    /// Another Service already uses this address and port.
    PortClash(ServiceName),
    /// The Service that decides about this shared address is led by another node.
    SharedWith(ServiceName),
    /// The Service has no endpoint that takes traffic.
    NoEndpoint,
    /// `externalTrafficPolicy: Local`, and this node has no endpoint that takes traffic.
    NoLocalEndpoint,
    /// This node is taken out of load balancing.
    NodeExcluded(String),
    /// No pool has an address for the Service.
    PoolExhausted(String),
}

impl Reason {
    /// Whether it passes by itself within a moment, when all is well: something is being read, asked or done.
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::KernelUnknown
                | Self::LeaseUnknown
                | Self::LookingFirst
                | Self::Probing
                | Self::Installing
                | Self::EndpointsUnknown
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelUnknown => f.write_str("the kernel's state has not been read yet"),
            Self::LeaseUnknown => f.write_str("the Lease has not been seen yet"),
            Self::HeldBy(node) => write!(f, "{node} holds the Lease"),
            Self::Lapsed => f.write_str(
                "the Lease names this node, but no renewal was answered in time: waiting for the API",
            ),
            Self::LookingFirst => {
                f.write_str("it is ours; first it is looked whether somebody still answers for it")
            }
            Self::Unproven => f.write_str(
                "it is ours, but neither other agents nor the API prove that this node may serve it",
            ),
            Self::LeaseFree => f.write_str("nobody holds the Lease yet"),
            Self::Leaving => f.write_str("letting go: the address goes first, then the Lease"),
            Self::Stopping => f.write_str("the agent is stopping"),
            Self::LinkMissing(name) => write!(f, "interface {name} does not exist"),
            Self::NoLinkFits => {
                f.write_str("no interface's network contains the address and there is no default route")
            }
            Self::LinkDown(name) => write!(f, "interface {name} is down"),
            Self::Unhealthy(why) => write!(f, "the local health check fails: {why}"),
            Self::NodeAddress(node) => write!(f, "the address belongs to node {node}"),
            Self::Conflict(mac) => write!(f, "{mac} already answers for this address"),
            Self::StillAnswered(mac) => {
                write!(f, "{mac} still answers for this address: waiting until it lets go")
            }
            Self::Probing => f.write_str("asking whether somebody else answers for this address"),
            Self::Installing => f.write_str("the address is being installed"),
            Self::NotALoadBalancer => f.write_str("the Service is not of type LoadBalancer"),
            Self::Deleting => f.write_str("the Service is being deleted"),
            Self::Ignored => f.write_str("the annotation kube-vip.io/ignore is set"),
            Self::OtherClass(Some(class)) => write!(f, "loadBalancerClass {class} is not ours"),
            Self::OtherClass(None) => {
                f.write_str("the Service has no loadBalancerClass, and only a class is ours")
            }
            Self::OtherNamespace(ours) => write!(f, "only Services of namespace {ours} are ours"),
            Self::EndpointsUnknown => f.write_str("the endpoints have not been listed yet"),
            Self::NoAddress => f.write_str("the Service has no address yet"),
            Self::Invalid(what) | Self::NotSupported(what) | Self::PoolExhausted(what) => f.write_str(what),
            Self::PortClash(other) => {
                write!(f, "service {other} already uses this address with the same port")
            }
            Self::SharedWith(other) => {
                write!(f, "service {other} shares the address and is led by another node")
            }
            Self::NoEndpoint => f.write_str("no endpoint takes traffic"),
            Self::NoLocalEndpoint => {
                f.write_str("externalTrafficPolicy is Local and no endpoint on this node takes traffic")
            }
            Self::NodeExcluded(why) => write!(f, "this node is taken out of load balancing: {why}"),
        }
    }
}
