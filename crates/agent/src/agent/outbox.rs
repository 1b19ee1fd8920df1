//! Writes to Services that are under way: one for each object, not too many in all, and none again until the watch has
//! shown the last one. People are told of what is written by Events, which the bulletin keeps within bounds.

mod bulletin;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vip_model::Instant;
use vip_model::service::{HOST, Service, ServiceName};
use vip_model::store::{
    Answer, Ask, EventPost, EventWeight, ServiceStatusWrite, ServiceWrite, Snapshot, Version,
};

use bulletin::Bulletin;

/// How many writes may be under way, those included that wait for their turn in the gateway to the API: enough for the
/// time between two plans of a node with thousands of Services.
const LIMIT: usize = 500;
/// How long a write may take.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the watch to show a write that was answered, before looking again.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// The first pause after a failed write; doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// The longest such pause after what may pass soon, such as an API that is away.
const RETRY_MAX_TRANSIENT: Duration = Duration::from_secs(1);
/// The longest such pause after what somebody has to repair, such as a right that is missing.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The writes under way.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    letters: BTreeMap<ServiceName, Letter>,
    bulletin: Bulletin,
}

#[derive(Debug)]
struct Letter {
    /// The version that the write was made from.
    from: Version,
    stage: Stage,
    /// Failures in a row.
    failures: u32,
    /// What people are told when it is written.
    events: Vec<EventPost>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Asked, not answered.
    InFlight,
    /// Answered or failed: nothing more until then, or until another version is seen.
    Pausing(Instant),
    /// The pause after a failure is over.
    Due,
}

impl Outbox {
    /// Forgets what the snapshot shows as done, and ends pauses that are over.
    pub(super) fn saw(&mut self, now: Instant, snapshot: &Snapshot) {
        let Some(services) = snapshot.services.get() else { return };
        self.bulletin.forget_others(services);
        self.letters.retain(|name, letter| {
            let is_same = || services.get(name).is_some_and(|service| service.version == letter.from);
            match letter.stage {
                Stage::InFlight => true,
                Stage::Pausing(until) if now < until => is_same(),
                // Failures count on until something else is seen.
                Stage::Pausing(_) | Stage::Due => letter.failures > 0 && is_same(),
            }
        });
        for letter in self.letters.values_mut() {
            if let Stage::Pausing(until) = letter.stage
                && now >= until
            {
                letter.stage = Stage::Due;
            }
        }
    }

    /// The Services that must not be written to now.
    pub(super) fn busy(&self) -> BTreeSet<ServiceName> {
        let busy = self.letters.iter().filter(|(_, letter)| letter.stage != Stage::Due);
        busy.map(|(name, _)| name.clone()).collect()
    }

    /// How many more writes may start.
    pub(super) fn room(&self) -> usize {
        LIMIT.saturating_sub(self.letters.values().filter(|letter| letter.stage == Stage::InFlight).count())
    }

    /// Remembers that a write of this Service was asked, as it was seen last. Gives back what it is about.
    pub(super) fn sent(&mut self, ask: &Ask, service: Option<&Service>) -> Option<ServiceName> {
        let (name, from, events) = match ask {
            Ask::WriteService(write) => {
                (&write.service, &write.expect, service.and_then(|it| moved(write, it)).into_iter().collect())
            }
            Ask::WriteServiceStatus(write) => {
                (&write.service, &write.expect, service.map(|it| events(write, it)).unwrap_or_default())
            }
            Ask::ReadLease(_)
            | Ask::WriteLease(_)
            | Ask::ReadSession(_)
            | Ask::WriteSession(_)
            | Ask::LabelNode { .. }
            | Ask::PostEvent(_) => {
                return None;
            }
        };
        let failures = self.letters.get(name).map_or(0, |letter| letter.failures);
        let letter = Letter { from: from.clone(), stage: Stage::InFlight, failures, events };
        self.letters.insert(name.clone(), letter);
        Some(name.clone())
    }

    /// A write was answered. Gives back what people are told of it.
    pub(super) fn answered(&mut self, now: Instant, name: &ServiceName, answer: &Answer) -> Vec<EventPost> {
        let Some(letter) = self.letters.get_mut(name) else { return Vec::new() };
        let longest = match answer {
            Answer::Done | Answer::Lease(_) | Answer::Session(..) => {
                letter.failures = 0;
                letter.stage = Stage::Pausing(now + SHOWN_WITHIN);
                let events = std::mem::take(&mut letter.events).into_iter();
                return events.filter_map(|event| self.bulletin.admit(now, event)).collect();
            }
            Answer::Failed(failure) if !failure.class.is_transient() => RETRY_MAX,
            Answer::Conflict | Answer::Failed(_) => RETRY_MAX_TRANSIENT,
        };
        let pause = (RETRY_FIRST * 2u32.pow(letter.failures.min(8))).min(longest);
        letter.failures = letter.failures.saturating_add(1);
        letter.stage = Stage::Pausing(now + pause);
        Vec::new()
    }

    /// When a pause ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ends = self.letters.values().filter_map(|letter| match letter.stage {
            Stage::InFlight | Stage::Due => None,
            Stage::Pausing(until) => Some(until),
        });
        ends.min()
    }
}

/// What people are told of a status write: one Event for each condition that it sets.
fn events(write: &ServiceStatusWrite, service: &Service) -> Vec<EventPost> {
    let told = write.conditions.values().flatten().map(|condition| EventPost {
        service: write.service.clone(),
        uid: service.uid.clone(),
        weight: if condition.status == "True" { EventWeight::Normal } else { EventWeight::Warning },
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        count: 1,
    });
    told.collect()
}

/// What people are told when another node serves a Service than before: no condition changes by that.
fn moved(write: &ServiceWrite, service: &Service) -> Option<EventPost> {
    let host = write.annotations.get(HOST)?.as_ref()?;
    let former = service.annotations.get(HOST).filter(|former| !former.is_empty() && *former != host)?;
    Some(EventPost {
        service: write.service.clone(),
        uid: service.uid.clone(),
        weight: EventWeight::Normal,
        reason: "Moved".to_owned(),
        message: format!("{host} answers for the addresses, before it was {former}"),
        count: 1,
    })
}

#[cfg(test)]
mod tests;
