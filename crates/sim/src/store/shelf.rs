//! The session Leases of the fake API: whole sets, numbered, so that a lagging server shows an earlier one and every
//! watcher of the newest shares it. Fed by writes and by people who delete; gives back sets and single sights.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vip_model::session::{End, FORMER_LIMIT, SessionId, SessionSeen, SessionWrite, Sessions};
use vip_model::store::{Answer, Expect, Version};
use vip_model::{InstanceName, LeaseName, NodeName};

use crate::clock::Moment;

/// How long former sets are kept: no server lags by more.
const KEPT: Duration = Duration::from_secs(25);

/// What a write meets beside the sets: when, on which wall clock, and the version that it would get.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// When.
    pub now: Moment,
    /// The text of `spec.renewTime`.
    pub wall: String,
    /// The version.
    pub version: Version,
}

/// All session Leases.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    sets: BTreeMap<InstanceName, Row>,
}

/// The sets of one instance.
#[derive(Clone, Debug)]
struct Row {
    /// The number of the oldest set that is kept.
    first: usize,
    sets: VecDeque<(Moment, Arc<Sessions>)>,
}

impl Row {
    fn at(&self, number: usize) -> &(Moment, Arc<Sessions>) {
        let place = number.saturating_sub(self.first).min(self.sets.len() - 1);
        &self.sets[place]
    }
}

impl Shelf {
    /// The number of the newest set of an instance; set 0 is empty and was there from the beginning.
    pub fn newest(&self, instance: &InstanceName) -> usize {
        self.sets.get(instance).map_or(0, |row| row.first + row.sets.len() - 1)
    }

    /// The number of the set that was true at `horizon`.
    pub fn at(&self, instance: &InstanceName, horizon: Moment) -> usize {
        let Some(row) = self.sets.get(instance) else { return 0 };
        let later = row.sets.iter().rev().take_while(|(at, _)| *at > horizon).count();
        row.first + row.sets.len().saturating_sub(later + 1)
    }

    /// Set number `number`, and when it became true. One that is no longer kept is shown as the oldest that is.
    pub fn set(&self, instance: &InstanceName, number: usize) -> (Moment, Arc<Sessions>) {
        self.sets.get(instance).map_or_else(|| (Moment::START, Arc::default()), |row| row.at(number).clone())
    }

    /// What is true of a session Lease now.
    pub fn truth(&self, lease: &LeaseName) -> Option<&SessionSeen> {
        self.sets.values().find_map(|row| row.sets.back()?.1.get(lease)).map(Arc::as_ref)
    }

    /// What was true of a session Lease at `horizon`.
    pub fn seen(&self, lease: &LeaseName, horizon: Moment) -> Option<SessionSeen> {
        self.sets.keys().find_map(|instance| {
            let number = self.at(instance, horizon);
            self.sets.get(instance)?.at(number).1.get(lease).map(|seen| SessionSeen::clone(seen))
        })
    }

    /// The node whose session this is, or follows it, as the newest set says; none when that has ended without an heir.
    pub fn follow(&self, instance: &InstanceName, id: SessionId) -> Option<NodeName> {
        let (_, set) = self.set(instance, self.newest(instance));
        let mut id = id;
        for _ in 0..=set.len() * FORMER_LIMIT {
            if let Some(seen) = set.values().find(|seen| seen.record.id == id) {
                match seen.record.end {
                    None => return Some(seen.record.node.clone()),
                    Some(End::Released) => return None,
                    Some(End::SucceededBy(heir)) => id = heir,
                }
            } else {
                let mut former = set.values().flat_map(|seen| &seen.record.former);
                id = former.find(|former| former.id == id)?.heir?;
            }
        }
        None
    }

    /// Carries out a write when its premise holds.
    pub fn write(&mut self, write: &SessionWrite, stamp: &Stamp) -> Answer {
        let holds = match (&write.expect, self.truth(&write.lease)) {
            (Expect::Absent, None) => true,
            (Expect::Version(expected), Some(seen)) => *expected == seen.version,
            _ => false,
        };
        if !holds {
            return Answer::Conflict;
        }
        let seen = SessionSeen {
            version: stamp.version.clone(),
            renewed: Some(stamp.wall.clone()),
            duration: write.duration,
            record: write.record.clone(),
        };
        self.put(&write.instance, stamp.now, |set| {
            set.insert(write.lease.clone(), Arc::new(seen.clone()));
        });
        Answer::Session(write.lease.clone(), Some(Box::new(seen)))
    }

    /// Somebody deletes a session Lease. The instance that has lost one.
    pub fn delete(&mut self, lease: &LeaseName, now: Moment) -> Option<InstanceName> {
        let has = |row: &Row| row.sets.back().is_some_and(|(_, set)| set.contains_key(lease));
        let instance = self.sets.iter().find(|(_, row)| has(row))?.0.clone();
        self.put(&instance, now, |set| {
            set.remove(lease);
        });
        Some(instance)
    }

    fn put(&mut self, instance: &InstanceName, now: Moment, change: impl FnOnce(&mut Sessions)) {
        let row = self
            .sets
            .entry(instance.clone())
            .or_insert_with(|| Row { first: 0, sets: VecDeque::from([(Moment::START, Arc::default())]) });
        let mut next = Sessions::clone(&row.sets[row.sets.len() - 1].1);
        change(&mut next);
        row.sets.push_back((now, Arc::new(next)));
        let old = now.before(KEPT);
        // The set that was true at that time is kept, too.
        while row.sets.len() > 2 && row.sets[1].0 < old {
            row.sets.pop_front();
            row.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use vip_model::session::{BootId, Jury, SessionRecord, Succession, Via, session_lease};
    use vip_model::store::Purpose;

    use super::*;

    fn write(node: &str, expect: Expect) -> SessionWrite {
        let instance = InstanceName::new("a");
        let node = NodeName::new(node);
        SessionWrite {
            lease: session_lease("kube-system", &instance, &node),
            instance,
            expect,
            purpose: Purpose::Renew,
            duration: Duration::from_secs(5),
            record: SessionRecord {
                id: SessionId(1),
                node,
                boot: BootId::default(),
                doors: Vec::new(),
                sites: Vec::new(),
                jury: Jury::default(),
                former: Vec::new(),
                end: None,
                keys: Vec::new(),
                was_heard: false,
                drill: None,
            },
            via: Via::Any,
        }
    }

    fn stamp(millis: u64, version: u64) -> Stamp {
        let version = Version(version.to_string());
        Stamp { now: Moment::from_millis(millis), wall: millis.to_string(), version }
    }

    #[test]
    fn a_write_is_taken_only_on_its_premise() {
        let mut shelf = Shelf::default();
        let first = write("n1", Expect::Absent);
        assert!(matches!(shelf.write(&first, &stamp(10, 1)), Answer::Session(_, Some(_))));
        assert_eq!(shelf.write(&first, &stamp(20, 2)), Answer::Conflict);
        let next = write("n1", Expect::Version(Version("1".into())));
        assert!(matches!(shelf.write(&next, &stamp(30, 3)), Answer::Session(_, Some(_))));
        assert_eq!(shelf.truth(&first.lease).unwrap().version, Version("3".into()));
        assert_eq!(shelf.write(&next, &stamp(40, 4)), Answer::Conflict);
    }

    #[test]
    fn a_lagging_server_shows_the_whole_set_of_its_time() {
        let mut shelf = Shelf::default();
        let instance = InstanceName::new("a");
        assert_eq!(shelf.set(&instance, 0).1.len(), 0);
        shelf.write(&write("n1", Expect::Absent), &stamp(1000, 1));
        shelf.write(&write("n2", Expect::Absent), &stamp(2000, 2));
        let count = |millis| {
            let number = shelf.at(&instance, Moment::from_millis(millis));
            shelf.set(&instance, number).1.len()
        };
        assert_eq!([count(999), count(1000), count(1999), count(2000)], [0, 1, 1, 2]);
        assert_eq!(shelf.newest(&instance), 2);
        assert!(shelf.seen(&write("n2", Expect::Absent).lease, Moment::from_millis(1500)).is_none());
    }

    #[test]
    fn former_sets_are_forgotten_after_a_while_and_numbers_stay() {
        let mut shelf = Shelf::default();
        let instance = InstanceName::new("a");
        shelf.write(&write("n1", Expect::Absent), &stamp(0, 0));
        for second in 1..100_u64 {
            let expect = Expect::Version(Version((second - 1).to_string()));
            assert_ne!(shelf.write(&write("n1", expect), &stamp(second * 1000, second)), Answer::Conflict);
        }
        assert_eq!(shelf.newest(&instance), 100);
        let number = shelf.at(&instance, Moment::from_millis(80_500));
        let (at, set) = shelf.set(&instance, number);
        assert_eq!(
            (at, set.values().next().unwrap().version.0.as_str()),
            (Moment::from_millis(80_000), "80")
        );
        assert!(shelf.set(&instance, 3).0 >= Moment::from_millis(70_000));
        assert!(shelf.sets[&instance].sets.len() < 30);
    }

    #[test]
    fn a_deleted_session_lease_can_be_made_again() {
        let mut shelf = Shelf::default();
        let first = write("n1", Expect::Absent);
        shelf.write(&first, &stamp(10, 1));
        assert_eq!(shelf.delete(&first.lease, Moment::from_millis(20)), Some(InstanceName::new("a")));
        assert_eq!(shelf.delete(&first.lease, Moment::from_millis(30)), None);
        assert!(matches!(shelf.write(&first, &stamp(40, 2)), Answer::Session(_, Some(_))));
    }
    #[test]
    fn a_claim_is_followed_from_session_to_heir() {
        let mut shelf = Shelf::default();
        let instance = InstanceName::new("a");
        let mut first = write("n1", Expect::Absent);
        first.record.id = SessionId(11);
        let mut second = write("n2", Expect::Absent);
        second.record.id = SessionId(12);
        shelf.write(&first, &stamp(10, 1));
        shelf.write(&second, &stamp(20, 2));
        assert_eq!(shelf.follow(&instance, SessionId(11)), Some(NodeName::new("n1")));
        first.expect = Expect::Version(Version("1".into()));
        first.record.end = Some(End::SucceededBy(SessionId(12)));
        shelf.write(&first, &stamp(30, 3));
        assert_eq!(shelf.follow(&instance, SessionId(11)), Some(NodeName::new("n2")));
        first.expect = Expect::Version(Version("3".into()));
        first.record.former = vec![Succession { id: SessionId(11), heir: Some(SessionId(12)) }];
        (first.record.id, first.record.end) = (SessionId(13), None);
        shelf.write(&first, &stamp(40, 4));
        assert_eq!(shelf.follow(&instance, SessionId(11)), Some(NodeName::new("n2")));
        assert_eq!(shelf.follow(&instance, SessionId(13)), Some(NodeName::new("n1")));
        second.expect = Expect::Version(Version("2".into()));
        second.record.end = Some(End::Released);
        shelf.write(&second, &stamp(50, 5));
        assert_eq!(shelf.follow(&instance, SessionId(11)), None);
    }
}
