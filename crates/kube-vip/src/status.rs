//! `kube-vip status`: asks the agents of this node for their view over local sockets and shows it. Works without the
//! Kubernetes API, without the network and without any file but the socket.
//!
//! The protocol is the smallest there is: connect, read one JSON document (the `View`) to its end.

mod session;
pub(crate) mod socket;
pub(crate) mod table;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use vip_model::service::ServiceName;
use vip_model::view::View;

use crate::board::boot_now;

/// How long an agent may take to answer. It answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A view is some kilobytes; more than this is not from an agent.
const LARGEST_VIEW: u64 = 16 << 20;

/// How the answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// The `View` as JSON.
    Json,
}

/// Runs the command: writes what the agents of this node say to `out`. `instance` picks one of them.
pub(crate) fn show(instance: Option<&str>, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
    match show_from(&socket::folders(), instance, format, out) {
        // `kube-vip status | head`: who reads has seen enough.
        Err(error) if kind_of(&error) == Some(io::ErrorKind::BrokenPipe) => Ok(()),
        outcome => outcome,
    }
}

fn show_from(
    folders: &[PathBuf],
    instance: Option<&str>,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let views = ask(folders, instance)?;
    match format {
        Format::Table => {
            let tables: Vec<String> = views.iter().map(|view| table::render(view, boot_now())).collect();
            out.write_all(tables.join("\n").as_bytes())?;
        }
        Format::Json => {
            let [view] = views.as_slice() else {
                let names: Vec<&str> = views.iter().map(|view| view.instance.as_str()).collect();
                bail!(
                    "{} agents run on this node ({}): name one with --instance",
                    names.len(),
                    names.join(", ")
                );
            };
            writeln!(out, "{}", serde_json::to_string_pretty(view)?)?;
        }
    }
    Ok(())
}

/// Runs `kube-vip explain`: what each agent of this node has decided about one Service, and why.
pub(crate) fn explain(service: &str, instance: Option<&str>, out: &mut dyn Write) -> anyhow::Result<()> {
    let name = ServiceName::try_from(service.to_owned())
        .with_context(|| format!("explain takes NAMESPACE/NAME, not {service:?}"))?;
    let views = ask(&socket::folders(), instance)?;
    let texts: Vec<String> =
        views.iter().filter_map(|view| table::explain(view, &name, boot_now())).collect();
    if texts.is_empty() {
        let agents: Vec<&str> = views.iter().map(|view| view.instance.as_str()).collect();
        bail!(
            "no agent of this node ({}) has seen a Service {name} of type LoadBalancer; \
             `kube-vip status` lists those that were seen",
            agents.join(", ")
        );
    }
    out.write_all(texts.join("\n").as_bytes())?;
    Ok(())
}

/// The views of all agents (or of the one named `instance`), by instance.
fn ask(folders: &[PathBuf], instance: Option<&str>) -> anyhow::Result<Vec<View>> {
    let sockets = match instance {
        Some(name) => folders.iter().map(|folder| socket::path_in(folder, name)).collect(),
        None => socket::found_in(folders),
    };
    let mut views = Vec::new();
    let mut refusal = None;
    for path in sockets {
        match read_view(&path) {
            Ok(view) => views.push(view),
            // What a killed agent left behind.
            Err(error) if is_gone(&error) => {}
            Err(error) => refusal = Some(error.context(format!("asking the agent at {}", path.display()))),
        }
    }
    if views.is_empty() {
        if let Some(error) = refusal {
            return Err(error);
        }
        let places: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let whom = instance.map_or(String::new(), |name| format!(" named {name:?}"));
        bail!(
            "no kube-vip agent{whom} answers here (looked in {}): is one running on this node, and does this \
             command run in its container or with its /run?",
            places.join(", ")
        );
    }
    views.sort_by(|one, other| one.instance.cmp(&other.instance));
    Ok(views)
}

fn read_view(path: &std::path::Path) -> anyhow::Result<View> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut text = String::new();
    stream.take(LARGEST_VIEW).read_to_string(&mut text).context("it does not answer")?;
    serde_json::from_str(&text).context("its answer is not a view of this version of kube-vip")
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(kind_of(error), Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
}

fn kind_of(error: &anyhow::Error) -> Option<io::ErrorKind> {
    error.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[cfg(test)]
mod tests;
