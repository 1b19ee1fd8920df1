//! The Pod and the `DaemonSet`.

use serde_json::{Value, json};

use crate::version::VERSION;

/// What the objects are made from.
pub(super) struct Shape {
    /// Image with tag.
    pub(super) image: String,
    /// Variables of the container.
    pub(super) environment: Vec<Value>,
    /// Namespace of the object.
    pub(super) namespace: String,
    /// Kubeconfig of the host that is mounted; without one the Pod runs under a `ServiceAccount`.
    pub(super) kubeconfig: Option<String>,
    /// What the agent keeps on the node.
    pub(super) keeps: Keeps,
    /// What the container may do.
    pub(super) rights: Rights,
    /// Where a `DaemonSet` runs.
    pub(super) placement: Placement,
}

/// What an agent keeps on the node, for the next one in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// Nothing.
    Nothing,
    /// Its session, in a folder of the node that a reboot empties.
    Session,
}

/// What a container may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// `NET_ADMIN` and `NET_RAW`.
    Network,
    /// Everything: IPVS masquerading writes sysctls.
    Privileged,
}

/// Where a `DaemonSet` runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// On every node without taints.
    Anywhere,
    /// On control-plane nodes, whatever their taints.
    ControlPlane,
}

/// Where an agent keeps its session, on the node and inside the container.
const RUN_PATH: &str = "/run/kube-vip";

/// Where the kubeconfig is inside the container.
const MOUNT_PATH: &str = "/etc/kubernetes/admin.conf";

/// A static Pod.
pub(super) fn pod(shape: &Shape) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kube-vip", "namespace": shape.namespace},
        "spec": pod_spec(shape),
        "status": {},
    })
}

/// A `DaemonSet`.
pub(super) fn daemon_set(shape: &Shape) -> Value {
    const NAME: &str = "kube-vip-ds";
    let labels = json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/version": VERSION.number});
    let mut spec = pod_spec(shape);
    if shape.placement == Placement::ControlPlane {
        spec["tolerations"] = json!([
            {"effect": "NoSchedule", "operator": "Exists"},
            {"effect": "NoExecute", "operator": "Exists"},
        ]);
        let role = |key| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
        spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                role("node-role.kubernetes.io/master"),
                role("node-role.kubernetes.io/control-plane"),
            ],
        }}});
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"labels": labels, "name": NAME, "namespace": shape.namespace},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
            "updateStrategy": {},
        },
    })
}

fn pod_spec(shape: &Shape) -> Value {
    let rights = match shape.rights {
        Rights::Network => json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}}),
        Rights::Privileged => json!({"privileged": true}),
    };
    let mut container = json!({
        "args": ["manager"],
        "env": shape.environment,
        "image": shape.image,
        "imagePullPolicy": "IfNotPresent",
        "name": "kube-vip",
        "resources": {},
        "securityContext": rights,
    });
    let mut spec = json!({"containers": [], "hostNetwork": true});
    let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
    match &shape.kubeconfig {
        None => spec["serviceAccountName"] = json!("kube-vip"),
        Some(path) => {
            mounts.push(json!({"mountPath": MOUNT_PATH, "name": "kubeconfig"}));
            volumes.push(json!({"hostPath": {"path": path}, "name": "kubeconfig"}));
            spec["hostAliases"] = json!([{"hostnames": ["kubernetes"], "ip": "127.0.0.1"}]);
        }
    }
    if shape.keeps == Keeps::Session {
        mounts.push(json!({"mountPath": RUN_PATH, "name": "run"}));
        volumes.push(json!({"hostPath": {"path": RUN_PATH, "type": "DirectoryOrCreate"}, "name": "run"}));
    }
    if !mounts.is_empty() {
        container["volumeMounts"] = json!(mounts);
        spec["volumes"] = json!(volumes);
    }
    spec["containers"] = json!([container]);
    spec
}
