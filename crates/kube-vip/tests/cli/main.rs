//! The command line through the real binary: commands, exit codes, manifests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use binary::Run;
use serde_json::{Value, json};

#[path = "../support/binary.rs"]
mod binary;
mod pod;
mod rights;

fn run(arguments: &[&str]) -> Run {
    binary::run(arguments, &BTreeMap::new())
}

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    binary::run(arguments, &environment)
}

fn line(run: &Run) -> &str {
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "one line: {}", run.stderr);
    run.stderr.trim_start_matches("kube-vip: error: ").trim_end()
}

fn documents(run: &Run) -> Vec<Value> {
    assert_eq!(run.code, 0, "{}", run.stderr);
    let parse = |part| serde_saphyr::from_str(part).expect("a YAML document");
    run.stdout.split("---\n").filter(|part| !part.is_empty()).map(parse).collect()
}

fn object(arguments: &[&str], environment: &[(&str, &str)]) -> Value {
    let mut documents = documents(&run_with(arguments, environment));
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

/// Variables of the only container, as `name=value`.
fn variables(spec: &Value) -> Vec<String> {
    let list = spec["containers"][0]["env"].as_array().expect("an environment");
    let text = |variable: &Value| {
        format!(
            "{}={}",
            variable["name"].as_str().unwrap_or_default(),
            variable["value"].as_str().unwrap_or("-")
        )
    };
    list.iter().map(text).collect()
}

const POD: [&str; 6] =
    ["manifest", "pod", "--arp", "--controlplane", "--address=192.0.2.1", "--interface=eth0"];

#[test]
fn without_a_command_the_help_is_printed() {
    for arguments in [&[][..], &["--help"], &["sample"], &["help"]] {
        let run = run(arguments);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{arguments:?}");
        for part in
            ["manager", "Control-plane address:", "[default: 15] [env: vip_leaseduration]", "vip_arpRate="]
        {
            assert!(run.stdout.contains(part), "{arguments:?}: no {part}");
        }
        assert!(!run.stdout.contains("--bgpRouterID"), "what is not built yet is not in the help");
    }
}

#[test]
fn groups_print_their_help() {
    for group in ["manifest", "kubeadm"] {
        let run = run(&[group]);
        assert_eq!(run.code, 0);
        assert!(run.stdout.contains(&format!("Usage: kube-vip {group}")), "{}", run.stdout);
    }
}

#[test]
fn the_version_is_three_lines() {
    let run = run(&["version"]);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!((run.code, lines.len(), lines[0]), (0, 3, "Kube-VIP Release Information"));
    assert!(lines[1].starts_with("Version:  v") && lines[2].starts_with("Build:    "), "{lines:?}");
}

#[test]
fn what_nobody_knows_is_refused_on_one_line() {
    assert_eq!(line(&run(&["manager", "--apr"])), "unknown flag --apr; did you mean --arp?");
    let unlike = run(&["manager", "--metal"]);
    assert_eq!(line(&unlike), "unknown flag --metal; kube-vip --help lists the flags");
    assert_eq!(line(&run(&["start"])), "unrecognized subcommand 'start'");
    assert!(line(&run(&["plan"])).contains("--cluster <FILE>"));
    assert!(line(&run(&["manager", "--address"])).contains("a value is required for '--address"));
}

#[test]
fn the_agent_refuses_to_start_without_a_mode_and_says_what_to_do() {
    for command in ["manager", "service"] {
        let refused = run(&[command]);
        assert_eq!(
            line(&refused),
            "no valid kube-vip mode detected, ensure a supported mode is configured: set vip_arp=true"
        );
    }
    let with_config_map = run(&["service", "-c", "plndr", "--arp"]);
    assert!(line(&with_config_map).starts_with("no features are enabled"));
}

#[test]
fn flags_are_taken_before_and_after_the_command_and_the_last_one_wins() {
    let given = ["--arp", "--controlplane", "--address", "192.0.2.7", "--nodeName=n1", "--log", "0"];
    let before: Vec<&str> = given.iter().copied().chain(["validate"]).collect();
    let after: Vec<&str> = ["validate", "--log", "4"].into_iter().chain(given).collect();
    let (before, after) = (run(&before), run(&after));
    assert_eq!((before.code, before.stderr.as_str()), (0, ""));
    assert_eq!(before.stdout, after.stdout);
    assert!(before.stdout.contains("- 192.0.2.7/32"), "{}", before.stdout);
}

#[test]
fn a_word_after_a_switch_is_ignored_aloud() {
    let run = run(&["validate", "--controlplane", "--arp", "false", "--address=192.0.2.7"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("the argument \"false\" is ignored"), "{}", run.stderr);
}

#[test]
fn plan_shows_what_a_holder_would_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let run = run(&["plan", "--config", &file("settings.yaml"), "--cluster", &file("dump.yaml")]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let golden = folder.join("plan.golden.yaml");
    if std::env::var("BLESS").is_ok_and(|bless| bless == "1") {
        fs::write(&golden, &run.stdout).expect("writing the golden file");
    }
    assert_eq!(run.stdout, fs::read_to_string(&golden).unwrap_or_default());
    assert!(run.stdout.contains("192.0.2.10%2:\n"), "the holder wants its address: {}", run.stdout);
}

#[test]
fn plan_refuses_a_dump_that_it_does_not_understand() {
    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("dump.yaml");
    fs::write(&dump, "kernal: {}\n").expect("a file");
    let refused = run(&[
        "plan",
        "--arp",
        "--controlplane",
        "--address=192.0.2.1",
        "--cluster",
        &dump.to_string_lossy(),
    ]);
    assert!(
        line(&refused).contains("is not understood") && line(&refused).contains("kernal"),
        "{}",
        refused.stderr
    );
}

#[test]
fn completions_name_the_flags() {
    let run = run(&["completion", "bash"]);
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains("--vipSubnet"));
    assert!(line(&self::run(&["completion", "dos"])).contains("invalid value 'dos'"));
}
