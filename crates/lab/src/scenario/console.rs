//! A lab that stays up, and the shell commands that talk to it: `lab enter`, `cut`, `heal`, `status`, `down`. The lab
//! listens on a Unix socket in the user's runtime folder; the kernel tells a client the lab's process id on the host, so
//! nothing else needs to be written down. A killed lab's socket refuses, and the next lab that starts removes it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::socket::{getsockopt, sockopt};

use super::stage::Stage;
use super::table::Action;
use crate::bench::{Stamp, boot, net};
use crate::report::Table;

/// Opens the door of this lab; from then on commands find it.
pub fn open() -> Result<UnixListener> {
    let path = socket_path()?;
    UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))
}

/// Serves commands until `down`.
pub fn serve(stage: &mut Stage, listener: &UnixListener) -> Result<()> {
    let path = socket_path()?;
    for connection in listener.incoming() {
        let Ok(mut connection) = connection else { continue };
        let _ = connection.set_read_timeout(Some(Duration::from_secs(2)));
        let mut line = String::new();
        if BufReader::new(&connection).read_line(&mut line).is_err() {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let down = words == ["down"];
        let answer = if down { Ok("the lab is down".to_owned()) } else { obey(stage, &words) };
        if down {
            let _ = fs::remove_file(&path);
        }
        let text = answer.unwrap_or_else(|error| format!("error {error:#}"));
        let _ = writeln!(connection, "{text}");
        if down {
            return Ok(());
        }
    }
    Ok(())
}

fn obey(stage: &mut Stage, words: &[&str]) -> Result<String> {
    let number = |stage: &Stage, name: &str| Ok::<u8, anyhow::Error>(stage.lab().node_named(name)?.number());
    match words {
        ["status"] => status(stage),
        ["target", name] => target(stage, name),
        ["cut", name] => {
            let number = number(stage, name)?;
            stage.act(Action::Cut, number)?;
            Ok(format!("{name} is cut off; its carrier stays. `lab heal {name}` ends it."))
        }
        ["heal", name] => {
            let number = number(stage, name)?;
            stage.act(Action::Uncut, number)?;
            Ok(format!("{name} is connected."))
        }
        _ => bail!(
            "the lab understands status, cut NODE, heal NODE, enter NODE, down; not `{}`",
            words.join(" ")
        ),
    }
}

/// Where `lab enter` goes: the init of a node, or the network namespace of client, watch, router.
fn target(stage: &Stage, name: &str) -> Result<String> {
    let lab = stage.lab();
    for place in [lab.client(), lab.watch(), lab.router()] {
        if place.name() == name {
            return Ok(place.path().display().to_string());
        }
    }
    let node = lab.node_named(name)?;
    Ok(node.init().with_context(|| format!("{name} has no power"))?.to_string())
}

fn status(stage: &Stage) -> Result<String> {
    let mut table = Table::new(&["node", "addresses", "agent", "answers for"]);
    let mut answering: Vec<(u8, String)> = Vec::new();
    for vip in net::vips() {
        let prober = stage.lab().probe(vip)?;
        let answer = prober.wait_answer(Stamp::default(), Duration::from_millis(500), |_| true);
        answering.extend(answer.map(|answer| (answer.node, vip.to_string())));
    }
    for node in stage.lab().nodes() {
        let agent =
            stage.agent(node.number()).map_or("-".to_owned(), |agent| format!("process {}", agent.pid()));
        let vips: Vec<&str> = answering
            .iter()
            .filter(|(number, _)| *number == node.number())
            .map(|(_, vip)| vip.as_str())
            .collect();
        table.row(&[
            node.name(),
            &node.addresses().map(|a| a.to_string()).join(" "),
            &agent,
            &vips.join(" "),
        ]);
    }
    Ok(format!("{}\nlogs in {}", table.render(), stage.lab().logs().display()))
}

/// The folder of sockets, private to the user.
fn folder() -> Result<PathBuf> {
    let folder = boot::runtime_folder();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

fn socket_path() -> Result<PathBuf> {
    Ok(folder()?.join(format!("{}.sock", boot::launcher())))
}

/// Removes the sockets of labs that are gone; gives those that answer.
pub fn sweep() -> Result<Vec<PathBuf>> {
    let mut alive = Vec::new();
    for entry in fs::read_dir(folder()?).context("reading the folder of labs")?.flatten() {
        let path = entry.path();
        if UnixStream::connect(&path).is_ok() {
            alive.push(path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
    alive.sort();
    Ok(alive)
}

/// The lab that is meant: the only one that is up, or the one with this number.
fn find(lab: Option<&str>) -> Result<PathBuf> {
    let alive = sweep()?;
    let number = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    let known: Vec<String> = alive.iter().map(|path| number(path)).collect();
    let mut fitting = alive.iter().filter(|path| lab.is_none_or(|lab| number(path) == lab));
    match (fitting.next(), fitting.next()) {
        (Some(path), None) => Ok(path.clone()),
        (Some(_), Some(_)) => bail!("several labs are up; say which with --lab: {}", known.join(", ")),
        _ if known.is_empty() => bail!("no lab is up; `lab up` raises one"),
        _ => bail!("no such lab; up are {}", known.join(", ")),
    }
}

fn exchange(path: &Path, line: &str) -> Result<(String, i32)> {
    let mut connection =
        UnixStream::connect(path).with_context(|| format!("talking to {}", path.display()))?;
    let lab = getsockopt(&connection, sockopt::PeerCredentials).context("asking for the lab's process id")?;
    writeln!(connection, "{line}").context("talking to the lab")?;
    let answer = std::io::read_to_string(connection).context("listening to the lab")?;
    match answer.trim_end().strip_prefix("error ") {
        Some(error) => bail!("{error}"),
        None => Ok((answer.trim_end().to_owned(), lab.pid())),
    }
}

/// Sends one command to a lab; gives what it says.
pub fn command(lab: Option<&str>, line: &str) -> Result<String> {
    exchange(&find(lab)?, line).map(|(answer, _)| answer)
}

/// Opens a shell, or runs a command, in a node or in `client`, `watch`, `router`; gives its exit code.
pub fn enter(lab: Option<&str>, place: &str, command: &[String]) -> Result<u8> {
    let (target, top) = exchange(&find(lab)?, &format!("target {place}"))?;
    Ok(boot::visit(top, &target, place, command)?)
}
