//! What the machines learned by asking: health gates and address probes; and what this node has
//! promised and not yet seen fulfilled.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::Promise;
use crate::service::ServiceName;
use crate::{LinkAddr, QuestionId, ScopedAddr};

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
