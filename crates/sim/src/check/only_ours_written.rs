//! `only_ours_written`: nothing is written to a Service that is not ours, nothing at all where updates are switched off,
//! and Events tell only of Services that were ours.

use std::collections::BTreeSet;

use super::{Check, Verdict};
use crate::setup::Writes;
use crate::world::{Duty, Fact, World};

#[derive(Default)]
pub(super) struct OnlyOursWritten {
    /// The uids of all Services that ever were ours.
    ours: BTreeSet<String>,
}

impl OnlyOursWritten {
    fn note(&mut self, world: &World) {
        let ought = world.ought();
        for (name, service) in world.store.objects.services.now().iter() {
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
