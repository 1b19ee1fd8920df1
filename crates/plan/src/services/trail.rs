//! Whether the former holder of an address may still have it. Which Lease decides about an address is what Services say,
//! and every node hears of them in its own time: the holder of one Lease may have what another one decides about by now.
//! Fed with what this node remembers of the address (`Trails`) and with its tenure; gives back whether it may be installed
//! without a look.
//!
//! A node may when it held the address in this very tenure, or when it knew before its tenure began, and without having
//! been stopped or cut off since, that this Lease decides about it, and nobody is known to have got further with the
//! Services: a take-over costs no probe. An address that came from another Lease waits until that one is free, which is at
//! once when its holder has heard of it; where that Lease still decides about others, the network is asked.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use vip_model::config::{OnDemand, ServiceElection};
use vip_model::members::{ElectionState, Found, History, Pulse, Role};
use vip_model::observed::{Trail, Trails};
use vip_model::plan::{ElectionWant, Heard, NodePlan, Standing};
use vip_model::store::{RETIRED, Revision, Version};
use vip_model::{Instant, LeaseName, ScopedAddr};

use super::election::{footprint, own_want};
use super::ground::{Ground, is_holder};
use crate::diff;
use crate::vip::{Certainty, other_holder, was_here};
use crate::world::KernelWork;

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
    let unrest = trails.woke.max(trails.lost_sight);
    let is_quiet_since = |moment: Instant| unrest.is_none_or(|unrest| unrest + PICTURE <= moment);
    // Who was cut off for so long that the kernel forgot the address may not have heard of a move.
    if is_followed && was_here(&ground.world, at) && is_quiet_since(trails.turn) {
        return Certainty::Sure;
    }
    let known = ground.world.snapshot.services_at.revision();
    let is_behind = |at: Revision| known.is_some_and(|known| known < at) && trails.turn < tenure + BEHIND;
    let is_as_usual = match election.found {
        Found::Retired(at) if is_behind(at) => return Certainty::Wait(tenure + BEHIND),
        // It still decides about others, who do not wait for one that may have left.
        Found::Moved(at) if is_behind(at) => {
            return Certainty::Ask { until: None, otherwise: Some(tenure + BEHIND) };
        }
        Found::Wanted | Found::Moved(_) => true,
        Found::Retired(_) | Found::Orphaned => false,
    };
    if let Some(open) = trail.and_then(|trail| moved(ground, trail, (lease, since))) {
        return open;
    }
    // Who has known more than it does now may take what it no longer shall have.
    let is_current = known >= trails.furthest && !ground.is_outdated;
    let is_calm = is_as_usual && is_current && is_quiet_since(tenure);
    // What was there when this process began may have come from another Lease just before.
    let is_from_before = trails.began.is_some_and(|began| since <= began);
    let is_known = is_followed && since + if is_from_before { BEHIND } else { PICTURE } <= tenure;
    // Or whoever had it says that it has let go.
    if is_calm && (is_known || trail.is_some_and(|trail| former(ground, trail, lease).next().is_some())) {
        return Certainty::Sure;
    }
    // Where nobody can be asked, what was missed is waited for.
    let woke = trails.woke.filter(|woke| *woke + PICTURE > tenure);
    let retired = matches!(election.found, Found::Retired(_)).then_some(tenure);
    let behind = (!is_current).then_some(tenure);
    let caught_up = ground.is_outdated.then(|| tenure + BEHIND);
    let otherwise = caught_up.max(woke.max(retired).max(behind).map(|from| from + PICTURE));
    // Some fabrics answer for the dead: who takes over from one does not believe that for ever.
    let until = is_as_usual.then(|| unrest.map_or(tenure, |unrest| unrest.max(tenure)) + longest(ground));
    Certainty::Ask { until, otherwise }
}

/// Whether an address came from another Lease not long ago. What an agent that does not tag left behind proves nothing
/// then: who held the former Lease may have the address, too.
pub(super) fn has_moved(ground: &Ground<'_>, (at, lease): (ScopedAddr, &LeaseName)) -> bool {
    let trail = ground.world.observed.trails.as_ref().and_then(|trails| trails.addrs.get(&at.addr));
    trail.is_some_and(|trail| former(ground, trail, lease).next().is_some())
}

/// The Leases that decided before, each with the revision of the Services at which this node heard that it does no longer:
/// the present one, when that is the news of this turn.
fn former<'t>(
    ground: &Ground<'_>,
    trail: &'t Trail,
    lease: &'t LeaseName,
) -> impl Iterator<Item = (&'t LeaseName, Option<Revision>)> {
    let known = ground.world.snapshot.services_at.revision();
    let left = trail.before.iter().map(|before| (&before.lease, before.at));
    let last = (&trail.lease, trail.gone.map_or(known, |gone| gone.at));
    left.chain([last]).filter(move |(before, _)| *before != lease)
}

/// What follows from the Leases that decided before, while one of them may be acted on by somebody who does not know
/// that it decides no longer.
fn moved(ground: &Ground<'_>, trail: &Trail, (lease, since): (&LeaseName, Instant)) -> Option<Certainty> {
    let turn = ground.world.observed.trails.as_ref()?.turn;
    let free_at = since + longest(ground);
    let asked = Certainty::Ask { until: None, otherwise: Some(free_at) };
    let mut worst = None;
    for (before, left) in former(ground, trail, lease) {
        let state = ground.state(before);
        let limit = match grasp(ground, before, left) {
            Grasp::Loose => continue,
            // Who renews a Lease that nobody asks for, or has said more often how far it has got, has not heard of it
            // yet, and has the address until it has.
            Grasp::Held if !is_shared(ground, before) || state.said.acted.is_some() => since + BEHIND,
            Grasp::Held => turn,
            Grasp::Unseen => free_at,
            Grasp::Open if is_shared(ground, before) => turn,
            Grasp::Open => free_at,
        };
        worst = worst.max(Some(limit));
    }
    worst.map(|limit| if turn < limit { Certainty::Wait(limit) } else { asked })
}

/// Who may act on a Lease that decided before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grasp {
    /// Nobody who does not know that it decides no longer: it is ours, or its last holder has said so in it.
    Loose,
    /// Another node that lives.
    Held,
    /// Whoever takes it next, by an older picture of the Services.
    Open,
    /// That is not known yet.
    Unseen,
}

/// Who may act on a Lease that an address left at this revision of the Services. A holder of it says when nothing of the
/// address is left in its kernel; one who gives it up because nobody asks for it leaves a mark that holds up those who
/// know less. Who stands for a Lease that nobody holds stays undecided.
fn grasp(ground: &Ground<'_>, lease: &LeaseName, left: Option<Revision>) -> Grasp {
    let state = ground.state(lease);
    let is_said = |at: Option<Revision>| at.is_some_and(|at| left.is_none_or(|left| at >= left));
    if is_holder(state) || is_said(state.said.retired) {
        return Grasp::Loose;
    }
    if state.history == History::Unknown || state.role == Role::Leaving {
        return Grasp::Unseen;
    }
    if is_said(state.said.acted) {
        return Grasp::Loose;
    }
    // Another client that took it has none of our addresses.
    let is_agents = |holder: &str| ground.world.snapshot.nodes.get().is_none() || ground.cluster.has(holder);
    let is_others =
        other_holder(&ground.world, state).is_some_and(is_agents) && state.pulse == Pulse::Beating;
    if is_others { Grasp::Held } else { Grasp::Open }
}

/// Whether a Lease decides about something else by now: no holder gives it up for the sake of one address.
fn is_shared(ground: &Ground<'_>, lease: &LeaseName) -> bool {
    let wanted = ground.world.former.and_then(|plan| plan.elections.get(lease));
    wanted.is_some_and(|wanted| !wanted.annotations.contains_key(RETIRED))
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

/// Goes on watching the Leases that addresses came from. Who holds the Lease that an address is under now takes one that
/// nobody holds, so that its mark holds up who has not heard of the move; others only look.
pub(super) fn watch_former(ground: &Ground<'_>, trails: &Trails, plan: &mut NodePlan) {
    let departures = departures(trails);
    let moved = trails.moved.iter().filter_map(|addr| trails.addrs.get(addr));
    for (trail, former) in moved.flat_map(|trail| trail.before.iter().map(move |former| (trail, former))) {
        let is_ours = is_holder(ground.state(&trail.lease)) && trail.gone.is_none();
        let seals = is_ours && grasp(ground, &former.lease, former.at) == Grasp::Open;
        let last = departures.get(&former.lease).copied().flatten();
        match plan.elections.entry(former.lease.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(watched(ground, seals, last));
            }
            // By another address that left it.
            Entry::Occupied(mut occupied) if seals && occupied.get().annotations.contains_key(RETIRED) => {
                occupied.insert(watched(ground, seals, last));
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// The Leases that addresses left not long ago, and the revision of the Services at which the last one did.
fn departures(trails: &Trails) -> BTreeMap<&LeaseName, Option<Revision>> {
    let mut departures = BTreeMap::new();
    let moved = trails.moved.iter().filter_map(|addr| trails.addrs.get(addr));
    for former in moved.flat_map(|trail| &trail.before) {
        let last = departures.entry(&former.lease).or_insert(former.at);
        *last = (*last).max(former.at);
    }
    departures
}

/// What is wanted of a Lease that nobody asks for: to leave it with a mark, and before that to have it. A server that lags
/// may show less of the Services by now than was known when the `last` address left: the mark says what was known then.
fn watched(ground: &Ground<'_>, seals: bool, last: Option<Revision>) -> ElectionWant {
    let footprint = footprint(ground, 0);
    let known = &ground.world.snapshot.services_at;
    let later = last.filter(|last| known.revision().is_some_and(|known| known < *last));
    let at = later.map_or_else(|| known.clone(), |Revision(last)| Version(last.to_string()));
    let leave = own_want(ground, Standing::Leave, 0, footprint).retired(footprint, &at);
    if !seals {
        return leave;
    }
    let annotations = [(RETIRED.to_owned(), String::new())].into();
    ElectionWant { standing: Standing::Contend, annotations, ..leave }
}

/// Says in the Leases how far this node has got with the Services: where it takes them, and where an address left them.
pub(super) fn say_heard(ground: &Ground<'_>, trails: &Trails, plan: &mut NodePlan) {
    let Some(known) = ground.world.snapshot.services_at.revision() else { return };
    plan.acted = is_done(ground, plan).then_some(known);
    let acted = plan.acted.unwrap_or_default();
    let departures = departures(trails);
    for (lease, want) in &mut plan.elections {
        let (state, moved) = (ground.state(lease), departures.get(lease).copied().flatten());
        let is_unsaid = state.said.acted.unwrap_or_default() == Revision(0) || state.said.moved.is_some();
        if moved.is_some() || is_unsaid || !is_holder(state) {
            want.heard = Some(Heard { acted, moved });
        }
    }
}

/// Whether nothing is in the kernel, nor on its way there, that is not planned to be.
fn is_done(ground: &Ground<'_>, plan: &NodePlan) -> bool {
    let (Some(kernel), Some(actual)) = (&ground.kernel, ground.world.actual.get()) else { return false };
    ground.world.kernel_work == KernelWork::Settled
        && !diff::has_leaving(&plan.addresses, actual, (kernel.tag, ground.world.config))
}
