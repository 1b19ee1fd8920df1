//! What the gateway tells the program.

use std::sync::Arc;

use vip_model::QuestionId;
use vip_model::peers::PeerKeys;
use vip_model::session::Sessions;
use vip_model::store::{Answer, Failure, LeaseSeen, Snapshot};

/// One thing that the cluster says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterEvent {
    /// A watched Lease was seen, or its absence.
    Lease(LeaseSeen),
    /// What else the cluster says. Whole; only the newest counts.
    Snapshot(Snapshot),
    /// All session Leases of the instance that is watched, as soon as all are known. Whole; only the newest counts.
    Sessions(Arc<Sessions>),
    /// The keys for heartbeats, as they are now; or why they can't be had, for people: then those that were told before
    /// go on being right. Told when it changes.
    PeerKeys(Result<PeerKeys, String>),
    /// An object that is watched says something that cannot be understood, and is left out. Told once for each object,
    /// and again only after it was understood in between.
    Unreadable {
        /// The object: `leases kube-system/name`.
        object: String,
        /// Why.
        reason: String,
    },
    /// The answer to a question.
    Answer(QuestionId, Answer),
    /// The API does not answer as it should. Told when the class of the failure changes, not each time.
    Trouble(Failure),
    /// The API answers, for the first time or again after [`Self::Trouble`].
    Reachable,
    /// A right is missing (403). Told once for each pair, and again only after it was granted in between.
    MissingRight {
        /// The verb as RBAC names it: `list`, `watch`, `update` …
        verb: &'static str,
        /// The resource as RBAC names it: `nodes`, `leases.coordination.k8s.io` …
        resource: &'static str,
    },
}

/// Where events go. Called from the gateway's tasks; must not block.
pub type Sink = Arc<dyn Fn(ClusterEvent) + Send + Sync>;
