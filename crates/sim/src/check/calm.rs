//! When a world is calm, so that it can be judged although not everything has happened yet: nothing is wrong, and what
//! was wrong or done last is long enough ago.

use std::time::Duration;

use super::settle_time;
use crate::clock::Moment;
use crate::fault::{Fault, What};
use crate::world::World;

/// How long a healthy world may need to follow what somebody did: a write that met another one is tried again after
/// moments, an address that somebody else still answers for is asked for again after a second.
const AFTER_DEED: Duration = Duration::from_secs(8);
/// A kubelet that was away is missed after 40 s, and reports within 10 s when it is back.
const KUBELET: (Duration, Duration) = (Duration::from_secs(40), Duration::from_secs(10));

/// Times in which a world is not calm.
#[derive(Default)]
pub(super) struct Calm {
    /// Begin and end, in the order of their begins; nothing ends before one that began earlier.
    unrest: Vec<(Moment, Moment)>,
    next: usize,
    until: Moment,
    is_read: bool,
}

impl Calm {
    /// Whether the world is calm now. Time only goes forward.
    pub(super) fn is(&mut self, world: &World) -> bool {
        if !self.is_read {
            self.is_read = true;
            self.unrest = unrest(world);
        }
        while let Some((from, until)) = self.unrest.get(self.next).filter(|(from, _)| *from <= world.now) {
            assert!(*from <= world.now);
            self.until = self.until.max(*until);
            self.next += 1;
        }
        world.now > self.until
    }
}

fn unrest(world: &World) -> Vec<(Moment, Moment)> {
    let settle = settle_time(&world.setup);
    let of_fault = |fault: &Fault| {
        let is_silence = matches!(fault.what, What::PowerOff | What::Suspend);
        let missed = fault.at + KUBELET.0;
        let end = match fault.end() {
            Some(end) if is_silence && end >= missed => end + KUBELET.1,
            Some(end) => end,
            None if is_silence => missed,
            // Dead for ever is calm, once the rest has noticed.
            None => fault.at,
        };
        (fault.at, end + settle)
    };
    // An address that leaves a Lease which another client took waits for as long as that could have been a node.
    let is_stolen = world.schedule.iter().any(|fault| fault.what == What::LeaseStolen);
    let after_deed = if is_stolen { AFTER_DEED + world.setup.timings.duration } else { AFTER_DEED };
    let of_deed = |deed: &crate::deed::Deed| (deed.at, deed.at + after_deed);
    let start = (Moment::START, Moment::START + settle);
    let mut all: Vec<_> = world.schedule.iter().map(of_fault).collect();
    all.extend(world.deeds.iter().map(of_deed));
    all.push(start);
    all.sort();
    all
}
