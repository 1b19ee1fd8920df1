//! The simulator can fail: each rule that is broken on purpose is caught by the checker that is named here, and by no
//! accident, because the same worlds are sound while the rule holds.

use vip_sim::{Case, Lines, Mutation, parse};

/// What a mutation needs to show itself.
struct Row {
    mutation: Mutation,
    checker: &'static str,
    scenario: &'static str,
    /// Seeds that are tried until it shows.
    seeds: u64,
}

/// Agents die one after the other, whoever holds.
const EACH_KILLED: &str = "nodes 3\nno-label\n10s +12s kill n1\n30s +12s kill n2\n50s +12s kill n3";
const EACH_TERMINATED: &str =
    "nodes 3\nno-label\n10s +2s terminate n1\n20s +2s terminate n2\n30s +2s terminate n3";
const EACH_STALLED: &str =
    "nodes 3\nno-label\n10s +9s pause-at-batch n1\n30s +9s pause-at-batch n2\n50s +9s pause-at-batch n3";
const SLOW_KERNEL: &str = "nodes 3\nno-label\n5s +40s slow-apply all 200\n5s +40s outsider-busy all\n10s +2s terminate n1\n15s +1s gate-red all\n20s +2s terminate n2\n30s +2s terminate n3\n12s +0.01s outsider-removes all\n13s +0.01s outsider-removes all\n14s +0.01s outsider-removes all";
const CALM: &str = "nodes 3\nno-label";
const SLOW_ANSWERS: &str = "nodes 3\nno-label\ntimings 15s 10s 2s\ndrifts -10000 10000 10000\n20s +60s api-slow n1 1900\n40s +40s kill-at-ask n1";
const BUSY_DUMPS: &str = "nodes 3\nno-label\n5s +10s slow-dump all 200\n5s +10s outsider-busy all\n10s +20s terminate n1\n10.100s +20s terminate n2\n10.200s +20s terminate n3";
const LATE_ANSWERS: &str = "nodes 3\nno-label\n10s +60s api-slow n1 1500\n20s +3s api-hang n1\n30s +20s kill-at-ask n1\n55s +60s api-slow n2 1500\n60s +3s api-hang n2\n65s +20s kill-at-ask n2";
const LAGGING: &str = "nodes 3\nno-label\n10s +40s api-lag n1 6000\n10s +40s api-lag n2 7000\n20s +3s pause n3\n30s +8s pause n2\n40s +8s pause n1";
const TWO_SIDES: &str = "nodes 3\nno-label\n10s +8s api-hang n1\n30s +8s api-hang n2\n50s +8s api-hang n3\n70s +4s pause n1\n80s +4s pause n2";
const REFUSED: &str = "nodes 3\nno-label\n10s +6s api-refuse all";
/// Something must make followers look into their kernels.
const GHOSTS: &str = "nodes 3\nno-label\nsecond-agent\nvips v4";
const STRAY: &str = "nodes 3\nno-label\n20s +1s outsider-adds all";

/// A Service becomes somebody else's while its status is on its way.
const GIVEN_AWAY: &str = "nodes 3\nno-label\nagents services\n4s +60s api-slow all 400\n5s pods web n1\n6s service web ip=10.0.0.10\n7.100s service web ignore=yes\n15s again web ip=10.0.0.11\n15.900s service web ignore=yes\n25s again web ip=10.0.0.12\n26.300s service web ignore=yes\n35s again web ip=10.0.0.13\n36.500s service web ignore=yes";
const POD_MOVES: &str = "nodes 3\nno-label\nagents services\nper-service\n5s service web ip=10.0.0.10 policy=local\n5s pods web n1\n40s pods web n2\n60s pods web n3\n80s pods web n1";
/// A user names an address while the address management gives one.
const BOTH_GIVE: &str = "nodes 3\nno-label\nagents services\nipam\n4s +60s api-slow all 600\n1s pools range-global=10.0.0.110-10.0.0.119\n10s service web ip=\n10.400s service web ip=10.0.0.10\n20s again web ip=\n20.500s service web ip=10.0.0.10\n30s again web ip=\n30.350s service web ip=10.0.0.10";
const ONE_SERVICE: &str = "nodes 3\nno-label\nagents services\n5s service web ip=10.0.0.10\n5s pods web n1";
/// A lower name joins on an address whose holder does not hear of it.
const LOWER_NAME: &str = "nodes 3\nno-label\nskip-dad\nagents services\nper-service\n5s service web ip=10.0.0.10\n5s pods web n1 n2 n3\n5s pods api n1 n2 n3\n20s +12s watch-freeze n1\n25s service api ip=10.0.0.10 ports=443\n50s delete api\n60s +12s watch-freeze n2\n65s service api ip=10.0.0.10 ports=443\n90s delete api\n100s +12s watch-freeze n3\n105s service api ip=10.0.0.10 ports=443";

const FILTERED: &str = "nodes 3\nno-label\nagents services\nsecurity\n5s service web ip=10.0.0.10 ports=80\n5s pods web n1\n30s service web ports=443";

const ROWS: &[Row] = &[
    Row { mutation: Mutation::KeepsFilter, checker: "filtered", scenario: FILTERED, seeds: 1 },
    Row {
        mutation: Mutation::BlindServiceWrites,
        checker: "only_ours_written",
        scenario: GIVEN_AWAY,
        seeds: 20,
    },
    Row { mutation: Mutation::StaleEndpoints, checker: "eligible", scenario: POD_MOVES, seeds: 1 },
    Row {
        mutation: Mutation::ReportsRemovalsEarly,
        checker: "release_after_removal",
        scenario: POD_MOVES,
        seeds: 1,
    },
    Row { mutation: Mutation::BlindAllocation, checker: "assigned_once", scenario: BOTH_GIVE, seeds: 20 },
    Row { mutation: Mutation::PromisesAddresses, checker: "status_true", scenario: ONE_SERVICE, seeds: 1 },
    Row { mutation: Mutation::IgnoresSiblings, checker: "one_owner", scenario: LOWER_NAME, seeds: 10 },
    Row { mutation: Mutation::LateFence, checker: "one_owner", scenario: EACH_KILLED, seeds: 3 },
    Row { mutation: Mutation::NoFence, checker: "one_owner", scenario: EACH_KILLED, seeds: 3 },
    Row { mutation: Mutation::IgnoresNotAfter, checker: "one_owner", scenario: EACH_STALLED, seeds: 3 },
    Row { mutation: Mutation::CreditsFromAnswer, checker: "one_owner", scenario: SLOW_ANSWERS, seeds: 60 },
    Row {
        mutation: Mutation::ReportsRemovalsEarly,
        checker: "release_after_removal",
        scenario: EACH_TERMINATED,
        seeds: 3,
    },
    Row { mutation: Mutation::EarlyReports, checker: "bounded_turns", scenario: SLOW_KERNEL, seeds: 20 },
    Row {
        mutation: Mutation::RelabelsDumps,
        checker: "release_after_removal",
        scenario: BUSY_DUMPS,
        seeds: 80,
    },
    Row { mutation: Mutation::RemoteClock, checker: "one_owner", scenario: EACH_KILLED, seeds: 3 },
    Row { mutation: Mutation::ImpatientContender, checker: "one_owner", scenario: EACH_KILLED, seeds: 3 },
    Row { mutation: Mutation::StaleAnswers, checker: "one_owner", scenario: LATE_ANSWERS, seeds: 60 },
    Row { mutation: Mutation::OldAsNews, checker: "one_owner", scenario: LAGGING, seeds: 20 },
    Row { mutation: Mutation::BlindWrites, checker: "one_owner", scenario: TWO_SIDES, seeds: 20 },
    Row { mutation: Mutation::SweepsForeign, checker: "untouched", scenario: CALM, seeds: 1 },
    Row {
        mutation: Mutation::DeletesBeforeKnowing,
        checker: "unknown_deletes_nothing",
        scenario: CALM,
        seeds: 1,
    },
    Row { mutation: Mutation::SkipsRefreshes, checker: "liveness", scenario: CALM, seeds: 1 },
    Row { mutation: Mutation::ChattyRenewals, checker: "api_budget", scenario: CALM, seeds: 1 },
    Row { mutation: Mutation::DeafWatches, checker: "api_budget", scenario: CALM, seeds: 1 },
    Row { mutation: Mutation::SwallowsBatches, checker: "liveness", scenario: CALM, seeds: 1 },
    Row { mutation: Mutation::ShowsGhosts, checker: "quiet", scenario: GHOSTS, seeds: 10 },
    Row { mutation: Mutation::HidesUntagged, checker: "converged", scenario: STRAY, seeds: 3 },
    Row { mutation: Mutation::LiesAboutHolder, checker: "reasons", scenario: CALM, seeds: 1 },
    Row { mutation: Mutation::Unseeded, checker: "deterministic", scenario: REFUSED, seeds: 1 },
    Row { mutation: Mutation::StuckClock, checker: "bounded_turns", scenario: CALM, seeds: 1 },
];

/// Which broken rule a story of `tests/seeds` does not survive, and which checker tells.
const STORIES: &[(&str, Mutation, &str)] = &[
    ("040-pod-moves-under-local", Mutation::HidesPolicy, "story"),
    ("041-lower-name-goes", Mutation::IgnoresSiblings, "one_owner"),
    ("042-made-again", Mutation::BlindServiceWrites, "only_ours_written"),
    ("043-holder-of-twenty-killed", Mutation::NoFence, "one_owner"),
    ("044-global-holder-cut-from-api", Mutation::ImpatientContender, "one_owner"),
    ("045-pool-runs-dry", Mutation::FirstPools, "story"),
    ("046-drained-and-back", Mutation::HidesDrains, "story"),
    ("047-policy-flips", Mutation::HidesPolicy, "story"),
    ("048-common-lease", Mutation::ReportsRemovalsEarly, "story"),
    ("048-common-lease", Mutation::ForgetsSharedLease, "served"),
    ("049-spread", Mutation::OneNodeReady, "spread"),
    ("051-all-drained", Mutation::HidesDrains, "story"),
    ("052-all-drained-per-service", Mutation::HidesDrains, "story"),
];

/// The same for sequences of the mode `session`.
const SEQUENCES: &[(&str, Mutation, &str)] = &[
    ("05-only-heartbeats", Mutation::LooksInVain, "api_budget"),
    ("20b-no-userland", Mutation::LooksInVain, "one_owner"),
    ("27-stopped-in-hand-over", Mutation::NoSecondLook, "gap"),
    ("07a-wrong-key", Mutation::NoKernelProof, "gap"),
    ("14-renews-first", Mutation::EmptiesJury, "gap"),
    ("24-second-answerer", Mutation::TellsNobody, "one_owner"),
    ("141-after-many-lives", Mutation::CrowdsOutHeirs, "handed_over"),
    ("05-only-heartbeats", Mutation::ChattyRenewals, "api_budget"),
    ("64-two-ask-at-once", Mutation::CountsUngranted, "gap"),
    ("64-two-ask-at-once", Mutation::GrantsEverybody, "gap"),
    ("125-slow-beats-are-no-silence", Mutation::CountsUngranted, "one_owner"),
    ("125-slow-beats-are-no-silence", Mutation::GrantsEverybody, "one_owner"),
    ("11c-all-at-once", Mutation::AllAreFirst, "gap"),
    ("65-votes-end-with-the-ask", Mutation::BoundByGrants, "gap"),
    ("66-late-words", Mutation::VouchesFromArrival, "gap"),
    ("67-both-ask", Mutation::YieldsToNobody, "gap"),
    ("68-own-server-alone", Mutation::OwnServerProves, "one_owner"),
    ("69-slow-heir", Mutation::AnnouncesTooSoon, "gap"),
    ("70-killed-behind-a-cut", Mutation::AdoptionLengthens, "one_owner"),
    ("71-restart-without-the-api", Mutation::ForgetsSession, "gap"),
    ("74-unseen-successor", Mutation::BlindSessionWrites, "one_owner"),
    ("72-drill-nobody-fit", Mutation::BelievesAllFit, "drills"),
    ("40-drill-crash", Mutation::DrillsAgain, "drills"),
    ("114-the-dead-are-heard-again", Mutation::AcceptsReplays, "replays"),
    ("114-the-dead-are-heard-again", Mutation::BelievesReplays, "gap"),
];

/// Rules that can be broken (`sim --mutation`) and that no named world shows.
const OPEN: &[Mutation] = &[];

fn case(row: &Row, seed: u64) -> Case {
    let (_, mut case) = parse(row.scenario).expect("the scenarios above are well formed");
    case.setup.seed = seed;
    case
}

#[test]
fn each_broken_rule_is_caught_by_its_checker() {
    let missed: Vec<String> = ROWS.iter().filter_map(missed).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// What is wrong with a row, if anything.
fn missed(row: &Row) -> Option<String> {
    let mut others = Vec::new();
    for seed in 0..row.seeds {
        let mut case = case(row, seed);
        case.mutation = Some(row.mutation);
        let outcome = if row.checker == "deterministic" { case.run_twice() } else { case.run(Lines::None) };
        match outcome.objection.map(|objection| objection.checker) {
            Some(checker) if checker == row.checker => return None,
            other => others.extend(other),
        }
    }
    Some(format!("{:?} is not caught by {}; others that objected: {others:?}", row.mutation, row.checker))
}

/// With so many dice a broken rule must have been told of: another order of the same events can hide it.
const DICE: u64 = 8;

/// Which checkers object to a named world with a broken rule, with one dice after the other until the right one does.
fn objectors(folder: &str, story: &str, (mutation, checker): (Mutation, &str)) -> Vec<Option<&'static str>> {
    let file = format!("{}/tests/{folder}/{story}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(file).expect("the world of that name");
    let (_, mut case) = parse(&text).expect("a world that is well formed");
    case.mutation = Some(mutation);
    let first = case.setup.seed;
    let mut told = Vec::new();
    for seed in first..first + DICE {
        case.setup.seed = seed;
        told.push(case.run(Lines::None).objection.map(|objection| objection.checker));
        if told.last() == Some(&Some(checker)) {
            break;
        }
    }
    told
}

#[test]
fn each_story_fails_when_its_rule_is_broken() {
    let stories = STORIES.iter().map(|row| ("seeds", row));
    let all = stories.chain(SEQUENCES.iter().map(|row| ("session", row)));
    let missed: Vec<String> = all
        .filter_map(|(folder, (story, mutation, checker))| {
            let found = objectors(folder, story, (*mutation, checker));
            let is_missed = found.last() != Some(&Some(*checker));
            is_missed.then(|| format!("{story}, {mutation:?}: {found:?}, not {checker}"))
        })
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn the_same_worlds_are_sound_while_the_rules_hold() {
    for row in ROWS {
        for seed in 0..row.seeds.min(3) {
            let objection = case(row, seed).run(Lines::None).objection;
            assert_eq!(objection, None, "{:?}, seed {seed}", row.mutation);
        }
    }
}

#[test]
fn no_mutation_is_forgotten() {
    for mutation in Mutation::ALL {
        let mut stories = STORIES.iter().chain(SEQUENCES);
        let has_story = stories.any(|(_, of_story, _)| *of_story == mutation);
        let has_row = ROWS.iter().any(|row| row.mutation == mutation);
        let is_open = OPEN.contains(&mutation);
        assert!(has_row || has_story || is_open, "{mutation:?} has no row");
    }
}
