//! `only_ours_written`: nothing is written to a Service that is not ours, nothing that was meant for a former one of the
//! same name, nothing at all where updates are switched off, and Events tell only of Services that were ours.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Verdict};
use crate::setup::Writes;
use crate::world::{Duty, Fact, World};

#[derive(Default)]
pub(super) struct OnlyOursWritten {
    /// The uids of all Services that ever were ours.
    ours: BTreeSet<String>,
    /// The uid of the Service that had a version.
    lives: BTreeMap<String, String>,
}

impl OnlyOursWritten {
    fn note(&mut self, world: &World) {
        let ought = world.ought();
        for (name, service) in world.store.objects.services.now().iter() {
            self.lives.insert(service.version.0.clone(), service.uid.clone());
            if ought.duties[name] != Duty::NotOurs && !self.ours.contains(&service.uid) {
                self.ours.insert(service.uid.clone());
            }
        }
    }
}

impl Check for OnlyOursWritten {
    fn name(&self) -> &'static str {
        "only_ours_written"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Deed(_) => self.note(world),
            Fact::Rewritten(id, name, rewrite) => {
                let node = &world.processes[*id].config.node;
                // No agent's write makes a Service ours or not ours.
                if world.ought().duties.get(*name).is_none_or(|duty| *duty == Duty::NotOurs) {
                    return Err(format!("{node} writes {name}, which is not ours: {:?}", rewrite.before));
                }
                let meant = self.lives.get(&rewrite.expect.0);
                if meant.is_some_and(|uid| *uid != rewrite.before.uid) {
                    return Err(format!("{node} writes to {name} what was meant for one that is gone"));
                }
                self.lives.insert(rewrite.after.version.0.clone(), rewrite.after.uid.clone());
                if world.setup.services().is_some_and(|(_, services)| services.updates == Writes::Off) {
                    return Err(format!("{node} writes {name} although updates are off"));
                }
            }
            Fact::Posted(id, post) if !self.ours.contains(&post.uid) => {
                let node = &world.processes[*id].config.node;
                return Err(format!("{node} tells of {}, which never was ours", post.service));
            }
            _ => {}
        }
        Ok(())
    }
}
