//! Manifests as users have them, read as the kubelet reads them, and the effective settings that come out, with the
//! real binary. `BLESS=1 cargo test -p kube-vip --test manifests` writes the golden files again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use binary::Run;
use pod::Start;

#[path = "support/binary.rs"]
mod binary;
#[path = "support/pod.rs"]
mod pod;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.to_string_lossy();
            name.ends_with(".yaml") && !name.ends_with(".golden.yaml")
        })
        .collect();
    cases.sort();
    cases
}

#[test]
fn manifests_come_out_as_their_golden_files_say() {
    let cases = cases();
    assert!(cases.len() >= 25, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let outcome = outcome(case);
        let golden = case.with_extension("golden.yaml");
        if std::env::var("BLESS").is_ok_and(|bless| bless == "1") {
            fs::write(&golden, &outcome).expect("writing a golden file");
        } else if fs::read_to_string(&golden).unwrap_or_default() != outcome {
            wrong.push(format!("{}:\n{outcome}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{} differ (BLESS=1 rewrites them):\n{}", wrong.len(), wrong.join("\n"));
}

/// What `validate` prints, and whether the agent itself would start: `plan` reads its settings as `manager` does.
fn outcome(case: &Path) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let text = fs::read_to_string(case).expect("the case");
    let start = pod::start(&text, folder.path()).unwrap_or_else(|why| panic!("{}: {why}", case.display()));
    let dump = folder.path().join("dump.yaml");
    fs::write(&dump, "kernel: null\n").expect("writing the dump");
    let validate = run(&start, &["validate"]);
    let plan = run(&start, &["plan", "--cluster", &dump.to_string_lossy()]);
    let mut text = format!("validate_exit_code: {}\nagent_starts: {}\n", validate.code, plan.code == 0);
    if plan.code != 0 {
        let error = plan.stderr.lines().last().unwrap_or_default().trim_start_matches("kube-vip: error: ");
        writeln!(text, "error: {error:?}").expect("a String takes all");
        assert_eq!(plan.stdout, "", "{}", case.display());
    }
    text.push_str(&validate.stdout);
    anonymous(&text, folder.path())
}

fn run(start: &Start, command: &[&str]) -> Run {
    let words: Vec<&str> =
        command.iter().copied().chain(start.arguments.iter().skip(1).map(String::as_str)).collect();
    binary::run(&words, &start.environment)
}

/// Without what differs from machine to machine.
fn anonymous(text: &str, folder: &Path) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
    text.replace(&*folder.to_string_lossy(), "")
        .replace(&format!("\n  node: {host}\n"), "\n  node: (host name)\n")
}

#[test]
fn the_kubelets_rules_are_those_of_the_loader() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: edge}
spec:
  containers:
  - name: kube-vip
    args: [manager, --address=$(A).1]
    env:
    - {name: A, value: first}
    - {name: A, value: 192.0.2}
    - {name: B, value: $$(A) $(A) $(NOBODY)}
    - {name: C, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
";
    let folder = tempfile::tempdir().expect("a folder");
    let start = pod::start(text, folder.path()).expect("a pod");
    assert_eq!(start.arguments, ["manager", "--address=192.0.2.1"]);
    let expected = [("A", "192.0.2"), ("B", "$(A) 192.0.2 $(NOBODY)"), ("C", "edge")];
    let expected: BTreeMap<String, String> =
        expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(start.environment, expected);
}
