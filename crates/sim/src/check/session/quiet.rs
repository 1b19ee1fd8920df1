//! `quiet` in the mode `session`: when nothing happens, nothing is done. Some time after everything was healed there are no
//! kernel changes but refreshes of what is there, and no store writes but renewals of sessions; a session's list of jurors
//! stays as it is.

use std::collections::BTreeMap;

use vip_model::LeaseName;
use vip_model::kernel::{Change, Outcome};
use vip_model::session::Jury;
use vip_model::store::Purpose;

use crate::check::{Check, Verdict, settled_at};
use crate::clock::Moment;
use crate::world::{Fact, World};

pub(in crate::check) struct Quiet {
    from: Moment,
    juries: BTreeMap<LeaseName, Jury>,
}

impl Quiet {
    pub(in crate::check) fn new() -> Self {
        Self { from: Moment::NEVER, juries: BTreeMap::new() }
    }
}

impl Check for Quiet {
    fn name(&self) -> &'static str {
        "quiet"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        if matches!(fact, Fact::Healed) {
            self.from = settled_at(world);
        }
        if world.now <= self.from {
            return Ok(());
        }
        match fact {
            Fact::Step(id, change, (outcome, met)) => {
                let node = &world.processes[*id].config.node;
                match (change, met) {
                    (Change::SetAddress(set), Some(met))
                        if met.tag == set.tag && met.net == set.net.0 && **outcome == Outcome::Done => {}
                    _ => {
                        return Err(format!(
                            "{node} changes its kernel for nothing: {change:?} = {outcome:?}"
                        ));
                    }
                }
            }
            Fact::Written(id, write) => {
                // Agents that are still in mode `lease` renew.
                let process = &world.processes[*id];
                if !process.config.election_mode.is_lease() || write.purpose != Purpose::Renew {
                    let node = &process.config.node;
                    return Err(format!("{node} writes {} for nothing: {:?}", write.lease, write.purpose));
                }
            }
            Fact::SessionWritten(id, write) => {
                let node = &world.processes[*id].config.node;
                if write.purpose != Purpose::Renew {
                    return Err(format!("{node} writes {} for nothing: {:?}", write.lease, write.purpose));
                }
                let jury = &write.record.jury;
                let former = self.juries.insert(write.lease.clone(), jury.clone());
                if former.is_some_and(|former| former != *jury) {
                    return Err(format!("{node} changes its jury in quiet times: {jury:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
