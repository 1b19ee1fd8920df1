//! Random batches: the same steps for both kernels, the pictures compared after each batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as Watch};

use ipnet::IpNet;
use vip_model::Random;
use vip_model::config::Scope;
use vip_model::kernel::Lifetime;
use vip_sim::Secondaries;

use crate::pair::{Life, Pair, Place, Ran, Row, Step, in_namespace, ip_addresses, lines, net_of};

/// Worlds of random batches.
const SEEDS: u64 = 120;
/// Batches in each.
const BATCHES: usize = 12;
/// Of so many seeds the first two, one of each kind of secondaries, are watched until all that ends has ended.
const WATCHED: u64 = 20;
/// A world whose batches take longer than this may meet an expiry in one of the kernels alone. The shortest life is
/// 2.5 s.
const TOO_SLOW: Duration = Duration::from_secs(2);
/// Longest wait for the end of all that ends in a world. How late an address may go is judged in a test of its own
/// (`story`), with nothing else running; here eight worlds share two processors, and what goes is asked, not when.
const ALL_ENDED: Duration = Duration::from_secs(30);

/// What is set and removed: VIPs as host prefixes, inside the node's network (secondaries), in networks of their own,
/// each with several prefix lengths; the node's own addresses; link-local.
const NETS: &[&str] = &[
    "10.0.0.1/24",
    "10.0.0.200/32",
    "10.0.0.200/24",
    "10.0.0.200/28",
    "10.0.0.201/24",
    "10.0.0.202/24",
    "192.0.2.9/32",
    "198.51.100.130/25",
    "198.51.100.131/25",
    "198.51.100.132/25",
    "fd00::1/64",
    "fd00::200/128",
    "fd00::200/64",
    "fd00::200/96",
    "2001:db8::9/128",
    "2001:db8::9/64",
    "fe80::9/64",
    "fe80::9/128",
];

fn pick<T: Copy>(dice: &mut Random, from: &[T]) -> T {
    from[usize::try_from(dice.below(from.len() as u64)).unwrap()]
}

fn draw_step(dice: &mut Random) -> Step {
    let place = match dice.below(12) {
        0 => Place::Nowhere,
        1..=3 => Place::Loopback,
        _ => Place::Wire,
    };
    let net = net_of(pick(dice, NETS));
    if dice.chance(0.3) {
        return Step::Del { place, net };
    }
    let life = match dice.below(10) {
        0 => Life::Short,
        1 => Life::Passed,
        2..=4 => Life::Forever,
        5..=6 => Life::Cut(2 + dice.below(4)),
        _ => Life::Seconds(2 + dice.below(4)),
    };
    let scope = pick(dice, &[Scope::Global, Scope::Global, Scope::Global, Scope::Link, Scope::Host]);
    Step::Set { place, net, scope, tag: pick(dice, &[0, 77, 78]), life }
}

/// One to six steps. An address is set at most once in a batch, as in every batch of the agent: the gateway looks at
/// the picture of before the batch for what must be removed first.
fn draw_batch(dice: &mut Random) -> Vec<Step> {
    let mut batch: Vec<Step> = Vec::new();
    for _ in 0..=dice.below(6) {
        let step = draw_step(dice);
        let again = batch.iter().any(|other| match (other, &step) {
            (Step::Set { place, net, .. }, Step::Set { place: here, net: new, .. }) => {
                place == here && same_address(*net, *new)
            }
            _ => false,
        });
        if !again {
            batch.push(step);
        }
    }
    batch
}

fn same_address(one: IpNet, two: IpNet) -> bool {
    one.addr() == two.addr() && (one == two || one.addr().is_ipv6())
}

/// What the worlds of a test had in them, so that a test of nothing does not pass.
#[derive(Default)]
struct Counts {
    worlds: AtomicU64,
    slow: AtomicU64,
    steps: AtomicU64,
    secondaries: AtomicU64,
    ended: AtomicU64,
}

fn run_world(seed: u64, counts: &Counts) {
    let mut dice = Random::new(seed);
    let secondaries = if seed.is_multiple_of(2) { Secondaries::Go } else { Secondaries::Promoted };
    let mut pair = Pair::boot(secondaries);
    pair.assert_same("after booting");
    let began = Watch::now();
    let mut steps = Vec::new();
    for number in 0..BATCHES {
        let batch = draw_batch(&mut dice);
        let before = pair.real_rows();
        let late = Duration::from_millis(dice.below(1000));
        let (real, fake) = pair.apply(&batch, late);
        if began.elapsed() > TOO_SLOW {
            counts.slow.fetch_add(1, Ordering::Relaxed);
            println!("seed {seed}: given up after {:?}, the machine is too slow", began.elapsed());
            return;
        }
        let context = || {
            let (batch, before) = (lines(&batch), lines(&before));
            format!("seed {seed}, batch {number}, {secondaries:?}\n{batch}\nbefore:\n{before}")
        };
        assert_eq!(real, fake, "outcomes, the real kernel's first; {}", context());
        if !pair.differences().is_empty() {
            pair.assert_same(&context());
        }
        steps.extend(batch);
    }
    let is_secondary = |row: &Row| u64::from(row.secondary);
    counts.secondaries.fetch_add(pair.real_rows().iter().map(is_secondary).sum(), Ordering::Relaxed);
    counts.steps.fetch_add(steps.len() as u64, Ordering::Relaxed);
    if seed.is_multiple_of(WATCHED) || seed % WATCHED == 1 {
        counts.ended.fetch_add(watch_the_end(seed, &mut pair), Ordering::Relaxed);
    }
    counts.worlds.fetch_add(1, Ordering::Relaxed);
}

/// Waits until all that has an end is gone, in both; says how many went.
fn watch_the_end(seed: u64, pair: &mut Pair) -> u64 {
    let before = pair.real_rows().len();
    let give_up = Watch::now() + ALL_ENDED;
    let ends = |rows: &[Row]| rows.iter().any(|row| row.valid != Lifetime::Forever);
    while Watch::now() < give_up && (ends(&pair.real_rows()) || ends(&pair.fake_rows())) {
        pair.hear(Duration::from_millis(100));
        let now = pair.now();
        pair.fake.purge(now);
    }
    let differences = pair.differences();
    // What `ip` says tells a late kernel from a gateway that missed a notification.
    let truth = if differences.is_empty() { String::new() } else { ip_addresses() };
    assert!(
        differences.is_empty(),
        "seed {seed}, after all ends\n{}\nip address:\n{truth}",
        differences.join("\n")
    );
    (before - pair.real_rows().len()) as u64
}

// The kernels share nothing but the machine: four at a time, and those that wait for an end cost nothing.
#[test]
fn random_batches_have_the_same_outcomes_and_leave_the_same_addresses() {
    if in_namespace(|| Pair::boot(Secondaries::Go).assert_same("after booting")) == Ran::Skipped {
        return;
    }
    let counts = Arc::new(Counts::default());
    let next = Arc::new(Mutex::new(0..SEEDS));
    let worker = || {
        let (counts, next) = (counts.clone(), next.clone());
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        let work = move || {
            loop {
                let seed = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(seed) = seed else { return };
                let counts = counts.clone();
                in_namespace(move || run_world(seed, &counts));
            }
        };
        std::thread::Builder::new().name(name).spawn(work).unwrap()
    };
    let workers: Vec<_> = (0..8).map(|_| worker()).collect();
    for worker in workers {
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (worlds, slow) = (count(&counts.worlds), count(&counts.slow));
    println!(
        "{worlds} worlds, {slow} given up, {} steps, {} secondaries, {} ended",
        count(&counts.steps),
        count(&counts.secondaries),
        count(&counts.ended)
    );
    assert!(worlds * 10 >= SEEDS * 9, "{slow} of {SEEDS} worlds were given up");
    assert!(count(&counts.secondaries) > SEEDS / 2 && count(&counts.ended) > SEEDS / 4);
}
