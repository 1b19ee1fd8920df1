//! The API slow, erroring, hanging and away while Services are created, changed and deleted: nothing is lost, no address is
//! on two nodes, and soon after it everything is as it was asked for. One lab, where some Services share the global election
//! and others have one of their own.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vip_lab::api::{Effect, Failure, Fault, Knobs, Verb, Watches};
use vip_lab::bench::{Detector, Stamp};

use crate::rig::cluster::Trouble;
use crate::rig::draft::{Draft, Stack};
use crate::rig::{Rig, gap};

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

/// When somebody works on the Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Amid the weather, through an API server that has none.
    Amid,
    /// As soon as it is over: until then the administrator is not answered either.
    After,
}

/// What happens to the API, and for how long.
pub(crate) struct Weather {
    what: &'static str,
    begin: fn(&Rig) -> Result<()>,
    lasts: Duration,
    standing: Standing,
    /// From its end to everything as it was asked for.
    converged: Duration,
    work: Work,
}

impl Weather {
    /// One of `lasts` milliseconds that every Service outlives.
    const fn new(what: &'static str, begin: fn(&Rig) -> Result<()>, lasts: u64) -> Self {
        let standing = Standing::Kept;
        Self { what, begin, lasts: ms(lasts), standing, converged: CONVERGED, work: Work::Amid }
    }

    /// So long that what nobody can renew may be given up.
    const fn long(self) -> Self {
        Self { standing: Standing::MayLapse, ..self }
    }

    const fn converging(self, converged: Duration) -> Self {
        Self { converged, ..self }
    }

    const fn working(self, work: Work) -> Self {
        Self { work, ..self }
    }
}

/// A renewal is up to 1 s old when the weather begins and the deadline is 3 s after it: 1.5 s are outlived.
const OUTLIVED: u64 = 1500;
/// The same over the real API server: what is tried again comes up to 0.4 s after the weather, and three of its processes
/// have the two cores with the agents.
const OUTLIVED_BY_REAL: Duration = ms(1000);
/// An address that lapses is away until its Lease was taken again, a second and more. Less than this is an answer that
/// the real API server's processes made late.
const LATE_BESIDE_REAL: Duration = ms(100);

/// What every API server can do.
const COMMON: [Weather; 7] = [
    Weather::new("slow by 400 ms", |rig| rig.cluster().trouble(Trouble::Slow(ms(400))), 3000),
    Weather::new("the server hangs for a moment", |rig| rig.cluster().trouble(Trouble::Hangs), OUTLIVED),
    Weather::new("the server is away for a moment", |rig| rig.cluster().trouble(Trouble::Away), OUTLIVED),
    Weather::new("the server hangs", |rig| rig.cluster().trouble(Trouble::Hangs), 6000).long(),
    Weather::new("the server is away", |rig| rig.cluster().trouble(Trouble::Away), 6000).long(),
    Weather::new("the store stands still", |rig| rig.cluster().trouble(Trouble::StoreStopped), OUTLIVED)
        .working(Work::After),
    Weather::new("403 for everything", |rig| rig.cluster().trouble(Trouble::NoRights), OUTLIVED),
];

/// What the lab's own API server can do beside that.
const KNOBS: [Weather; 5] = [
    Weather::new(
        "500 for everything",
        |rig| fail(rig, Failure::new(500, "InternalError", "it broke")),
        OUTLIVED,
    ),
    Weather::new("429 for everything", |rig| fail(rig, Failure::too_many_requests()), OUTLIVED),
    Weather::new("403 for writes to Services", |rig| rig.weather(no_writes), 3000).converging(GRANTED),
    Weather::new(
        "requests hang",
        |rig| rig.weather(|knobs| knobs.faults = vec![Fault::all(Effect::Hang)]),
        OUTLIVED,
    ),
    Weather::new("watches are silent", |rig| rig.weather(|knobs| knobs.watches = Watches::Frozen), 4000),
];

/// What the processes of the real API server can do.
const PROCESSES: [Weather; 1] =
    [Weather::new("kube-apiserver stands still", |rig| rig.cluster().trouble(Trouble::Stopped), OUTLIVED)
        .working(Work::After)];

fn fail(rig: &Rig, failure: Failure) -> Result<()> {
    rig.weather(|knobs| knobs.faults = vec![Fault::all(Effect::Fail(failure))])
}

/// Writes to Services are forbidden, as by a role that was edited.
fn no_writes(knobs: &mut Knobs) {
    let refusal =
        || Effect::Fail(Failure::new(403, "Forbidden", "services is forbidden: the role was edited"));
    let targets = [(Verb::Update, "services"), (Verb::Update, "services/status"), (Verb::Create, "events")];
    knobs.faults = targets.map(|(verb, resource)| Fault::on(verb, resource, refusal())).into();
}

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

/// The weather, and the work on the Services.
fn last(rig: &Rig, weather: &Weather, casts: &[Cast]) -> Result<()> {
    let work = || casts.iter().try_for_each(|cast| work(rig, cast));
    (weather.begin)(rig)?;
    let is_brief = is_real(rig) && weather.lasts == ms(OUTLIVED);
    let lasts = if is_brief { OUTLIVED_BY_REAL } else { weather.lasts };
    std::thread::sleep(lasts / 3);
    if weather.work == Work::Amid {
        work()?;
    }
    std::thread::sleep(lasts * 2 / 3);
    rig.cluster().trouble(Trouble::None)?;
    if weather.work == Work::After {
        work()?;
    }
    Ok(())
}

/// Whether the API server is the real one.
fn is_real(rig: &Rig) -> bool {
    rig.plane().is_err()
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
    last(rig, weather, &casts)?;
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
    let late = if is_real(rig) { LATE_BESIDE_REAL } else { Duration::ZERO };
    let mut silences = Vec::new();
    for (cast, watches) in casts.iter().zip(&watches) {
        for (addr, watch) in watches {
            let (silence, overlap) = gap(watch, at, Duration::ZERO);
            ensure!(overlap.is_zero(), "{addr}: two nodes answered for {overlap:?}");
            if *addr == cast.stays.addrs[0] {
                silences.push(silence);
                let is_kept = weather.standing == Standing::MayLapse || silence <= late;
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

fn play_all<'a>(rig: &mut Rig, weathers: impl Iterator<Item = &'a Weather>) -> Result<()> {
    rig.start_all(&[("per_service_election_on_demand", "true")])?;
    rig.ready(&ALL)?;
    let mut failed = Vec::new();
    for (weather, number) in weathers.zip(1..) {
        failed.extend(play(rig, (weather, number)).context(weather.what).err());
        rig.cluster().trouble(Trouble::None)?;
    }
    let texts: Vec<_> = failed.iter().map(|why| format!("{why:#}")).collect();
    ensure!(failed.is_empty(), "{}", texts.join("\n"));
    Ok(())
}

/// All that the lab's own API server can do.
pub(crate) fn by_knobs(rig: &mut Rig) -> Result<()> {
    play_all(rig, COMMON.iter().chain(&KNOBS))
}

/// All that the real API server can do.
pub(crate) fn by_processes(rig: &mut Rig) -> Result<()> {
    play_all(rig, COMMON.iter().chain(&PROCESSES))
}
