//! Whether the former holder of an address may still have it. Which Lease decides about an address is what Services say,
//! and every node hears of them in its own time: the holder of one Lease may have what another one decides about by now.
//! Fed with what this node remembers of the address (`Trails`) and with its tenure; gives back whether it may be installed
//! without a look.
//!
//! A node may when it held the address in this very tenure, or when it knew before its tenure began, and without having
//! been stopped or cut off since, that this Lease decides about it: a take-over costs no probe. An address that came from
//! another Lease waits until that one is free, which is at once when its holder has heard of it; where that Lease still
//! decides about others, the network is asked.

use std::time::Duration;

use vip_model::config::{OnDemand, ServiceElection};
use vip_model::members::{ElectionState, Found, History, Pulse, Role};
use vip_model::observed::{Trail, Trails};
use vip_model::plan::{NodePlan, Presence, Standing};
use vip_model::store::RETIRED;
use vip_model::{Instant, LeaseName, ScopedAddr};

use super::election::{footprint, own_want};
use super::ground::{Ground, is_holder};
use crate::vip::{Certainty, other_holder};

/// How long an older picture of the Services is believed to become a newer one. Where nothing changes any more, one that
/// was listed earlier may stay older for ever.
const BEHIND: Duration = Duration::from_mins(1);
/// How long what is heard of different things may take to fit together again.
const PICTURE: Duration = Duration::from_secs(2);

/// Whether somebody else may have an address that is not in the kernel, when this Lease decides about it.
pub(super) fn certainty(
    ground: &Ground<'_>,
    at: ScopedAddr,
    (lease, election): (&LeaseName, &ElectionState),
) -> Certainty {
    let (Role::Holder { since: tenure, .. }, Some(trails)) = (election.role, &ground.world.observed.trails)
    else {
        return Certainty::Sure;
    };
    let trail = trails.addrs.get(&at.addr);
    let is_followed = trail.is_some_and(|trail| trail.lease == *lease && trail.gone.is_none());
    let since = trail.filter(|_| is_followed).map_or(trails.turn, |trail| trail.since);
    if is_followed && was_here(ground, at) {
        return Certainty::Sure;
    }
    if let Some(until) = is_behind(ground, election.found).then_some(tenure + BEHIND)
        && trails.turn < until
    {
        return Certainty::Wait(until);
    }
    let unrest = trails.woke.max(trails.lost_sight).map(|unrest| unrest + PICTURE);
    let is_calm = election.found == Found::Wanted && unrest.is_none_or(|over| over <= tenure);
    if is_calm && is_followed && since + PICTURE <= tenure {
        return Certainty::Sure;
    }
    if let Some(open) = trail.and_then(|trail| moved(ground, trail, (lease, since))) {
        return open;
    }
    // All Leases that it came from are free.
    if is_calm && trail.is_some_and(|trail| former(trail, lease).next().is_some()) {
        return Certainty::Sure;
    }
    // Where nobody can be asked, what was missed is waited for.
    let woke = trails.woke.filter(|woke| *woke + PICTURE > tenure);
    let retired = matches!(election.found, Found::Retired(_)).then_some(tenure);
    let otherwise = woke.max(retired).map(|from| from + PICTURE);
    // Some fabrics answer for the dead: who takes over from one does not believe that for ever.
    let until = (election.found == Found::Wanted).then(|| tenure + longest(ground));
    Certainty::Ask { until, otherwise }
}

/// Whether the last holder gave the Lease up for something in the Services that this node has not heard of yet.
fn is_behind(ground: &Ground<'_>, found: Found) -> bool {
    let Found::Retired(at) = found else { return false };
    ground.world.snapshot.services_at.revision().is_some_and(|known| known < at)
}

/// The Leases that decided before.
fn former<'t>(trail: &'t Trail, lease: &'t LeaseName) -> impl Iterator<Item = &'t LeaseName> {
    trail.before.iter().chain([&trail.lease]).filter(move |before| *before != lease)
}

/// What follows from the Leases that decided before, while one of them may be somebody else's.
fn moved(ground: &Ground<'_>, trail: &Trail, (lease, since): (&LeaseName, Instant)) -> Option<Certainty> {
    let before = || former(trail, lease);
    let trails = ground.world.observed.trails.as_ref()?;
    let free_at = since + longest(ground);
    if before().all(|before| is_free(ground, before)) {
        return None;
    }
    // Who renews a Lease that nobody asks for has not heard of it yet, and has the address until it has.
    let lives = |before| is_held(ground, before) && !is_shared(ground, before);
    if before().any(lives) && trails.turn < since + BEHIND {
        return Some(Certainty::Wait(since + BEHIND));
    }
    if trails.turn >= free_at || before().any(|before| is_shared(ground, before)) {
        return Some(Certainty::Ask { until: None, otherwise: Some(free_at) });
    }
    Some(Certainty::Wait(free_at))
}

/// Whether a Lease is nobody's but ours. A holder releases it when its addresses are gone, and of one that does not renew
/// it they go by themselves. Who does not stand for a Lease that nobody holds stays undecided.
fn is_free(ground: &Ground<'_>, lease: &LeaseName) -> bool {
    let state = ground.state(lease);
    let is_seen = state.history != History::Unknown && state.role != Role::Leaving;
    is_holder(state) || (is_seen && (state.holder.is_none() || state.pulse == Pulse::Lapsed))
}

/// Whether a Lease is another node's, which lives.
fn is_held(ground: &Ground<'_>, lease: &LeaseName) -> bool {
    let state = ground.state(lease);
    other_holder(&ground.world, state).is_some() && state.pulse == Pulse::Beating
}

/// Whether a Lease decides about something else by now: no holder gives it up for the sake of one address.
fn is_shared(ground: &Ground<'_>, lease: &LeaseName) -> bool {
    let wanted = ground.world.former.and_then(|plan| plan.elections.get(lease));
    wanted.is_some_and(|wanted| !wanted.annotations.contains_key(RETIRED))
}

/// Whether the last plan wanted the address to be there.
fn was_here(ground: &Ground<'_>, at: ScopedAddr) -> bool {
    let former = ground.world.former.and_then(|plan| plan.addresses.set.get(&at));
    former.is_some_and(|planned| matches!(planned.presence, Presence::Install { .. }))
}

/// The longest time for which a holder of a Lease may be unable to hear that it has lost an address, and still have it.
fn longest(ground: &Ground<'_>) -> Duration {
    let control_plane = ground.world.config.control_plane.as_ref().map(|it| it.election.timings.duration);
    let of_election = match &ground.services.election {
        ServiceElection::Global(election) => election.timings.duration,
        ServiceElection::PerService(timings) => timings.duration,
    };
    let of_own = match &ground.services.on_demand {
        OnDemand::On(timings) => timings.duration,
        OnDemand::Off => of_election,
    };
    of_election.max(of_own).max(control_plane.unwrap_or_default())
}

/// Goes on watching the Leases that addresses came from, without standing for them.
pub(super) fn watch_former(ground: &Ground<'_>, trails: &Trails, plan: &mut NodePlan) {
    let moved = trails.moved.iter().filter_map(|addr| trails.addrs.get(addr));
    for lease in moved.flat_map(|trail| &trail.before) {
        plan.elections.entry(lease.clone()).or_insert_with(|| {
            let footprint = footprint(ground, 0);
            own_want(ground, Standing::Leave, 0, footprint)
                .retired(footprint, &ground.world.snapshot.services_at)
        });
    }
}
