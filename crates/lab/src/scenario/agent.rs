//! The agent under test: the real `kube-vip` binary, started with the arguments and the environment of a manifest as
//! users have it. Gives the stage what to spawn; knows where the binary is.

mod build;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::table::{Gate, Variables};
use crate::bench::{Spawn, boot};

/// The manifest that the lab uses.
pub const MANIFEST: &str = include_str!("kube-vip.yaml");

/// What a manifest says that matters to the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    args: Vec<String>,
    /// Name and value; no value: the name of the node.
    env: Vec<(String, Option<String>)>,
}

#[derive(Deserialize)]
struct Pod {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: Option<String>,
    #[serde(rename = "valueFrom")]
    value_from: Option<serde_json::Value>,
}

impl Manifest {
    /// Reads a Pod manifest.
    pub fn parse(text: &str) -> Result<Self> {
        let pod: Pod =
            serde_saphyr::from_str(text).context("the manifest is no Pod that the lab can read")?;
        let container = pod.spec.containers.into_iter().next().context("the manifest has no container")?;
        let mut env = Vec::new();
        for variable in container.env {
            let from_node =
                variable.value_from.is_some_and(|from| from["fieldRef"]["fieldPath"] == "spec.nodeName");
            if variable.value.is_none() && !from_node {
                bail!("{}: only values and the field spec.nodeName are known here", variable.name);
            }
            env.push((variable.name, variable.value));
        }
        Ok(Self { args: container.args, env })
    }

    /// Sets a variable, as somebody who edits the manifest would.
    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.env.push((name.to_owned(), Some(value.to_owned())));
    }

    /// The same manifest with these variables set.
    #[must_use]
    pub fn with(&self, variables: Variables) -> Self {
        let mut laid_over = self.clone();
        for (name, value) in variables {
            laid_over.set(name, value);
        }
        laid_over
    }

    /// Takes a variable out, as somebody who edits the manifest would.
    pub fn unset(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// What to start on a node of this name.
    pub fn spawn(&self, node: &str, gate: Gate, binary: &Path, logs: &Path) -> Spawn {
        let gate = if gate == Gate::On { &HEALTH_GATE[..] } else { &[] };
        let gate = gate.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let own = self
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().unwrap_or_else(|| node.to_owned())));
        // Of two values the later counts.
        let env = gate.chain(own).collect();
        Spawn {
            name: format!("kube-vip on {node}"),
            program: binary.to_owned(),
            args: self.args.iter().map(Into::into).collect(),
            env,
            log: logs.join(format!("{node}-kube-vip.log")),
        }
    }
}

/// Every second, two failures: a dead API server is seen after two periods at most.
const HEALTH_GATE: [(&str, &str); 5] = [
    ("control_plane_health_check_address", "https://127.0.0.1:6443/livez"),
    ("control_plane_health_check_period_seconds", "1"),
    ("control_plane_health_check_timeout_seconds", "1"),
    ("control_plane_health_check_failure_threshold", "2"),
    ("control_plane_health_check_ca_path", "/etc/kubernetes/pki/ca.crt"),
];

/// The binary under test: `KUBE_VIP_BIN`, else the newest build beside the lab's own binary or in `target`.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = env::var_os("KUBE_VIP_BIN").map(PathBuf::from) {
        let found = named.canonicalize();
        return found.with_context(|| format!("KUBE_VIP_BIN names {}, which is not there", named.display()));
    }
    let beside = boot::exe().parent().and_then(Path::parent).map(Path::to_owned);
    build::find(beside.into_iter().chain([PathBuf::from("target")]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_gives_environment_and_node_name() {
        let manifest = Manifest::parse(MANIFEST).expect("the lab's own manifest");
        let spawn = manifest.spawn("n2", Gate::Off, Path::new("/kube-vip"), Path::new("/logs"));
        let value =
            |name: &str| spawn.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("vip_nodename"), Some("n2"));
        assert_eq!(value("address"), Some("10.77.0.200,fd77::200"));
        assert_eq!(value("vip_leaseduration"), Some("5"));
        assert_eq!(value("control_plane_health_check_address"), None);
        assert_eq!(spawn.args, ["manager"]);
        let gated = manifest.spawn("n2", Gate::On, Path::new("/kube-vip"), Path::new("/logs"));
        assert_eq!(gated.env.len(), spawn.env.len() + HEALTH_GATE.len());
    }

    #[test]
    fn a_variable_that_is_set_replaces_the_one_of_the_manifest() {
        let mut manifest = Manifest::parse(MANIFEST).expect("the lab's own manifest");
        manifest.set("vip_leaseduration", "15");
        let spawn = manifest.spawn("n1", Gate::Off, Path::new("/kube-vip"), Path::new("/logs"));
        let values: Vec<_> = spawn.env.iter().filter(|(key, _)| key == "vip_leaseduration").collect();
        assert_eq!(values, [&("vip_leaseduration".to_owned(), "15".to_owned())]);
    }

    #[test]
    fn the_manifest_names_the_vips_of_the_bench() {
        let [v4, v6] = crate::bench::net::vips();
        assert!(MANIFEST.contains(&format!("{v4},{v6}")));
    }
}
