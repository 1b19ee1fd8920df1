//! What happened: always as one number (two runs are the same exactly when their numbers are), and as readable lines
//! when asked for. The lines of a failing seed are made by running it again.

use std::collections::VecDeque;
use std::fmt::Write as _;

use vip_agent::{Input, Output};
use vip_model::kernel::{Change, Lifetime, Outcome};
use vip_model::service::{Service, ServiceName};
use vip_model::session::SessionWrite;
use vip_model::store::{Answer, Ask, LeaseSeen, LeaseWrite, Sight, Snapshot};

use crate::clock::Moment;
use crate::process::ProcessId;
use crate::store::Written;

/// How much of what happened is kept as lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Nothing.
    None,
    /// The last so many.
    Last(usize),
}

/// What happened.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    limit: usize,
    names: Vec<String>,
    lines: VecDeque<String>,
}

impl Trace {
    /// An empty trace; `names` are those of the processes.
    pub fn new(lines: Lines, names: Vec<String>) -> Self {
        let limit = match lines {
            Lines::None => 0,
            Lines::Last(limit) => limit,
        };
        Self { hash: 0xcbf2_9ce4_8422_2325, limit, names, lines: VecDeque::new() }
    }

    /// The number of what happened.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines that were kept, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    /// Something that a person wants to read.
    pub(crate) fn note(&mut self, now: Moment, id: Option<ProcessId>, text: impl FnOnce() -> String) {
        self.mix(now.as_nanos());
        self.mix(id.map_or(u64::MAX, |id| id as u64));
        if self.limit == 0 {
            return;
        }
        if self.lines.len() == self.limit {
            self.lines.pop_front();
        }
        let name = id.map_or("world", |id| self.names[id].as_str());
        self.lines.push_back(format!("{now}  {name:<10} {}", text()));
    }

    /// Something of the world.
    pub(crate) fn world(&mut self, now: Moment, text: impl FnOnce() -> String) {
        self.note(now, None, text);
    }

    /// An input of an agent.
    pub(crate) fn input(&mut self, now: Moment, id: ProcessId, input: &Input) {
        self.mix(match input {
            Input::Actual(actual) => 1 + (actual.after.0 << 8) + ((actual.addresses.len() as u64) << 40),
            Input::Report(report) => 2 + (report.batch.0 << 8),
            Input::Frame(frame) => 3 + ((frame.payload.len() as u64) << 8),
            Input::Lease(seen) => 4 + (version(&seen.sight) << 8),
            Input::Snapshot(snapshot) => 5 + snapshot_size(snapshot),
            Input::Answer(question, answer) => 6 + (question.0 << 8) + (answer_kind(answer) << 48),
            Input::Errand(answer) => 7 + (answer.id.0 << 8),
            Input::Stop => 8,
            Input::Sessions(sessions) => 21 + ((sessions.len() as u64) << 8),
            Input::Peer(heard) => 22 + (heard.datagram.sequence.as_nanos() << 8),
            Input::Door(_) => 23,
            Input::Recall(_) => 24,
        });
        if matches!(input, Input::Frame(_) | Input::Errand(_) | Input::Peer(_)) && self.limit < LONG {
            return self.mix(now.as_nanos());
        }
        self.note(now, Some(id), || format!("<- {}", input_text(input)));
    }

    /// An output of an agent.
    pub(crate) fn output(&mut self, now: Moment, id: ProcessId, output: &Output) {
        self.mix(match output {
            Output::Kernel(batch) => 11 + (batch.id.0 << 8) + ((batch.changes.len() as u64) << 48),
            Output::Frame(frame) => 12 + (u64::from(frame.link.0) << 8),
            Output::Listen(links) => 13 + ((links.len() as u64) << 8),
            Output::Ask(question) => 14 + (question.id.0 << 8),
            Output::Watch(_) => 15,
            Output::Errand(errand) => 16 + (errand.id.0 << 8),
            Output::Exit => 17,
            Output::Peer(sent) => 18 + (sent.datagram.sequence.as_nanos() << 8),
            Output::Door(_) => 19,
            Output::Remember(_) => 20,
        });
        if matches!(output, Output::Errand(_) | Output::Peer(_)) && self.limit < LONG {
            return self.mix(now.as_nanos());
        }
        self.note(now, Some(id), || format!("-> {}", output_text(output)));
    }

    /// A change that was tried.
    pub(crate) fn step(&mut self, now: Moment, id: ProcessId, change: &Change, outcome: &Outcome) {
        self.note(now, Some(id), || {
            format!("   kernel: {} = {}", change_text(change), outcome_text(outcome))
        });
    }

    /// A write of a session Lease that reached the store.
    pub(crate) fn session_write(
        &mut self,
        now: Moment,
        id: ProcessId,
        write: &SessionWrite,
        answer: &Answer,
    ) {
        self.note(now, Some(id), || format!("   store: {} = {}", session_text(write), answer_text(answer)));
    }

    /// A write of a Service that reached the store.
    pub(crate) fn rewrite(&mut self, now: Moment, id: ProcessId, name: &ServiceName, written: &Written) {
        self.note(now, Some(id), || match written {
            Written::No(answer) => format!("   store: {name} = {}", answer_text(answer)),
            Written::Done(rewrite) => format!("   store: {name} is now {}", service_text(&rewrite.after)),
        });
    }

    /// A write that reached the store.
    pub(crate) fn write(&mut self, now: Moment, id: ProcessId, write: &LeaseWrite, answer: &Answer) {
        self.note(now, Some(id), || format!("   store: {} = {}", write_text(write), answer_text(answer)));
    }
}

/// From this many lines on, a trace also holds what is usually noise.
pub const LONG: usize = 1000;

fn version(sight: &Sight) -> u64 {
    match sight {
        Sight::Absent(_) => 0,
        Sight::Present { version, .. } => version.0.parse().unwrap_or(u64::MAX),
    }
}

fn snapshot_size(snapshot: &Snapshot) -> u64 {
    let services = snapshot.services.get().map_or(0, |services| services.len() as u64 + 1);
    let endpoints = snapshot.endpoints.get().map_or(0, |endpoints| endpoints.len() as u64 + 1);
    (services << 8) + (endpoints << 24)
}

fn snapshot_text(snapshot: &Snapshot) -> String {
    let mut text = "snapshot".to_owned();
    let excluded = snapshot.nodes.get().into_iter().flat_map(|nodes| nodes.iter());
    for (name, _) in excluded.filter(|(_, facts)| facts.excluded.is_some()) {
        let _ = write!(text, " {name} excluded");
    }
    for (name, service) in snapshot.services.get().into_iter().flat_map(|services| services.iter()) {
        let _ = write!(text, "; {name} v{}", service.version.0);
        for endpoint in snapshot.endpoints.get().and_then(|all| all.get(name)).into_iter().flatten() {
            let place = endpoint.node.as_ref().map_or("-", |node| node.as_str());
            let _ = write!(text, " {place}:{:?}", endpoint.state);
        }
    }
    text
}

fn service_text(service: &Service) -> String {
    let shown: Vec<_> = service.ingress.iter().filter_map(|ingress| ingress.ip).collect();
    format!("v{} {:?} {:?} shows {shown:?}", service.version.0, service.annotations, service.conditions)
}

fn answer_kind(answer: &Answer) -> u64 {
    match answer {
        Answer::Lease(_) => 1,
        Answer::Conflict => 2,
        Answer::Done => 3,
        Answer::Failed(failure) => 4 + failure.class as u64,
        Answer::Session(..) => 20,
    }
}

fn seen_text(seen: &LeaseSeen) -> String {
    match &seen.sight {
        Sight::Absent(_) => format!("{} absent", seen.lease.name()),
        Sight::Present { version, record } => {
            let holder = record.holder.as_deref().unwrap_or("nobody");
            let retired = if record.says_retired() { ", retired" } else { "" };
            let acted = record.acted().map_or_else(String::new, |acted| format!(", acted {}", acted.0));
            let moved = record.moved().map_or_else(String::new, |moved| format!(", moved {}", moved.0));
            format!("{} v{} held by {holder}{retired}{acted}{moved}", seen.lease.name(), version.0)
        }
    }
}

fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Lease(seen) => seen_text(seen),
        Answer::Conflict => "conflict".to_owned(),
        Answer::Done => "done".to_owned(),
        Answer::Failed(failure) => format!("failed: {}, {}", failure.class.as_str(), failure.text),
        Answer::Session(lease, None) => format!("{} absent", lease.name()),
        Answer::Session(lease, Some(seen)) => {
            format!("{} v{} is {} {:?}", lease.name(), seen.version.0, seen.record.id, seen.record.end)
        }
    }
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::TooLate => "too late".to_owned(),
        Outcome::Failed { errno, .. } => format!("errno {errno}"),
    }
}

fn change_text(change: &Change) -> String {
    match change {
        Change::SetAddress(set) => match set.valid {
            Lifetime::Forever => format!("set {} on {} for ever", set.net, set.link.0),
            Lifetime::Until(end) => {
                format!("set {} on {} until {end} (not after {})", set.net, set.link.0, set.not_after)
            }
        },
        Change::DelAddress { link, net } => format!("del {net} on {}", link.0),
        Change::SetFilter { filter, .. } => format!("packet filter {filter:?}"),
    }
}

fn write_text(write: &LeaseWrite) -> String {
    let holder = write.holder.as_ref().map_or("nobody", |node| node.as_str());
    format!("{:?} {} {:?} for {holder}", write.purpose, write.lease.name(), write.expect)
}

fn session_text(write: &SessionWrite) -> String {
    let SessionWrite { lease, purpose, via, record, .. } = write;
    format!("{purpose:?} {} {} {:?} {via:?}", lease.name(), record.id, record.end)
}

fn input_text(input: &Input) -> String {
    match input {
        Input::Actual(actual) => {
            let mut text = format!("actual after {}:", actual.after.0);
            for address in actual.addresses.iter().filter(|address| address.tag != 0) {
                let valid = match address.valid {
                    Lifetime::Forever => "for ever".to_owned(),
                    Lifetime::Until(end) => format!("until {end}"),
                };
                let _ = write!(text, " {} {valid}", address.net);
            }
            text
        }
        Input::Report(report) => {
            let outcomes: Vec<_> = report.outcomes.iter().map(outcome_text).collect();
            format!("report {}: {}", report.batch.0, outcomes.join(", "))
        }
        Input::Frame(frame) => format!("frame {:#06x} of {:?}", frame.ethertype, frame.from),
        Input::Lease(seen) => format!("sees {}", seen_text(seen)),
        Input::Snapshot(snapshot) => snapshot_text(snapshot),
        Input::Answer(id, answer) => format!("answer {id}: {}", answer_text(answer)),
        Input::Errand(answer) => format!("health check: {:?}", answer.result),
        Input::Stop => "SIGTERM".to_owned(),
        Input::Sessions(sessions) => format!("sees {} sessions", sessions.len()),
        Input::Peer(heard) => format!("hears {:?}", heard.datagram),
        Input::Door(door) => format!("door {door:?}"),
        Input::Recall(recall) => {
            format!("recalls {:?}", recall.memory.as_ref().map(|memory| memory.record.id))
        }
    }
}

fn output_text(output: &Output) -> String {
    match output {
        Output::Kernel(batch) => {
            let changes: Vec<_> = batch.changes.iter().map(change_text).collect();
            format!("batch {}: {}", batch.id.0, changes.join("; "))
        }
        Output::Frame(frame) => format!("frame {:#06x} to {:?}", frame.ethertype, frame.to),
        Output::Listen(links) => format!("listens on {links:?}"),
        Output::Ask(question) => {
            let text = match &question.ask {
                Ask::ReadLease(lease) => format!("read {}", lease.name()),
                Ask::WriteLease(write) => write_text(write),
                Ask::LabelNode { node, labels } => format!("label {node} {labels:?}"),
                Ask::WriteService(write) => {
                    format!("write {} from v{}: {:?}", write.service, write.expect.0, write.annotations)
                }
                Ask::WriteServiceStatus(write) => {
                    let shown: Vec<_> = write.ingress.iter().filter_map(|ingress| ingress.ip).collect();
                    format!("status of {} from v{}: {shown:?}", write.service, write.expect.0)
                }
                Ask::PostEvent(event) => format!("event {} of {}", event.reason, event.service),
                Ask::ReadSession(lease) => format!("read {}", lease.name()),
                Ask::WriteSession(write) => session_text(write),
            };
            format!("ask {} (timeout {:?}): {text}", question.id, question.timeout)
        }
        Output::Watch(watches) => format!("watches {} leases", watches.leases.len()),
        Output::Errand(_) => "health check".to_owned(),
        Output::Exit => "exits".to_owned(),
        Output::Peer(sent) => format!("says {:?}", sent.datagram),
        Output::Door(door) => format!("wants the door {door:?}"),
        Output::Remember(memory) => format!("keeps {}", memory.record.id),
    }
}
