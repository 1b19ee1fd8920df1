//! What all tasks of the gateway share: the lanes, the ledger of Leases, and what the program was told last.
//!
//! Every call goes through [`Gateway::call`]. There a refused credential leads to newer files or to the stand-in, and
//! trouble, recovery and missing rights are told once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use vip_model::store::{Failure, FailureClass};

use crate::call::{Call, Reply, Take};
use crate::classify::{self, Refusal};
use crate::directory::{Access, Directory};
use crate::elsewhere;
use crate::event::{ClusterEvent, Sink};
use crate::lane::{Lane, Patience};
use crate::ledger::Ledger;
use crate::settings::ApiSettings;
use crate::slots::Slots;
use crate::snapshots::Snapshots;

/// Leases, as RBAC names them.
pub(crate) const LEASES: &str = "leases.coordination.k8s.io";

/// Leases of all namespaces: a right that is nice to have. Without it each namespace is watched.
pub(crate) const ALL_LEASES: &str = "leases.coordination.k8s.io of all namespaces";

/// How long a missing right counts as trouble without being asked for again.
const LATELY: Duration = Duration::from_secs(30);

/// How a call goes to the API.
#[derive(Clone, Copy)]
pub(crate) enum Way<'a> {
    /// On this lane, to any server.
    Lane(&'a Lane),
    /// To servers on other nodes, over connections of its own.
    Elsewhere,
}

impl<'a> From<&'a Lane> for Way<'a> {
    fn from(lane: &'a Lane) -> Self {
        Self::Lane(lane)
    }
}

/// What the tasks share.
pub(crate) struct Gateway {
    /// The way to the API.
    pub(crate) directory: Arc<Directory>,
    /// For questions about Leases. Nothing else travels here, so that nothing can delay a renewal.
    pub(crate) leases: Lane,
    /// For questions about sessions: a thousand claims that change hands delay none of them.
    pub(crate) sessions: Lane,
    /// For the other questions: what is written to Nodes, Services and Events.
    pub(crate) writes: Lane,
    /// Who may use it.
    pub(crate) slots: Slots,
    /// For everything else.
    pub(crate) background: Lane,
    /// What is known of Leases.
    pub(crate) ledger: Ledger,
    /// What is known of session Leases.
    pub(crate) session_ledger: Ledger,
    /// What is known of everything else.
    pub(crate) snapshots: Snapshots,
    /// Wakes watches that wait to try again: the API answered somebody.
    pub(crate) back: Notify,
    sink: Sink,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    state: Reach,
    missing: BTreeMap<(&'static str, &'static str), Instant>,
}

impl Told {
    /// Whether some right to Leases was missing lately: then another call that works is no recovery.
    fn may_not_elect(&self, now: Instant) -> bool {
        self.missing.iter().any(|((_, resource), at)| *resource == LEASES && now < *at + LATELY)
    }
}

/// What the program believes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Reach {
    #[default]
    Unknown,
    Reachable,
    Trouble(FailureClass),
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum Problem {
    /// No server gave an answer.
    Way(Failure),
    /// A server refused.
    Refused(Box<Refusal>),
}

impl Problem {
    /// As the store's failure.
    pub(crate) fn failure(&self) -> &Failure {
        match self {
            Self::Way(failure) => failure,
            Self::Refused(refusal) => &refusal.failure,
        }
    }

    /// As the store's failure.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Way(failure) => failure,
            Self::Refused(refusal) => refusal.failure,
        }
    }
}

impl Gateway {
    pub(crate) fn new(settings: ApiSettings, sink: Sink) -> Self {
        let directory = Arc::new(Directory::new(settings));
        Self {
            leases: Lane::new(Arc::clone(&directory)),
            sessions: Lane::new(Arc::clone(&directory)),
            writes: Lane::new(Arc::clone(&directory)),
            slots: Slots::new(),
            background: Lane::new(Arc::clone(&directory)),
            directory,
            ledger: Ledger::default(),
            session_ledger: Ledger::default(),
            snapshots: Snapshots::default(),
            back: Notify::new(),
            sink,
            told: Mutex::default(),
        }
    }

    /// Tells the program something.
    pub(crate) fn tell(&self, event: ClusterEvent) {
        (self.sink)(event);
    }

    /// Sends `call` that `way`. A refused credential is tried once more when there are newer files or a stand-in.
    pub(crate) async fn call(
        &self,
        way: impl Into<Way<'_>>,
        call: &Call,
        take: Take,
        patience: Patience,
    ) -> Result<Reply, Problem> {
        let way = way.into();
        let (mut result, access) = self.once(way, call, take, patience).await;
        if let (Err(Problem::Refused(refusal)), Some(access)) = (&result, access)
            && self.has_another_way(call, refusal.failure.class, &access)
        {
            (result, _) = self.once(way, call, take, patience).await;
        }
        // What the others say when only some are asked says nothing of the API as a whole.
        if matches!(way, Way::Lane(_)) {
            self.note(call, result.as_ref().err());
        }
        result
    }

    /// Sends `call` once. Tells also which way was used, when a server answered.
    async fn once(
        &self,
        way: Way<'_>,
        call: &Call,
        take: Take,
        patience: Patience,
    ) -> (Result<Reply, Problem>, Option<Arc<Access>>) {
        let sent = match way {
            Way::Lane(lane) => lane.send(call, take, patience).await,
            Way::Elsewhere => elsewhere::send(&self.directory, call, patience.whole).await,
        };
        match sent {
            Err(failure) => (Err(Problem::Way(failure)), None),
            Ok(reply) => {
                let access = Arc::clone(&reply.access);
                let result = match classify::refusal(call, &reply) {
                    None => Ok(reply),
                    Some(refusal) => Err(Problem::Refused(refusal)),
                };
                (result, Some(access))
            }
        }
    }

    fn has_another_way(&self, call: &Call, class: FailureClass, access: &Access) -> bool {
        match class {
            FailureClass::Unauthorized => self.directory.look_again(access),
            FailureClass::Forbidden if call.resource == LEASES => self.directory.note_forbidden(access),
            FailureClass::Forbidden => self.directory.look_again(access),
            _ => false,
        }
    }

    /// Tells what changed: trouble, recovery, a right that is missing. Only Leases say whether the API is well: what
    /// else fails is not what elections wait for.
    fn note(&self, call: &Call, problem: Option<&Problem>) {
        let right = (call.verb, call.resource);
        let now = Instant::now();
        let class = problem.map(|problem| problem.failure().class);
        let mut events = Vec::new();
        let mut told = self.lock();
        if class == Some(FailureClass::Forbidden) && call.resource != ALL_LEASES {
            if told.missing.insert(right, now).is_none() {
                events.push(ClusterEvent::MissingRight { verb: right.0, resource: right.1 });
            }
        } else if problem.is_none() {
            told.missing.remove(&right);
        }
        if call.resource == LEASES {
            match problem.filter(|problem| is_trouble(problem.failure().class)) {
                Some(problem) => {
                    let state = Reach::Trouble(problem.failure().class);
                    if told.state != state {
                        told.state = state;
                        events.push(ClusterEvent::Trouble(problem.failure().clone()));
                    }
                }
                None if told.state != Reach::Reachable && !told.may_not_elect(now) => {
                    told.state = Reach::Reachable;
                    events.push(ClusterEvent::Reachable);
                    self.back.notify_waiters();
                }
                None => {}
            }
        }
        drop(told);
        for event in events {
            self.tell(event);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a failure says that the API cannot be worked with. The others are answers.
fn is_trouble(class: FailureClass) -> bool {
    !matches!(class, FailureClass::NotFound | FailureClass::Gone | FailureClass::Invalid)
}
