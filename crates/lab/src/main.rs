//! The program `lab`: builds the bench, runs scenarios on it, shows the demo.

use std::process::ExitCode;

use vip_lab::bench::boot;

fn main() -> ExitCode {
    if let Some(code) = boot::hidden() {
        return code;
    }
    ExitCode::FAILURE
}
