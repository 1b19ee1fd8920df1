//! Decisions carry reasons: what the plan decided about each thing that the user asked for, and why.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::LinkAddr;

/// What a verdict is about; as text `control-plane 192.0.2.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Subject {
    /// A control-plane VIP.
    ControlPlane(IpAddr),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane(vip) => write!(f, "control-plane {vip}"),
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
        let vip = text.strip_prefix("control-plane ").and_then(|vip| vip.parse().ok());
        vip.map(Self::ControlPlane).ok_or(NotASubject(text))
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
    /// We asked whether somebody else answers for the address and wait for the answer.
    Probing,
    /// The address is on its way into the kernel.
    Installing,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelUnknown => f.write_str("the kernel's state has not been read yet"),
            Self::LeaseUnknown => f.write_str("the Lease has not been seen yet"),
            Self::HeldBy(node) => write!(f, "{node} holds the Lease"),
            Self::Lapsed => {
                f.write_str("the Lease names this node, but no renewal was answered in time: waiting for the API")
            }
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
            Self::Probing => f.write_str("asking whether somebody else answers for this address"),
            Self::Installing => f.write_str("the address is being installed"),
        }
    }
}
