//! What an election wrote: every version of its Lease in the store, read and held against the rules that client-go
//! keeps and expects. The store's history feeds it; it gives the terms of the holders and every rule that was broken.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use vip_lab::api::{Change, Kind, Store};
use vip_lab::bench::Stamp;

/// Name and namespace of the Lease.
pub(crate) const LEASE: (&str, &str) = ("kube-system", "plndr-cp-lock");

/// One version of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Empty: nobody.
    pub(crate) holder: String,
    duration: Duration,
    transitions: u64,
    acquired: Stamp,
    pub(crate) renewed: Stamp,
}

impl Record {
    fn read(object: &Value) -> Result<Self, String> {
        let spec = &object["spec"];
        let number = |field: &str| spec[field].as_u64().ok_or(format!("{field} is {}", spec[field]));
        let holder = match &spec["holderIdentity"] {
            Value::Null => String::new(),
            Value::String(name) => name.clone(),
            other => return Err(format!("holderIdentity is {other}")),
        };
        Ok(Self {
            holder,
            duration: Duration::from_secs(number("leaseDurationSeconds")?),
            transitions: number("leaseTransitions")?,
            acquired: moment(&spec["acquireTime"])?,
            renewed: moment(&spec["renewTime"])?,
        })
    }

    /// The Lease as it is now.
    pub(crate) fn now(store: &Store) -> Option<Self> {
        Self::read(&*store.get(leases(), LEASE.0, LEASE.1)?).ok()
    }

    /// What is wrong with `next` as the version after this one.
    fn broken_by(&self, next: &Self) -> Option<String> {
        let same = self.holder == next.holder;
        if next.holder.is_empty() {
            return (self.transitions != next.transitions)
                .then(|| "a release counts no transition".to_owned());
        }
        if same {
            let kept = self.transitions == next.transitions && self.acquired == next.acquired;
            return (!kept).then(|| "a renewal keeps acquireTime and leaseTransitions".to_owned());
        }
        if next.transitions != self.transitions + 1 {
            return Some("a new holder is one transition".to_owned());
        }
        if next.renewed.since(next.acquired).max(next.acquired.since(next.renewed)) > Duration::from_secs(1) {
            return Some("a take sets acquireTime".to_owned());
        }
        let end = self.renewed.after(self.duration);
        let taken_early = !self.holder.is_empty() && next.renewed < end;
        taken_early.then(|| format!("two holders: taken {:?} before the end", end.since(next.renewed)))
    }
}

/// `metav1.MicroTime` in JSON: UTC with six digits of fraction, nothing else.
fn moment(value: &Value) -> Result<Stamp, String> {
    let bad = || format!("{value} is no time with microseconds in UTC");
    let text = value.as_str().ok_or_else(bad)?;
    let form: String = text.chars().map(|sign| if sign.is_ascii_digit() { '0' } else { sign }).collect();
    if form != "0000-00-00T00:00:00.000000Z" {
        return Err(bad());
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    u64::try_from(time.as_nanosecond()).map(Stamp::from_nanos).map_err(|_| bad())
}

pub(crate) fn leases() -> &'static Kind {
    Kind::named("leases").expect("leases are in the table")
}

/// All versions of the Lease and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct History {
    records: Vec<Record>,
    /// Every broken rule, with the two versions.
    pub(crate) broken: Vec<String>,
}

impl History {
    /// Reads everything that the store remembers of what came after a version.
    pub(crate) fn after(version: u64, store: &Store) -> Self {
        let mut history = Self::default();
        for change in store.history().into_iter().filter(|change| change.version > version) {
            history.add(&change);
        }
        history
    }

    fn add(&mut self, change: &Change) {
        let object = change.after.as_deref().or(change.before.as_deref());
        if !object.is_some_and(|object| object["kind"] == "Lease" && object["metadata"]["name"] == LEASE.1) {
            return;
        }
        let Some(after) = &change.after else {
            self.broken.push(format!("version {}: nobody deletes the Lease", change.version));
            return;
        };
        match Record::read(after) {
            Err(why) => self.broken.push(format!("version {}: {why}: {}", change.version, after["spec"])),
            Ok(next) => {
                if let Some(why) = self.records.last().and_then(|last| last.broken_by(&next)) {
                    self.broken.push(format!("{why}: {:?} -> {}", self.records.last(), after["spec"]));
                }
                self.records.push(next);
            }
        }
    }

    /// Who held it, in order: one entry per change of the holder, releases included.
    pub(crate) fn terms(&self) -> Vec<&Record> {
        let mut terms: Vec<&Record> = Vec::new();
        for record in &self.records {
            if terms.last().is_none_or(|last| last.holder != record.holder) {
                terms.push(record);
            }
        }
        terms
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = self.records.first().map_or(Stamp::default(), |first| first.renewed);
        let name = |record: &Record| match record.holder.as_str() {
            "" => "-".to_owned(),
            name => name.to_owned(),
        };
        let terms = self.terms().into_iter();
        let shown: Vec<String> = terms
            .map(|term| format!("{} {:.2} s", name(term), term.renewed.since(begin).as_secs_f64()))
            .collect();
        write!(f, "{} versions; holders: {}", self.records.len(), shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(holder: &str, transitions: u64, acquired: u64, renewed: u64) -> Record {
        let at = |second: u64| format!("2026-01-01T00:00:{second:02}.000001Z");
        let spec = json!({
            "holderIdentity": holder, "leaseDurationSeconds": 5, "leaseTransitions": transitions,
            "acquireTime": at(acquired), "renewTime": at(renewed),
        });
        Record::read(&json!({ "spec": spec })).unwrap()
    }

    #[test]
    fn a_lease_that_is_taken_before_its_end_has_two_holders() {
        let held = record("n1", 0, 1, 10);
        assert_eq!(held.broken_by(&record("n2", 1, 15, 15)), None);
        assert!(held.broken_by(&record("n2", 1, 14, 14)).unwrap().contains("two holders"));
        assert_eq!(record("", 0, 14, 14).broken_by(&record("n2", 1, 14, 14)), None, "released");
    }

    #[test]
    fn transitions_and_times_are_counted_as_client_go_counts_them() {
        let held = record("n1", 3, 1, 10);
        assert_eq!(held.broken_by(&record("n1", 3, 1, 11)), None);
        assert!(held.broken_by(&record("n1", 4, 1, 11)).is_some());
        assert!(held.broken_by(&record("n1", 3, 2, 11)).is_some());
        assert!(held.broken_by(&record("n2", 3, 20, 20)).is_some());
        assert!(held.broken_by(&record("n2", 4, 1, 20)).is_some());
        assert!(held.broken_by(&record("", 4, 11, 11)).is_some());
        assert!(moment(&json!("2026-01-01T00:00:00Z")).is_err());
        assert!(moment(&json!("2026-01-01T00:00:00.000000+00:00")).is_err());
    }
}
