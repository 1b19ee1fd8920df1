//! The binary `kube-vip`: command line, settings, and the loop that carries the node between kernel and cluster.

mod board;
mod cli;
mod dump;
mod errand;
mod http;
mod log;
mod manifest;
mod run;
mod settings;
mod status;
mod version;

fn main() -> std::process::ExitCode {
    cli::run()
}
