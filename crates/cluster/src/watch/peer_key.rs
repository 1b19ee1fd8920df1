//! The keys for heartbeats in view: a Secret by name, with the newest key and the one before. When it is not there, it is
//! made; of several agents that do so at the same time the API lets the first one through, and all read what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch as cell;
use tokio::time::timeout;
use vip_model::peers::{PeerKey, PeerKeys};
use vip_model::store::{Failure, FailureClass, Version};

use crate::call::{Call, Take};
use crate::event::ClusterEvent;
use crate::follow::{self, Collection, Recovery};
use crate::gateway::{Gateway, Problem};
use crate::lane::Patience;
use crate::shape::or_default;

/// Secrets, as RBAC names them.
const SECRETS: &str = "secrets";
/// The newest key in the Secret's data.
const NEWEST: &str = "key";
/// The key before.
const PREVIOUS: &str = "previous";
/// How long making the Secret may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the watch is given to show the Secret that was made, and how long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long when the right is missing.
const FORBIDDEN: Duration = Duration::from_secs(30);

/// Makes a key that nobody knows.
pub(crate) type FreshKey = dyn Fn() -> PeerKey + Send + Sync;

/// A Secret, as far as it is read. Not to be shown.
#[derive(Default, Deserialize)]
pub(crate) struct SecretShape {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    data: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Meta {
    name: String,
}

impl SecretShape {
    fn convert(&self) -> Result<PeerKeys, String> {
        let newest = self.key(NEWEST)?.ok_or_else(|| format!("its data lacks {NEWEST:?}"))?;
        let previous = self.key(PREVIOUS)?.filter(|previous| *previous != newest);
        Ok(PeerKeys { newest, previous })
    }

    fn key(&self, name: &str) -> Result<Option<PeerKey>, String> {
        let Some(text) = self.data.get(name) else { return Ok(None) };
        let bytes = STANDARD.decode(text).map_err(|_| format!("its data {name:?} is not base64"))?;
        let count = bytes.len();
        let bytes = bytes
            .try_into()
            .map_err(|_| format!("its data {name:?} has {count} bytes, a key has {}", PeerKey::LENGTH))?;
        Ok(Some(PeerKey::new(bytes)))
    }
}

/// Where the Secret is.
#[derive(Clone)]
struct Place {
    namespace: String,
    name: String,
}

impl Place {
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.namespace)
    }

    fn object(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What stands in the Secret.
#[derive(Clone, Default, PartialEq)]
enum Sight {
    #[default]
    Unknown,
    /// It is not there, and these were the last keys in it.
    Absent(Option<PeerKey>),
    There,
}

/// The Secret in view.
struct PeerKeyWatch {
    gateway: Arc<Gateway>,
    place: Place,
    coming: Option<SecretShape>,
    keys: Option<PeerKeys>,
    told: Option<Result<PeerKeys, String>>,
    sight: cell::Sender<Sight>,
}

impl PeerKeyWatch {
    fn see(&mut self, secret: Option<&SecretShape>) {
        let Some(secret) = secret else {
            let last = self.keys.as_ref().map(|keys| keys.newest.clone());
            self.told = None;
            self.sight.send_replace(Sight::Absent(last));
            return;
        };
        self.sight.send_replace(Sight::There);
        let keys = secret.convert();
        if let Ok(keys) = &keys {
            self.keys = Some(keys.clone());
        }
        self.tell(keys.map_err(|why| format!("the Secret {} holds no keys: {why}", self.place.object())));
    }

    fn tell(&mut self, keys: Result<PeerKeys, String>) {
        if self.told.as_ref() != Some(&keys) {
            self.told = Some(keys.clone());
            self.gateway.tell(ClusterEvent::PeerKeys(keys));
        }
    }
}

impl Collection for PeerKeyWatch {
    type Item = SecretShape;

    fn resource(&self) -> &'static str {
        SECRETS
    }

    fn object(&self) -> String {
        self.place.object()
    }

    fn query(&self) -> String {
        // A right that is limited to this name counts for a list of this name alone.
        format!("{}?fieldSelector=metadata.name%3D{}&", self.place.path(), self.place.name)
    }

    fn starts(&mut self) {
        self.coming = None;
    }

    fn found(&mut self, items: Vec<SecretShape>) {
        self.coming = items.into_iter().find(|item| item.metadata.name == self.place.name);
    }

    fn listed(&mut self, _version: &Version) {
        let secret = self.coming.take();
        self.see(secret.as_ref());
    }

    fn changed(&mut self, item: SecretShape) {
        if item.metadata.name == self.place.name {
            self.see(Some(&item));
        }
    }

    fn deleted(&mut self, item: SecretShape) {
        if item.metadata.name == self.place.name {
            self.see(None);
        }
    }

    fn failed(&mut self, failure: &Failure) {
        if !failure.class.is_transient() {
            self.tell(Err(failure.text.clone()));
        }
    }

    fn recovery(&self) -> Recovery {
        Recovery::Resume
    }
}

/// Keeps the Secret in view and makes it when it is not there, until the task is aborted.
pub(crate) async fn keep(gateway: Arc<Gateway>, (namespace, name): (String, String), fresh: Box<FreshKey>) {
    let place = Place { namespace, name };
    let (sight, seen) = cell::channel(Sight::Unknown);
    let watch = PeerKeyWatch {
        gateway: Arc::clone(&gateway),
        place: place.clone(),
        coming: None,
        keys: None,
        told: None,
        sight,
    };
    tokio::join!(follow::follow(&gateway, watch, super::seed()), make(&gateway, &place, seen, fresh));
}

async fn make(gateway: &Gateway, place: &Place, mut seen: cell::Receiver<Sight>, fresh: Box<FreshKey>) {
    let mut is_told = false;
    loop {
        let absent = seen.wait_for(|sight| matches!(sight, Sight::Absent(_))).await;
        let Ok(Sight::Absent(last)) = absent.map(|sight| sight.clone()) else { return };
        let wait = match create(gateway, place, &fresh(), last.as_ref()).await {
            Err(problem) if problem.failure().class == FailureClass::Forbidden => {
                if !is_told {
                    let text = format!("{}; make it by hand or grant the right", problem.failure().text);
                    gateway.tell(ClusterEvent::PeerKeys(Err(text)));
                }
                is_told = true;
                FORBIDDEN
            }
            // Made, or somebody else was first: then the watch shows it. Or it failed: then again.
            Ok(()) | Err(_) => AGAIN,
        };
        let shown = seen.wait_for(|sight| !matches!(sight, Sight::Absent(_)));
        match timeout(wait, shown).await {
            Ok(Ok(_)) => is_told = false,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

/// Makes the Secret. One that was deleted goes on with the key that all have.
async fn create(
    gateway: &Gateway,
    place: &Place,
    fresh: &PeerKey,
    last: Option<&PeerKey>,
) -> Result<(), Problem> {
    let text = |key: &PeerKey| STANDARD.encode(key.bytes());
    let mut data = json!({NEWEST: text(fresh)});
    if let Some(last) = last {
        data[PREVIOUS] = json!(text(last));
    }
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": place.name, "namespace": place.namespace},
        "data": data,
    });
    let call = Call {
        verb: "create",
        resource: SECRETS,
        object: place.object(),
        path: place.path(),
        body: Some((Bytes::from(body.to_string()), "application/json")),
    };
    gateway.call(&gateway.background, &call, Take::Whole, Patience::of(PATIENCE)).await.map(|_| ())
}

#[cfg(test)]
mod tests;
