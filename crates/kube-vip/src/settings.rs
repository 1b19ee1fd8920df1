//! The settings of one agent: from environment, flags and file to one effective configuration.
//!
//! `cli` feeds it with what the user gave; `table` knows every name; what comes out is an [`Effective`] that the rest
//! of the program trusts, or one [`Refusal`] line that says what is wrong and what is accepted.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;
use vip_model::config::Config;

/// Everything that one agent runs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Effective {
    /// What the node is asked to do.
    pub(crate) config: Config,
    /// How the Kubernetes API is reached.
    pub(crate) api: ApiSettings,
    /// What is logged (`vip_loglevel`).
    pub(crate) log: LogLevel,
    /// Where `/metrics` and the health pages listen (`prometheus_server`); none switches that listener off.
    pub(crate) prometheus_server: Option<Listen>,
    /// A second listener for the health pages, on all addresses (`health_check_port`).
    pub(crate) health_check_port: Option<u16>,
    /// What the user should know, in the order in which it was found. To be logged once, at start.
    pub(crate) warnings: Vec<Warning>,
}

/// How the Kubernetes API is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ApiSettings {
    /// The kubeconfig to look for (`k8s_config_file`, default `/etc/kubernetes/admin.conf`).
    pub(crate) kubeconfig: PathBuf,
    /// Another server than the kubeconfig's: a URL or `host:port` (`kubernetes_addr`).
    pub(crate) server: Option<String>,
    /// The API server's port on this node (`port`).
    pub(crate) port: u16,
    /// How the local API server is found (`cp_detect`).
    pub(crate) local: LocalApi,
}

/// How the API server of this node is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LocalApi {
    /// The name `kubernetes` (a host alias of the pod for 127.0.0.1) and `port`.
    HostAlias,
    /// The addresses in the certificate that is served on the loopback address (`cp_detect`).
    Certificate,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Listen {
    /// All addresses of both families, as `:2112` means.
    AnyAddress {
        /// The port.
        port: u16,
    },
    /// One address.
    At(SocketAddr),
}

/// The lowest level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogLevel {
    /// `vip_loglevel` ≤ -8.
    Trace,
    /// -7 to -4.
    Debug,
    /// -3 to 0 (default).
    Info,
    /// 1 to 4.
    Warn,
    /// 5 and more.
    Error,
}

/// One thing that the user should know about the settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Warning {
    /// How much it matters.
    pub(crate) weight: Weight,
    /// The setting, as the user spelled it.
    pub(crate) key: String,
    /// One sentence: what was given, what is done instead.
    pub(crate) text: String,
}

/// How much a warning matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Weight {
    /// Nothing is lost: the setting is not needed here. Never an error.
    Notice,
    /// What was asked for is not done as written. `strict_config` and `validate` make it an error.
    Warning,
}
