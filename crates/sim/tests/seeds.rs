//! Worlds that must hold: a few drawn from numbers, and the named ones of `tests/seeds`, each with its sentence. Long
//! runs are made by the program `sim`.

use std::path::Path;

use vip_sim::{Case, Lines, parse};

/// How many worlds are drawn; the program `sim` runs many more.
const DRAWN: u64 = 60;
/// How many dice each named world is run with.
const DICE: u64 = 5;

/// A world with more deeds takes seconds, and is run once.
const MANY: usize = 100;

#[test]
fn drawn_worlds_hold() {
    for seed in 0..DRAWN {
        let outcome = Case::of_seed(seed, 2).run(Lines::Last(60));
        assert_eq!(outcome.objection, None, "seed {seed}\n{}", outcome.lines.join("\n"));
    }
}

#[test]
fn named_worlds_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the named worlds are missing");
    for file in files {
        let name = file.display();
        let text = std::fs::read_to_string(&file).unwrap();
        let (sentence, mut case) = parse(&text).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        assert!(sentence.len() > 20, "{name} has no sentence");
        let dice = if case.deeds.len() > MANY { 1 } else { DICE };
        for dice in 0..dice {
            case.setup.seed += dice;
            let outcome = case.run(Lines::Last(60));
            assert_eq!(outcome.objection, None, "{name}: {sentence}\n{}", outcome.lines.join("\n"));
        }
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..5 {
        let case = Case::of_seed(seed, 1);
        let (first, second) = (case.run(Lines::None), case.run(Lines::Last(10)));
        assert_eq!((first.hash, first.inputs), (second.hash, second.inputs), "seed {seed}");
    }
    assert_ne!(Case::of_seed(1, 1).run(Lines::None).hash, Case::of_seed(2, 1).run(Lines::None).hash);
}
