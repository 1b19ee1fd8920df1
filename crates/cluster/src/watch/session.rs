//! The sessions of an instance in view: all of them are told, whenever one changes. What a server that lags behind shows
//! again is ignored, and what cannot be understood is left out and told once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use vip_model::session::{SessionSeen, Sessions, session_lease};
use vip_model::store::Version;
use vip_model::{InstanceName, LeaseName};

use super::lease::WAIT_FOR_RIGHTS;
use crate::event::ClusterEvent;
use crate::follow::{Collection, Recovery};
use crate::gateway::{Gateway, LEASES};
use crate::lease::Scope;
use crate::{lease, session};

/// The session Leases of an instance.
pub(crate) struct SessionWatch {
    gateway: Arc<Gateway>,
    namespace: String,
    /// What belongs to the ledger of sessions.
    scope: Scope,
    instance: InstanceName,
    /// What was told last; shared with whoever listens.
    sessions: Arc<Sessions>,
    /// The newest version of every Lease that is there, understood or not.
    versions: BTreeMap<String, Version>,
    /// The newest version of the whole that was seen: a Lease that is not there and is no newer was deleted before.
    newest: Option<Version>,
    /// When a list or a watch last brought anything.
    delivered: Option<Instant>,
    /// What a list has brought so far.
    coming: BTreeMap<String, Value>,
    told_unreadable: BTreeSet<String>,
}

impl SessionWatch {
    pub(crate) fn new(gateway: Arc<Gateway>, namespace: String, instance: InstanceName) -> Self {
        Self {
            gateway,
            scope: Scope::Namespace(namespace.clone()),
            namespace,
            instance,
            sessions: Arc::default(),
            versions: BTreeMap::new(),
            newest: None,
            delivered: None,
            coming: BTreeMap::new(),
            told_unreadable: BTreeSet::new(),
        }
    }

    fn lease(&self, name: &str) -> LeaseName {
        LeaseName::new(&self.namespace, name)
    }

    /// Whether a sight of `name` at `version` is what is known, or older.
    fn is_old(&self, name: &str, version: &Version) -> bool {
        let known = self.versions.get(name).or(self.newest.as_ref());
        known.is_some_and(|known| version.is_older_than(known) || version == known)
    }

    /// The whole was seen up to `version`.
    fn reach(&mut self, version: &Version) {
        self.delivered = Some(Instant::now());
        if !self.newest.as_ref().is_some_and(|newest| version.is_older_than(newest)) {
            self.newest = Some(version.clone());
        }
    }

    /// Takes in one Lease, unless it is old. Says whether it is news.
    fn see(&mut self, name: &str, version: &Version, object: Value) -> bool {
        if self.is_old(name, version) {
            return false;
        }
        let lease = self.lease(name);
        let seen = self.understand(&lease, &object);
        self.gateway.session_ledger.note_delivery(&lease, version, object);
        self.versions.insert(name.to_owned(), version.clone());
        let sessions = Arc::make_mut(&mut self.sessions);
        match seen {
            Ok(seen) => {
                self.told_unreadable.remove(name);
                sessions.insert(lease, Arc::new(seen));
            }
            Err(reason) => {
                sessions.remove(&lease);
                if self.told_unreadable.insert(name.to_owned()) {
                    let object = format!("leases {lease}");
                    self.gateway.tell(ClusterEvent::Unreadable { object, reason });
                }
            }
        }
        true
    }

    fn understand(&self, lease: &LeaseName, object: &Value) -> Result<SessionSeen, String> {
        let seen = session::convert(object)?;
        let node = &seen.record.node;
        if *lease != session_lease(&self.namespace, &self.instance, node) {
            return Err(format!("it says that it is of node {node}, but that one's has another name"));
        }
        Ok(seen)
    }

    /// Takes away one Lease that is gone as of `version`, unless it was seen newer. Says whether that is news.
    fn lose(&mut self, name: &str, version: &Version) -> bool {
        if self.versions.get(name).is_none_or(|known| version.is_older_than(known)) {
            return false;
        }
        let lease = self.lease(name);
        self.gateway.session_ledger.note_absence(&lease, Some(version.clone()));
        self.versions.remove(name);
        self.told_unreadable.remove(name);
        Arc::make_mut(&mut self.sessions).remove(&lease);
        true
    }

    fn tell(&self) {
        self.gateway.tell(ClusterEvent::Sessions(Arc::clone(&self.sessions)));
    }
}

impl Collection for SessionWatch {
    type Item = Value;

    fn resource(&self) -> &'static str {
        LEASES
    }

    fn object(&self) -> String {
        format!("{}, sessions of {}", self.namespace, self.instance)
    }

    fn query(&self) -> String {
        session::query(&self.namespace, &self.instance)
    }

    fn starts(&mut self) {
        self.coming.clear();
        self.gateway.session_ledger.restart(&self.scope);
    }

    fn found(&mut self, items: Vec<Value>) {
        let objects = items.into_iter().map(lease::slim);
        self.coming.extend(objects.filter_map(|object| Some((lease::convert(&object)?.0, object))));
    }

    fn listed(&mut self, version: &Version) {
        let coming = std::mem::take(&mut self.coming);
        let gone: Vec<String> =
            self.versions.keys().filter(|name| !coming.contains_key(*name)).cloned().collect();
        for name in gone {
            self.lose(&name, version);
        }
        for (name, object) in coming {
            if let Some((_, version, _)) = lease::convert(&object) {
                self.see(&name, &version, object);
            }
        }
        self.reach(version);
        self.gateway.session_ledger.note_list(version);
        self.tell();
    }

    fn changed(&mut self, item: Value) {
        let Some((name, version, _)) = lease::convert(&item) else { return };
        let is_news = self.see(&name, &version, lease::slim(item));
        self.reach(&version);
        if is_news {
            self.tell();
        }
    }

    fn deleted(&mut self, item: Value) {
        let Some((name, version, _)) = lease::convert(&item) else { return };
        let is_news = self.lose(&name, &version);
        self.reach(&version);
        if is_news {
            self.tell();
        }
    }

    async fn overdue(&mut self) {
        let gateway = Arc::clone(&self.gateway);
        gateway.session_ledger.overdue(&self.scope, self.delivered).await;
    }

    fn recovery(&self) -> Recovery {
        Recovery::List
    }

    fn wait_for_rights(&self) -> Duration {
        WAIT_FOR_RIGHTS
    }
}

#[cfg(test)]
mod tests;
