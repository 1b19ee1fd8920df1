//! The door of the node: everything that goes in and everything that comes out.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use vip_model::LinkIndex;
use vip_model::QuestionId;
use vip_model::kernel::{Actual, Batch, FrameIn, FrameOut, Report};
use vip_model::observed::{Errand, ErrandAnswer};
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
    /// Run this errand. Exactly one `Input::Errand` comes back.
    Errand(Errand),
    /// Everything is in order: the process can end.
    Exit,
}
