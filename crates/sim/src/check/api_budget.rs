//! `api_budget`: in quiet times a holder asks once per retry period and Lease and nobody else asks anything; in trouble
//! no agent asks more than a few times a second and Lease or Service.

use std::time::Duration;

use vip_agent::Output;
use vip_model::LeaseName;
use vip_model::store::{Ask, Purpose};

use super::{Check, Verdict, settled_at};
use crate::process::ProcessId;
use crate::setup::Setup;
use crate::world::{Fact, World};

/// Questions of one agent within one second, whatever goes wrong. One per answer with the shortest pause (50 ms) and
/// its doubling, a read and a write each, stays below.
const IN_TROUBLE: u32 = 40;

/// As many more for each Service and for each Lease beside the first.
const PER_SERVICE: u32 = 20;

pub(super) struct ApiBudget {
    retry: Duration,
    seen: Vec<Seen>,
}

#[derive(Clone, Default)]
struct Seen {
    second: u64,
    asked: u32,
    /// The most Services and Leases of this second: whoever starts again in it knows of none yet.
    more: u32,
    quiet: u32,
}

impl ApiBudget {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            retry: setup.timings.retry_period,
            seen: vec![Seen::default(); setup.nodes() * setup.agents.len()],
        }
    }

    fn ask(&mut self, id: ProcessId, ask: &Ask, world: &World) -> Verdict {
        let seen = &mut self.seen[id];
        let second = world.now.as_millis() / 1000;
        if second != seen.second {
            (seen.second, seen.asked, seen.more) = (second, 0, 0);
        }
        seen.asked += 1;
        let node = &world.processes[id].config.node;
        let process = &world.processes[id];
        let services = process.heard.services.get().map_or(0, |services| services.len());
        let leases = process.watches.leases.len().saturating_sub(1);
        seen.more = seen.more.max(u32::try_from(leases + services).unwrap_or(u32::MAX));
        if seen.asked > IN_TROUBLE + PER_SERVICE * seen.more {
            return Err(format!("{node} asks {} questions within one second", seen.asked));
        }
        if world.now > settled_at(world) {
            seen.quiet += 1;
            if !matches!(ask, Ask::WriteLease(write) if write.purpose == Purpose::Renew) {
                return Err(format!("{node} asks in quiet times: {ask:?}"));
            }
        }
        Ok(())
    }

    fn end(&self, world: &World) -> Verdict {
        let span = world.now.since(settled_at(world));
        let allowed = 2.0 + 1.25 * span.as_secs_f64() / self.retry.as_secs_f64();
        for (id, seen) in self.seen.iter().enumerate() {
            let node = &world.processes[id].config.node;
            let leases = world.store.leases();
            let holds = |lease: &&LeaseName| world.store.holder(lease) == Some(node.as_str());
            let allowed = allowed * leases.iter().filter(holds).count().max(1) as f64;
            if f64::from(seen.quiet) > allowed {
                return Err(format!(
                    "{node} asked {} questions in {span:?} of quiet, {allowed:.0} are enough",
                    seen.quiet
                ));
            }
        }
        Ok(())
    }
}

impl Check for ApiBudget {
    fn name(&self) -> &'static str {
        "api_budget"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Output(id, Output::Ask(question)) => self.ask(*id, &question.ask, world),
            Fact::End => self.end(world),
            _ => Ok(()),
        }
    }
}
