//! A fake Kubernetes API: one truth, and one API server per node with troubles of its own. Writes go to the truth by
//! compare and swap; reads and watches show what the server of that node has seen so far.

mod domain;
mod objects;
mod shelf;

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::service::ServiceName;
use vip_model::session::SessionWrite;
use vip_model::store::{
    Acquired, Answer, Expect, Failure, FailureClass, LeaseRecord, LeaseSeen, LeaseWrite, Purpose,
    ServiceStatusWrite, ServiceWrite, Sight, Snapshot, Version,
};
use vip_model::{Instant, LeaseName, NodeName};

use crate::clock::Moment;

pub use domain::Domain;
pub use objects::{Kubelet, Matter, Objects, Rewrite, Services, Written};
pub use shelf::{Shelf, Stamp};

/// The name of a client that is none of our nodes.
pub const STRANGER: &str = "stranger";

/// One change of a Lease: the truth is the last one, a lagging server shows an earlier one.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it became true.
    pub at: Moment,
    /// What a look at the Lease shows since then.
    pub sight: Sight,
}

/// Whether an API server can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It answers.
    #[default]
    Up,
    /// It refuses connections.
    Refuse,
    /// It accepts them and never answers.
    Hang,
}

/// One API server, in front of the one truth.
#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    /// Whether it can be reached.
    pub reach: Reach,
    /// How much later than usual it answers.
    pub slow: Duration,
    /// Status with which writes are refused; 0 when they are not.
    pub write_status: u32,
    /// Status with which writes to Services, their status and Events are refused; 0 when they are not.
    pub service_status: u32,
    /// Status with which reads and watches are refused; 0 when they are not.
    pub read_status: u32,
    /// How old the truth is that it shows.
    pub lag: Duration,
    /// Whether its watches have fallen silent.
    pub watches: Watching,
    /// Per cent of writes whose answer is lost after they were applied.
    pub lost_answers: u32,
    /// Up to how long a request waits before it is served.
    pub late: Duration,
    /// Whether writes are carried out.
    pub writes: Writing,
}

/// Whether writes of a server are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writing {
    /// They are.
    #[default]
    Live,
    /// They wait: etcd has no leader.
    Waiting,
}

/// Whether watches of a server tell news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watching {
    /// They do.
    #[default]
    Live,
    /// They are silent, and nobody is told.
    Silent,
}

/// The fake API.
#[derive(Clone, Debug)]
pub struct Store {
    version: u64,
    leases: BTreeMap<LeaseName, Vec<Event>>,
    /// Everything but Leases.
    pub objects: Objects,
    /// Session Leases.
    pub sessions: Shelf,
    /// One per node.
    pub endpoints: Vec<Endpoint>,
    /// Whether writes of Leases are compared before they are swapped (a mutation takes this away).
    pub swap: Swap,
    /// Whether writes of Services are.
    pub service_swap: Swap,
}

/// Whether the store compares versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swap {
    /// Compare and swap.
    #[default]
    Compared,
    /// Every write is taken.
    Blind,
}

impl Store {
    /// An empty store for `nodes` nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            version: 100,
            leases: BTreeMap::new(),
            objects: Objects::new(nodes),
            sessions: Shelf::default(),
            endpoints: vec![Endpoint::default(); nodes],
            swap: Swap::Compared,
            service_swap: Swap::Compared,
        }
    }

    /// What is true of a Lease now.
    pub fn truth(&self, lease: &LeaseName) -> Option<(&Version, &LeaseRecord)> {
        match &self.leases.get(lease)?.last()?.sight {
            Sight::Absent(_) => None,
            Sight::Present { version, record } => Some((version, record)),
        }
    }

    /// All Leases that are there now.
    pub fn records(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.leases.keys().filter_map(|lease| Some(self.truth(lease)?.1))
    }

    /// Who holds a Lease now.
    pub fn holder(&self, lease: &LeaseName) -> Option<&str> {
        self.truth(lease)?.1.holder.as_deref()
    }

    /// All that ever happened to a Lease.
    pub fn history(&self, lease: &LeaseName) -> &[Event] {
        self.leases.get(lease).map_or(&[], Vec::as_slice)
    }

    /// How many events of the Lease this server has seen by now.
    pub fn seen_by(&self, endpoint: usize, lease: &LeaseName, now: Moment) -> usize {
        let lag = self.endpoints[endpoint].lag;
        let history = self.history(lease);
        if lag.is_zero() {
            return history.len();
        }
        let horizon = now.before(lag);
        history.partition_point(|event| event.at <= horizon)
    }

    /// What a list on this server shows of a Lease: where it is absent, the version is that of the list.
    pub fn list(&self, endpoint: usize, lease: &LeaseName, now: Moment) -> LeaseSeen {
        let mut seen = self.look(endpoint, lease, now);
        if let Sight::Absent(version) = &mut seen.sight {
            let lag = self.endpoints[endpoint].lag;
            *version = if lag.is_zero() { Some(Version(self.version.to_string())) } else { version.take() };
        }
        seen
    }

    /// What a read on this server shows of a Lease; absence has no version.
    pub fn read(&self, endpoint: usize, lease: &LeaseName, now: Moment) -> LeaseSeen {
        let mut seen = self.look(endpoint, lease, now);
        if let Sight::Absent(version) = &mut seen.sight {
            *version = None;
        }
        seen
    }

    fn look(&self, endpoint: usize, lease: &LeaseName, now: Moment) -> LeaseSeen {
        let seen = self.seen_by(endpoint, lease, now);
        let sight = match seen.checked_sub(1) {
            Some(last) => self.history(lease)[last].sight.clone(),
            None => Sight::Absent(None),
        };
        LeaseSeen { lease: lease.clone(), sight }
    }

    fn append(&mut self, lease: &LeaseName, event: Event) {
        self.leases.entry(lease.clone()).or_default().push(event);
    }

    /// A version that is newer than all others.
    pub fn next_version(&mut self) -> Version {
        self.version += 1;
        Version(self.version.to_string())
    }

    /// Carries out a write of a Lease; `wall` is the writer's wall clock.
    pub fn write(&mut self, write: &LeaseWrite, now: Moment, wall: Instant) -> Answer {
        let current = self.truth(&write.lease);
        let holds = match (&write.expect, current) {
            _ if self.swap == Swap::Blind => true,
            (Expect::Absent, None) => true,
            (Expect::Version(expected), Some((version, _))) => expected == version,
            _ => false,
        };
        if !holds {
            return Answer::Conflict;
        }
        let mut annotations = current.map(|(_, record)| record.annotations.clone()).unwrap_or_default();
        annotations.extend(write.annotations.clone());
        annotations.retain(|_, value| !value.is_empty());
        let wall = format!("{wall}");
        let record = LeaseRecord {
            holder: write.holder.as_ref().map(|node| node.as_str().to_owned()),
            duration: Some(write.duration),
            transitions: write.transitions,
            acquired: match &write.acquired {
                Acquired::Now => Some(wall.clone()),
                Acquired::Keep(text) => Some(text.clone()),
            },
            renewed: Some(wall),
            annotations,
        };
        let sight = Sight::Present { version: self.next_version(), record };
        self.append(&write.lease, Event { at: now, sight: sight.clone() });
        Answer::Lease(LeaseSeen { lease: write.lease.clone(), sight })
    }

    /// Carries out a write of a session Lease; `wall` is the writer's wall clock.
    pub fn write_session(&mut self, write: &SessionWrite, now: Moment, wall: Instant) -> Answer {
        let version = self.next_version();
        self.sessions.write(write, &Stamp { now, wall: format!("{wall}"), version })
    }

    /// Somebody deletes a Lease.
    pub fn delete(&mut self, lease: &LeaseName, now: Moment) {
        if self.truth(lease).is_some() {
            let version = self.next_version();
            self.append(lease, Event { at: now, sight: Sight::Absent(Some(version)) });
        }
    }

    /// Another client takes a Lease, as upstream's would, or renews it.
    pub fn steal(&mut self, lease: &LeaseName, now: Moment) {
        let Some((version, record)) = self.truth(lease) else { return };
        let write = LeaseWrite {
            lease: lease.clone(),
            expect: Expect::Version(version.clone()),
            purpose: Purpose::Take,
            holder: Some(NodeName::new(STRANGER)),
            duration: record.duration.unwrap_or(Duration::from_secs(5)),
            acquired: Acquired::Now,
            transitions: record.transitions + u32::from(record.holder.as_deref() != Some(STRANGER)),
            annotations: BTreeMap::new(),
        };
        self.write(&write, now, Instant::from_millis(1));
    }

    /// Somebody annotates a Lease and changes nothing else.
    pub fn annotate(&mut self, lease: &LeaseName, now: Moment, (key, text): (&str, &str)) {
        let Some((_, record)) = self.truth(lease) else { return };
        let mut record = record.clone();
        record.annotations.insert(key.to_owned(), text.to_owned());
        let sight = Sight::Present { version: self.next_version(), record };
        self.append(lease, Event { at: now, sight });
    }

    /// All Leases that there are.
    pub fn leases(&self) -> Vec<LeaseName> {
        self.leases.keys().filter(|lease| self.truth(lease).is_some()).cloned().collect()
    }

    /// Labels a Node.
    pub fn label(
        &mut self,
        now: Moment,
        node: &NodeName,
        labels: &BTreeMap<String, Option<String>>,
    ) -> Answer {
        self.objects.label(now, node, labels)
    }

    /// Writes a Service through this server.
    pub fn write_service(&mut self, now: Moment, endpoint: usize, write: &ServiceWrite) -> Written {
        let seen = self.version_on(endpoint, &write.service, now);
        let with = (self.next_version(), self.service_swap);
        self.objects.write(now, (write, seen.as_ref()), with)
    }

    /// Writes the status of a Service through this server.
    pub fn write_status(&mut self, now: Moment, endpoint: usize, write: &ServiceStatusWrite) -> Written {
        let seen = self.version_on(endpoint, &write.service, now);
        let with = (self.next_version(), self.service_swap);
        self.objects.write_status(now, (write, seen.as_ref()), with)
    }

    /// The version of a Service that this server shows.
    fn version_on(&self, endpoint: usize, name: &ServiceName, now: Moment) -> Option<Version> {
        let number = self.shown(endpoint, Matter::Services, now);
        let (_, services) = self.objects.services.change_number(number);
        services.get(name).map(|service| service.version.clone())
    }

    /// The number of the change that this server shows of a domain.
    pub fn shown(&self, endpoint: usize, matter: Matter, now: Moment) -> usize {
        self.objects.at(matter, now.before(self.endpoints[endpoint].lag))
    }

    /// The truth, as a node whose server does not lag would be shown it.
    pub fn snapshot(&self, namespace: Option<&str>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for matter in [Matter::Nodes, Matter::Services, Matter::Endpoints, Matter::Pools] {
            self.objects.show(matter, self.objects.newest(matter), namespace, &mut snapshot);
        }
        snapshot
    }
}

/// The answer for an HTTP status, classified as the gateway does.
pub fn failure(status: u32) -> Answer {
    let class = match status {
        409 => return Answer::Conflict,
        401 => FailureClass::Unauthorized,
        403 => FailureClass::Forbidden,
        404 => FailureClass::NotFound,
        410 => FailureClass::Gone,
        400 | 422 => FailureClass::Invalid,
        429 => FailureClass::Throttled,
        504 => FailureClass::Timeout,
        _ => FailureClass::Server,
    };
    Answer::Failed(Failure { class, text: format!("status {status}") })
}

/// The answer when a connection was refused or broke.
pub fn unreachable() -> Answer {
    Answer::Failed(Failure { class: FailureClass::Unreachable, text: "connection refused".to_owned() })
}

/// The answer when time is up.
pub fn timed_out() -> Answer {
    Answer::Failed(Failure { class: FailureClass::Timeout, text: "no answer in time".to_owned() })
}
