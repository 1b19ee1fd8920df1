//! Leases in view: every one that is wanted is told when it is there, when it changes and when it is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch as cell;
use vip_model::LeaseName;
use vip_model::store::{LeaseSeen, Sight, Version};

use crate::event::ClusterEvent;
use crate::follow::{Collection, Recovery};
use crate::gateway::{Gateway, LEASES};
use crate::lease;

/// An election cannot do without Leases: a right that is missing may come any moment (a cluster that is being set up).
pub(super) const WAIT_FOR_RIGHTS: Duration = Duration::from_secs(1);

/// One Lease, or those of a namespace that are wanted.
pub(crate) struct LeaseWatch {
    gateway: Arc<Gateway>,
    namespace: String,
    only: Option<String>,
    wanted: cell::Receiver<BTreeSet<String>>,
    /// What was seen of the whole namespace, so that a Lease that is wanted later can be told at once.
    seen: BTreeMap<String, Value>,
    /// What a list has brought so far.
    coming: BTreeMap<String, Value>,
    listed: Option<Version>,
    told: BTreeSet<String>,
}

impl LeaseWatch {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        namespace: String,
        only: Option<String>,
        wanted: cell::Receiver<BTreeSet<String>>,
    ) -> Self {
        let (seen, coming, told) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { gateway, namespace, only, wanted, seen, coming, listed: None, told }
    }

    /// Tells about one Lease, as it was last seen.
    fn tell(&mut self, name: &str, absent_at: Option<Version>) {
        self.told.insert(name.to_owned());
        let lease = LeaseName::new(self.namespace.clone(), name);
        let object = self.seen.get(name);
        let sight = if let Some((object, (_, version, record))) = object.zip(object.and_then(lease::convert))
        {
            self.gateway.ledger.note_delivery(&lease, &version, object.clone());
            Sight::Present { version, record }
        } else {
            self.gateway.ledger.note_absence(&lease, absent_at.clone());
            Sight::Absent(absent_at)
        };
        self.gateway.tell(ClusterEvent::Lease(LeaseSeen { lease, sight }));
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.wanted.borrow().contains(name)
    }

    /// Tells about those that are wanted only now.
    fn tell_new(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        self.told.retain(|name| wanted.contains(name));
        let new: Vec<String> = wanted.difference(&self.told).cloned().collect();
        for name in new {
            self.tell(&name, self.listed.clone());
        }
    }
}

impl Collection for LeaseWatch {
    type Item = Value;

    fn resource(&self) -> &'static str {
        LEASES
    }

    fn object(&self) -> String {
        self.only.as_ref().map_or_else(|| self.namespace.clone(), |name| format!("{}/{name}", self.namespace))
    }

    fn query(&self) -> String {
        let path = lease::path(&self.namespace, None);
        match &self.only {
            Some(name) => format!("{path}?fieldSelector=metadata.name%3D{name}&"),
            None => format!("{path}?"),
        }
    }

    fn starts(&mut self) {
        self.coming.clear();
        self.gateway.ledger.restart(&self.namespace, self.only.as_deref());
    }

    fn found(&mut self, items: Vec<Value>) {
        let objects = items.into_iter().map(lease::slim);
        self.coming.extend(objects.filter_map(|object| Some((lease::convert(&object)?.0, object))));
    }

    fn listed(&mut self, version: &Version) {
        self.seen = std::mem::take(&mut self.coming);
        self.listed = Some(version.clone());
        self.told.clear();
        self.tell_new();
    }

    fn changed(&mut self, item: Value) {
        let Some((name, version, _)) = lease::convert(&item) else { return };
        self.listed = Some(version);
        self.seen.insert(name.clone(), lease::slim(item));
        if self.is_wanted(&name) {
            self.tell(&name, None);
        }
    }

    fn deleted(&mut self, item: Value) {
        let Some((name, version, _)) = lease::convert(&item) else { return };
        self.listed = Some(version.clone());
        self.seen.remove(&name);
        if self.is_wanted(&name) {
            self.tell(&name, Some(version));
        }
    }

    async fn overdue(&mut self) {
        let gateway = Arc::clone(&self.gateway);
        loop {
            tokio::select! {
                () = gateway.ledger.overdue(&self.namespace, self.only.as_deref()) => return,
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    self.tell_new();
                }
            }
        }
    }

    fn recovery(&self) -> Recovery {
        Recovery::List
    }

    fn wait_for_rights(&self) -> Duration {
        WAIT_FOR_RIGHTS
    }
}
