//! Process 1 of a node: makes the node's mounts, answers the prober's echo, and collects orphans. Started by
//! `Node::power_on` through `lab __node`; when it is killed the kernel kills everything else in the node in the same
//! instant, which is what a power failure is.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::sethostname;

use super::{Error, Result, boot, echo, place};

/// Files of `/etc` that each node has of its own; everything else shows through from the host.
const OWN_ETC: [&str; 5] = ["hosts", "hostname", "resolv.conf", "kubernetes", "mtab"];

/// `lab __node NAME NUMBER`: makes the node's namespaces, starts its init, writes the init's process id and ends.
pub(super) fn birth(args: &[OsString]) -> Result<u8> {
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    unshare(all).map_err(|cause| Error::Rights { what: "a node's namespaces", cause: cause.into() })?;
    let mut init = Command::new("/proc/self/exe")
        .arg("__init")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::system("starting a node's init"))?;
    let mut word = String::new();
    if let Some(pipe) = init.stdout.take() {
        BufReader::new(pipe).read_line(&mut word).map_err(Error::system("listening to a node's init"))?;
    }
    if word.trim() != "ready" {
        return Err(Error::Command {
            command: "lab __init".to_owned(),
            said: "did not get ready".to_owned(),
        });
    }
    let mut out = std::io::stdout();
    writeln!(out, "{}", init.id()).map_err(Error::system("naming a node's init"))?;
    Ok(0)
}

/// `lab __init NAME NUMBER`: lives until it is killed.
pub(super) fn live(args: &[OsString]) -> Result<u8> {
    let name = args.first().and_then(|name| name.to_str()).unwrap_or("node").to_owned();
    let number: u8 = args.get(1).and_then(|n| n.to_str()).and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().map_err(Error::system("blocking SIGCHLD"))?;
    boot::private_mounts()?;
    own_etc(&name)?;
    own_boot()?;
    // In a user namespace sysfs may be refused; then /sys shows the host's links, which only a NIC type lookup reads.
    let none: Option<&str> = None;
    if let Err(cause) = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none) {
        eprintln!("lab: {name} has no /sys of its own ({cause})");
    }
    sethostname(&name).map_err(Error::system("naming a node"))?;
    place::quiet_ipv6()?;
    place::loopback_up()?;
    let echo = echo::Echo::bind(echo::Responder { node: number, pod: 0 })?;
    std::thread::spawn(move || echo.serve());
    let mut out = std::io::stdout();
    writeln!(out, "ready").map_err(Error::system("saying ready"))?;
    boot::silence()?;
    reap_for_ever(children)
}

fn reap_for_ever(children: SigSet) -> ! {
    loop {
        let _ = children.wait();
        while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {}
    }
}

/// An id of this boot of the node: what distinguishes a node that lost its power from one whose agent was restarted.
fn own_boot() -> Result<()> {
    let (random, own) = ("/proc/sys/kernel/random/uuid", "/run/boot_id");
    let none: Option<&str> = None;
    let id = fs::read(random).map_err(Error::system(format!("reading {random}")))?;
    fs::write(own, id).map_err(Error::system(format!("writing {own}")))?;
    mount(Some(own), "/proc/sys/kernel/random/boot_id", none, MsFlags::MS_BIND, none)
        .map_err(Error::system("giving a node a boot id of its own"))
}

/// A private `/run`, and an `/etc` that is the host's but for a few files of the node's own.
fn own_etc(name: &str) -> Result<()> {
    let none: Option<&str> = None;
    let fresh = |at: &str| {
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .map_err(Error::system(format!("a private {at}")))
    };
    fresh("/run")?;
    let host = Path::new("/run/host-etc");
    fs::create_dir(host).map_err(Error::system("making /run/host-etc"))?;
    mount(Some("/etc"), host, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(Error::system("keeping the host's /etc in sight"))?;
    fresh("/etc")?;
    let entries = fs::read_dir(host).map_err(Error::system("reading the host's /etc"))?;
    for entry in entries.flatten() {
        let file = entry.file_name();
        if !OWN_ETC.iter().any(|own| file.to_str() == Some(own)) {
            symlink(entry.path(), Path::new("/etc").join(&file)).map_err(Error::system("linking /etc"))?;
        }
    }
    let write =
        |file: &str, text: &str| fs::write(file, text).map_err(Error::system(format!("writing {file}")));
    fs::create_dir_all("/etc/kubernetes").map_err(Error::system("making /etc/kubernetes"))?;
    fs::create_dir_all("/run/home").map_err(Error::system("making /run/home"))?;
    write("/etc/hostname", &format!("{name}\n"))?;
    write("/etc/resolv.conf", "")?;
    // The last name is what the hostAliases of a kube-vip manifest add.
    write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.0.1 kubernetes\n")
}
