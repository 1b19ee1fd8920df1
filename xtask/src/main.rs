//! Chores of the repository: `cargo xtask layers` checks the borders between the crates.

mod layers;

use std::process::ExitCode;

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let result = match verb.as_str() {
        "layers" => layers::check(),
        other => Err(anyhow::anyhow!("unknown chore {other:?}; there is: layers")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {verb}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
