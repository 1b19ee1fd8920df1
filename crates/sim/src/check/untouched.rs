//! `untouched`: an agent changes and removes only what is its own: its VIPs and what carries its tag; never what
//! another instance tagged.

use vip_model::InstanceName;
use vip_model::kernel::Change;

use super::{Check, Verdict};
use crate::kernel::Held;
use crate::process::ProcessId;
use crate::setup::{AgentSetup, Setup};
use crate::world::{Fact, World};

pub(super) struct Untouched {
    /// The tag of each agent of a node.
    tags: Vec<u8>,
}

impl Untouched {
    pub(super) fn new(setup: &Setup) -> Self {
        let tag = |agent: &AgentSetup| InstanceName::new(agent.name.clone()).address_tag();
        Self { tags: setup.agents.iter().map(tag).collect() }
    }
}

fn judge(tags: &[u8], (id, change, met): (ProcessId, &Change, Option<&Held>), world: &World) -> Verdict {
    let process = &world.processes[id];
    let own_tag = tags[process.number];
    let own_vip = |addr| world.vips.iter().any(|(agent, vip)| *agent == process.number && vip.addr() == addr);
    let others = |tag: u8| tag != own_tag && tags.contains(&tag);
    match (change, met) {
        (Change::SetAddress(set), _) if set.tag != own_tag => {
            Err(format!("{} is set with tag {} and not its own, {own_tag}", set.net, set.tag))
        }
        (Change::SetAddress(set), _) if !own_vip(set.net.addr()) => {
            Err(format!("{} is set and is none of its VIPs", set.net))
        }
        (_, Some(met)) if others(met.tag) => {
            Err(format!("{} belongs to another instance (tag {}) and is changed", met.net, met.tag))
        }
        (Change::DelAddress { net, .. }, Some(met)) if met.tag != own_tag && !own_vip(net.addr()) => {
            Err(format!("{net} (tag {}) is removed and is not its own", met.tag))
        }
        _ => Ok(()),
    }
}

impl Check for Untouched {
    fn name(&self) -> &'static str {
        "untouched"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Step(id, change, (_, met)) => judge(&self.tags, (*id, change, *met), world),
            _ => Ok(()),
        }
    }
}
