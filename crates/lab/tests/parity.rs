//! The page that says where upstream's scenarios are played names tests that exist, and every scenario that is promised.

#![allow(clippy::unwrap_used)] // a test file

use std::fs::read_to_string;
use std::path::Path;

/// The scenarios that concern ARP mode and Services, without those about egress.
fn promised() -> Vec<String> {
    let suite = [1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14, 15, 16].map(|number| format!("| S-{number} |"));
    let ranges = ["| E-ARP-1 to E-ARP-5 |", "| E-ARP-6, 7, 8 |", "| E-ARP-14, 15 |", "| E-DS-1 to 6 |"];
    let more = ["| E-DS-7 to 12 |", "| E-DS-13 to 18 |"];
    let single = (9..=13).map(|number| format!("| E-ARP-{number} |"));
    suite.into_iter().chain(ranges.into_iter().chain(more).map(str::to_owned)).chain(single).collect()
}

#[test]
fn every_scenario_has_a_row_and_every_row_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = read_to_string(root.join("../../docs/parity.md")).unwrap();
    for row in promised() {
        assert!(page.contains(&row), "no row {row:?}");
    }
    let files = root.join("tests").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let tests: Vec<_> = files.filter(|file| file.extension().is_some_and(|ext| ext == "rs")).collect();
    let sources: String = tests.iter().map(|file| read_to_string(file).unwrap()).collect();
    let mut named = 0;
    for name in page.split('`').skip(1).step_by(2).filter(|name| name.contains('_')) {
        let is_file = || tests.iter().any(|file| file.ends_with(name));
        let is_test =
            || sources.contains(&format!("fn {name}(")) || sources.contains(&format!("    {name} = "));
        assert!(is_file() || is_test(), "{name} is no test");
        named += 1;
    }
    assert!(named > 30, "only {named} names");
}
