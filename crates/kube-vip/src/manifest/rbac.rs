//! The `ServiceAccount` of an agent and its rights: what an agent with these settings asks for, and no more. `RIGHTS` is
//! the whole list; a right that is needed in one namespace only is given there.

use anyhow::Result;
use serde_json::{Value, json};

use crate::settings::{Values, key};

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
const CLUSTER_ROLE: &str = "system:kube-vip-role";
const CLUSTER_BINDING: &str = "system:kube-vip-binding";
/// The Secret with the keys for heartbeats, and the objects that give the right to it.
const PEERS: &str = "kube-vip-peers";
/// The objects that give the right to see the API servers behind the `kubernetes` Service.
const SERVERS: &str = "kube-vip-servers";
/// The objects that give the right to the Leases of one namespace.
const LEASES: &str = "kube-vip-leases";
/// The objects that give the right to the `ConfigMap` of address pools.
const POOLS: &str = "kube-vip-pools";

/// What an agent does, as far as rights depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    services: bool,
    /// Services are written to.
    updates: bool,
    /// Nodes are labelled.
    labels: bool,
    slices: bool,
    endpoints: bool,
    /// The namespace of all Leases, when there is only one.
    leases: Option<String>,
    /// Namespace and name of the `ConfigMap` of address pools, when addresses are given out.
    pools: Option<(String, String)>,
    /// The namespace of the keys for heartbeats, when these are sent.
    keys: Option<String>,
}

impl Needs {
    /// What an agent with these settings does. Where nothing says what it shall do, all that one can do without further
    /// settings.
    pub(super) fn of(values: &Values, namespace: &str) -> Result<Self> {
        let on = |key| values.boolean(key);
        let (control_plane, services) = (on(key::CONTROL_PLANE)?, on(key::SERVICES)?);
        let is_open = !control_plane && !services;
        let elections_of_services = on(key::SERVICES_ELECTION)? || on(key::ON_DEMAND)?;
        let is_elsewhere = values.text(key::NAMESPACE) != namespace
            || [key::LEASE_NAME, key::SERVICES_LEASE].iter().any(|key| values.text(key).contains('/'));
        let is_many = is_open || is_elsewhere || (services && elections_of_services);
        let pools = || {
            let text = |key| values.text(key).to_owned();
            (text(key::IPAM_NAMESPACE), text(key::IPAM_CONFIG_MAP))
        };
        // They lie beside the first Lease, as the agent has it (`settings::session`).
        let first =
            values.text(if services && !control_plane { key::SERVICES_LEASE } else { key::LEASE_NAME });
        let keys = || first.split_once('/').map_or(namespace, |(namespace, _)| namespace).to_owned();
        Ok(Self {
            services: services || is_open,
            updates: !on(key::NO_SERVICE_UPDATES)?,
            labels: on(key::NODE_LABEL)? || is_open,
            slices: !on(key::ENDPOINTS)? || is_open,
            endpoints: on(key::ENDPOINTS)? || is_open,
            leases: (!is_many).then(|| namespace.to_owned()),
            pools: (on(key::IPAM)? && (services || is_open)).then(pools),
            keys: (values.text(key::ELECTION_MODE) == "session").then(keys),
        })
    }

    /// Services are written to, with their addresses or with what became of them.
    fn writes(&self) -> bool {
        self.services && (self.updates || self.pools.is_some())
    }
}

/// One right.
struct Right {
    when: fn(&Needs) -> bool,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
}

/// What an agent needs all over the cluster.
const RIGHTS: &[Right] = &[
    Right { when: |_| true, group: "", resource: "nodes", verbs: &["list", "watch"] },
    Right { when: |needs| needs.labels, group: "", resource: "nodes", verbs: &["patch"] },
    Right {
        when: |needs| needs.leases.is_none(),
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: LEASE_VERBS,
    },
    Right { when: |needs| needs.services, group: "", resource: "services", verbs: &["list", "watch"] },
    Right { when: Needs::writes, group: "", resource: "services", verbs: &["get", "update"] },
    Right { when: Needs::writes, group: "", resource: "services/status", verbs: &["update"] },
    Right { when: Needs::writes, group: "", resource: "events", verbs: &["create", "patch"] },
    Right {
        when: |needs| needs.services && needs.slices,
        group: "discovery.k8s.io",
        resource: "endpointslices",
        verbs: &["list", "watch"],
    },
    Right {
        when: |needs| needs.services && needs.endpoints,
        group: "",
        resource: "endpoints",
        verbs: &["list", "watch"],
    },
];

const LEASE_VERBS: &[&str] = &["list", "get", "watch", "update", "create"];

/// The documents. The subject of a binding always has its namespace: without it the API server refuses.
pub(super) fn documents(reach: Reach, namespace: &str, needs: &Needs) -> Vec<Value> {
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": ACCOUNT, "namespace": namespace},
    });
    let rules: Vec<Value> = RIGHTS.iter().filter(|right| (right.when)(needs)).map(Right::rule).collect();
    let here = json!({"name": ACCOUNT, "namespace": namespace});
    let (role, role_metadata) = match reach {
        Reach::Namespace => ("Role", here.clone()),
        Reach::Cluster | Reach::Binding => ("ClusterRole", json!({"name": CLUSTER_ROLE})),
    };
    let (binding, binding_metadata) = match reach {
        Reach::Cluster => ("ClusterRoleBinding", json!({"name": CLUSTER_BINDING})),
        Reach::Namespace | Reach::Binding => ("RoleBinding", here),
    };
    let mut documents = vec![account];
    documents.extend(granted(namespace, (role, role_metadata, rules), (binding, binding_metadata)));
    documents.extend(in_single_namespaces(reach, namespace, needs));
    documents
}

/// Rights that are needed in one namespace only.
fn in_single_namespaces(reach: Reach, namespace: &str, needs: &Needs) -> Vec<Value> {
    let rule = |group: &str, resource: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    let named = |mut rule: Value, name: &str| {
        rule["resourceNames"] = json!([name]);
        rule
    };
    let mut documents = Vec::new();
    let mut grant = |name: &str, at: &str, rules: Vec<Value>| {
        let metadata = json!({"name": name, "namespace": at});
        documents.extend(granted(namespace, ("Role", metadata.clone(), rules), ("RoleBinding", metadata)));
    };
    if reach != Reach::Cluster || !(needs.services && needs.slices) {
        let slices = rule("discovery.k8s.io", "endpointslices", &["list"]);
        // Where there are no slices.
        let endpoints = named(rule("", "endpoints", &["get"]), "kubernetes");
        grant(SERVERS, "default", vec![slices, endpoints]);
    }
    if let Some(at) = &needs.leases {
        grant(LEASES, at, vec![rule("coordination.k8s.io", "leases", LEASE_VERBS)]);
    }
    if let Some((at, name)) = &needs.pools {
        grant(POOLS, at, vec![named(rule("", "configmaps", &["list", "watch"]), name)]);
    }
    if let Some(at) = &needs.keys {
        let keys = named(rule("", "secrets", &["list", "get", "watch", "update"]), PEERS);
        // A name cannot limit `create`: the first agent makes the Secret.
        grant(PEERS, at, vec![keys, rule("", "secrets", &["create"])]);
    }
    documents
}

/// A role and its binding to the account.
fn granted(
    namespace: &str,
    (role, role_metadata, rules): (&str, Value, Vec<Value>),
    (binding, binding_metadata): (&str, Value),
) -> [Value; 2] {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let version = format!("{GROUP}/v1");
    let reference = json!({"apiGroup": GROUP, "kind": role, "name": role_metadata["name"]});
    let subject = json!({"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace});
    [
        json!({"apiVersion": version, "kind": role, "metadata": role_metadata, "rules": rules}),
        json!({
            "apiVersion": version,
            "kind": binding,
            "metadata": binding_metadata,
            "roleRef": reference,
            "subjects": [subject],
        }),
    ]
}

impl Right {
    fn rule(&self) -> Value {
        json!({"apiGroups": [self.group], "resources": [self.resource], "verbs": self.verbs})
    }
}
