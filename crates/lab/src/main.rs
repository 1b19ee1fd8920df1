//! The program `lab`: shows the demo, runs scenarios, keeps a lab up to look around in. It starts itself again inside
//! private namespaces for everything that raises a lab.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use vip_lab::bench::boot;
use vip_lab::scenario::table::{Mode, Setup};
use vip_lab::scenario::{Stage, console, demo, folder, load, speed, suite};

/// Three nodes, a client and faults in kernel namespaces, with the real kube-vip on every node.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows five faults and a Service with two pods, and what a client loses in each.
    Demo {
        /// Leaves the lab up at the end.
        #[arg(long)]
        keep: bool,
        /// Runs of each fault.
        #[arg(long, default_value_t = 3)]
        runs: u32,
    },
    /// Plays a scenario, or all; exit code 1 when a bound is broken.
    Run {
        /// Its name, or several separated by commas; `lab list` shows them.
        scenario: String,
        /// The election mode: whose table it is.
        #[arg(long, value_enum, default_value_t)]
        mode: Mode,
        /// How often.
        #[arg(long, default_value_t = 1)]
        runs: u32,
        /// Sets a variable of the agents' manifest; may be given several times.
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
    /// Measures everything, short scenarios often.
    Bench {
        /// What is measured.
        #[arg(value_enum, default_value_t)]
        what: Measured,
        /// Runs of each short scenario; long ones run a quarter as often. 12, or 3 of mode session and of keepalived.
        #[arg(long)]
        runs: Option<u32>,
        /// Of keepalived: one interval alone, 1s, 100ms or 10ms.
        #[arg(long)]
        interval: Option<String>,
    },
    /// Lists the scenarios.
    List,
    /// Raises a lab and leaves it up.
    Up,
    /// Opens a shell, or runs a command, in a node, `client`, `watch` or `router`.
    Enter {
        /// Where: n1, n2, n3, client, watch, router.
        place: String,
        /// Which lab, when several are up.
        #[arg(long)]
        lab: Option<String>,
        /// What to run instead of a shell.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Cuts a node off; its carrier stays.
    Cut {
        /// Which node.
        node: String,
        /// Which lab, when several are up.
        #[arg(long)]
        lab: Option<String>,
    },
    /// Ends a cut.
    Heal {
        /// Which node.
        node: String,
        /// Which lab, when several are up.
        #[arg(long)]
        lab: Option<String>,
    },
    /// Shows the nodes and who answers for the VIP.
    Status {
        /// Which lab, when several are up.
        #[arg(long)]
        lab: Option<String>,
    },
    /// Takes a lab down; nothing is left of it.
    Down {
        /// Which lab, when several are up.
        #[arg(long)]
        lab: Option<String>,
    },
}

/// What `lab bench` measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Measured {
    /// Mode lease: all scenarios, idle agents, first announcements.
    #[default]
    Lease,
    /// Mode session: quiet members, all scenarios.
    Session,
    /// Mode session: quiet members alone.
    Quiet,
    /// keepalived and mode session at the same intervals.
    Keepalived,
    /// Services, few and many of them.
    Services,
    /// Thousands of Services alone, as at the end of `services`.
    ColdStart,
}

fn main() -> ExitCode {
    if let Some(code) = boot::hidden() {
        return code;
    }
    match act(Arguments::parse().verb) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lab: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn act(verb: Verb) -> Result<u8> {
    match verb {
        Verb::Demo { .. } | Verb::Run { .. } | Verb::Bench { .. } | Verb::Up if boot::inside().is_none() => {
            // Before anything is raised: what a killed lab left, and mistakes that need no lab to be seen.
            console::sweep()?;
            if let Verb::Run { scenario, mode, set, .. } = &verb {
                suite::rows(*mode, scenario)?;
                suite::manifest(*mode, set)?;
            }
            let exe = std::env::current_exe().context("finding the lab's own binary")?;
            let args: Vec<OsString> = std::env::args_os().skip(1).collect();
            Ok(boot::enter(&exe, &args)?)
        }
        Verb::Demo { keep, runs } => {
            let demo::Shown { pods, stage, kept } = demo::show(runs.max(1), &folder::make("demo")?)?;
            let code = u8::from(!kept);
            let done = if keep { stay(stage, code) } else { Ok(code) };
            // They answer as long as the lab is up.
            drop(pods);
            done
        }
        Verb::Run { scenario, runs, mode, set } => {
            let (rows, manifest) = (suite::rows(mode, &scenario)?, suite::manifest(mode, &set)?);
            let logs = folder::make(scenario.split(',').next().unwrap_or("run"))?;
            Ok(u8::from(!suite::run(&rows, runs.max(1), &manifest, &logs)?))
        }
        Verb::Bench { what, runs, interval } => {
            bench(what, runs.map(|runs| runs.max(1)), interval.as_deref())
        }
        Verb::Up => {
            let mut stage = Stage::set(suite::manifest(Mode::default(), &[])?, &folder::make("up")?)?;
            stage.restore(Setup::default())?;
            stay(stage, 0)
        }
        Verb::List => say(&suite::list()),
        Verb::Enter { place, lab, command } => console::enter(lab.as_deref(), &place, &command),
        Verb::Cut { node, lab } => say(&console::command(lab.as_deref(), &format!("cut {node}"))?),
        Verb::Heal { node, lab } => say(&console::command(lab.as_deref(), &format!("heal {node}"))?),
        Verb::Status { lab } => say(&console::command(lab.as_deref(), "status")?),
        Verb::Down { lab } => say(&console::command(lab.as_deref(), "down")?),
    }
}

fn bench(what: Measured, runs: Option<u32>, interval: Option<&str>) -> Result<u8> {
    let intervals = speed::keepalived::intervals(interval)?;
    let logs = folder::make("bench")?;
    let kept = match what {
        Measured::Lease => speed::measure(runs.unwrap_or(12), &logs)?,
        Measured::Session => speed::session::measure(runs.unwrap_or(3), &logs)?,
        Measured::Quiet => speed::session::measure_quiet(&logs)?,
        Measured::Keepalived => speed::keepalived::measure(&intervals, runs.unwrap_or(3), &logs)?,
        Measured::Services => load::measure(&logs, load::Extent::Everything).map(|()| true)?,
        Measured::ColdStart => load::measure(&logs, load::Extent::ColdStart).map(|()| true)?,
    };
    Ok(u8::from(!kept))
}

/// Leaves the lab up: the launcher ends with `code`, this process goes on until `lab down`.
fn stay(mut stage: Stage, code: u8) -> Result<u8> {
    let (number, lab) = (boot::launcher(), typed_name());
    stage.screen().say(&format!(
        "\nThe lab {number} stays up. Look around:\n\
         \x20 {lab} status      who holds the VIP\n\
         \x20 {lab} enter n1    a shell in node n1 (also client, watch, router); `enter n1 -- ip address` runs a command\n\
         \x20 {lab} cut n1      cut n1 off; `heal n1` ends it\n\
         \x20 {lab} down        take everything down"
    ));
    let door = console::open()?;
    boot::detach(code)?;
    console::serve(&mut stage, &door)?;
    Ok(0)
}

/// How to type the name of this program where the user stands.
fn typed_name() -> String {
    let exe = boot::exe();
    let here = std::env::current_dir().unwrap_or_default();
    exe.strip_prefix(&here).unwrap_or(&exe).display().to_string()
}

fn say(text: &str) -> Result<u8> {
    writeln!(std::io::stdout(), "{text}").context("writing to standard output")?;
    Ok(0)
}
