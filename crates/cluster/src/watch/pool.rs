//! The pools' ConfigMap in view. It need not exist: then there are no pools, which is known as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use vip_model::store::Version;

use crate::follow::{Collection, Recovery};
use crate::gateway::Gateway;
use crate::shape::or_default;
use crate::snapshots;

/// A ConfigMap, as far as it is read.
#[derive(Deserialize)]
pub(crate) struct PoolShape {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
}

/// One ConfigMap.
pub(crate) struct PoolWatch {
    gateway: Arc<Gateway>,
    namespace: String,
    name: String,
    coming: BTreeMap<String, String>,
}

impl PoolWatch {
    pub(crate) fn new(gateway: Arc<Gateway>, namespace: String, name: String) -> Self {
        Self { gateway, namespace, name, coming: BTreeMap::new() }
    }

    fn tell(&self, pools: BTreeMap<String, String>) {
        self.gateway.snapshots.replace(|snapshot| snapshots::put(&mut snapshot.pools, pools));
    }
}

impl Collection for PoolWatch {
    type Item = PoolShape;

    fn resource(&self) -> &'static str {
        "configmaps"
    }

    fn object(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn query(&self) -> String {
        let Self { namespace, name, .. } = self;
        format!("/api/v1/namespaces/{namespace}/configmaps?fieldSelector=metadata.name%3D{name}&")
    }

    fn starts(&mut self) {
        self.coming.clear();
    }

    fn found(&mut self, items: Vec<PoolShape>) {
        if let Some(item) = items.into_iter().find(|item| item.metadata.name == self.name) {
            self.coming = item.data;
        }
    }

    fn listed(&mut self, _version: &Version) {
        let pools = std::mem::take(&mut self.coming);
        self.tell(pools);
    }

    fn changed(&mut self, item: PoolShape) {
        if item.metadata.name == self.name {
            self.tell(item.data);
        }
    }

    fn deleted(&mut self, item: PoolShape) {
        if item.metadata.name == self.name {
            self.tell(BTreeMap::new());
        }
    }

    fn recovery(&self) -> Recovery {
        Recovery::Resume
    }
}
