//! Leases in view: every one that is wanted is told when it is there, when it changes and when it is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch as cell;
use tokio::time::Instant;
use vip_model::LeaseName;
use vip_model::store::{Failure, FailureClass, LeaseSeen, Sight, Version};

use crate::event::ClusterEvent;
use crate::follow::{Collection, PAGE, Recovery};
use crate::gateway::{ALL_LEASES, Gateway, LEASES};
use crate::lease::{self, Scope};

/// An election cannot do without Leases: a right that is missing may come any moment (a cluster that is being set up).
pub(super) const WAIT_FOR_RIGHTS: Duration = Duration::from_secs(1);
/// The right to those of all namespaces is not needed.
const WAIT_FOR_ALL: Duration = Duration::from_secs(300);

/// Whether one watch of all namespaces serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wide {
    /// Nobody knows yet.
    #[default]
    Untried,
    /// It does.
    Serves,
    /// The right is missing.
    Refused,
}

/// One Lease, or those of a namespace or of all that are wanted.
pub(crate) struct LeaseWatch {
    gateway: Arc<Gateway>,
    scope: Scope,
    wanted: cell::Receiver<BTreeSet<LeaseName>>,
    /// Told by the watch of all namespaces.
    wide: cell::Sender<Wide>,
    /// What was seen of the whole, so that a Lease that is wanted later can be told at once.
    seen: BTreeMap<LeaseName, Value>,
    /// What a list has brought so far.
    coming: BTreeMap<LeaseName, Value>,
    listed: Option<Version>,
    /// When a list or a watch last brought anything.
    delivered: Option<Instant>,
    told: BTreeSet<LeaseName>,
}

impl LeaseWatch {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        scope: Scope,
        wanted: cell::Receiver<BTreeSet<LeaseName>>,
        wide: cell::Sender<Wide>,
    ) -> Self {
        let (seen, coming, told) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { gateway, scope, wanted, wide, seen, coming, listed: None, delivered: None, told }
    }

    /// Tells about one Lease, as it was last seen.
    fn tell(&mut self, lease: &LeaseName, absent_at: Option<Version>) {
        self.told.insert(lease.clone());
        let object = self.seen.get(lease);
        let sight = if let Some((object, (_, version, record))) = object.zip(object.and_then(lease::convert))
        {
            self.gateway.ledger.note_delivery(lease, &version, object.clone());
            Sight::Present { version, record }
        } else {
            self.gateway.ledger.note_absence(lease, absent_at.clone());
            Sight::Absent(absent_at)
        };
        self.gateway.tell(ClusterEvent::Lease(LeaseSeen { lease: lease.clone(), sight }));
    }

    fn is_wanted(&self, lease: &LeaseName) -> bool {
        self.wanted.borrow().contains(lease)
    }

    /// Tells about those that are wanted only now.
    fn tell_new(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        self.told.retain(|lease| wanted.contains(lease));
        let new: Vec<LeaseName> = wanted.difference(&self.told).cloned().collect();
        for lease in new {
            self.tell(&lease, self.listed.clone());
        }
    }

    fn report(&self, wide: Wide) {
        if self.scope == Scope::All {
            self.wide.send_if_modified(|now| std::mem::replace(now, wide) != wide);
        }
    }
}

impl Collection for LeaseWatch {
    type Item = Value;

    fn resource(&self) -> &'static str {
        if self.scope == Scope::All { ALL_LEASES } else { LEASES }
    }

    fn object(&self) -> String {
        self.scope.to_string()
    }

    fn query(&self) -> String {
        self.scope.query()
    }

    fn page(&self) -> u32 {
        PAGE
    }

    fn starts(&mut self) {
        self.coming.clear();
        self.gateway.ledger.restart(&self.scope);
    }

    fn found(&mut self, items: Vec<Value>) {
        let objects = items.into_iter().map(lease::slim);
        self.coming.extend(objects.filter_map(|object| Some((lease::name(&object)?, object))));
    }

    fn listed(&mut self, version: &Version) {
        self.delivered = Some(Instant::now());
        self.seen = std::mem::take(&mut self.coming);
        self.listed = Some(version.clone());
        self.told.clear();
        self.tell_new();
        self.report(Wide::Serves);
    }

    fn changed(&mut self, item: Value) {
        let Some((lease, (_, version, _))) = lease::name(&item).zip(lease::convert(&item)) else { return };
        self.delivered = Some(Instant::now());
        self.listed = Some(version);
        self.seen.insert(lease.clone(), lease::slim(item));
        if self.is_wanted(&lease) {
            self.tell(&lease, None);
        }
    }

    fn deleted(&mut self, item: Value) {
        let Some((lease, (_, version, _))) = lease::name(&item).zip(lease::convert(&item)) else { return };
        self.delivered = Some(Instant::now());
        self.listed = Some(version.clone());
        self.seen.remove(&lease);
        if self.is_wanted(&lease) {
            self.tell(&lease, Some(version));
        }
    }

    async fn overdue(&mut self) {
        let gateway = Arc::clone(&self.gateway);
        loop {
            tokio::select! {
                () = gateway.ledger.overdue(&self.scope, self.delivered) => return,
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    self.tell_new();
                }
            }
        }
    }

    fn failed(&mut self, failure: &Failure) {
        if failure.class == FailureClass::Forbidden {
            self.report(Wide::Refused);
        }
    }

    fn recovery(&self) -> Recovery {
        Recovery::List
    }

    fn wait_for_rights(&self) -> Duration {
        if self.scope == Scope::All { WAIT_FOR_ALL } else { WAIT_FOR_RIGHTS }
    }
}
