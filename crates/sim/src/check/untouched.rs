//! `untouched`: an agent changes and removes only what is its own: its VIPs, what Services of ours asked for, and what
//! carries its tag; never what another instance tagged.

use std::collections::BTreeSet;
use std::net::IpAddr;

use vip_model::InstanceName;
use vip_model::kernel::Change;

use super::{Check, Verdict};
use crate::kernel::Held;
use crate::process::ProcessId;
use crate::setup::{AgentSetup, Setup};
use crate::world::{Fact, Purpose, World};

pub(super) struct Untouched {
    /// The tag of each agent of a node.
    tags: Vec<u8>,
    /// What Services of ours ever asked for.
    asked: BTreeSet<IpAddr>,
}

impl Untouched {
    pub(super) fn new(setup: &Setup) -> Self {
        let tag = |agent: &AgentSetup| InstanceName::new(agent.name.clone()).address_tag();
        Self { tags: setup.agents.iter().map(tag).collect(), asked: BTreeSet::new() }
    }
}

fn judge(
    Untouched { tags, asked }: &Untouched,
    (id, change, met): (ProcessId, &Change, Option<&Held>),
    world: &World,
) -> Verdict {
    let process = &world.processes[id];
    let own_tag = tags[process.number];
    let own_vip = |addr| {
        let is_services = process.config.services.is_some() && asked.contains(&addr);
        let mut vips = world.vips.iter().filter(|vip| vip.agent == process.number && vip.addr() == addr);
        is_services || vips.any(|vip| vip.purpose == Purpose::ControlPlane)
    };
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
            Fact::Step(id, change, (_, met)) => judge(self, (*id, change, *met), world),
            Fact::Deed(_) | Fact::Rewritten(..) => {
                self.asked.extend(world.ought().addrs.keys());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
