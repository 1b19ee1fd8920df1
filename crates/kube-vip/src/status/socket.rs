//! The status socket: where it lies, and the task of the agent that answers on it. Its path carries the instance, as
//! a node often runs two agents. Only its owner may use it: a view names addresses, nodes and API servers.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time;
use vip_model::service::ServiceName;

use crate::board::Board;
use crate::run::inbox::Inquiry;

/// How long a reader may take for a few kilobytes.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// How long a reader that has a question may take to say it.
const ASKED_WITHIN: Duration = Duration::from_millis(50);

/// A word, a namespace (63) and a name (253) with what is between them.
const LONGEST_QUESTION: usize = 512;

/// A socket's address holds 107 bytes; an instance's part of it stays well below.
const LONGEST_NAME: usize = 64;

/// The folders that can hold sockets, best first: `/run` for an agent of the node or a container, the user's own
/// for a rootless one.
pub(crate) fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/run/kube-vip")];
    if let Some(own) = std::env::var_os("XDG_RUNTIME_DIR").filter(|own| !own.is_empty()) {
        folders.push(PathBuf::from(own).join("kube-vip"));
    }
    folders.push(PathBuf::from(format!("/tmp/kube-vip-{}", nix::unistd::geteuid())));
    folders
}

/// The socket of `instance` in `folder`.
pub(crate) fn path_in(folder: &Path, instance: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = instance.chars().map(plain).take(LONGEST_NAME).collect();
    folder.join(format!("{name}.sock"))
}

/// All sockets in `folders`.
pub(crate) fn found_in(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let is_socket = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "sock");
        found.extend(entries.flatten().map(|entry| entry.path()).filter(is_socket));
    }
    found.sort();
    found
}

/// An open status socket. Its file outlives it, as files of sockets do: whoever ends the process removes it.
pub(crate) struct StatusSocket {
    listener: StdListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Opens the socket of `instance` in the first folder that can hold it.
    pub(crate) fn open(folders: &[PathBuf], instance: &str) -> anyhow::Result<Self> {
        let mut refusals = Vec::new();
        for folder in folders {
            match Self::open_in(folder, instance) {
                Ok(socket) => return Ok(socket),
                Err(error) => refusals.push(format!("{error:#}")),
            }
        }
        bail!("{}", refusals.join("; "))
    }

    fn open_in(folder: &Path, instance: &str) -> anyhow::Result<Self> {
        own_folder(folder).with_context(|| folder.display().to_string())?;
        let path = path_in(folder, instance);
        remove_stale(&path)?;
        let listener = StdListener::bind(&path).with_context(|| path.display().to_string())?;
        // The folder is closed to others, so that nobody connects before this line.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Answers for ever, one reader after the other: each gets the view of the moment.
    pub(crate) async fn serve(self, board: Arc<Board>) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener)?;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let _ = time::timeout(READ_WITHIN, tell(stream, &board)).await;
        }
    }
}

async fn tell(mut stream: UnixStream, board: &Board) -> io::Result<()> {
    let answer = match asked(&mut stream).await {
        None => serde_json::to_vec(&*board.view())?,
        Some(service) => {
            let (answer, answered) = oneshot::channel();
            board.inbox.ask(Inquiry { service, answer });
            // Without an answer the loop stands still, of which `/livez` tells; the reader sees an empty one.
            let Ok(explanation) = answered.await else { return Ok(()) };
            serde_json::to_vec(&explanation)?
        }
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

/// The Service that a reader asks about in its first line, if it has one: `explain NAMESPACE/NAME`. One that says nothing
/// gets the view.
async fn asked(stream: &mut UnixStream) -> Option<ServiceName> {
    let mut line = [0; LONGEST_QUESTION];
    let length = time::timeout(ASKED_WITHIN, stream.read(&mut line)).await.ok()?.ok()?;
    let name = std::str::from_utf8(&line[..length]).ok()?.trim_end().strip_prefix("explain ")?;
    name.to_owned().try_into().ok()
}

/// Makes `folder`, closed to others. One that is there must be ours: in `/tmp` anybody could have made it.
pub(crate) fn own_folder(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    let us = nix::unistd::geteuid().as_raw();
    if !found.is_dir() || found.uid() != us || found.mode() & 0o022 != 0 {
        bail!("it must be a folder that belongs to user {us} and that only this user can write to");
    }
    Ok(())
}

/// Removes what a killed agent left. One that answers belongs to a living agent and stays.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        bail!("{} is there and is no socket", path.display());
    }
    if StdStream::connect(path).is_ok() {
        bail!("{}: another agent of this instance is running and answers there", path.display());
    }
    fs::remove_file(path).with_context(|| path.display().to_string())
}
