//! Plays one row of the table on a stage: calm first, then the timeline with what a client sees shown as it happens, then
//! the readings.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::outcome::{Moments, Outcome, Record};
use super::stage::Stage;
use super::table::{Action, Deed, Event, Flooded, Health, Mark, Row, Step};
use crate::bench::{Detector, Metronome, Prober, Span, Stamp, net};

/// The calm time before the first step; its longest gap is what the instruments add themselves.
const CALM: Duration = Duration::from_millis(1500);
/// A VIP that does not answer for so long is shown as silent.
const SHOWN_SILENCE: Duration = Duration::from_millis(100);

/// The instruments of one run.
struct Instruments {
    begin: Stamp,
    probers: [Prober; 2],
    detectors: [Detector; 2],
    /// Who answered when it was last shown, per family.
    shown: [Option<u8>; 2],
}

/// A processor that stood still for longer than this makes a run say nothing: leases ran out while nobody could renew,
/// and probes were not sent.
const DISTURBED: Duration = Duration::from_millis(100);
/// How often a disturbed run is repeated; the last one counts as it is.
const REPEATS: u32 = 3;

/// Restores the stage and plays a row; again when the machine itself stood still meanwhile.
pub fn play(stage: &mut Stage, row: &'static Row) -> Result<Outcome> {
    let metronome = Metronome::start()?;
    for _ in 0..REPEATS {
        let begin = Stamp::now();
        let played = play_once(stage, row);
        let stall = metronome.longest_stall(Span::new(begin, Stamp::now()));
        if stall <= DISTURBED {
            return played;
        }
        stage.screen().say(&format!(
            "  A processor of this machine stood still for {} ms: the run does not count and is repeated.",
            stall.as_millis()
        ));
    }
    play_once(stage, row)
}

fn play_once(stage: &mut Stage, row: &'static Row) -> Result<Outcome> {
    stage.restore(row.setup()).with_context(|| format!("before {}", row.name))?;
    let [v4, v6] = net::vips();
    let mut instruments = Instruments {
        begin: Stamp::now(),
        probers: [stage.lab().probe(v4)?, stage.lab().probe(v6)?],
        detectors: [stage.lab().detect(v4)?, stage.lab().detect(v6)?],
        shown: [None; 2],
    };
    let first = instruments.probers[0].wait_answer(instruments.begin, Duration::from_secs(5), |_| true)?;
    let victim = first.node;
    instruments.shown = [Some(victim); 2];
    let calm_from = Stamp::now().after(Duration::from_millis(100));
    instruments.watch(stage, CALM + phase(), |_| false);
    if stage.holder(&instruments.probers[0]) != Some(victim) {
        bail!("the VIP moved from n{victim} while nothing happened; see the logs");
    }
    let calm = Span::new(calm_from, Stamp::now());
    let mut moments = Moments { calm, marks: BTreeMap::new(), victim };
    for step in row.steps {
        perform(stage, step, &mut moments, &mut instruments)?;
    }
    moments.pass(Mark::End, Stamp::now());
    // The last probes are still on their way.
    std::thread::sleep(Duration::from_millis(30));
    let records = instruments.records();
    let outcome = Outcome::read(row, &moments, &records);
    say_what_the_machine_did(stage, &moments, &records);
    stage.check_api()?;
    stage.check_agents()?;
    if !outcome.kept() {
        instruments.dump(stage, row.name);
    }
    Ok(outcome)
}

/// Answers that were late together with the node's own address count in no figure; what does not count is said.
fn say_what_the_machine_did(stage: &Stage, moments: &Moments, records: &[Record]) {
    let window = Span::new(moments.at(Mark::Fault), moments.at(Mark::End));
    for record in records {
        let late = record.trace.late_with_control(window);
        if late > 0 {
            stage.screen().say(&format!(
                "{}: {late} of {} answers were late, and so was the node's own address, asked in the same moment: the \
                 machine, not the VIP",
                record.family,
                record.trace.sent(window)
            ));
        }
    }
}

/// Some part of a renewal period, different in each run, so that faults hit every moment between two renewals.
fn phase() -> Duration {
    // Knuth's multiplicative hash: moments that lie close together give phases that don't.
    let spread = Stamp::now().as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Duration::from_millis(spread % 1000)
}

fn perform(stage: &mut Stage, step: &Step, moments: &mut Moments, seen: &mut Instruments) -> Result<()> {
    let victim = moments.victim;
    match *step {
        Step::Fault(action) => moments.pass(Mark::Fault, seen.act(stage, action, victim)?),
        Step::Heal(action) => moments.pass(Mark::Heal, seen.act(stage, action, victim)?),
        Step::Do(action) => drop(seen.act(stage, action, victim)?),
        Step::Pass(time) => seen.watch(stage, time, |_| false),
        Step::Await(event, limit) => seen.watch(stage, limit, |probers| happened(event, probers, victim)),
    }
    Ok(())
}

fn happened(event: Event, probers: &[Prober; 2], victim: u8) -> bool {
    probers.iter().all(|prober| {
        let last = prober.last_answer();
        let silent = last.map_or(Duration::MAX, |answer| Stamp::now().since(answer.at));
        match event {
            Event::Moved => {
                silent < Duration::from_millis(50) && last.is_some_and(|answer| answer.node != victim)
            }
            Event::Answered => silent < Duration::from_millis(50),
        }
    })
}

impl Instruments {
    fn act(&mut self, stage: &mut Stage, action: Action, victim: u8) -> Result<Stamp> {
        stage.screen().at(self.begin, Stamp::now(), &describe(action, victim));
        let at = stage.act(action, victim).with_context(|| describe(action, victim))?;
        // What happens at once is seen by its own steps, and only then may a following wait be satisfied by it.
        self.watch(stage, Duration::from_millis(20), |_| false);
        Ok(at)
    }

    /// Shows what changes for clients until `done` or until `limit` has passed.
    fn watch(&mut self, stage: &Stage, limit: Duration, done: impl Fn(&[Prober; 2]) -> bool) {
        let begin = Instant::now();
        while begin.elapsed() < limit && !done(&self.probers) {
            std::thread::sleep(Duration::from_millis(4).min(limit.saturating_sub(begin.elapsed())));
            self.show(stage);
        }
    }

    fn show(&mut self, stage: &Stage) {
        for (prober, shown) in self.probers.iter().zip(&mut self.shown) {
            let Some(last) = prober.last_answer() else { continue };
            let silent = Stamp::now().since(last.at) > SHOWN_SILENCE;
            let now = (!silent).then_some(last.node);
            if now == *shown {
                continue;
            }
            let who = now.map_or("nobody".to_owned(), |node| format!("n{node}"));
            stage.screen().at(self.begin, last.at, &format!("{who} answers for {}", prober.vip()));
            *shown = now;
        }
    }

    fn records(&self) -> Vec<Record> {
        let families = ["IPv4", "IPv6"];
        let pairs = self.probers.iter().zip(&self.detectors);
        families
            .into_iter()
            .zip(pairs)
            .map(|(family, (prober, detector))| Record {
                family,
                trace: prober.trace(),
                sightings: detector.sightings(),
            })
            .collect()
    }

    /// Writes every probe and every question of a broken run into the folder of logs.
    fn dump(&self, stage: &Stage, name: &str) {
        for record in self.records() {
            let file = stage.lab().logs().join(format!("broken-{name}-{}.csv", record.family));
            if let Err(cause) = std::fs::write(&file, listing(self.begin, &record)) {
                stage.screen().say(&format!("could not write {}: {cause}", file.display()));
            }
        }
    }
}

/// Every probe, question and announcement of a record, one a line, in seconds since `begin`.
fn listing(begin: Stamp, record: &Record) -> String {
    let since = |at: Stamp| at.since(begin).as_secs_f64();
    let mut lines = vec!["probe sent s;answered s;node;control answered s".to_owned()];
    lines.extend(record.trace.probes.iter().map(|probe| {
        let answer = probe.answer.map(|answer| format!("{:.6};{}", since(answer.at), answer.node));
        let control = probe.control.map(|at| format!("{:.6}", since(at))).unwrap_or_default();
        format!("{:.6};{};{control}", since(probe.sent), answer.unwrap_or_else(|| ";".to_owned()))
    }));
    lines.push("question sent s;answering MACs".to_owned());
    lines.extend(record.sightings.questions.iter().map(|question| {
        let who: Vec<String> = question.answers.iter().map(|(mac, _)| mac.to_string()).collect();
        format!("{:.6};{}", since(question.sent), who.join(" "))
    }));
    lines.push("announced s;MAC;form".to_owned());
    let announced = record.sightings.announcements.iter();
    lines.extend(announced.map(|seen| format!("{:.6};{};{:?}", since(seen.at), seen.mac, seen.form)));
    lines.join("\n") + "\n"
}

/// An action in words.
fn describe(action: Action, victim: u8) -> String {
    let state = |health: Health| match health {
        Health::Serving => "serves again",
        Health::Refusing => "is dead: connections are refused",
        Health::Hanging => "hangs: it accepts and never answers",
        Health::Forbidding => "answers 403 to everything",
        Health::Alone => "has lost etcd",
    };
    match action {
        Action::Signal(Signal::SIGCONT) => format!("the agent of n{victim} goes on (SIGCONT)"),
        Action::Signal(signal) => format!("{signal} to the agent of n{victim}, which holds the VIP"),
        Action::Ended(limit) => format!("the agent of n{victim} must have ended well within {limit:?}"),
        Action::StartVictim => format!("the agent of n{victim} is started again"),
        Action::StopAll => "all agents are stopped; the lease is free".to_owned(),
        Action::StartAll => "all agents are started".to_owned(),
        Action::Restart(number) => format!("the agent of n{number} is restarted"),
        Action::RestartWith(number, set) => {
            let set: Vec<String> = set.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("the agent of n{number} is restarted with {}", set.join(", "))
        }
        Action::RestartVictim => format!("the agent of n{victim}, which holds the VIP, is restarted"),
        Action::PowerOff => format!("power-off of n{victim}, which holds the VIP"),
        Action::PowerOffOther => format!("power-off of a node that is not n{victim}, which holds the VIP"),
        Action::PullCable => format!("the cable of n{victim}, which holds the VIP, is pulled"),
        Action::Cut => format!("n{victim}, which holds the VIP, is cut off; its carrier stays"),
        Action::Uncut => format!("the cut of n{victim} is healed"),
        Action::CutFromClients => format!("n{victim}, which holds the VIP, is cut off from all clients"),
        Action::CutFromNodes => {
            format!("n{victim}, which holds the VIP, is cut off from the network for nodes")
        }
        Action::BlockBeatsOfVictim => {
            format!("heartbeats from and to n{victim}, which holds the VIP, are blocked")
        }
        Action::BlockBeats => "all heartbeats are blocked".to_owned(),
        Action::Unfilter => "nothing is blocked any more".to_owned(),
        Action::Api(health) => format!("every API server {}", state(health)),
        Action::VictimApi(health) => {
            format!("the API server of n{victim}, which holds the VIP, {}", state(health))
        }
        Action::CutFromApi => format!("n{victim}, which holds the VIP, can't reach any API server"),
        Action::Flood(flooded, _) => {
            let whom = if flooded == Flooded::Victim { "its holder" } else { "a juror" };
            format!("forged and replayed heartbeats flood {whom}; n{victim} holds the VIP")
        }
        Action::FloodEnds => "the flood ends".to_owned(),
        Action::RemoveVip => format!("somebody deletes the VIP from n{victim}"),
        Action::ProlongVip6 => format!("the kernel of n{victim} keeps the IPv6 VIP for 6 s"),
        Action::Operate(Deed::Drain) => format!("kube-vip drain n{victim}, which holds the VIP"),
        Action::Operate(Deed::Drill(kind)) => {
            format!("kube-vip drill control-plane --kind {}", kind.as_str())
        }
        Action::Operate(Deed::HandOver) => "kube-vip handover control-plane".to_owned(),
    }
}
