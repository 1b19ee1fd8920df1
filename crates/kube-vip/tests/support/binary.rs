//! The real binary with exactly the environment that a test gives.

use std::collections::BTreeMap;
use std::process::Command;

/// What a run left behind.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str], environment: &BTreeMap<String, String>) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_kube-vip"))
        .args(arguments)
        .env_clear()
        .envs(environment)
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the binary prints UTF-8");
    Run {
        code: output.status.code().expect("the binary ends by itself"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
