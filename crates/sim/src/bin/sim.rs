//! `sim`: runs seeds on all cores, shows a failing one as a timeline, shrinks it, and exits 1.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]
#![allow(clippy::disallowed_types, reason = "it measures its own speed")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vip_sim::{Case, Lines, Mutation, Objection};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every so many seeds, one runs twice and must do the same.
const TWICE: u64 = 50;

struct Args {
    seeds: u64,
    from: u64,
    minutes: u32,
    seed: Option<u64>,
    lines: usize,
    shrink: Shrink,
    mutation: Option<Mutation>,
    file: Option<String>,
    /// Which worlds numbers stand for.
    worlds: Worlds,
    after: After,
    services: ServiceWorlds,
    dice: u64,
    /// Clusters whose demands on the API are counted: nodes and Services.
    budget: Vec<(usize, u16)>,
}

/// Which worlds numbers stand for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worlds {
    /// The mode `lease`, minutes of faults.
    Lease,
    /// Episodes of the mode `session`, with so many nodes or drawn.
    Episodes(Option<usize>),
}

/// Whether worlds with Services are played.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ServiceWorlds {
    /// They are.
    Played,
    /// Numbers that stand for one are passed over.
    PassedOver,
}

/// What follows a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// It is explained, and nothing more is run.
    Stop,
    /// The others are run, too, and failures are counted.
    GoOn,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shrink {
    Yes,
    No,
}

const USAGE: &str = "usage: sim [--seeds N] [--from K] [--minutes 10] [--without-services] [--go-on] [--no-shrink] [--mutation NAME]
       sim --seed S [--minutes 10] [--trace | --lines N] [--no-shrink] [--mutation NAME]
       sim --file tests/seeds/NNN.txt [--trace | --lines N] [--dice N]
       sim --episodes N [--from K] [--nodes N] [--go-on] [--mutation NAME]
       sim --episode S [--nodes N] [--trace | --lines N]
       sim --budget NODES,SERVICES [--budget NODES,SERVICES …]";

fn episodes(former: Worlds, nodes: Option<usize>) -> Worlds {
    match former {
        Worlds::Episodes(Some(former)) => Worlds::Episodes(Some(nodes.unwrap_or(former))),
        _ => Worlds::Episodes(nodes),
    }
}

fn cluster(text: &str) -> Result<(usize, u16), String> {
    let numbers = text.split_once(',').and_then(|(nodes, services)| {
        let nodes = nodes.parse().ok().filter(|nodes| (1..=vip_sim::setup::MAX_NODES).contains(nodes))?;
        Some((nodes, services.parse().ok()?))
    });
    numbers.ok_or(format!(
        "{text:?} is no cluster: write 3,100 for three nodes (of at most 50), 100 Services\n{USAGE}"
    ))
}

/// Counts what clusters ask of the API; fails where one exceeds the budget.
fn budget(clusters: &[(usize, u16)]) -> ExitCode {
    println!("{}", vip_sim::budget::HEAD);
    let mut excesses = Vec::new();
    for (nodes, services) in clusters {
        let begin = Instant::now();
        // Five thousand Services take minutes.
        let mut tell =
            |line: &str| eprintln!("{:>7.1} s  {nodes} nodes, at {line}", begin.elapsed().as_secs_f64());
        match vip_sim::budget::measure(*nodes, *services, &mut tell) {
            Ok(cost) => {
                println!("{cost}");
                excesses.extend(cost.excess());
            }
            Err(why) => excesses.push(format!("{nodes} nodes, {services} Services: {why}")),
        }
    }
    for excess in &excesses {
        println!("over the budget: {excess}");
    }
    if excesses.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn args() -> Result<Args, String> {
    let mut args = Args {
        seeds: 1000,
        from: 0,
        minutes: 10,
        seed: None,
        lines: 60,
        shrink: Shrink::Yes,
        mutation: None,
        file: None,
        worlds: Worlds::Lease,
        after: After::Stop,
        services: ServiceWorlds::Played,
        dice: 1,
        budget: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value\n{USAGE}"));
        let number = |text: String| text.parse().map_err(|_| format!("{text:?} is no number\n{USAGE}"));
        match word.as_str() {
            "--seeds" => args.seeds = number(value()?)?,
            "--from" => args.from = number(value()?)?,
            "--minutes" => {
                args.minutes = u32::try_from(number(value()?)?).map_err(|_| "too many minutes")?;
            }
            "--seed" => args.seed = Some(number(value()?)?),
            "--lines" => args.lines = usize::try_from(number(value()?)?).map_err(|_| "too many lines")?,
            "--trace" => args.lines = usize::MAX,
            "--no-shrink" => args.shrink = Shrink::No,
            "--file" => args.file = Some(value()?),
            "--episodes" => {
                args.seeds = number(value()?)?;
                args.worlds = episodes(args.worlds, None);
            }
            "--episode" => {
                args.seed = Some(number(value()?)?);
                args.worlds = episodes(args.worlds, None);
            }
            "--nodes" => {
                let nodes = usize::try_from(number(value()?)?).map_err(|_| "too many nodes")?;
                args.worlds = episodes(args.worlds, Some(nodes));
            }
            "--budget" => args.budget.push(cluster(&value()?)?),
            "--without-services" => args.services = ServiceWorlds::PassedOver,
            "--go-on" => args.after = After::GoOn,
            "--dice" => args.dice = number(value()?)?,
            "--mutation" => {
                let name = value()?;
                let found = Mutation::ALL.into_iter().find(|known| format!("{known:?}") == name);
                args.mutation = Some(found.ok_or(format!("{name:?} is none of {:?}", Mutation::ALL))?);
            }
            _ => return Err(format!("{word:?} is unknown\n{USAGE}")),
        }
    }
    Ok(args)
}

fn case_of(args: &Args, seed: u64) -> Case {
    let mut case = match args.worlds {
        Worlds::Lease => Case::of_seed(seed, args.minutes),
        Worlds::Episodes(nodes) => Case::of_episode(seed, nodes),
    };
    case.mutation = args.mutation;
    case
}

fn one(args: &Args, case: &Case) -> Option<Objection> {
    let outcome = case.run(Lines::Last(args.lines));
    for line in &outcome.lines {
        println!("{line}");
    }
    println!(
        "{} inputs, {:?} simulated, longest gap {:?}, longest overlap {:?}, {:016x}",
        outcome.inputs, outcome.simulated, outcome.gap, outcome.overlap, outcome.hash
    );
    outcome.objection
}

fn explain(args: &Args, case: &Case, objection: &Objection) {
    println!("\n{}  {}: {}", objection.at, objection.checker, objection.sentence);
    if args.shrink == Shrink::Yes {
        let small = case.shrink();
        let (left, all) = (small.schedule.len() + small.deeds.len(), case.schedule.len() + case.deeds.len());
        println!("\nthe same with {left} of {all} faults and deeds:");
        match args.worlds {
            Worlds::Lease => println!("drawn-from {}", small.setup.seed),
            Worlds::Episodes(None) => println!("episode-of {}", small.setup.seed),
            Worlds::Episodes(Some(nodes)) => println!("episode-of {} {nodes}", small.setup.seed),
        }
        let faults = small.schedule.iter().map(|fault| (fault.at, fault.to_string()));
        let deeds = small.deeds.iter().map(|deed| (deed.at, deed.to_string()));
        let mut lines: Vec<_> = faults.chain(deeds).collect();
        lines.sort_by_key(|(at, _)| *at); // stable: what happens at once keeps its order
        for (_, line) in lines {
            println!("{line}");
        }
        println!("\nits timeline:");
        if let Some(objection) = one(args, &small) {
            println!("\n{}  {}: {}", objection.at, objection.checker, objection.sentence);
        }
    }
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(why) => {
            println!("{why}");
            return ExitCode::from(2);
        }
    };
    if !args.budget.is_empty() {
        return budget(&args.budget);
    }
    if let Some(file) = &args.file {
        return run_file(&args, file);
    }
    if let Some(seed) = args.seed {
        let case = case_of(&args, seed);
        let Some(objection) = one(&args, &case) else { return ExitCode::SUCCESS };
        explain(&args, &case, &objection);
        return ExitCode::FAILURE;
    }
    many(&args)
}

fn run_file(args: &Args, file: &str) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(why) => {
            println!("{file}: {why}");
            return ExitCode::from(2);
        }
    };
    match vip_sim::parse(&text) {
        Err(why) => {
            println!("{file}: {why}");
            ExitCode::from(2)
        }
        Ok((sentence, mut case)) => {
            case.mutation = args.mutation;
            println!("{sentence}");
            if args.dice > 1 {
                return with_dice(args, &case);
            }
            let Some(objection) = one(args, &case) else { return ExitCode::SUCCESS };
            println!("\n{}  {}: {}", objection.at, objection.checker, objection.sentence);
            ExitCode::FAILURE
        }
    }
}

/// Runs a named world with many dice; the shortest, middle and longest silence and overlap.
fn with_dice(args: &Args, case: &Case) -> ExitCode {
    let (mut gaps, mut overlaps, mut failures) = (Vec::new(), Vec::new(), 0);
    for dice in 0..args.dice {
        let mut case = case.clone();
        case.setup.seed += dice;
        let outcome = case.run(Lines::None);
        if let Some(objection) = outcome.objection {
            println!(
                "seed {}: {} {}: {}",
                case.setup.seed, objection.at, objection.checker, objection.sentence
            );
            failures += 1;
        }
        gaps.push(outcome.gap);
        overlaps.push(outcome.overlap);
    }
    for (name, mut spans) in [("gap", gaps), ("overlap", overlaps)] {
        spans.sort_unstable();
        let at = |part: usize| spans[(spans.len() - 1) * part / 2];
        println!("{name}: min {:?}, median {:?}, max {:?}", at(0), at(1), at(2));
    }
    println!("{failures} of {} failed", args.dice);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What all threads share.
struct Shared {
    next: AtomicU64,
    inputs: AtomicU64,
    /// The traces of all seeds in one number, whatever their order.
    traces: AtomicU64,
    simulated: Mutex<Duration>,
    failed: Mutex<Option<(u64, Objection)>>,
    /// Failures by checker: how many, and the first few.
    counted: Mutex<BTreeMap<&'static str, Vec<u64>>>,
}

fn many(args: &Args) -> ExitCode {
    let shared = Shared {
        next: AtomicU64::new(args.from),
        inputs: AtomicU64::new(0),
        traces: AtomicU64::new(0),
        simulated: Mutex::new(Duration::ZERO),
        failed: Mutex::new(None),
        counted: Mutex::new(BTreeMap::new()),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| work(args, &shared));
        }
    });
    let took = start.elapsed().as_secs_f64();
    let inputs = shared.inputs.load(Ordering::Relaxed);
    let simulated = shared.simulated.lock().expect("no thread panics").as_secs_f64();
    let seeds = shared.next.load(Ordering::Relaxed).min(args.from + args.seeds) - args.from;
    println!(
        "{seeds} seeds on {cores} cores in {took:.1} s: {inputs} inputs, {:.0} inputs per second and core, {:.1} simulated hours per second, traces {:016x}",
        inputs as f64 / took / cores as f64,
        simulated / 3600.0 / took,
        shared.traces.load(Ordering::Relaxed),
    );
    let counted = shared.counted.lock().expect("no thread panics").clone();
    for (checker, mut seeds) in counted {
        seeds.sort_unstable();
        println!("{checker}: {} failed, {:?}", seeds.len(), &seeds[..seeds.len().min(100)]);
    }
    let failed = shared.failed.lock().expect("no thread panics").take();
    let Some((seed, objection)) = failed else { return ExitCode::SUCCESS };
    println!("\nseed {seed} fails");
    let case = case_of(args, seed);
    if args.shrink == Shrink::No {
        one(args, &case);
    }
    explain(args, &case, &objection);
    match args.worlds {
        Worlds::Lease => println!("\nsee it again: sim --seed {seed} --minutes {} --lines 400", args.minutes),
        Worlds::Episodes(_) => println!("\nsee it again: sim --episode {seed} --lines 400"),
    }
    ExitCode::FAILURE
}

fn work(args: &Args, shared: &Shared) {
    loop {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= args.from + args.seeds || shared.failed.lock().expect("no thread panics").is_some() {
            return;
        }
        let case = case_of(args, seed);
        if args.services == ServiceWorlds::PassedOver && case.setup.services().is_some() {
            continue;
        }
        let outcome = if seed.is_multiple_of(TWICE) { case.run_twice() } else { case.run(Lines::None) };
        shared.inputs.fetch_add(outcome.inputs, Ordering::Relaxed);
        shared.traces.fetch_add(outcome.hash.rotate_left((seed % 64) as u32), Ordering::Relaxed);
        *shared.simulated.lock().expect("no thread panics") += outcome.simulated;
        if let Some(objection) = outcome.objection {
            if args.after == After::GoOn {
                let mut counted = shared.counted.lock().expect("no thread panics");
                counted.entry(objection.checker).or_default().push(seed);
                continue;
            }
            let mut failed = shared.failed.lock().expect("no thread panics");
            // The smallest number of those that failed at the same time.
            if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                *failed = Some((seed, objection));
            }
        }
    }
}
