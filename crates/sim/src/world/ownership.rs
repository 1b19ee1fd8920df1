//! Who owns what, as the store says it now: what checkers compare agents with.

use vip_model::session::{CLAIM, CLAIM_FROM, SessionId};
use vip_model::store::LeaseRecord;
use vip_model::{InstanceName, LeaseName, NodeName};

use super::World;

/// The session that an annotation of a Lease names.
pub(crate) fn session_in(record: &LeaseRecord, annotation: &str) -> Option<SessionId> {
    record.annotations.get(annotation)?.parse().ok()
}

impl World {
    /// The node that owns a group of an agent: its claim's session or that session's heir; the holder where the Lease is
    /// one of the mode `lease`.
    pub fn owner(&self, agent: usize, lease: &LeaseName) -> Option<NodeName> {
        let (_, record) = self.store.truth(lease)?;
        let instance = InstanceName::new(self.setup.agents[agent].name.clone());
        match session_in(record, CLAIM) {
            Some(session) => self.store.sessions.follow(&instance, session),
            None => record.holder.as_deref().map(NodeName::new),
        }
    }

    /// The node that still serves a group of an agent that is being handed over.
    pub fn hands_over(&self, agent: usize, lease: &LeaseName) -> Option<NodeName> {
        let (_, record) = self.store.truth(lease)?;
        let instance = InstanceName::new(self.setup.agents[agent].name.clone());
        self.store.sessions.follow(&instance, session_in(record, CLAIM_FROM)?)
    }
}
