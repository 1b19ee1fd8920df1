//! `liveness` in the mode `session`: some time after everything was healed, every VIP answers from exactly one node, the
//! one whose session owns the claim, and stays there; and the client's neighbour cache knows that node.

use crate::check::{Check, Verdict, nodes_of, settled_at};
use crate::clock::Moment;
use crate::process::Life;
use crate::setup::node_name;
use crate::world::{Fact, Purpose, World};

pub(in crate::check) struct Liveness {
    from: Moment,
}

impl Liveness {
    pub(in crate::check) fn new() -> Self {
        Self { from: Moment::NEVER }
    }
}

/// When somebody looks at the client, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Kernels,
    Client,
}

fn judge(world: &World, look: Look) -> Verdict {
    let ought = world.ought();
    for (number, vip) in world.vips.iter().enumerate() {
        let agent = &vip.agent;
        let lease = match vip.purpose {
            Purpose::Services => ought.addrs.get(&vip.addr()).map(|(group, _)| &ought.groups[*group].lease),
            Purpose::ControlPlane => Some(&world.setup.lease(*agent)),
        };
        let Some(lease) = lease else { continue }; // nobody asks for it
        let runs =
            |process: &crate::process::Process| process.number == *agent && process.life == Life::Running;
        if !world.processes.iter().any(runs) || world.answering[number] != world.owning[number] {
            continue; // Nobody could, or an outsider answers: a conflict, and nobody else may.
        }
        let mask = world.owning[number];
        if mask.count_ones() != 1 {
            return Err(format!("{} answers for {} in quiet times", nodes_of(mask), vip.addr()));
        }
        let owner = world.owner(*agent, lease);
        let holder = node_name(mask.trailing_zeros() as usize);
        if owner.as_ref() != Some(&holder) {
            return Err(format!("{holder} answers for {}, but {owner:?} owns the claim", vip.addr()));
        }
        if look == Look::Client
            && let Some(since) = world.eyes[number].unserved_since()
        {
            return Err(format!("the client does not reach {} since {since}", vip.addr()));
        }
    }
    Ok(())
}

impl Check for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Healed => self.from = settled_at(world),
            Fact::Answering if world.now > self.from => return judge(world, Look::Kernels),
            Fact::End if world.now > self.from => return judge(world, Look::Client),
            _ => {}
        }
        Ok(())
    }
}
