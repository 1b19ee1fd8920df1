//! The `ServiceAccount` of an agent and its rights.

use serde_json::{Value, json};

/// How far the rights reach.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// `ClusterRole` and `ClusterRoleBinding`.
    Cluster,
    /// The `ClusterRole`, bound in one namespace.
    Binding,
    /// `Role` and `RoleBinding`.
    Namespace,
}

const ACCOUNT: &str = "kube-vip";
/// The Secret with the keys for heartbeats, and the objects that give the right to it.
const PEERS: &str = "kube-vip-peers";
const CLUSTER_ROLE: &str = "system:kube-vip-role";
const CLUSTER_BINDING: &str = "system:kube-vip-binding";

/// The three documents. The subject of a binding always has its namespace: without it the API server refuses.
pub(super) fn documents(reach: Reach, namespace: &str) -> [Value; 3] {
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": ACCOUNT, "namespace": namespace},
    });
    let (role_kind, role_metadata) = match reach {
        Reach::Namespace => ("Role", json!({"name": ACCOUNT, "namespace": namespace})),
        Reach::Cluster | Reach::Binding => ("ClusterRole", json!({"name": CLUSTER_ROLE})),
    };
    let (binding_kind, binding_metadata) = match reach {
        Reach::Cluster => ("ClusterRoleBinding", json!({"name": CLUSTER_BINDING})),
        Reach::Namespace | Reach::Binding => {
            ("RoleBinding", json!({"name": ACCOUNT, "namespace": namespace}))
        }
    };
    let role_name = role_metadata["name"].clone();
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": role_kind,
        "metadata": role_metadata,
        "rules": rules(reach),
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": binding_kind,
        "metadata": binding_metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role_name},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
    });
    [account, role, binding]
}

/// The right to the keys for heartbeats, in the one namespace where they are. A name cannot limit `create`: the first
/// agent makes the Secret.
pub(super) fn for_heartbeats(namespace: &str) -> [Value; 2] {
    let metadata = json!({"name": PEERS, "namespace": namespace});
    let rule = |verbs: &[&str]| json!({"apiGroups": [""], "resources": ["secrets"], "verbs": verbs});
    let mut named = rule(&["list", "get", "watch", "update"]);
    named["resourceNames"] = json!([PEERS]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": [named, rule(&["create"])],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": PEERS},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
    });
    [role, binding]
}

fn rules(reach: Reach) -> Vec<Value> {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let mut rules = vec![
        rule("", &["services/status"], &["update"]),
        rule("", &["services", "endpoints"], &["list", "get", "watch", "update"]),
        rule("", &["nodes"], &["list", "get", "watch", "update", "patch"]),
        rule("coordination.k8s.io", &["leases"], &["list", "get", "watch", "update", "create"]),
        rule("discovery.k8s.io", &["endpointslices"], &["list", "get", "watch", "update"]),
        rule("", &["pods"], &["list"]),
    ];
    if reach != Reach::Namespace {
        rules.push(rule("networking.k8s.io", &["servicecidrs"], &["list", "get", "watch"]));
    }
    rules
}
