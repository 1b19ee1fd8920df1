//! `kube-vip status`: asks the agents of this node for their view over local sockets and shows it. Works without the
//! Kubernetes API, without the network and without any file but the socket.
//!
//! The protocol is the smallest there is: connect, say nothing or `explain NAMESPACE/NAME`, close your side, read one JSON
//! document (the `View`, or an `Explanation`) to its end.

mod explain;
mod session;
pub(crate) mod socket;
pub(crate) mod table;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vip_model::explanation::Explanation;
use vip_model::service::ServiceName;
use vip_model::view::View;

use crate::board::boot_now;

/// How long an agent may take to answer. It answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// An answer is some kilobytes, some megabytes with thousands of Services; more than this is not from an agent.
const LARGEST_ANSWER: u64 = 16 << 20;

/// How the answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// As JSON.
    Json,
}

/// What is shown of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    #[default]
    Whole,
    /// Its Services only.
    Services,
}

/// Which agents are asked, and how the answer is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    /// One of them, by its instance; else all.
    pub(crate) instance: Option<&'a str>,
    /// How.
    pub(crate) format: Format,
}

/// Runs `kube-vip status`: writes what the agents of this node say to `out`.
pub(crate) fn show(part: Part, wish: Wish<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    unless_gone(show_from(&socket::folders(), part, wish, out))
}

/// `kube-vip status | head`: who reads has seen enough.
fn unless_gone(outcome: anyhow::Result<()>) -> anyhow::Result<()> {
    match outcome {
        Err(error) if kind_of(&error) == Some(io::ErrorKind::BrokenPipe) => Ok(()),
        outcome => outcome,
    }
}

fn show_from(folders: &[PathBuf], part: Part, wish: Wish<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut views: Vec<View> = ask(folders, wish.instance, "")?;
    views.sort_by(|one, other| one.instance.cmp(&other.instance));
    match (wish.format, part) {
        (Format::Table, _) => {
            let now = boot_now();
            let render = |view: &View| match part {
                Part::Whole => table::render(view, now),
                Part::Services => table::services(view, now),
            };
            let tables: Vec<String> = views.iter().map(render).collect();
            out.write_all(tables.join("\n").as_bytes())?;
        }
        (Format::Json, Part::Whole) => print_one(&views, |view| &view.instance, out)?,
        (Format::Json, Part::Services) => {
            let services: Vec<_> = views.iter().flat_map(|view| view.services.iter()).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&services)?)?;
        }
    }
    Ok(())
}

/// Writes the answer of the one agent that was asked as JSON.
fn print_one<T: Serialize>(
    answers: &[T],
    instance: impl Fn(&T) -> &String,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let [answer] = answers else {
        let names: Vec<&str> = answers.iter().map(|answer| instance(answer).as_str()).collect();
        bail!("{} agents run on this node ({}): name one with --instance", names.len(), names.join(", "));
    };
    writeln!(out, "{}", serde_json::to_string_pretty(answer)?)?;
    Ok(())
}

/// Runs `kube-vip explain`: what each agent of this node has decided about one Service, and every reason on the way.
pub(crate) fn explain(service: &str, wish: Wish<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    unless_gone(explain_from(&socket::folders(), service, wish, out))
}

fn explain_from(
    folders: &[PathBuf],
    service: &str,
    wish: Wish<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let name = ServiceName::try_from(service.to_owned())
        .with_context(|| format!("explain takes NAMESPACE/NAME, not {service:?}"))?;
    let answers: Vec<Option<Explanation>> = ask(folders, wish.instance, &format!("explain {name}\n"))?;
    let agents = answers.len();
    let mut found: Vec<Explanation> = answers.into_iter().flatten().collect();
    if found.is_empty() {
        bail!(
            "none of the {agents} agents of this node has seen a Service {name}; \
             `kube-vip status services` lists those that were seen"
        );
    }
    found.sort_by(|one, other| one.instance.cmp(&other.instance));
    match wish.format {
        Format::Table => {
            let texts: Vec<String> = found.iter().map(|one| explain::render(one, boot_now())).collect();
            out.write_all(texts.join("\n").as_bytes())?;
        }
        Format::Json => print_one(&found, |one| &one.instance, out)?,
    }
    Ok(())
}

/// What all agents (or the one named `instance`) say to a question; the empty one asks for the view.
fn ask<T: DeserializeOwned>(
    folders: &[PathBuf],
    instance: Option<&str>,
    question: &str,
) -> anyhow::Result<Vec<T>> {
    let sockets = match instance {
        Some(name) => folders.iter().map(|folder| socket::path_in(folder, name)).collect(),
        None => socket::found_in(folders),
    };
    let mut answers = Vec::new();
    let mut refusal = None;
    for path in sockets {
        match ask_one(&path, question) {
            Ok(answer) => answers.push(answer),
            // What a killed agent left behind.
            Err(error) if is_gone(&error) => {}
            Err(error) => refusal = Some(error.context(format!("asking the agent at {}", path.display()))),
        }
    }
    if answers.is_empty() {
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
    Ok(answers)
}

fn ask_one<T: DeserializeOwned>(path: &Path, question: &str) -> anyhow::Result<T> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(question.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = String::new();
    stream.take(LARGEST_ANSWER).read_to_string(&mut text).context("it does not answer")?;
    serde_json::from_str(&text).context("its answer is not one of this version of kube-vip")
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(kind_of(error), Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
}

fn kind_of(error: &anyhow::Error) -> Option<io::ErrorKind> {
    error.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[cfg(test)]
mod tests;
