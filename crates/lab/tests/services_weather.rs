//! The API slow, erroring, hanging and away while Services are created, changed and deleted: nothing is lost, no address is
//! on two nodes, and soon after it everything is as it was asked for. One lab, where some Services share the global election
//! and others have one of their own.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its rig is a test too

#[path = "services/rig.rs"]
#[allow(dead_code)] // each test file that shares it uses its own part
mod rig;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vip_lab::api::{Effect, Failure, Fault, Knobs, Reach, Verb, Watches};
use vip_lab::bench::{Detector, Stamp};

use rig::draft::{Draft, Stack};
use rig::{Rig, gap, play_bare};

const ALL: [u8; 3] = [1, 2, 3];
/// From the end of the weather to everything as it was asked for: pauses after what may pass soon are 1 s at most.
const CONVERGED: Duration = Duration::from_secs(2);
/// The same after a right was missing: pauses double, so that the one under way is as long as the weather was, at most.
const GRANTED: Duration = Duration::from_secs(3);
/// Before the weather nothing is in the way.
const SOON: Duration = Duration::from_secs(1);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What becomes of a Service that nobody touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is answered for all the time.
    Kept,
    /// The weather outlasts the renew deadline of 3 s: no renewal, no address, as mode `lease` promises.
    MayLapse,
}

/// What happens to the API, and for how long.
struct Weather {
    what: &'static str,
    turn: fn(&mut Knobs),
    lasts: Duration,
    standing: Standing,
    /// From its end to everything as it was asked for.
    converged: Duration,
}

fn all(knobs: &mut Knobs, effect: Effect) {
    knobs.faults = vec![Fault::all(effect)];
}

/// Writes to Services are forbidden, as by a role that was edited.
fn no_writes(knobs: &mut Knobs) {
    let refusal =
        || Effect::Fail(Failure::new(403, "Forbidden", "services is forbidden: the role was edited"));
    let targets = [(Verb::Update, "services"), (Verb::Update, "services/status"), (Verb::Create, "events")];
    knobs.faults = targets.map(|(verb, resource)| Fault::on(verb, resource, refusal())).into();
}

/// A renewal is up to 1 s old when the weather begins and the deadline is 3 s after it: 1.5 s are outlived.
const WEATHERS: [Weather; 9] = [
    Weather {
        what: "slow by 400 ms",
        turn: |knobs| knobs.latency = ms(400),
        lasts: ms(3000),
        standing: Standing::Kept,
        converged: CONVERGED,
    },
    Weather {
        what: "500 for everything",
        turn: |knobs| all(knobs, Effect::Fail(Failure::new(500, "InternalError", "it broke"))),
        lasts: ms(1500),
        standing: Standing::Kept,
        converged: CONVERGED,
    },
    Weather {
        what: "429 for everything",
        turn: |knobs| all(knobs, Effect::Fail(Failure::too_many_requests())),
        lasts: ms(1500),
        standing: Standing::Kept,
        converged: CONVERGED,
    },
    Weather {
        what: "403 for everything",
        turn: |knobs| all(knobs, Effect::Fail(Failure::new(403, "Forbidden", "forbidden: no role at all"))),
        lasts: ms(1500),
        standing: Standing::Kept,
        converged: CONVERGED,
    },
    Weather {
        what: "403 for writes to Services",
        turn: no_writes,
        lasts: ms(3000),
        standing: Standing::Kept,
        converged: GRANTED,
    },
    Weather {
        what: "requests hang",
        turn: |knobs| all(knobs, Effect::Hang),
        lasts: ms(1500),
        standing: Standing::Kept,
        converged: CONVERGED,
    },
    Weather {
        what: "watches are silent",
        turn: |knobs| knobs.watches = Watches::Frozen,
        lasts: ms(4000),
        standing: Standing::Kept,
        converged: CONVERGED,
    },
    Weather {
        what: "the server hangs",
        turn: |knobs| knobs.reach = Reach::Frozen,
        lasts: ms(6000),
        standing: Standing::MayLapse,
        converged: CONVERGED,
    },
    Weather {
        what: "the server is away",
        turn: |knobs| knobs.reach = Reach::Down,
        lasts: ms(6000),
        standing: Standing::MayLapse,
        converged: CONVERGED,
    },
];

/// The Services of one kind of election in one weather.
struct Cast {
    /// Nobody touches it.
    stays: Draft,
    /// It gets another address.
    moves: [Draft; 2],
    /// It is deleted.
    leaves: Draft,
    /// It is created.
    comes: Draft,
}

impl Cast {
    fn new(weather: u8, kind: &str, summon: fn(Draft) -> Draft) -> Self {
        let first = if kind == "own" { 1 } else { 101 };
        let draft = |name: &str, number: u8| {
            let addr = Ipv4Addr::new(10, 79, weather, first + number).into();
            summon(Draft::new(&format!("{name}-{kind}-{weather}"), Stack::V4).on(vec![addr]))
        };
        Self {
            stays: draft("stays", 0),
            moves: [draft("moves", 1), draft("moves", 2)],
            leaves: draft("leaves", 3),
            comes: draft("comes", 4),
        }
    }

    fn before(&self) -> [&Draft; 3] {
        [&self.stays, &self.moves[0], &self.leaves]
    }

    fn after(&self) -> [&Draft; 3] {
        [&self.stays, &self.moves[1], &self.comes]
    }

    fn gone(&self) -> [&Draft; 2] {
        [&self.moves[0], &self.leaves]
    }

    fn addrs(&self) -> impl Iterator<Item = IpAddr> {
        self.before().into_iter().chain([&self.moves[1], &self.comes]).map(|draft| draft.addrs[0])
    }
}

fn casts(weather: u8) -> [Cast; 2] {
    [
        Cast::new(weather, "own", |draft| draft.note("forcePerServiceElection", "true")),
        Cast::new(weather, "common", |draft| draft),
    ]
}

/// Under the weather somebody works on the Services, through an API server that has none.
fn work(rig: &Rig, cast: &Cast) -> Result<()> {
    rig.back(&cast.comes, &ALL)?;
    rig.write(&cast.comes)?;
    let [from, to] = &cast.moves;
    rig.edit(("services", "default", &from.name), |service| {
        service["metadata"]["annotations"]["kube-vip.io/loadbalancerIPs"] = to.addrs[0].to_string().into();
    })?;
    rig.remove(&cast.leaves);
    Ok(())
}

fn served(rig: &Rig, drafts: [&Draft; 3], limit: Duration) -> Result<()> {
    for draft in drafts {
        rig.within(limit, &draft.title(), |rig| rig.server(draft))?;
    }
    Ok(())
}

fn play(rig: &Rig, (weather, number): (&Weather, u8)) -> Result<()> {
    let casts = casts(number);
    for cast in &casts {
        for draft in cast.before() {
            rig.back(draft, &ALL)?;
            rig.write(draft)?;
        }
        served(rig, cast.before(), SOON).context("before it")?;
    }
    let watches: Vec<Vec<(IpAddr, Detector)>> = casts
        .iter()
        .map(|cast| cast.addrs().map(|addr| Ok((addr, rig.watch(&addr.to_string())?))).collect())
        .collect::<Result<_>>()?;
    std::thread::sleep(ms(50));
    let at = Stamp::now();
    rig.weather(weather.turn)?;
    std::thread::sleep(weather.lasts / 3);
    casts.iter().try_for_each(|cast| work(rig, cast))?;
    std::thread::sleep(weather.lasts * 2 / 3);
    rig.weather(|knobs| *knobs = Knobs::default())?;
    let over = Stamp::now();
    for cast in &casts {
        served(rig, cast.after(), weather.converged)?;
        for draft in cast.gone() {
            rig.within(weather.converged, &format!("no address of {}", draft.title()), |rig| {
                rig.is_away(draft).then_some(())
            })?;
        }
    }
    let converged = Stamp::now().since(over);
    ensure!(converged <= weather.converged, "as asked for only {converged:?} after it");
    std::thread::sleep(ms(200));
    let mut silences = Vec::new();
    for (cast, watches) in casts.iter().zip(&watches) {
        for (addr, watch) in watches {
            let (silence, overlap) = gap(watch, at, Duration::ZERO);
            ensure!(overlap.is_zero(), "{addr}: two nodes answered for {overlap:?}");
            if *addr == cast.stays.addrs[0] {
                silences.push(silence);
                let is_kept = weather.standing == Standing::MayLapse || silence.is_zero();
                ensure!(is_kept, "{}: nobody answered for {silence:?}", cast.stays.title());
            }
        }
        cast.after().into_iter().for_each(|draft| {
            rig.remove(draft);
        });
    }
    println!(
        "  {}: as asked for {converged:?} after it; who stayed was silent for {silences:?}",
        weather.what
    );
    Ok(())
}

#[test]
fn services_come_change_and_go_in_any_weather() {
    play_bare("services_come_change_and_go_in_any_weather", |rig| {
        rig.start_all(&[("per_service_election_on_demand", "true")])?;
        rig.ready(&ALL)?;
        let mut failed = Vec::new();
        for (weather, number) in WEATHERS.iter().zip(1..) {
            failed.extend(play(rig, (weather, number)).context(weather.what).err());
            rig.weather(|knobs| *knobs = Knobs::default())?;
        }
        let texts: Vec<_> = failed.iter().map(|why| format!("{why:#}")).collect();
        ensure!(failed.is_empty(), "{}", texts.join("\n"));
        Ok(())
    });
}
