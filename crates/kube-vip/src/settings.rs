//! The settings of one agent: from environment, flags and file to one effective configuration.
//!
//! `cli` feeds it with what the user gave; `table` knows every name; what comes out is an [`Effective`] that the rest
//! of the program trusts, or one [`Refusal`] line that says what is wrong and what is accepted.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;
use vip_model::config::Config;

pub(crate) use refusal::Refusal;
pub(crate) use source::{FileUse, Sources, Values};
pub(crate) use suggest::nearest;

pub(crate) mod effective;
pub(crate) mod key;
pub(crate) mod parse;
pub(crate) mod table;

mod control_plane;
mod election;
mod file;
mod link;
mod placement;
mod refusal;
mod services;
mod session;
mod source;
mod subnet;
mod suggest;

/// Where a pod finds the namespace of its service account.
const SERVICE_ACCOUNT_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

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

/// What the settings need to know of the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// Its host name.
    pub(crate) hostname: Option<String>,
    /// The namespace of the pod's service account.
    pub(crate) service_account_namespace: Option<String>,
}

impl Machine {
    /// Reads the facts of this machine.
    pub(crate) fn read() -> Self {
        let line = |path: &str| {
            let text = std::fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        Self {
            hostname: line("/proc/sys/kernel/hostname"),
            service_account_namespace: line(SERVICE_ACCOUNT_NAMESPACE),
        }
    }
}

/// Reads all sources into the effective settings of one agent; `strict_config` refuses what is worth a warning.
pub(crate) fn load(sources: &Sources, machine: &Machine) -> Result<Effective, Refusal> {
    let values = Values::read(sources)?;
    effective::strict(&values, effective::build(&values, machine)?)
}

/// As [`load`], for showing: warnings are never refused.
pub(crate) fn look(sources: &Sources, machine: &Machine) -> Result<Effective, Refusal> {
    effective::build(&Values::read(sources)?, machine)
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

fn warning(weight: Weight, key: impl Into<String>, text: impl Into<String>) -> Warning {
    Warning { weight, key: key.into(), text: text.into() }
}

#[cfg(test)]
mod tests;
