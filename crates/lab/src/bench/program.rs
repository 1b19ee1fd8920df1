//! A program that runs in a node: started through a small door process (`lab __exec`) that joins the node's namespaces,
//! with its output in a log file; signals reach it directly, its exit code comes back through the door.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf, write};

use super::{Error, Result, Stamp, boot, place};

/// What to start in a node.
#[derive(Clone, Debug)]
pub struct Spawn {
    /// What it is called in log names and errors.
    pub name: String,
    /// The program; its path is looked up inside the node.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment; nothing is inherited but `PATH` and `HOME=/run/home`.
    pub env: Vec<(String, String)>,
    /// Where its output is appended.
    pub log: PathBuf,
}

/// A running (or ended) program of a node. It is killed when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    door: Child,
    pid: Pid,
    started: Stamp,
    ended: Option<u8>,
}

/// What a process uses, from `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Processor time since its start, user and system.
    pub cpu: Duration,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Program {
    /// Starts a program in the namespaces of the process `init`.
    pub(super) fn start(init: i32, spawn: &Spawn) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spawn.log)
            .map_err(Error::system(format!("opening the log {}", spawn.log.display())))?;
        let again = log.try_clone().map_err(Error::system("sharing a log"))?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::system("making a socket pair"))?;
        let door = Command::new(boot::exe())
            .arg("__exec")
            .arg(init.to_string())
            .arg(&spawn.program)
            .args(&spawn.args)
            .env_clear()
            .env("PATH", place::search_path())
            .env("HOME", "/run/home")
            .envs(spawn.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(log)
            .stderr(again)
            .spawn()
            .map_err(Error::system(format!("starting {}", spawn.name)))?;
        let mut word = String::new();
        BufReader::new(ours)
            .read_line(&mut word)
            .map_err(Error::system(format!("starting {}", spawn.name)))?;
        let (pid, started) = parse_report(&word).ok_or_else(|| Error::Command {
            command: spawn.program.display().to_string(),
            said: format!("did not start; see {}", spawn.log.display()),
        })?;
        Ok(Self { name: spawn.name.clone(), door, pid, started, ended: None })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id in the lab's PID namespace.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// The moment right before it was started.
    pub fn started(&self) -> Stamp {
        self.started
    }

    /// Sends a signal. An error if it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).map_err(Error::system(format!("sending {signal} to {}", self.name)))
    }

    /// Its exit code (128 + signal if a signal ended it), if it has ended.
    pub fn ended(&mut self) -> Result<Option<u8>> {
        if self.ended.is_none() {
            let status = self.door.try_wait().map_err(Error::system(format!("looking at {}", self.name)))?;
            self.ended = status.map(code_of);
        }
        Ok(self.ended)
    }

    /// Waits until it has ended, at most `limit`; gives its exit code.
    pub fn wait(&mut self, limit: Duration) -> Result<u8> {
        let begin = Instant::now();
        loop {
            if let Some(code) = self.ended()? {
                return Ok(code);
            }
            if begin.elapsed() > limit {
                return Err(Error::Timeout { what: format!("the end of {}", self.name), waited: limit });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it uses now.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.pid.as_raw())
    }

    /// The processor time of the program and of all processes that it started, to the nanosecond:
    /// `/proc/PID/task/TID/schedstat` (Documentation/scheduler/sched-stats.rst).
    pub fn processor_time(&self) -> Result<Duration> {
        processor_time(self.pid.as_raw())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !matches!(self.ended(), Ok(Some(_))) {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.door.wait();
        }
    }
}

fn parse_report(word: &str) -> Option<(Pid, Stamp)> {
    let (pid, at) = word.trim().split_once(' ')?;
    Some((Pid::from_raw(pid.parse().ok()?), Stamp::from_nanos(at.parse().ok()?)))
}

/// What a process of this PID namespace uses: `/proc/PID/stat` fields 14, 15, 20 and 24 (proc(5)).
pub fn usage(pid: i32) -> Result<Usage> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).map_err(Error::system(format!("reading {file}")))?;
    // The name in parentheses may hold anything; fields are counted from behind it (field 3 first).
    let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let per_second =
        sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(100);
    let page =
        sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(4096);
    Ok(Usage {
        rss: exact_rss(pid).unwrap_or(field(24) * page),
        cpu: Duration::from_millis((field(14) + field(15)) * 1000 / per_second),
        threads: field(20),
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
    })
}

fn processor_time(pid: i32) -> Result<Duration> {
    let folder = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&folder).map_err(Error::system(format!("reading {folder}")))?;
    let mut sum = Duration::ZERO;
    for task in tasks.flatten() {
        // A thread that has just ended has nothing to tell.
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let nanos = read("schedstat").split(' ').next().and_then(|text| text.parse().ok());
        sum += Duration::from_nanos(nanos.unwrap_or(0));
        for child in read("children").split_whitespace().filter_map(|child| child.parse().ok()) {
            sum += processor_time(child)?;
        }
    }
    Ok(sum)
}

/// `Rss` of `/proc/PID/smaps_rollup`; field 24 of `stat` lags by some pages per processor.
fn exact_rss(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// A process's exit code as shells count it.
pub(super) fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(255)
}

/// Joins all namespaces of a process (as this PID namespace counts it). The calling process must have one thread.
pub fn join(pid: i32) -> Result<()> {
    let kinds = [
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS), // last: with it /proc becomes the node's
    ];
    let mut open = Vec::new();
    for (kind, flag) in kinds {
        let path = format!("/proc/{pid}/ns/{kind}");
        open.push((File::open(&path).map_err(Error::system(format!("opening {path}")))?, flag));
    }
    for (file, flag) in open {
        setns(file, flag).map_err(Error::system(format!("joining the namespaces of process {pid}")))?;
    }
    Ok(())
}

/// `lab __exec PID PROGRAM ARGS…`: joins the namespaces of process PID, starts the program, reports its process id and
/// start on descriptor 0, and ends with its exit code.
pub(super) fn door(args: &[OsString]) -> Result<u8> {
    let bad = || Error::Command { command: "lab __exec".to_owned(), said: "needs PID PROGRAM".to_owned() };
    let (pid, rest) = args.split_first().ok_or_else(bad)?;
    let (program, rest) = rest.split_first().ok_or_else(bad)?;
    let pid: i32 = pid.to_str().and_then(|pid| pid.parse().ok()).ok_or_else(bad)?;
    join(pid)?;
    let started = Stamp::now();
    let mut child = Command::new(Path::new(program))
        .args(rest)
        .stdin(Stdio::null())
        .spawn()
        .map_err(Error::system(format!("starting {}", program.display())))?;
    let word = format!("{} {}\n", child.id(), started.as_nanos());
    write(std::io::stdin(), word.as_bytes()).map_err(Error::system("reporting a process id"))?;
    let status = child.wait().map_err(Error::system("waiting for a program"))?;
    Ok(code_of(status))
}

/// `lab __visit TARGET NAME [PROGRAM ARGS…]`: goes to the process or network namespace TARGET and runs the program there,
/// on this terminal; without one, a shell that shows NAME in its prompt.
pub(super) fn visit(args: &[OsString]) -> Result<u8> {
    let bad = || Error::Command { command: "lab __visit".to_owned(), said: "needs TARGET NAME".to_owned() };
    let [target, name, rest @ ..] = args else { return Err(bad()) };
    if let Some(pid) = target.to_str().and_then(|target| target.parse().ok()) {
        join(pid)?;
    } else {
        let netns = File::open(target).map_err(Error::system(format!("opening {}", target.display())))?;
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(Error::system("joining a network namespace"))?;
    }
    let mut command = match rest.split_first() {
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest);
            command
        }
        None => shell(&name.to_string_lossy()),
    };
    let status = command
        .env("PATH", place::search_path())
        .status()
        .map_err(Error::system(format!("running a program in {}", name.display())))?;
    Ok(code_of(status))
}

fn shell(name: &str) -> Command {
    let bash = Path::new("/bin/bash");
    let mut command = Command::new(if bash.exists() { bash } else { Path::new("/bin/sh") });
    if bash.exists() {
        command.arg("--norc");
    }
    command.env("PS1", format!("{name}:\\w# "));
    command
}
