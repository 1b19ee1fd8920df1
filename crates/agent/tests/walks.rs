//! The walks of ARCHITECTURE.md, step by step, as folders: `<case>/NN-input-….yaml` says what happens and when,
//! `NN-output-….yaml` what the node does until the next input, and what it writes into its journal. `case.yaml` holds
//! the configuration, or names the case whose inputs come first. `BLESS=1` writes the outputs anew.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vip_agent::{Agent, Input, Output};
use vip_model::Instant;
use vip_model::config::Config;
use vip_proto::Machine;

/// How a case begins.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Beginning {
    /// A node with this configuration.
    Config(Box<Config>),
    /// The end of another case.
    Follows(String),
}

/// One step: what happens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Happening {
    /// When, in milliseconds.
    at: u64,
    /// What, in this order.
    inputs: Vec<Input>,
    /// How long the last step of a case is watched, in milliseconds.
    #[serde(default)]
    until: Option<u64>,
}

/// One step: what follows from it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Consequence {
    outputs: Vec<Done>,
    journal: Vec<String>,
}

/// One output and when it came.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Done {
    at: String,
    output: Value,
}

/// A node and its time.
struct Walk {
    agent: Agent,
    now: Instant,
    written: usize,
    consequence: Consequence,
}

impl Walk {
    fn begin(folder: &Path) -> Self {
        match read(&folder.join("case.yaml")) {
            Beginning::Config(config) => {
                let (agent, now) = (Agent::new(Instant::ZERO, 1, *config), Instant::ZERO);
                Self { agent, now, written: 0, consequence: Consequence::default() }
            }
            Beginning::Follows(other) => {
                let folder = folder.with_file_name(other);
                let mut walk = Self::begin(&folder);
                for path in inputs(&folder) {
                    walk.step(read(&path), None);
                }
                walk
            }
        }
    }

    /// Lets a thing happen and runs on until the next one.
    fn step(&mut self, happening: Happening, next: Option<u64>) -> Consequence {
        self.run_until(Instant::from_millis(happening.at));
        for input in happening.inputs {
            self.agent.handle(self.now, input);
            self.drain();
        }
        if let Some(end) = next.or(happening.until) {
            // What falls due in the instant of the next input still belongs here.
            self.run_until(Instant::from_millis(end));
        }
        let view = self.agent.view();
        let lines = view.journal.iter().skip(self.written);
        self.consequence.journal =
            lines.map(|line| format!("{} {}: {}", line.at, line.subject, line.change)).collect();
        self.written = view.journal.len();
        std::mem::take(&mut self.consequence)
    }

    fn run_until(&mut self, end: Instant) {
        while let Some(due) = self.agent.deadline().filter(|&due| due <= end) {
            self.now = due.max(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(output) = self.agent.poll(self.now) {
            let done = Done { at: self.now.to_string(), output: readable(&output) };
            self.consequence.outputs.push(done);
        }
    }
}

/// An output as a person reads it: a frame on one line, its payload as hex and not as a list of numbers.
fn readable(output: &Output) -> Value {
    let Output::Frame(frame) = output else {
        return serde_json::to_value(output).expect("outputs have a JSON form");
    };
    let mut hex = String::new();
    for byte in &frame.payload {
        write!(hex, "{byte:02x}").expect("a String takes all");
    }
    let (link, to, ethertype) = (frame.link.0, &frame.to, frame.ethertype);
    format!("frame {ethertype:04x} on link {link} to {to}, not after {}: {hex}", frame.not_after).into()
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The input files of a case, in order.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let is_input =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("-input"));
    let mut paths: Vec<_> = paths.filter(is_input).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no inputs", folder.display());
    paths
}

/// Plays a case and compares, or blesses.
fn check(case: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(case);
    let mut walk = Walk::begin(&folder);
    let inputs = inputs(&folder);
    let mut happenings: Vec<Happening> = inputs.iter().map(|path| read(path)).collect();
    let times: Vec<u64> = happenings.iter().map(|happening| happening.at).collect();
    assert!(times.is_sorted(), "{case}: time runs backwards");
    for (at, happening) in happenings.drain(..).enumerate() {
        let consequence = walk.step(happening, times.get(at + 1).copied());
        let name =
            inputs[at].file_name().expect("a file has a name").to_string_lossy().replace("-input", "-output");
        let path = folder.join(name);
        if std::env::var_os("BLESS").is_some() {
            let text = serde_saphyr::to_string(&consequence).expect("it has a YAML form");
            fs::write(&path, text).expect("a writable folder");
        }
        let golden: Consequence = read(&path);
        assert_eq!(golden, consequence, "{} (BLESS=1 writes it anew)", path.display());
    }
}

#[test]
fn a_node_starts_and_takes_a_free_vip() {
    check("start-and-take");
}

#[test]
fn a_stop_is_silent_first_then_removes_then_releases_then_ends() {
    check("sigterm");
}

#[test]
fn a_lost_api_costs_the_vip_at_the_deadline_and_its_return_brings_it_back() {
    check("api-lost-and-back");
}

#[test]
fn a_vip_that_is_removed_by_hand_is_set_and_announced_again() {
    check("vip-removed-by-hand");
}

#[test]
fn another_node_takes_over_when_the_leader_dies() {
    check("leader-dies");
}

#[test]
fn a_leader_that_comes_back_keeps_its_address_until_the_lease_names_another() {
    check("leader-comes-back");
}
