//! Services in view, of every type: one that stops being a load balancer must still be seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use vip_model::service::{Service, ServiceName};
use vip_model::store::Version;

use crate::follow::{Collection, PAGE, Recovery};
use crate::gateway::Gateway;
use crate::service::{self, ServiceShape};
use crate::snapshots;

/// The Services of a namespace, or all.
pub(crate) struct ServiceWatch {
    gateway: Arc<Gateway>,
    namespace: Option<String>,
    /// What a list has brought so far.
    coming: BTreeMap<ServiceName, Arc<Service>>,
}

impl ServiceWatch {
    pub(crate) fn new(gateway: Arc<Gateway>, namespace: Option<String>) -> Self {
        Self { gateway, namespace, coming: BTreeMap::new() }
    }
}

impl Collection for ServiceWatch {
    type Item = ServiceShape;

    fn resource(&self) -> &'static str {
        "services"
    }

    fn object(&self) -> String {
        self.namespace.clone().unwrap_or_default()
    }

    fn query(&self) -> String {
        format!("{}?", service::collection(self.namespace.as_deref()))
    }

    fn page(&self) -> u32 {
        PAGE
    }

    fn starts(&mut self) {
        self.coming.clear();
    }

    fn found(&mut self, items: Vec<ServiceShape>) {
        self.coming.extend(items.into_iter().map(|item| {
            let (name, service) = item.convert();
            (name, Arc::new(service))
        }));
    }

    fn listed(&mut self, version: &Version) {
        let mut coming = std::mem::take(&mut self.coming);
        self.gateway.snapshots.replace(|snapshot| {
            if let Some(before) = snapshot.services.get() {
                // What did not change stays the same object: lists come again, and are mostly no news.
                for (name, service) in &mut coming {
                    if let Some(same) = before.get(name).filter(|before| *before == service) {
                        *service = Arc::clone(same);
                    }
                }
            }
            let is_later = snapshot.services_at != *version;
            snapshot.services_at.clone_from(version);
            snapshots::put(&mut snapshot.services, coming) || is_later
        });
    }

    fn changed(&mut self, item: ServiceShape) {
        let (name, service) = item.convert();
        self.gateway.snapshots.change(|snapshot| {
            snapshot.services_at.clone_from(&service.version);
            snapshots::set(&mut snapshot.services, name, Some(Arc::new(service)))
        });
    }

    fn deleted(&mut self, item: ServiceShape) {
        let (name, last) = item.convert();
        self.gateway.snapshots.change(|snapshot| {
            snapshot.services_at = last.version;
            snapshots::set(&mut snapshot.services, name, None)
        });
    }

    fn recovery(&self) -> Recovery {
        Recovery::Resume
    }
}
