//! The API for a person's commands: one call after the other, with that person's credentials.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::Value;
use vip_model::store::{Failure, FailureClass};

use crate::call::{Call, Take};
use crate::gateway::{Gateway, Problem, Way};
use crate::lane::Patience;
use crate::settings::ApiSettings;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to the API for commands.
pub struct Console {
    gateway: Arc<Gateway>,
}

/// An object, or a collection of them, of the API.
#[derive(Clone, Debug)]
pub struct Target {
    /// The resource as RBAC names it.
    pub resource: &'static str,
    /// `namespace/name`, a name, or empty for a whole collection: for people.
    pub object: String,
    /// Its path.
    pub path: String,
}

impl Target {
    /// A Node.
    pub fn node(name: &str) -> Self {
        Self { resource: "nodes", object: name.to_owned(), path: format!("/api/v1/nodes/{name}") }
    }

    /// A Lease.
    pub fn lease(namespace: &str, name: &str) -> Self {
        Self {
            resource: "leases.coordination.k8s.io",
            object: format!("{namespace}/{name}"),
            path: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"),
        }
    }

    /// All Leases.
    pub fn leases() -> Self {
        Self {
            resource: "leases.coordination.k8s.io",
            object: String::new(),
            path: "/apis/coordination.k8s.io/v1/leases".to_owned(),
        }
    }
}

impl Console {
    /// Finds the credentials as the agent does. Nothing is asked yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime, when it is used.
    pub fn new(settings: ApiSettings) -> Self {
        Self { gateway: Arc::new(Gateway::new(settings, Arc::new(|_| {}))) }
    }

    /// Reads an object.
    pub async fn get(&self, target: &Target) -> Result<Value, Failure> {
        let verb = if target.object.is_empty() { "list" } else { "get" };
        self.call(verb, target, None).await
    }

    /// Changes an object by a merge patch (RFC 7386).
    pub async fn merge(&self, target: &Target, patch: &Value) -> Result<Value, Failure> {
        let body = (Bytes::from(patch.to_string()), "application/merge-patch+json");
        self.call("patch", target, Some(body)).await
    }

    async fn call(
        &self,
        verb: &'static str,
        target: &Target,
        body: Option<(Bytes, &'static str)>,
    ) -> Result<Value, Failure> {
        let Target { resource, object, path } = target.clone();
        let call = Call { verb, resource, object, path, body };
        let way = Way::Lane(&self.gateway.writes);
        let reply = self.gateway.call(way, &call, Take::Whole, Patience::of(PATIENCE)).await;
        let reply = reply.map_err(Problem::into_failure)?;
        serde_json::from_slice(reply.whole()).map_err(|error| Failure {
            class: FailureClass::Invalid,
            text: format!("{call}: {} answered with something that is no JSON: {error}", reply.server),
        })
    }
}
