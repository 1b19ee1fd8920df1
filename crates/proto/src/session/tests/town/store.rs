//! The town's store: sessions and claims, compare and swap, and what it shows of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use vip_model::LeaseName;
use vip_model::session::{CLAIM, SessionSeen, Sessions};
use vip_model::store::{Answer, Ask, Expect, LeaseRecord, LeaseSeen, LeaseWrite, Sight, Version};

use super::{API, Town};
use crate::session::OwnershipInput;

#[derive(Default)]
pub(super) struct Store {
    pub(super) up: bool,
    pub(super) version: u64,
    pub(super) sessions: Sessions,
    pub(super) claims: BTreeMap<LeaseName, (Version, LeaseRecord)>,
}

impl Town {
    pub(super) fn serve(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::ReadLease(lease) => Answer::Lease(self.claim_seen(lease.clone())),
            Ask::WriteLease(write) => self.write_claim(write),
            Ask::ReadSession(lease) => {
                let seen = self.store.sessions.get(lease).map(|seen| Box::new(SessionSeen::clone(seen)));
                Answer::Session(lease.clone(), seen)
            }
            Ask::WriteSession(write) => {
                let found = self.store.sessions.get(&write.lease).map(|seen| seen.version.clone());
                if !fits(&write.expect, found.as_ref()) {
                    return Answer::Conflict;
                }
                self.session_writes += 1;
                self.store.version += 1;
                let version = self.store.version.to_string();
                let seen = SessionSeen {
                    version: Version(version.clone()),
                    renewed: Some(version),
                    duration: write.duration,
                    record: write.record.clone(),
                };
                self.store.sessions.insert(write.lease.clone(), Arc::new(seen.clone()));
                (0..self.homes.len()).for_each(|node| self.show_sessions(node));
                Answer::Session(write.lease.clone(), Some(Box::new(seen)))
            }
            _ => panic!("nothing of the kind is asked: {ask:?}"),
        }
    }

    fn write_claim(&mut self, write: &LeaseWrite) -> Answer {
        let found = self.store.claims.get(&write.lease).map(|(version, _)| version.clone());
        if !fits(&write.expect, found.as_ref()) {
            return Answer::Conflict;
        }
        self.claim_writes += 1;
        self.store.version += 1;
        let record = LeaseRecord {
            holder: write.holder.as_ref().map(ToString::to_string),
            duration: Some(write.duration),
            transitions: write.transitions,
            acquired: None,
            renewed: None,
            annotations: write.annotations.clone(),
        };
        let version = Version(self.store.version.to_string());
        self.store.claims.insert(write.lease.clone(), (version, record));
        (0..self.homes.len()).for_each(|node| self.show_claim(node));
        Answer::Lease(self.claim_seen(write.lease.clone()))
    }

    pub(super) fn claim_seen(&self, lease: LeaseName) -> LeaseSeen {
        let sight = match self.store.claims.get(&lease).cloned() {
            None => Sight::Absent(Some(Version("0".to_owned()))),
            Some((version, record)) => Sight::Present { version, record },
        };
        LeaseSeen { lease, sight }
    }

    /// How many claims name the session of a node.
    pub(in crate::session::tests) fn claims_naming(&self, node: usize) -> usize {
        let Some(id) = self.record(node).map(|record| record.id.to_string()) else { return 0 };
        self.store.claims.values().filter(|(_, record)| record.annotations.get(CLAIM) == Some(&id)).count()
    }

    pub(super) fn show_all(&mut self, node: usize) {
        self.show_sessions(node);
        self.show_claim(node);
    }

    pub(super) fn show_sessions(&mut self, node: usize) {
        if self.store.up && !self.homes[node].isolated && !self.homes[node].blind {
            let sessions = Arc::new(self.store.sessions.clone());
            self.hear(node, OwnershipInput::Sessions(sessions), API);
        }
    }

    pub(super) fn show_claim(&mut self, node: usize) {
        if self.store.up && !self.homes[node].isolated {
            for lease in self.claims() {
                let seen = self.claim_seen(lease);
                self.hear(node, OwnershipInput::Claim(seen), API + self.claim_lag);
            }
        }
    }
}

fn fits(expect: &Expect, found: Option<&Version>) -> bool {
    match expect {
        Expect::Absent => found.is_none(),
        Expect::Version(version) => found == Some(version),
    }
}
