//! What agents did before a world begins: sessions that ended, which the session Leases remember. A cluster that has
//! seen many upgrades starts like this, and an episode of half a minute has no time to make it.

use vip_model::session::{
    BootId, End, FORMER_LIMIT, Jury, SessionId, SessionRecord, SessionWrite, Succession, Via, session_lease,
};
use vip_model::store::{Expect, Purpose};
use vip_model::{InstanceName, Random};

use super::{Setup, node_name, pick};

/// Pasts are drawn for numbers from here on, by dice of their own: the worlds of the numbers below are the same with or
/// without them.
const FROM: u64 = 5_000_000;

/// How many sessions each node has ended before, for the episode of `seed`: none in half of them, else up to what a
/// session Lease remembers and some more.
pub(super) fn draw(seed: u64) -> usize {
    let mut dice = Random::new(seed ^ 0x9a57);
    if seed < FROM || dice.chance(0.5) {
        return 0;
    }
    1 + pick(&mut dice, FORMER_LIMIT + 4)
}

/// The session Leases that the past left, one for each agent of each node.
pub fn session_leases(setup: &Setup) -> Vec<SessionWrite> {
    let ended = setup.session.as_ref().map_or(0, |session| session.ended_sessions);
    if ended == 0 {
        return Vec::new();
    }
    let mut dice = Random::new(setup.seed ^ 0xe4de_d000);
    let agents = 0..setup.agents.len();
    let all = (0..setup.nodes()).flat_map(|node| agents.clone().map(move |agent| (node, agent)));
    all.map(|(node, agent)| session_lease_of(setup, (node, agent), ended, &mut dice)).collect()
}

fn session_lease_of(
    setup: &Setup,
    (node, agent): (usize, usize),
    ended: usize,
    dice: &mut Random,
) -> SessionWrite {
    let (instance, node) = (InstanceName::new(setup.agents[agent].name.clone()), node_name(node));
    let mut ids: Vec<SessionId> = (0..ended).map(|_| SessionId(dice.next_u64())).collect();
    let id = ids.pop().expect("at least one session has ended");
    let surplus = ids.len().saturating_sub(FORMER_LIMIT);
    let former = ids.drain(surplus..).map(|id| Succession { id, heir: None }).collect();
    // One in four lost its power; its session is over because the node has booted since.
    let end = (!dice.chance(0.25)).then_some(End::Released);
    SessionWrite {
        lease: session_lease("kube-system", &instance, &node),
        instance,
        expect: Expect::Absent,
        purpose: Purpose::Renew,
        duration: setup.timings.duration,
        record: SessionRecord {
            id,
            node,
            boot: BootId(SessionId(dice.next_u64())),
            doors: Vec::new(),
            sites: Vec::new(),
            jury: Jury::default(),
            former,
            end,
            keys: Vec::new(),
            was_heard: true,
            drill: None,
        },
        via: Via::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_past_is_drawn_for_late_numbers_alone_and_fills_what_is_remembered() {
        assert!((0..1000).all(|seed| draw(FROM - 1 - seed) == 0));
        let drawn: Vec<usize> = (0..1000).map(|seed| draw(FROM + seed)).collect();
        assert!(drawn.contains(&0) && drawn.contains(&1) && drawn.iter().any(|ended| *ended > FORMER_LIMIT));
        let seed = FROM + (0..1000).find(|seed| draw(FROM + seed) > FORMER_LIMIT + 1).expect("one of them");
        let leases = session_leases(&Setup::draw_session(seed, Some(3)));
        assert!(leases.len() >= 3 && leases.iter().all(|it| it.record.former.len() == FORMER_LIMIT));
    }
}
