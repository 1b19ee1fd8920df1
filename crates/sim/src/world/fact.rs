//! What checkers are told, and what they answer.

use vip_agent::{Input, Output};
use vip_model::kernel::{Change, Outcome};
use vip_model::service::ServiceName;
use vip_model::session::SessionWrite;
use vip_model::store::{Ask, EventPost, LeaseWrite};
use vip_model::view::View;

use crate::clock::Moment;
use crate::deed::Deed;
use crate::kernel::Held;
use crate::process::ProcessId;
use crate::store::Rewrite;

/// Whether anybody answers for a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Nobody ever did.
    NotYet,
    /// Somebody does.
    Answers,
    /// Nobody does since then.
    SilentSince(Moment),
}

/// Something that checkers want to know.
pub enum Fact<'a> {
    /// A process was started.
    Born(ProcessId),
    /// An input is given to an agent.
    Input(ProcessId, &'a Input),
    /// An agent gave this out.
    Output(ProcessId, &'a Output),
    /// A turn of an agent is over; it took that many polls.
    Turn(ProcessId, u32),
    /// What an agent shows.
    View(ProcessId, &'a View),
    /// A change was carried out, or not; the address that it met is the third part.
    Step(ProcessId, &'a Change, (&'a Outcome, Option<&'a Held>)),
    /// The store took a write of a Lease.
    Written(ProcessId, &'a LeaseWrite),
    /// A question goes to an API server.
    Asked(ProcessId, &'a Ask),
    /// The store took a write of a session Lease.
    SessionWritten(ProcessId, &'a SessionWrite),
    /// The store took a write of a Service.
    Rewritten(ProcessId, &'a ServiceName, &'a Rewrite),
    /// An Event reached the store.
    Posted(ProcessId, &'a EventPost),
    /// Somebody did something.
    Deed(&'a Deed),
    /// Who answers for a VIP, or whom the client hears, has changed.
    Answering,
    /// All that heals is healed.
    Healed,
    /// The world ends.
    End,
}

/// Why a world was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The checker.
    pub checker: &'static str,
    /// What it says.
    pub sentence: String,
    /// When.
    pub at: Moment,
}
