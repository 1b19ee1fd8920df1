//! How the Kubernetes API is reached, as the program says: plain values, every path given, so that nothing here reads
//! the environment.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use vip_model::NodeName;

/// Where credentials lie and which API server is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// The kubeconfig to look for (`k8s_config_file`). When it is neither `admin.conf` in [`Self::kubernetes_dir`] nor
    /// `.kube/config` in [`Self::home`] and exists, it comes first (upstream §2.5).
    pub kubeconfig: PathBuf,
    /// Where `admin.conf` and `super-admin.conf` lie: `/etc/kubernetes`.
    pub kubernetes_dir: PathBuf,
    /// The user's home directory (`$HOME`), for `.kube/config`.
    pub home: Option<PathBuf>,
    /// Where a pod finds `token` and `ca.crt`: `/var/run/secrets/kubernetes.io/serviceaccount`.
    pub service_account: PathBuf,
    /// The `kubernetes` Service as a pod's environment tells it (`KUBERNETES_SERVICE_HOST`,
    /// `KUBERNETES_SERVICE_PORT`).
    pub service: Option<ServiceAddress>,
    /// Another server than the credentials name: a URL or `host:port` (`kubernetes_addr`).
    pub server: Option<String>,
    /// How the API server of this node is found.
    pub local: LocalApi,
    /// Its TCP port (`port`).
    pub port: u16,
    /// The name of this node: who reports an Event.
    pub node: NodeName,
    /// The VIPs that this agent manages. No connection is ever made to one of them.
    pub vips: BTreeSet<IpAddr>,
    /// The labels of Nodes that decide where addresses shall be: their keys.
    pub traits: BTreeSet<String>,
}

/// Host and port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// How the API server of this node is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalApi {
    /// It is not looked for: the control plane is not this agent's business (`cp_enable` off).
    NotOurs,
    /// By the loopback addresses and by the name `kubernetes` (a host alias of the pod).
    HostAlias,
    /// As above, and by the addresses in the certificate that is served on the loopback address (`cp_detect`).
    Certificate,
}
