//! A place: one network namespace that we hold open by a descriptor. Anything may be run `within` it by a thread that
//! moves there and ends. Made by `Lab`; nodes are places with an init.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};

use super::{Error, Result};

/// One network namespace with a name; cheap to clone, the namespace lives as long as a clone or a process in it.
#[derive(Clone, Debug)]
pub struct Place {
    name: Arc<str>,
    netns: Arc<OwnedFd>,
}

impl Place {
    /// A new network namespace with its loopback up and IPv6 kept quiet.
    pub fn fresh(name: &str) -> Result<Self> {
        let made: Result<OwnedFd> = thread::scope(|scope| {
            let maker = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)
                    .map_err(|cause| Error::Rights { what: "a network namespace", cause: cause.into() })?;
                quiet_ipv6()?;
                loopback_up()?;
                open_netns(Path::new("/proc/thread-self/ns/net"))
            });
            maker.join().expect("the closure does not panic")
        });
        Ok(Self { name: name.into(), netns: Arc::new(made?) })
    }

    /// The network namespace of the calling thread.
    pub fn here(name: &str) -> Result<Self> {
        let netns = open_netns(Path::new("/proc/thread-self/ns/net"))?;
        Ok(Self { name: name.into(), netns: Arc::new(netns) })
    }

    /// The network namespace of a process.
    pub fn of_process(name: &str, pid: i32) -> Result<Self> {
        let netns = open_netns(&PathBuf::from(format!("/proc/{pid}/ns/net")))?;
        Ok(Self { name: name.into(), netns: Arc::new(netns) })
    }

    /// Its name on the bench.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where another process of this lab finds the namespace.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_raw_fd()))
    }

    /// Moves the calling thread here, for good.
    pub fn move_in(&self) -> Result<()> {
        setns(self.netns.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(Error::system(format!("moving into {}", self.name)))
    }

    /// Runs `work` in a thread that has moved here, and gives its answer.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| self.move_in().map(|()| work()));
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs lines of `ip -batch` here.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.within(|| feed(Command::new("ip").args(["-batch", "-"]), lines))?
    }

    /// Runs a command here and gives what it wrote to standard output.
    pub fn run(&self, command: &mut Command) -> Result<String> {
        self.within(|| output(command))?
    }

    /// The kernel's index of a link here.
    pub fn link(&self, name: &str) -> Result<u32> {
        self.within(|| if_nametoindex(name))?
            .map_err(Error::system(format!("looking for link {name} in {}", self.name)))
    }
}

fn open_netns(path: &Path) -> Result<OwnedFd> {
    File::open(path).map(OwnedFd::from).map_err(Error::system(format!("opening {}", path.display())))
}

/// Runs a command to its end; an error carries what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let done = command
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .map_err(Error::system(format!("running {shown}")))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(Error::Command { command: shown, said: format!("{said} ({})", done.status) })
}

/// Runs a command with `text` on its standard input.
pub fn feed(command: &mut Command, text: &str) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let mut child = command
        .env("PATH", search_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::system(format!("running {shown}")))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(text.as_bytes()).map_err(Error::system(format!("feeding {shown}")))?;
    }
    let done = child.wait_with_output().map_err(Error::system(format!("waiting for {shown}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(Error::Command { command: format!("{shown} <<< {text}"), said })
}

/// `PATH` with the folders of administration tools, which a user's often lacks.
pub fn search_path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", std::env::var("PATH").unwrap_or_default())
}

/// In the calling thread's namespace: no router solicitations, no autoconfiguration; only what we set is there.
pub(super) fn quiet_ipv6() -> Result<()> {
    for scope in ["all", "default"] {
        for (key, value) in [("accept_ra", "0"), ("autoconf", "0"), ("router_solicitations", "0")] {
            let file = format!("/proc/sys/net/ipv6/conf/{scope}/{key}");
            fs::write(&file, value).map_err(Error::system(format!("writing {file}")))?;
        }
    }
    Ok(())
}

/// In the calling thread's namespace: the loopback comes up.
pub(super) fn loopback_up() -> Result<()> {
    output(Command::new("ip").args(["link", "set", "lo", "up"])).map(drop)
}
