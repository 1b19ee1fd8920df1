//! What the machines learned by asking: health gates and address probes; and what this node has
//! promised and not yet seen fulfilled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::Promise;
use crate::service::ServiceName;
use crate::store::Revision;
use crate::{Instant, LeaseName, LinkAddr, QuestionId, ScopedAddr};

/// Everything that machines learned by asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The control plane's health gate.
    pub control_plane_gate: Gate,
    /// Conflict probes, by address and link.
    pub probes: BTreeMap<ScopedAddr, ProbeState>,
    /// What the last plan promised as the allocator (`NodePlan::promised`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promised: BTreeMap<ServiceName, Promise>,
    /// Under which Leases the addresses of Services were. None where nothing has to be remembered of them: mode
    /// `session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trails: Option<Trails>,
    /// What another node should have said of a Service (`NodePlan::unsaid`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaid: Option<Overdue>,
}

/// A word about a Service that another node should have said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// The Service.
    pub service: ServiceName,
    /// Since when it is known here that nobody has.
    pub since: Instant,
    /// When this turn began.
    pub turn: Instant,
}

/// What this node remembers of the addresses of Services, and how far its picture of the cluster can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trails {
    /// By address. What nobody asks for any more is remembered for a while.
    pub addrs: BTreeMap<IpAddr, Trail>,
    /// Those that were moved from one Lease to another not long ago.
    pub moved: BTreeSet<IpAddr>,
    /// When this turn began: what is news in it counts from here.
    pub turn: Instant,
    /// When this process first heard of Services. What moved from one Lease to another before then it can't know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Instant>,
    /// When this process last came to itself after it had been stopped: what it hears of one thing may be older than
    /// what it hears of another.
    pub woke: Option<Instant>,
    /// When the store last gave no answer about a Lease: likewise.
    pub lost_sight: Option<Instant>,
    /// The furthest revision of the Services that this node has known or read of in a Lease. A server that lags can give
    /// it an older picture afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub furthest: Option<Revision>,
}

impl Trails {
    /// Somebody has got as far with the Services as this.
    pub fn heard_of(&mut self, at: Option<Revision>) {
        self.furthest = self.furthest.max(at);
    }
}

/// Under which Lease an address is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// The Lease that decides about it.
    pub lease: LeaseName,
    /// Since when that is known here.
    pub since: Instant,
    /// The Leases that decided before, when it was moved from one to another not long ago.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Former>,
    /// Since when nobody asks for it, if nobody does.
    pub gone: Option<Parting>,
}

/// A Lease that decided about an address before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The Lease.
    pub lease: LeaseName,
    /// The revision of the Services at which this node heard that it decides no longer, when revisions are known.
    pub at: Option<Revision>,
}

/// When nobody asked for an address any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parting {
    /// The time.
    pub time: Instant,
    /// The revision of the Services.
    pub at: Option<Revision>,
}

/// A health gate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// No gate is configured, or no probe has decided yet: open.
    #[default]
    Open,
    /// The last probe succeeded: open, on evidence.
    Green,
    /// The threshold of failures in a row was reached: closed.
    Red {
        /// What the last failed probe said.
        reason: String,
    },
}

/// What a conflict probe found: whether somebody else answers for an address (RFC 5227 §2.1.1, RFC 4862 §5.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeState {
    /// Asked, the answer's time has not passed.
    Asking,
    /// Nobody answered in time.
    Silent,
    /// Somebody answered.
    Answered(LinkAddr),
}

/// A small task with an answer that needs a socket of its own, run by the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// Its id, carried back by the answer.
    pub id: QuestionId,
    /// What to do.
    pub task: ErrandTask,
}

/// Kinds of errands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrandTask {
    /// GET `url`; healthy means status 200 within `timeout`. Trusts the system's CAs and those in `ca_path`.
    HttpProbe {
        /// The URL, http or https.
        url: String,
        /// How long it may take in all.
        timeout: Duration,
        /// PEM file with further CAs.
        ca_path: Option<String>,
    },
}

/// The answer to an errand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrandAnswer {
    /// The errand's id.
    pub id: QuestionId,
    /// `Ok` when healthy, else what was wrong, for people.
    pub result: Result<(), String>,
}
