//! Why a Service is served by a node, or not: every finding on the way from the object to the answer. Made by `plan` when
//! somebody asks, shown by `kube-vip explain`.

use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::service::ServiceName;
use crate::verdict::Verdict;

/// What one agent found about one Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The Service.
    pub service: ServiceName,
    /// The agent's node.
    pub node: String,
    /// The agent's instance.
    pub instance: String,
    /// The findings, in the order in which they are made.
    pub findings: Vec<Finding>,
    /// What follows.
    pub verdict: Verdict,
    /// Since when that stands.
    pub since: Option<Instant>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about.
    pub stage: Stage,
    /// What it means for this node.
    pub outcome: Outcome,
    /// The finding, for people.
    pub text: String,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Whether the Service is ours.
    Selection,
    /// Which addresses it asks for, and where.
    Addresses,
    /// Where it can be served.
    Endpoints,
    /// Who else has its addresses or its Lease.
    Sharing,
    /// Who decides, and who holds it.
    Election,
    /// One address on this node.
    Kernel,
    /// What is written to it.
    Writing,
}

/// What a finding means for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it must be.
    Passes,
    /// It will be, when something comes that is on its way.
    Waits,
    /// This node does not serve the Service because of it.
    Stops,
}
