//! The agent loop: the door that `kube-vip manager` opens.

pub(crate) mod alarm;
pub(crate) mod inbox;
pub(crate) mod pulse;
mod signal;
mod turn;

use crate::settings::Effective;

/// Runs the agent until it is stopped.
pub(crate) fn manager(effective: Effective) -> anyhow::Result<()> {
    anyhow::bail!("the agent loop of {} is not part of this build yet", effective.config.instance)
}
