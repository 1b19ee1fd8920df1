//! What the next life of the agent needs: the own session, the members, the claims that are held, the successions that are
//! known. Given out when it changed, not more often than a file is worth.

use std::time::Duration;

use vip_model::Instant;
use vip_model::session::Memory;

use super::{Ownership, OwnershipOutput};

/// Time between two outputs.
const PAUSE: Duration = Duration::from_millis(200);

impl Ownership {
    /// What a next life needs is kept soon.
    pub(super) fn remember_soon(&mut self, now: Instant) {
        self.memory.due.get_or_insert(now);
    }

    /// The same, without a pause.
    pub(super) fn remember_now(&mut self, now: Instant) {
        self.memory.due = Some(now);
    }

    /// Keeps it, when it changed.
    pub(super) fn step_memory(&mut self, now: Instant) {
        if self.memory.due.is_none_or(|due| now < due) {
            return;
        }
        let Some(own) = &self.own else { return };
        // What another one serves as well is not what the next life may go on serving.
        let is_served = |claim: &&vip_model::LeaseName| {
            self.groups.get(*claim).is_some_and(super::group::Group::is_served)
        };
        let memory = Memory {
            record: own.to_remember(),
            members: self.members.values().map(|member| member.record.clone()).collect(),
            claims: self.held.iter().filter(is_served).cloned().collect(),
            successions: self.lineage.successions().rev().take(64).collect(),
        };
        self.memory.due = None;
        if self.memory.last.as_ref() != Some(&memory) {
            self.memory.last = Some(memory.clone());
            self.memory.due = Some(now + PAUSE);
            self.out.push_back(OwnershipOutput::Remember(memory));
        }
    }
}
