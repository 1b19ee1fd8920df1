//! `eligible`: in a healthy world no address is on a node that may not have it for longer than a moment: not beside a
//! Service without an endpoint there, not on a node that is taken out, not for a Service that is gone.

use super::calm::Calm;
use super::{Check, Verdict, nodes_of};
use crate::world::{Fact, Purpose, World};

#[derive(Default)]
pub(super) struct Eligible {
    calm: Calm,
}

fn judge(world: &World) -> Verdict {
    let ought = world.ought();
    for (number, vip) in world.vips.iter().enumerate().filter(|(_, vip)| vip.purpose == Purpose::Services) {
        let may = ought.addrs.get(&vip.addr()).map_or(0, |(_, nodes)| *nodes);
        let must_not = world.owning[number] & !may;
        if must_not != 0 {
            return Err(format!("{} answers for {} and may not", nodes_of(must_not), vip.addr()));
        }
    }
    Ok(())
}

impl Check for Eligible {
    fn name(&self) -> &'static str {
        "eligible"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Answering | Fact::Turn(..) | Fact::End if self.calm.is(world) => judge(world),
            _ => Ok(()),
        }
    }
}
