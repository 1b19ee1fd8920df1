//! The table of what the server knows: one row per resource, with the traits in which the real server's resources
//! differ. Every verb, selector and rule reads this table; a resource that is not in it answers 501 and is recorded.

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One name space for the whole cluster, as nodes.
    Cluster,
    /// One name space per Kubernetes namespace, as leases.
    Namespaced,
}

/// One resource of the API.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version inside the group.
    pub version: &'static str,
    /// Plural name, as in paths and RBAC rules.
    pub resource: &'static str,
    /// Name of the type, as in `kind`.
    pub kind: &'static str,
    /// Where its objects live.
    pub scope: Scope,
    /// The kind has a `status` subresource: the main resource never changes the status.
    pub has_status: bool,
    /// A PUT of an object that does not exist creates it.
    pub put_creates: bool,
    /// A PUT without `metadata.resourceVersion` overwrites without asking.
    pub put_blind: bool,
    /// DELETE answers with the deleted object instead of a Status.
    pub delete_answers_object: bool,
    /// `metadata.generation` starts at 1 and counts changes outside of metadata and status.
    pub has_generation: bool,
    /// Field selectors beside `metadata.name` and `metadata.namespace`.
    pub fields: &'static [&'static str],
}

/// The row that most resources are near to.
const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    resource: "",
    kind: "",
    scope: Scope::Namespaced,
    has_status: false,
    put_creates: false,
    put_blind: true,
    delete_answers_object: false,
    has_generation: false,
    fields: &[],
};

const RBAC: Kind = Kind { group: "rbac.authorization.k8s.io", put_creates: true, ..PLAIN };

/// All resources. The traits were read off a real server, see the contract suite.
pub static KINDS: &[Kind] = &[
    Kind {
        group: "coordination.k8s.io",
        resource: "leases",
        kind: "Lease",
        put_creates: true,
        put_blind: false,
        ..PLAIN
    },
    Kind {
        resource: "nodes",
        kind: "Node",
        scope: Scope::Cluster,
        has_status: true,
        fields: &["spec.unschedulable"],
        ..PLAIN
    },
    Kind {
        resource: "services",
        kind: "Service",
        has_status: true,
        put_creates: true,
        delete_answers_object: true,
        fields: &["spec.clusterIP", "spec.type"],
        ..PLAIN
    },
    Kind { resource: "endpoints", kind: "Endpoints", put_creates: true, ..PLAIN },
    Kind {
        resource: "pods",
        kind: "Pod",
        has_status: true,
        delete_answers_object: true,
        has_generation: true,
        fields: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ..PLAIN
    },
    Kind { resource: "secrets", kind: "Secret", fields: &["type"], ..PLAIN },
    Kind { resource: "configmaps", kind: "ConfigMap", ..PLAIN },
    Kind {
        resource: "events",
        kind: "Event",
        put_creates: true,
        fields: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "reason",
            "type",
        ],
        ..PLAIN
    },
    Kind {
        resource: "namespaces",
        kind: "Namespace",
        scope: Scope::Cluster,
        has_status: true,
        delete_answers_object: true,
        fields: &["status.phase"],
        ..PLAIN
    },
    Kind { resource: "serviceaccounts", kind: "ServiceAccount", delete_answers_object: true, ..PLAIN },
    Kind {
        group: "discovery.k8s.io",
        resource: "endpointslices",
        kind: "EndpointSlice",
        has_generation: true,
        ..PLAIN
    },
    Kind {
        group: "networking.k8s.io",
        resource: "servicecidrs",
        kind: "ServiceCIDR",
        scope: Scope::Cluster,
        has_status: true,
        ..PLAIN
    },
    Kind { resource: "clusterroles", kind: "ClusterRole", scope: Scope::Cluster, ..RBAC },
    Kind { resource: "clusterrolebindings", kind: "ClusterRoleBinding", scope: Scope::Cluster, ..RBAC },
    Kind { resource: "roles", kind: "Role", ..RBAC },
    Kind { resource: "rolebindings", kind: "RoleBinding", ..RBAC },
];

impl Kind {
    /// The row of a plural name inside a group and version.
    pub fn of_resource(group: &str, version: &str, resource: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|row| row.group == group && row.version == version && row.resource == resource)
    }

    /// The row of an object's `apiVersion` and `kind`.
    pub fn of_object(api_version: &str, kind: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|row| row.api_version() == api_version && row.kind == kind)
    }

    /// The row of a plural name whatever its group; plural names are unique in the table.
    pub fn named(resource: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|row| row.resource == resource)
    }

    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `leases.coordination.k8s.io`, or `nodes` in the core group: how messages name the resource.
    pub fn qualified_resource(&self) -> String {
        qualified(self.resource, self.group)
    }

    /// `Lease.coordination.k8s.io`, or `Node` in the core group: how validation messages name the type.
    pub fn qualified_kind(&self) -> String {
        qualified(self.kind, self.group)
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}
