//! How a test over the real API server gets a lab: outside it starts itself again inside one, and says SKIPPED and why
//! where the real programs or the rights for namespaces are missing.

use std::io::Write as _;
use std::process::{Command, Stdio};

use vip_lab::bench::boot;

use crate::cluster::Judges;

const LAB: &str = env!("CARGO_BIN_EXE_lab");

/// Says something past the capture of the test runner: a skipped scenario must be seen.
fn tell(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// The lab's launcher, which the kernel kills when this test's thread is gone, and everything in the lab with it. In a
/// user namespace, or without `setpriv`, a test that is killed lets the lab play to its end.
fn launcher() -> Command {
    const SETPRIV: &str = "setpriv";
    let knows = Command::new(SETPRIV).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !knows.is_ok_and(|status| status.success()) {
        return Command::new(LAB);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--", LAB]);
    command
}

/// Runs the test `name`: inside a lab of its own it plays.
pub(crate) fn launch(name: &str, play: fn(&Judges)) {
    let Some(judges) = Judges::find() else {
        let missing = "there is no `kube-apiserver` or no `etcd` (run make judges or set KUBEBUILDER_ASSETS)";
        tell(&format!("SKIPPED {name}: {missing}"));
        return;
    };
    if boot::inside().is_some() {
        play(&judges);
        return;
    }
    let done = launcher()
        .arg("__boot")
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    // What goes wrong after the bench is up names the logs, and is no reason to skip.
    let refused = err.contains("was refused") || err.contains("install the Debian package");
    if refused && !err.contains("the logs are in") {
        tell(&format!("SKIPPED {name}: {err}"));
        return;
    }
    assert!(done.status.success(), "{out}\n{err}");
    println!("{out}{err}");
}
