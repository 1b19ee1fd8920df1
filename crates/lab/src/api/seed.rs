//! What a cluster has before anybody asks: the system namespaces, the role `cluster-admin`, the `kubernetes` Service
//! with its endpoints, and objects from YAML as an operator would apply them. Scenarios and tests call it at their start;
//! it goes through the same rules as requests do.

use super::failure::Failure;
use super::kind::{Kind, Scope};
use super::object::meta;
use super::route::{Part, Query, Target, Verb};
use super::store::Store;
use super::{Error, verb};
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// The namespaces of every cluster.
const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

impl Store {
    /// Creates an object or replaces it, status included, as an administrator would. The object names its own
    /// apiVersion, kind, name and namespace (`default` when absent).
    pub fn apply(&self, object: &Value) -> Result<Arc<Value>, Error> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let what = format!("{} {} {:?}", text("apiVersion"), text("kind"), meta(object, "name"));
        let refused = |failure: Failure| Error::Refused { what: what.clone(), why: failure.message };
        let kind = Kind::of_object(text("apiVersion"), text("kind"))
            .ok_or_else(|| Error::UnknownKind(what.clone()))?;
        let namespace = match (kind.scope, meta(object, "namespace")) {
            (Scope::Cluster, _) => "",
            (Scope::Namespaced, "") => "default",
            (Scope::Namespaced, named) => named,
        };
        let mut target = Target {
            verb: Verb::Update,
            kind,
            namespace: namespace.to_owned(),
            name: meta(object, "name").to_owned(),
            part: Part::Whole,
            query: Query::default(),
        };
        let mut wanted = object.clone();
        if let Some(old) = self.get(kind, namespace, &target.name) {
            wanted["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            verb::update(self, &target, wanted.to_string().as_bytes(), Ok(())).map_err(refused)?;
        } else {
            verb::create(self, &target, wanted.to_string().as_bytes()).map_err(refused)?;
        }
        if kind.has_status && object.get("status").is_some() {
            target.part = Part::Status;
            if let Some(stored) = self.get(kind, namespace, &target.name) {
                let mut wanted = Value::clone(&stored);
                wanted["status"] = object["status"].clone();
                verb::update(self, &target, wanted.to_string().as_bytes(), Ok(())).map_err(refused)?;
            }
        }
        self.get(kind, namespace, &target.name).ok_or(Error::UnknownKind(what))
    }

    /// Lays a merge patch (RFC 7386) over an object, as `kubectl patch --type=merge` does: what others write meanwhile
    /// stays.
    pub fn merge(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Arc<Value>, Error> {
        let target = Target {
            verb: Verb::Patch,
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            part: Part::Whole,
            query: Query::default(),
        };
        let done = verb::patch(self, &target, "application/merge-patch+json", patch.to_string().as_bytes());
        done.map(|(_, object)| object).map_err(|failure| Error::Refused {
            what: format!("a patch of {} {namespace}/{name}", kind.kind),
            why: failure.message,
        })
    }

    /// Applies every document of a YAML text, as `kubectl apply -f` reads it.
    pub fn apply_yaml(&self, text: &str) -> Result<(), Error> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|err| Error::Yaml(err.to_string()))?;
        for document in documents.iter().filter(|document| !document.is_null()) {
            let document = Value::deserialize(document).map_err(|err| Error::Yaml(err.to_string()))?;
            self.apply(&document)?;
        }
        Ok(())
    }

    /// Deletes an object if it is there.
    pub fn delete(&self, kind: &'static Kind, namespace: &str, name: &str) {
        let target = Target {
            verb: Verb::Delete,
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            part: Part::Whole,
            query: Query::default(),
        };
        // Absent already is what was asked for.
        let _ = verb::delete(self, &target, &[]);
    }

    /// The namespaces and the role `cluster-admin` that every cluster has.
    pub fn seed_cluster(&self) -> Result<(), Error> {
        for name in NAMESPACES {
            self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
        }
        let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        self.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "cluster-admin"}, "rules": all,
        }))?;
        Ok(())
    }

    /// The `default/kubernetes` Service with its Endpoints and `EndpointSlice`, as the API servers of a cluster keep
    /// them: `cluster_ip` is the Service's address, `servers` are the API servers' addresses of the same family.
    pub fn seed_kubernetes_service(
        &self,
        cluster_ip: IpAddr,
        servers: &[IpAddr],
        port: u16,
    ) -> Result<(), Error> {
        let family = if cluster_ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
                "ipFamilies": [family], "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
            },
        }))?;
        let addresses: Vec<Value> = servers.iter().map(|ip| json!({"ip": ip})).collect();
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
        }))?;
        let endpoints: Vec<Value> =
            servers.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
        self.apply(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": family, "endpoints": endpoints,
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }))?;
        Ok(())
    }
}
