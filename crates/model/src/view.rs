//! What the node shows of itself: one published value that the status command, the metrics and the page read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::members::ElectionState;
use crate::observed::Gate;
use crate::peers::Fitness;
use crate::service::{EndpointCount, ServiceName};
use crate::session::SessionId;
use crate::store::FailureClass;
use crate::verdict::{Subject, Verdict};
use crate::{Instant, LeaseName};

/// A picture of the node after a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// When it was taken.
    pub taken: Instant,
    /// The node.
    pub node: String,
    /// The agent's instance.
    pub instance: String,
    /// Elections, as the last plan knew them.
    pub elections: Arc<BTreeMap<LeaseName, ElectionState>>,
    /// What was decided about each thing that was asked for.
    pub verdicts: Vec<VipView>,
    /// Services of type LoadBalancer, by name.
    #[serde(default, skip_serializing_if = "<[ServiceView]>::is_empty")]
    pub services: Arc<[ServiceView]>,
    /// The control plane's health gate.
    pub gate: Gate,
    /// Whether everything that was asked for is known: kernel read, Leases seen.
    pub readiness: Readiness,
    /// The session, in mode `session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionView>,
    /// Whether the agent is stopping.
    pub stopping: bool,
    /// Plain counters.
    pub counters: Counters,
    /// The last transitions, oldest first.
    pub journal: Arc<[Transition]>,
}

/// A session and what lends it its right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id; none while it is not settled which session this is.
    pub id: Option<SessionId>,
    /// Whether it may serve what it owns.
    pub trust: TrustView,
    /// When the renewal was asked that the store answered last.
    pub renewed: Option<Instant>,
    /// The generation of its jury.
    pub generation: u32,
    /// The other members.
    pub peers: Vec<PeerView>,
    /// The UDP port on which heartbeats are heard.
    pub port: Option<u16>,
    /// What is wrong with heartbeats, for people.
    pub trouble: Option<String>,
    /// Claims that it owns.
    pub claims: usize,
}

/// Whether a session may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustView {
    /// Nothing was heard yet.
    Untested,
    /// Enough jurors vouch, or the store's word counts.
    Sure,
    /// Jurors are late: proof is being looked for, or was found elsewhere.
    Doubt,
    /// There was no proof: nothing is served.
    Silent,
}

/// Another member, as heartbeats and the store show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its node.
    pub node: String,
    /// Its session, when known.
    pub session: Option<SessionId>,
    /// Whether it is a juror of ours.
    pub juror: bool,
    /// When it was last heard; none when it never was.
    pub heard: Option<Instant>,
    /// The send time of our own heartbeat with which it last vouched.
    pub vouched: Option<Instant>,
    /// Whether it could hold VIPs, by its own word.
    pub fitness: Option<Fitness>,
    /// The claims that it owns, among those that we want.
    pub claims: usize,
}

/// Whether the node knows enough to act.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Everything is known.
    Ready,
    /// What is missing, for people.
    #[default]
    Starting,
    /// The store does not answer: what is shown of it is stale.
    Stale,
}

/// One VIP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VipView {
    /// What it is for.
    pub subject: Subject,
    /// The address.
    pub vip: IpAddr,
    /// The link that carries it or would, by name.
    pub interface: Option<String>,
    /// What was decided.
    pub verdict: Verdict,
    /// The election that decides.
    pub lease: LeaseName,
    /// Who holds it, when known.
    pub holder: Option<String>,
    /// Since when this verdict stands.
    pub since: Instant,
}

/// One Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The Service.
    pub service: ServiceName,
    /// Its addresses, as far as they are known and usable.
    pub addrs: Vec<IpAddr>,
    /// What was decided.
    pub verdict: Verdict,
    /// The election that decides, when one does.
    pub lease: Option<LeaseName>,
    /// Who holds it, when known.
    pub holder: Option<String>,
    /// Since when this verdict stands.
    pub since: Instant,
    /// Its endpoints.
    #[serde(default)]
    pub endpoints: EndpointCount,
}

/// Plain counters, all since the process started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Turns completed.
    pub turns: u64,
    /// Plans made.
    pub plans: u64,
    /// Kernel changes by outcome: `done`, `too_late`, `failed`.
    pub changes: BTreeMap<String, u64>,
    /// Announcements sent.
    pub announcements: u64,
    /// Frames of others that claim a VIP of ours.
    pub foreign_claims: BTreeMap<String, u64>,
    /// Store failures by class.
    pub failures: BTreeMap<String, u64>,
    /// Store questions by kind.
    pub questions: BTreeMap<String, u64>,
    /// Times that we became the holder, by Lease.
    pub transitions: Arc<BTreeMap<LeaseName, u64>>,
    /// Take-overs: from the moment at which the Lease was found takeable to the address being installed, seconds.
    pub takeover_seconds: Vec<f64>,
}

impl Counters {
    /// Counts one failure.
    pub fn count_failure(&mut self, class: FailureClass) {
        *self.failures.entry(class.as_str().to_owned()).or_default() += 1;
    }
}

/// One thing that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// When.
    pub at: Instant,
    /// What it is about.
    pub subject: String,
    /// What changed, for people.
    pub change: String,
}
