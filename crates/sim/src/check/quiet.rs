//! `quiet`: when nothing happens, nothing is done. Some time after everything was healed there are no kernel changes
//! but refreshes of what is there, and no store writes but renewals by the holder: nothing about Services.

use vip_model::kernel::{Change, Outcome};
use vip_model::store::Purpose;

use super::{Check, Verdict, settled_at};
use crate::clock::Moment;
use crate::setup::Setup;
use crate::world::{Fact, World};

pub(super) struct Quiet {
    from: Moment,
}

impl Quiet {
    pub(super) fn new(_setup: &Setup) -> Self {
        Self { from: Moment::NEVER }
    }
}

impl Check for Quiet {
    fn name(&self) -> &'static str {
        "quiet"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Healed => self.from = settled_at(world),
            Fact::Step(id, change, (outcome, met)) if world.now > self.from => {
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
            Fact::Written(id, write) if world.now > self.from && write.purpose != Purpose::Renew => {
                let node = &world.processes[*id].config.node;
                return Err(format!("{node} writes {} for nothing: {:?}", write.lease, write.purpose));
            }
            Fact::Rewritten(id, name, rewrite) if world.now > self.from => {
                let node = &world.processes[*id].config.node;
                return Err(format!("{node} writes {name} for nothing: {:?}", rewrite.after));
            }
            Fact::Posted(id, post) if world.now > self.from => {
                let node = &world.processes[*id].config.node;
                return Err(format!("{node} tells {} of {} for nothing", post.reason, post.service));
            }
            _ => {}
        }
        Ok(())
    }
}
