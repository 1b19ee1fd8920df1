//! What an agent keeps for its next life on this boot of the node: its session, what it knew of the others, and the keys
//! for heartbeats, in one file that only its user can read. Fed by the node and by the cluster; read once, at the start,
//! so that an agent that is restarted while the API is away can go on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use vip_model::peers::PeerKey;
use vip_model::session::{BootId, Memory, Recall, SessionId};

use crate::status::socket;

/// Where Linux tells one boot from another.
pub(super) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The layout of the file.
const VERSION: u32 = 1;

/// More than this is not from an agent: 10,000 claims take about one megabyte.
const LARGEST: u64 = 64 << 20;

/// The file. It holds keys: no `Debug`.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    /// As the kernel wrote it.
    boot: String,
    /// The keys for heartbeats, hexadecimal, the newest first.
    keys: Vec<String>,
    memory: Memory,
}

/// The keeper of the file.
pub(crate) struct MemoryFile {
    /// None when there is no place for it.
    path: Option<PathBuf>,
    boot: String,
    kept: Mutex<Kept>,
    written: Condvar,
}

/// What is to be kept.
#[derive(Default)]
struct Kept {
    memory: Option<Box<Memory>>,
    keys: Vec<PeerKey>,
    stage: Stage,
    complained: bool,
}

/// Whether the file says what it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Written,
    Writing,
    /// What is being written is old already.
    WritingOld,
}

impl MemoryFile {
    /// The file of `instance` in the first folder that can hold it. `boot` is the file that tells boots apart.
    pub(crate) fn open(folders: &[PathBuf], instance: &str, boot: &Path) -> Self {
        let mut refusals = Vec::new();
        let path = folders.iter().find_map(|folder| match socket::own_folder(folder) {
            Ok(()) => Some(socket::path_in(folder, instance).with_extension("session")),
            Err(error) => {
                refusals.push(format!("{}: {error:#}", folder.display()));
                None
            }
        });
        if path.is_none() {
            tracing::warn!(
                reason = refusals.join("; "),
                "no folder to keep the session in: an agent that is restarted begins a new one"
            );
        }
        let boot = fs::read_to_string(boot).unwrap_or_default().trim().to_owned();
        Self { path, boot, kept: Mutex::default(), written: Condvar::new() }
    }

    /// Removes what an earlier life left.
    pub(crate) fn forget(folders: &[PathBuf], instance: &str) {
        for folder in folders {
            // It is not there mostly; what cannot be removed could not be read either.
            let _ = fs::remove_file(socket::path_in(folder, instance).with_extension("session"));
        }
    }

    /// What an earlier life left since the node booted, and the keys that it knew, the newest first.
    pub(crate) fn recall(&self) -> (Recall, Vec<PeerKey>) {
        let boot = boot_id(&self.boot);
        let (memory, keys) = match self.path.as_deref().map(read) {
            None | Some(Ok(None)) => (None, Vec::new()),
            Some(Ok(Some(document))) if document.boot == self.boot && !self.boot.is_empty() => {
                let keys = document.keys.iter().filter_map(|key| key_of(key)).collect();
                (Some(document.memory), keys)
            }
            Some(Ok(Some(_))) => {
                tracing::info!("what was kept of the session is from another boot of the node: it has ended");
                (None, Vec::new())
            }
            Some(Err(reason)) => {
                let path = self.path.as_deref().unwrap_or(Path::new(""));
                tracing::warn!(path = %path.display(), reason, "what was kept of the session cannot be read");
                (None, Vec::new())
            }
        };
        // What is remembered before the Secret is read must not lose them.
        self.lock().keys.clone_from(&keys);
        (Recall { boot, memory }, keys)
    }

    /// Keeps what the node knows now. Returns at once.
    pub(crate) fn remember(self: &Arc<Self>, memory: Box<Memory>, io: &Handle) {
        self.change(io, |kept| kept.memory = Some(memory));
    }

    /// Keeps these keys, the newest first. Returns at once.
    pub(crate) fn keep_keys(self: &Arc<Self>, keys: Vec<PeerKey>, io: &Handle) {
        self.change(io, |kept| kept.keys = keys);
    }

    /// Waits until everything is written, but not for longer than `within`.
    pub(crate) fn flush(&self, within: Duration) {
        let written = |kept: &mut Kept| kept.stage != Stage::Written;
        let _ = self.written.wait_timeout_while(self.lock(), within, written);
    }

    fn change(self: &Arc<Self>, io: &Handle, change: impl FnOnce(&mut Kept)) {
        let mut kept = self.lock();
        change(&mut kept);
        if self.path.is_none() || kept.memory.is_none() {
            return;
        }
        match kept.stage {
            Stage::Written => {
                kept.stage = Stage::Writing;
                let file = Arc::clone(self);
                io.spawn_blocking(move || file.write_all());
            }
            Stage::Writing | Stage::WritingOld => kept.stage = Stage::WritingOld,
        }
    }

    /// Writes until what is written is the newest.
    fn write_all(&self) {
        loop {
            let mut kept = self.lock();
            kept.stage = Stage::Writing;
            let (memory, keys) = (kept.memory.clone(), kept.keys.clone());
            drop(kept);
            let outcome = memory.map_or(Ok(()), |memory| self.write(*memory, &keys));
            let mut kept = self.lock();
            if let Err(error) = &outcome
                && !kept.complained
            {
                tracing::warn!(%error, "the session cannot be kept: an agent that is restarted begins a new one");
            }
            kept.complained = outcome.is_err();
            if kept.stage == Stage::Writing {
                kept.stage = Stage::Written;
                self.written.notify_all();
                return;
            }
        }
    }

    fn write(&self, memory: Memory, keys: &[PeerKey]) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let keys = keys.iter().map(hex).collect();
        let document = Document { version: VERSION, boot: self.boot.clone(), keys, memory };
        let text = serde_json::to_vec(&document)?;
        let new = path.with_extension("session.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A rename is whole or not at all, so that a process that is killed here leaves the old file. No `fsync`: what a
        // power cut loses is from another boot anyway.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        fs::rename(&new, path)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // No code that can panic runs under the lock, and a panic ends the process anyway.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the file says; none when there is none. The reason never quotes it: it holds keys.
fn read(path: &Path) -> Result<Option<Document>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let document: Document = serde_json::from_slice(&text)
        .map_err(|error| format!("line {} is not what this version of kube-vip writes", error.line()))?;
    if document.version == VERSION {
        Ok(Some(document))
    } else {
        Err(format!("it has version {}, this kube-vip reads version {VERSION}", document.version))
    }
}

/// The two halves of the kernel's random id, folded into one.
fn boot_id(text: &str) -> BootId {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let whole = u128::from_str_radix(&digits, 16).unwrap_or_default();
    BootId(SessionId((whole >> 64) as u64 ^ whole as u64))
}

fn hex(key: &PeerKey) -> String {
    use std::fmt::Write;
    key.bytes().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

fn key_of(hex: &str) -> Option<PeerKey> {
    let digits = hex.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = match digits {
        (pairs, []) => {
            pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
        }
        _ => None,
    };
    <[u8; PeerKey::LENGTH]>::try_from(bytes?).ok().map(PeerKey::new)
}

#[cfg(test)]
mod tests;
