//! One agent process with the gateways of its program: what is in flight to and from it. Plain state; the world moves
//! it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vip_agent::Agent;
use vip_model::config::{Config, OnLoss};
use vip_model::kernel::{Batch, BatchId, Outcome};
use vip_model::store::{Snapshot, Watches};
use vip_model::verdict::{Subject, Verdict};
use vip_model::view::View;
use vip_model::{InstanceName, Instant, LeaseName, LinkIndex, QuestionId};

use crate::clock::Moment;
use crate::peers::Door;
use crate::queue::Event;
use crate::store::Matter;

/// Number of a process in the world; stays the same over restarts.
pub type ProcessId = usize;

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Running,
    /// SIGSTOP: everything waits.
    Paused,
    /// There is none.
    Dead,
}

/// What a process does to itself at its next output, as an armed fault says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// Killed at the next batch that grants.
    KillAtBatch,
    /// Killed at the next question.
    KillAtAsk,
    /// Stopped at the next batch that grants.
    PauseAtBatch,
    /// Stopped at the next question.
    PauseAtAsk,
    /// Killed after so many outputs of any kind.
    KillAfter(u32),
    /// Stopped after so many outputs of any kind.
    PauseAfter(u32),
}

/// Where the dumps of a process stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dumping {
    /// Nothing to do.
    Idle,
    /// One begins at this moment.
    Due(Moment),
    /// One is in flight; another one follows if news came meanwhile.
    Flying(News),
}

/// Whether the kernel changed during a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It did not.
    No,
    /// It did.
    Came,
}

/// A batch on its way into the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    /// The batch.
    pub(crate) batch: Batch,
    /// When the agent gave it out, on its clock.
    pub(crate) decided: Instant,
    /// Outcomes so far; the next step is the one after them.
    pub(crate) outcomes: Vec<Outcome>,
}

/// What a watch is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watched {
    /// One Lease.
    Lease(LeaseName),
    /// One domain of the snapshot.
    Matter(Matter),
    /// The session Leases of an instance.
    Sessions(InstanceName),
}

/// Whether the gateway has something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// It has not.
    Idle,
    /// It will, soon.
    Due,
}

/// A question that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// The Lease that it is about.
    pub(crate) lease: Option<LeaseName>,
    /// The end of its timeout on the node's clock.
    pub(crate) due: Instant,
}

/// One watch.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// The number of its connection, unique in the process; what belongs to an older one is dropped.
    pub(crate) number: u32,
    /// The server, once connected.
    pub(crate) endpoint: Option<usize>,
    /// Nothing of this stream arrives earlier than what it sent before.
    pub(crate) last: Moment,
}

/// One agent process with its gateways.
pub struct Process {
    /// The node that it runs on.
    pub node: usize,
    /// Which of the node's agents it is.
    pub number: usize,
    /// Its configuration.
    pub config: Config,
    /// Whether it runs.
    pub life: Life,
    /// When it was started.
    pub born: Moment,
    /// Counts starts.
    pub(crate) generation: u32,
    pub(crate) agent: Option<Box<Agent>>,
    /// What it shows since its last turn.
    pub(crate) view: Arc<View>,
    /// What it had decided then.
    pub(crate) verdicts: BTreeMap<Subject, Verdict>,
    /// When that was.
    pub(crate) viewed: Moment,
    pub(crate) wake: Moment,
    pub(crate) batches: VecDeque<Flight>,
    pub(crate) applied: BatchId,
    pub(crate) dumping: Dumping,
    /// Open questions.
    pub(crate) questions: BTreeMap<QuestionId, Open>,
    /// When the last question left, and how long the last answered one took.
    pub(crate) asked: Moment,
    pub(crate) round_trip: Duration,
    pub(crate) watches: Watches,
    pub(crate) streams: BTreeMap<Watched, Stream>,
    /// What each open connection is about.
    pub(crate) topics: BTreeMap<u32, Watched>,
    /// What the gateway has heard beside Leases.
    pub(crate) heard: Snapshot,
    pub(crate) telling: Telling,
    /// When it last told the agent.
    pub(crate) told: Moment,
    /// Counts connections of watches.
    pub(crate) connections: u32,
    pub(crate) listening: BTreeSet<LinkIndex>,
    pub(crate) frozen: Vec<Event>,
    /// Frames among it: those in the packet socket.
    pub(crate) frames_waiting: usize,
    pub(crate) trap: Option<Trap>,
    /// Its door for heartbeats.
    pub(crate) door: Door,
}

impl Process {
    /// A process that was not started yet.
    pub(crate) fn new(node: usize, number: usize, config: Config) -> Self {
        Self {
            node,
            number,
            config,
            life: Life::Dead,
            born: Moment::START,
            generation: 0,
            agent: None,
            view: Arc::new(View::default()),
            verdicts: BTreeMap::new(),
            viewed: Moment::START,
            wake: Moment::NEVER,
            batches: VecDeque::new(),
            applied: BatchId(0),
            dumping: Dumping::Idle,
            questions: BTreeMap::new(),
            asked: Moment::START,
            round_trip: Duration::ZERO,
            watches: Watches::default(),
            streams: BTreeMap::new(),
            topics: BTreeMap::new(),
            heard: Snapshot::default(),
            telling: Telling::Idle,
            told: Moment::START,
            connections: 0,
            listening: BTreeSet::new(),
            frozen: Vec::new(),
            frames_waiting: 0,
            trap: None,
            door: Door::default(),
        }
    }

    /// Ends it: nothing of it is left but its number.
    pub(crate) fn end(&mut self) {
        let fresh = Self::new(self.node, self.number, self.config.clone());
        let generation = self.generation + 1;
        *self = Self { generation, born: self.born, ..fresh };
    }

    /// Whether an address goes when its election is lost.
    pub(crate) fn config_removes_on_loss(&self) -> bool {
        self.config.control_plane.as_ref().is_none_or(|wanted| wanted.on_loss == OnLoss::Remove)
    }
}
