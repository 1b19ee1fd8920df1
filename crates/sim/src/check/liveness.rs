//! `liveness`: some time after everything was healed, every VIP of a control plane answers from exactly one node, the one
//! that the Lease names, and stays there; and the client's neighbour cache knows the node of every address.

use std::time::Duration;

use vip_model::LinkAddr;

use super::{Check, Verdict, nodes_of, settled_at};
use crate::clock::Moment;
use crate::kernel::FakeKernel;
use crate::process::Life;
use crate::setup::Setup;
use crate::world::{Fact, Purpose, World};

/// How long a world may need to settle after everything was healed: an old holder's Lease runs out, somebody takes
/// it; a slow retry, a watch that is opened again, a closed gate that opens and a node that boots come on top.
pub fn settle_time(setup: &Setup) -> Duration {
    let rest = if setup.session.is_some() { Duration::from_secs(8) } else { Duration::from_secs(12) };
    let services = setup.services().map_or(Duration::ZERO, |_| SERVICE_PAUSE);
    setup.timings.duration + setup.timings.retry_period * 2 + rest + services
}

/// A write of a Service that failed again and again is tried again after half a minute, and another may follow it.
const SERVICE_PAUSE: Duration = Duration::from_secs(33);

pub(super) struct Liveness {
    from: Moment,
}

impl Liveness {
    pub(super) fn new(_setup: &Setup) -> Self {
        Self { from: Moment::NEVER }
    }
}

fn judge(world: &World) -> Verdict {
    for (number, vip) in world.vips.iter().enumerate() {
        let agent = &vip.agent;
        if vip.purpose == Purpose::Services {
            continue;
        }
        let candidates =
            |process: &&crate::process::Process| process.number == *agent && process.life == Life::Running;
        let mut running = world.processes.iter().filter(candidates).peekable();
        if running.peek().is_none() {
            continue;
        }
        let is_open = |process: &crate::process::Process| world.ought().open & (1 << process.node) != 0;
        if !running.any(is_open) {
            // Whoever could hold it was drained by a user.
            match world.owning[number] {
                0 => continue,
                mask => return Err(format!("{} is drained and answers for {}", nodes_of(mask), vip.addr())),
            }
        }
        if world.answering[number] != world.owning[number] {
            continue; // An outsider answers where no agent runs: a conflict, and nobody else may.
        }
        let mask = world.owning[number];
        if mask.count_ones() != 1 {
            return Err(format!("{} answers for {} in quiet times", nodes_of(mask), vip.addr()));
        }
        let holder = world.store.holder(&world.setup.lease(*agent));
        if holder != Some(nodes_of(mask).as_str()) {
            return Err(format!(
                "{} answers for {}, but {holder:?} holds the Lease",
                nodes_of(mask),
                vip.addr()
            ));
        }
    }
    Ok(())
}

fn judge_client(world: &World) -> Verdict {
    for (number, vip) in world.vips.iter().enumerate() {
        if world.answering[number] != world.owning[number] {
            continue; // What an outsider left on a node without an agent answers too.
        }
        let mask = world.answering[number];
        let known: Option<&LinkAddr> = world.wire.client[number].as_ref();
        let right = (mask != 0).then(|| FakeKernel::mac(mask.trailing_zeros() as usize));
        if right.is_some() && known != right.as_ref() {
            return Err(format!("the client takes {known:?} for {}, it is {}", vip.addr(), nodes_of(mask)));
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
            Fact::Answering | Fact::Turn(..) if world.now > self.from => return judge(world),
            Fact::End if world.now > self.from => {
                judge(world)?;
                return judge_client(world);
            }
            _ => {}
        }
        Ok(())
    }
}
