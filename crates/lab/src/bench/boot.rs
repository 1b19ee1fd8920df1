//! How the lab gets a world of its own before it does anything: the launcher unshares user (when it isn't root), mount,
//! network and PID namespaces and starts itself again as process 1 in there. Fed by `main` and by tests; gives back an
//! exit code. When the launcher dies, however it dies, the kernel kills process 1 and with it everything, and the
//! namespaces vanish: nothing carries a name on the host, so there is nothing to sweep and nothing to collide with.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, getegid, geteuid, pipe2, setsid, write};

use super::{Error, Result, init, program};

const INSIDE: &str = "LAB_INSIDE";
const LAUNCHER: &str = "LAB_LAUNCHER";
const DETACH: &str = "LAB_DETACH_FD";
const EXE: &str = "LAB_EXE";
const RUNTIME: &str = "LAB_RUNTIME";

/// With which rights the lab runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Root of the machine.
    Root,
    /// Root of a user namespace: no real-time priority, no daemons that change their user.
    UserNamespace,
}

/// The rights of this process if it is inside a lab, `None` on the host.
pub fn inside() -> Option<Rights> {
    match env::var(INSIDE).ok()?.as_str() {
        "root" => Some(Rights::Root),
        _ => Some(Rights::UserNamespace),
    }
}

/// The process id of the launcher, as the host counts; it tells labs apart.
pub fn launcher() -> u32 {
    env::var(LAUNCHER).ok().and_then(|pid| pid.parse().ok()).unwrap_or_else(std::process::id)
}

/// The `lab` binary, which the lab starts again as init of each node.
pub fn exe() -> PathBuf {
    env::var_os(EXE).map_or_else(|| PathBuf::from("/proc/self/exe"), PathBuf::from)
}

/// The folder where labs of this user that stay up can be found, the same on the host and inside.
pub fn runtime_folder() -> PathBuf {
    if let Some(named) = env::var_os(RUNTIME) {
        return PathBuf::from(named);
    }
    let user = geteuid();
    let folder = if user.is_root() {
        Some(PathBuf::from("/run"))
    } else {
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
    };
    match folder {
        Some(folder) => folder.join("kube-vip-lab"),
        None => env::temp_dir().join(format!("kube-vip-lab-{user}")),
    }
}

/// Runs one of the subcommands that only the lab itself calls. `main` asks this first; `None`: it was none of them.
pub fn hidden() -> Option<ExitCode> {
    let mut args = env::args_os().skip(1);
    let verb = args.next()?;
    let rest: Vec<OsString> = args.collect();
    let ended = match verb.to_str()? {
        "__boot" => boot(&rest),
        "__top" => top(&rest),
        "__node" => init::birth(&rest),
        "__init" => init::live(&rest),
        "__exec" => program::door(&rest),
        "__visit" => program::visit(&rest),
        _ => return None,
    };
    Some(match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("lab {}: {:#}", verb.display(), anyhow::Error::from(error));
            ExitCode::from(125)
        }
    })
}

fn boot(args: &[OsString]) -> Result<u8> {
    let (program, rest) = args.split_first().ok_or_else(|| Error::Command {
        command: "lab __boot".to_owned(),
        said: "needs a program to run inside".to_owned(),
    })?;
    enter(Path::new(program), rest)
}

/// Runs `program` as process 1 of fresh namespaces and waits until it ended or detached itself; gives its exit code.
///
/// Must be called before this process starts a thread (`unshare(2)`: a user or PID namespace needs that).
pub fn enter(program: &Path, args: &[OsString]) -> Result<u8> {
    present("ip", "iproute2")?;
    let exe = env::current_exe().map_err(Error::system("finding the lab's own binary"))?;
    let runtime = runtime_folder();
    let rights = unshare_all()?;
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("making a pipe"))?;
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).map_err(Error::system("keeping a pipe open"))?;
    let mut child = Command::new("/proc/self/exe")
        .arg("__top")
        .arg(program)
        .args(args)
        .env(INSIDE, if rights == Rights::Root { "root" } else { "userns" })
        .env(LAUNCHER, std::process::id().to_string())
        .env(DETACH, theirs.as_raw_fd().to_string())
        .env(EXE, exe)
        .env(RUNTIME, runtime)
        .spawn()
        .map_err(Error::system("starting the lab in its own namespaces"))?;
    drop(theirs);
    let mut word = [0_u8; 1];
    // One byte: the lab detached itself and hands over its exit code. End of file: everything in there is gone.
    if matches!(fs::File::from(ours).read(&mut word), Ok(1)) {
        return Ok(word[0]);
    }
    let status = child.wait().map_err(Error::system("waiting for the lab"))?;
    Ok(program::code_of(status))
}

fn unshare_all() -> Result<Rights> {
    let most = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    if geteuid().is_root() {
        match unshare(most) {
            Ok(()) => return Ok(Rights::Root),
            // A container's root without CAP_SYS_ADMIN: go on like any user.
            Err(Errno::EPERM) => {}
            Err(cause) => {
                return Err(Error::Rights { what: "mount, network and PID namespaces", cause: cause.into() });
            }
        }
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(most | CloneFlags::CLONE_NEWUSER)
        .map_err(|cause| Error::Rights { what: "a user namespace", cause: cause.into() })?;
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(file, text).map_err(|cause| Error::Rights { what: "a user mapping", cause })?;
    }
    Ok(Rights::UserNamespace)
}

/// Process 1 of the lab: ties its life to the launcher's, makes the mounts private, then becomes the real program.
fn top(args: &[OsString]) -> Result<u8> {
    set_pdeathsig(Signal::SIGKILL).map_err(Error::system("tying the lab's life to its launcher"))?;
    if launcher_gone() {
        return Ok(1);
    }
    private_mounts()?;
    let (program, rest) = args.split_first().ok_or_else(|| Error::Command {
        command: "lab __top".to_owned(),
        said: "needs a program".to_owned(),
    })?;
    let cause = Command::new(program).args(rest).exec();
    Err(Error::System { what: format!("running {}", program.display()), cause })
}

fn detach_pipe() -> Option<OwnedFd> {
    let number: i32 = env::var(DETACH).ok()?.parse().ok()?;
    // Through /proc, so that a wrong number is an error and not a stranger's descriptor.
    fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{number}")).ok().map(OwnedFd::from)
}

/// The launcher may have died before its death signal was set; then nobody reads the pipe.
fn launcher_gone() -> bool {
    let Some(pipe) = detach_pipe() else { return true };
    let mut asked = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    let _ = poll(&mut asked, PollTimeout::ZERO);
    asked[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLERR))
}

pub(super) fn private_mounts() -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::system("making mounts private"))?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)
        .map_err(|cause| Error::Rights { what: "a /proc of its own", cause: cause.into() })
}

/// Lets the launcher end with `code` while this lab goes on alone. Must be called by the main thread, which carries the
/// death signal.
pub fn detach(code: u8) -> Result<()> {
    let gone =
        Error::Timeout { what: "a launcher that listens".to_owned(), waited: std::time::Duration::ZERO };
    let pipe = detach_pipe().ok_or(gone)?;
    set_pdeathsig(None).map_err(Error::system("leaving the launcher"))?;
    silence()?;
    let _ = setsid(); // refused only for a process that already leads a session, which is fine
    write(&pipe, &[code]).map_err(Error::system("telling the launcher"))?;
    Ok(())
}

/// Lets go of the terminal or pipe that standard input, output and error were: who reads it must not wait for a process
/// that lives on.
pub(super) fn silence() -> Result<()> {
    let nothing = fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let nothing = nothing.map_err(Error::system("opening /dev/null"))?;
    dup2_stdin(&nothing).map_err(Error::system("leaving standard input"))?;
    dup2_stdout(&nothing).map_err(Error::system("leaving standard output"))?;
    dup2_stderr(&nothing).map_err(Error::system("leaving standard error"))
}

/// From the host: joins the lab whose process 1 is `top`, goes to `target` (a process id there, or the path of a network
/// namespace), and runs a command or a shell in it; gives its exit code.
pub fn visit(top: i32, target: &str, name: &str, command: &[String]) -> Result<u8> {
    let exe = env::current_exe().map_err(Error::system("finding the lab's own binary"))?;
    let open = |kind: &str| {
        let path = format!("/proc/{top}/ns/{kind}");
        fs::File::open(&path).map_err(Error::system(format!("opening {path}")))
    };
    let same = |kind: &str| {
        let inode = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        inode("self") == inode(&top.to_string())
    };
    let mut joined = Vec::new();
    for kind in ["user", "net", "pid", "mnt"] {
        if !same(kind) {
            joined.push(open(kind)?);
        }
    }
    for namespace in joined {
        setns(namespace, CloneFlags::empty()).map_err(Error::system("joining the lab"))?;
    }
    let status = Command::new(exe)
        .args(["__visit", target, name])
        .args(command)
        .status()
        .map_err(Error::system(format!("entering {name}")))?;
    Ok(program::code_of(status))
}

/// Is this program installed? Looked for in `PATH` and in the system folders that a user's `PATH` may lack.
pub fn present(program: &'static str, package: &'static str) -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let found = env::split_paths(&path).chain(system).any(|folder| folder.join(OsStr::new(program)).exists());
    if found { Ok(()) } else { Err(Error::Missing { program, package }) }
}
