//! Worlds of the mode `session` that must hold: the sequences of `tests/session` that break simpler rules, and the
//! bounds of `tests/rows`. Long runs are made by the program `sim`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vip_sim::{Case, Lines, parse};

/// How many dice each sequence is run with.
const DICE: u64 = 1;
/// How many dice each row is run with: its median is promised, too.
const ROW_DICE: u64 = 3;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = std::fs::read_dir(folder).expect("the folder is part of the crate");
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("a folder that is not changed").path()).collect();
    files.sort();
    files
}

fn read(file: &Path) -> (String, Case) {
    let text = std::fs::read_to_string(file).expect("a file of text");
    let (sentence, case) = parse(&text).unwrap_or_else(|bad| panic!("{}: {bad}", file.display()));
    assert!(sentence.len() > 20, "{} has no sentence", file.display());
    (sentence, case)
}

/// Runs a named world with so many dice; its longest silences, or what is wrong.
fn run(file: &Path, dice: u64) -> Result<Vec<Duration>, String> {
    let (sentence, mut case) = read(file);
    let mut gaps = Vec::new();
    for _ in 0..dice {
        let outcome = case.run(Lines::None);
        if let Some(objection) = outcome.objection {
            let name = file.display();
            return Err(format!("{name}, seed {}: {sentence}\n{objection:?}", case.setup.seed));
        }
        gaps.push(outcome.gap);
        case.setup.seed += 1;
    }
    gaps.sort_unstable();
    if let Some(most) = case.promises.median.filter(|most| gaps[gaps.len() / 2] > *most) {
        return Err(format!("{}: {sentence}\nmedian over {most:?}: {gaps:?}", file.display()));
    }
    Ok(gaps)
}

fn all(folder: &str, least: usize, dice: u64) {
    let files = files(folder);
    assert!(files.len() >= least, "worlds are missing in {folder}");
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some(file) = files.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            wrong.extend(run(file, dice).err());
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut wrong = work();
        wrong.extend(other.join().expect("a world that panics is an objection"));
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn sequences_that_break_simpler_rules_hold() {
    all("session", 40, DICE);
}

#[test]
fn every_row_of_bounds_holds() {
    all("rows", 25, ROW_DICE);
}

/// A bounded number of drawn episodes, a few seconds: long runs are made by the program `sim`.
#[test]
fn the_first_drawn_episodes_hold() {
    for seed in 0..200 {
        let objection = Case::of_episode(seed, None).run(Lines::None).objection;
        assert_eq!(objection, None, "episode {seed}");
    }
}

#[test]
fn the_same_episode_is_the_same_world() {
    for seed in 0..5 {
        let case = Case::of_episode(seed, None);
        let (first, second) = (case.run(Lines::None), case.run(Lines::Last(10)));
        assert_eq!((first.hash, first.inputs), (second.hash, second.inputs), "episode {seed}");
    }
}

/// With fifty nodes a world costs fifty times as much: a few, so that what only a crowd shows is seen here first.
#[test]
fn the_first_drawn_episodes_with_fifty_nodes_hold() {
    for seed in 0..3 {
        let objection = Case::of_episode(seed, Some(50)).run(Lines::None).objection;
        assert_eq!(objection, None, "episode {seed} with 50 nodes");
    }
}
