//! The faults that a scenario can turn on while the server runs, for all endpoints or for one. Scenarios turn them from
//! any thread; the accept loop, the connections, the request path and the watches read them.

use super::failure::Failure;
use super::route::Verb;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch::{Receiver, Sender};

/// How an endpoint meets its clients. Ordered by severity: of the global and the endpoint's own, the worse one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// As it should be.
    #[default]
    Open,
    /// The listener is closed: new connections are refused. Open connections go on.
    Refused,
    /// The process hangs (as SIGSTOP does): the kernel still takes connections, nobody answers, not even the TLS
    /// handshake. Everything goes on from where it stood when this ends.
    Frozen,
    /// The path is cut: connections of before and during the cut never get another byte, not even an end, also after
    /// it is healed. Connections made after the heal work. The kernel still completes TCP handshakes; a cut that
    /// drops SYNs too belongs to the network faults.
    Cut,
    /// The process is dead (as SIGKILL does): all connections are closed, the listener too.
    Down,
}

/// Whether open watches deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watches {
    /// Events come.
    #[default]
    Flowing,
    /// Watches stay open and silent, without events, bookmarks or their timely end. What was missed comes afterwards.
    Frozen,
}

/// What the health endpoints show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// All checks pass.
    #[default]
    Green,
    /// The checks `etcd` and `etcd-readiness` fail; `?exclude=etcd&exclude=etcd-readiness` still passes.
    EtcdRed,
    /// The check `ping` fails too: nothing but excluding it passes.
    Red,
}

/// What happens to a request that a fault matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answered with this; nothing is done.
    Fail(Failure),
    /// Done, and then answered with this: the client can't know.
    FailAfter(Failure),
    /// Never answered; nothing is done.
    Hang,
    /// Done, and never answered.
    HangAfter,
    /// Done after this time.
    Delay(Duration),
    /// Answered after this time with 504, reason Timeout; nothing is done.
    TimeOut(Duration),
}

/// A fault of some requests. A field that is absent matches everything; the first fault that matches counts. Plain paths
/// (`/readyz`) are hit only by a fault that names them as its resource, or that names neither verb nor resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Only this verb.
    pub verb: Option<Verb>,
    /// Only this resource, as RBAC names it: `leases`, `services/status`.
    pub resource: Option<String>,
    /// Only this user.
    pub user: Option<String>,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// A fault of every request.
    pub fn all(effect: Effect) -> Self {
        Self { verb: None, resource: None, user: None, effect }
    }

    /// A fault of one verb on one resource.
    pub fn on(verb: Verb, resource: &str, effect: Effect) -> Self {
        Self { verb: Some(verb), resource: Some(resource.to_owned()), user: None, effect }
    }

    fn matches(&self, verb: Verb, resource: &str, user: &str) -> bool {
        if resource.starts_with('/') && self.resource.is_none() && self.verb.is_some() {
            return false;
        }
        self.verb.is_none_or(|wanted| wanted == verb)
            && self.resource.as_ref().is_none_or(|wanted| wanted == resource)
            && self.user.as_ref().is_none_or(|wanted| wanted == user)
    }
}

/// All knobs of one scope. `Knobs::default()` is a healthy server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Knobs {
    /// How the endpoint meets its clients.
    pub reach: Reach,
    /// Every request waits this long before it is looked at. Global and own latency add up.
    pub latency: Duration,
    /// Whether open watches deliver.
    pub watches: Watches,
    /// What the health endpoints show.
    pub health: Health,
    /// Faults of some requests. The endpoint's own come before the global ones.
    pub faults: Vec<Fault>,
}

/// How long the real server (1.34) holds a write and a read whose etcd does not answer, before its 504. Measured with
/// etcd stopped by SIGSTOP, and the same with etcd killed.
const DEAD_ETCD_WRITE: Duration = Duration::from_secs(34);
const DEAD_ETCD_READ: Duration = Duration::from_secs(60);

impl Knobs {
    /// An API server whose etcd is dead: writes time out after 34 s and reads after 60 s, the etcd checks are red, open
    /// watches stay open (silent, for nothing is written) and plain paths are answered at once. The real server still
    /// answers reads that ask for `resourceVersion=0` from its cache; this one does not.
    pub fn dead_etcd() -> Self {
        let write =
            [Verb::Create, Verb::Update, Verb::Patch, Verb::Delete].map(|verb| (verb, DEAD_ETCD_WRITE));
        let read = [Verb::Get, Verb::List].map(|verb| (verb, DEAD_ETCD_READ));
        let fault = |(verb, time)| Fault {
            verb: Some(verb),
            resource: None,
            user: None,
            effect: Effect::TimeOut(time),
        };
        let faults = write.into_iter().chain(read).map(fault).collect();
        Self { health: Health::EtcdRed, faults, ..Self::default() }
    }
}

/// Whose knobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Of all endpoints, also of those that are added later.
    All,
    /// Of the endpoint with this name.
    Endpoint(&'a str),
}

/// What connections and watches of one endpoint follow. The counters make short faults visible to slow readers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) reach: Reach,
    pub(crate) watches: Watches,
    pub(crate) cuts: u64,
    pub(crate) deaths: u64,
    pub(crate) watches_dropped: u64,
}

#[derive(Debug, Default)]
struct Board {
    global: Knobs,
    own: BTreeMap<String, (Knobs, Sender<Line>)>,
}

/// The board of all knobs.
#[derive(Debug, Default)]
pub(crate) struct Panel(Mutex<Board>);

/// What one request meets.
pub(crate) struct Weather {
    pub(crate) latency: Duration,
    pub(crate) effect: Option<Effect>,
}

impl Panel {
    fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an endpoint; none when its name is taken.
    pub(crate) fn add(&self, name: &str) -> Option<Receiver<Line>> {
        let mut board = self.lock();
        if board.own.contains_key(name) {
            return None;
        }
        let sender = Sender::new(Line::default());
        let line = sender.subscribe();
        board.own.insert(name.to_owned(), (Knobs::default(), sender));
        board.publish();
        Some(line)
    }

    /// Turns knobs; false when there is no such endpoint.
    pub(crate) fn turn(&self, whose: Whose<'_>, turn: impl FnOnce(&mut Knobs)) -> bool {
        let mut board = self.lock();
        let found = match whose {
            Whose::All => Some(&mut board.global),
            Whose::Endpoint(name) => board.own.get_mut(name).map(|(knobs, _)| knobs),
        };
        let is_found = found.is_some();
        if let Some(knobs) = found {
            turn(knobs);
        }
        board.publish();
        is_found
    }

    /// Ends all open watches of a scope once.
    pub(crate) fn drop_watches(&self, whose: Whose<'_>) {
        let board = self.lock();
        for (name, (_, sender)) in &board.own {
            if whose == Whose::All || whose == Whose::Endpoint(name) {
                sender.send_modify(|line| line.watches_dropped += 1);
            }
        }
    }

    pub(crate) fn weather(&self, endpoint: &str, verb: Verb, resource: &str, user: &str) -> Weather {
        let board = self.lock();
        let own = board.own.get(endpoint).map(|(knobs, _)| knobs);
        let latency = board.global.latency + own.map_or(Duration::ZERO, |knobs| knobs.latency);
        let own = own.map_or(&[][..], |knobs| &knobs.faults);
        let fault = own.iter().chain(&board.global.faults).find(|fault| fault.matches(verb, resource, user));
        Weather { latency, effect: fault.map(|fault| fault.effect.clone()) }
    }

    pub(crate) fn health(&self, endpoint: &str) -> Health {
        let board = self.lock();
        let own = board.own.get(endpoint).map_or(Health::Green, |(knobs, _)| knobs.health);
        own.max(board.global.health)
    }
}

impl Board {
    /// Tells every endpoint where it stands now.
    fn publish(&self) {
        for (knobs, sender) in self.own.values() {
            let reach = knobs.reach.max(self.global.reach);
            let watches = knobs.watches.max(self.global.watches);
            sender.send_if_modified(|line| {
                let before = line.clone();
                if reach != line.reach {
                    line.cuts += u64::from(reach == Reach::Cut);
                    line.deaths += u64::from(reach == Reach::Down);
                }
                (line.reach, line.watches) = (reach, watches);
                *line != before
            });
        }
    }
}
