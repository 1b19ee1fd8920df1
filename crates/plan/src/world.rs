//! Everything that a plan is made from.

use vip_model::Known;
use vip_model::config::Config;
use vip_model::kernel::{Actual, Lifetime};
use vip_model::members::Members;
use vip_model::observed::Observed;
use vip_model::plan::NodePlan;
use vip_model::store::Snapshot;

/// Everything that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// What the user asked for.
    pub config: &'a Config,
    /// Whether the agent runs or stops.
    pub life: Life,
    /// What the cluster says.
    pub snapshot: &'a Snapshot,
    /// Who leads.
    pub members: &'a Members,
    /// What machines learned by asking.
    pub observed: &'a Observed,
    /// What the kernel shows.
    pub actual: &'a Known<Actual>,
    /// Whether the kernel is at work on something that `actual` cannot show yet.
    pub kernel_work: KernelWork,
    /// The plan before this one.
    pub former: Option<&'a NodePlan>,
    /// How long an address that was found at the start may live without proof that we may hold it.
    pub adopt_until: Lifetime,
}

impl World<'_> {
    /// Whether what this node holds is given to a successor that is named, make before break (mode `session`).
    pub(crate) fn hands_over(&self) -> bool {
        !self.config.election_mode.is_lease()
    }
}

/// Whether the agent runs or stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Running,
    /// It was told to stop: nothing is wanted any more.
    Stopping,
}

/// Whether the kernel is at work on a batch of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelWork {
    /// No batch is in flight and `actual` is younger than the last one.
    Settled,
    /// A batch is in flight, or `actual` is older than the last one.
    InFlight,
}
