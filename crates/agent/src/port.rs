//! The door of the node: everything that goes in and everything that comes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vip_model::LinkIndex;
use vip_model::QuestionId;
use vip_model::kernel::{Actual, Batch, FrameIn, FrameOut, Report};
use vip_model::observed::{Errand, ErrandAnswer};
use vip_model::peers::{DoorState, DoorWant, PeerHeard, PeerSend};
use vip_model::session::{Memory, Recall, Sessions};
use vip_model::store::{Answer, LeaseSeen, Question, Snapshot, Watches};

/// One thing that happened in the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The kernel was dumped. Whole; only the newest counts.
    Actual(Actual),
    /// A batch of changes was carried out.
    Report(Report),
    /// A frame arrived.
    Frame(FrameIn),
    /// A watched Lease was seen (added, modified, or deleted: `Sight::Absent`), or a list showed it or its absence.
    Lease(LeaseSeen),
    /// What else the cluster says. Whole; only the newest counts.
    Snapshot(Snapshot),
    /// The answer to a question.
    Answer(QuestionId, Answer),
    /// The answer to an errand.
    Errand(ErrandAnswer),
    /// All session Leases of the instance. Whole; only the newest counts.
    Sessions(Arc<Sessions>),
    /// A heartbeat arrived, checked and newer than the last one of its session.
    Peer(Box<PeerHeard>),
    /// What became of the door for heartbeats.
    Door(DoorState),
    /// What an earlier life of this agent left behind since the node booted. Comes once, after the start, in mode
    /// `session`; nothing is asked for before.
    Recall(Box<Recall>),
    /// Stop in good order: silence, addresses gone, Leases released, then `Output::Exit`.
    Stop,
}

/// One thing to be done in the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Apply these changes, report, then dump. At most one batch is in flight.
    Kernel(Batch),
    /// Send this frame.
    Frame(FrameOut),
    /// Listen for ARP and neighbour discovery on these links: the whole set.
    Listen(BTreeSet<LinkIndex>),
    /// Ask the store. Exactly one `Input::Answer` comes back, by the question's timeout.
    Ask(Question),
    /// Watch these: the whole set.
    Watch(Watches),
    /// Send this heartbeat. It may be lost.
    Peer(Box<PeerSend>),
    /// Open (or move, or close) the door for heartbeats.
    Door(Option<DoorWant>),
    /// Keep this for a next life of the agent on this boot of the node.
    Remember(Box<Memory>),
    /// Run this errand. Exactly one `Input::Errand` comes back.
    Errand(Errand),
    /// Everything is in order: the process can end.
    Exit,
}
