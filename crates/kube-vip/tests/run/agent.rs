//! The real binary in a network namespace of its own, started, asked and stopped by a test.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Moves the calling thread into a new network namespace with a loopback link that is up. `None`, said loudly, where
/// that needs rights that the test does not have.
pub(crate) fn own_network() -> Option<()> {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("SKIPPED: a network namespace needs root here ({errno})");
        return None;
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("iproute2 is installed");
    assert!(up.success());
    Some(())
}

/// A running agent; killed when dropped.
pub(crate) struct Agent {
    child: Child,
    folder: tempfile::TempDir,
    instance: String,
}

impl Agent {
    /// Starts `kube-vip manager` for one VIP on the loopback link, with `more` settings. There is no API.
    pub(crate) fn start(instance: &str, more: &[(&str, &str)]) -> Self {
        let mut command = kube_vip("manager", instance);
        command.envs(more.iter().copied());
        Self::spawn(instance, command)
    }

    /// Starts `command`, an agent of this instance.
    pub(crate) fn spawn(instance: &str, mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = |name: &str| fs::File::create(folder.path().join(name)).unwrap();
        let child = command.stdout(output("out")).stderr(output("err")).spawn().unwrap();
        Self { child, folder, instance: instance.to_owned() }
    }

    /// Everything that the agent logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// Everything that the agent wrote to standard output so far.
    pub(crate) fn out(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).unwrap()
    }

    /// The path of its status socket.
    pub(crate) fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/run/kube-vip/{}.sock", self.instance))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, at most `within`.
    pub(crate) fn end(&mut self, within: Duration) -> ExitStatus {
        eventually(within, "the agent ends", || self.child.try_wait().unwrap())
    }

    /// The status line and the rest of the answer to a GET, once the port is open.
    pub(crate) fn get(&mut self, port: u16, path: &str) -> (String, String) {
        eventually(Duration::from_secs(5), path, || {
            assert!(self.is_running(), "{}", self.log());
            fetch(port, path)
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.socket());
    }
}

/// The binary with a minimal control-plane configuration and nothing else in its environment.
pub(crate) fn kube_vip(command: &str, instance: &str) -> Command {
    let mut kube_vip = Command::new(env!("CARGO_BIN_EXE_kube-vip"));
    kube_vip
        .arg(command)
        .env_clear()
        .envs([("vip_arp", "true"), ("cp_enable", "true"), ("address", "192.0.2.1")])
        .envs([("vip_interface", "lo"), ("vip_nodename", "n1"), ("cp_namespace", "kube-system")])
        .envs([("port", "6443"), ("instance_name", instance)])
        .process_group(0)
        .stdin(Stdio::null());
    kube_vip
}

/// Tries until there is an answer.
pub(crate) fn eventually<T>(within: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn fetch(port: u16, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: n1\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}
