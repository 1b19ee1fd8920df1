//! A group that is ours: when it becomes ours, what keeps us from serving it, and how it is given up.

use std::time::Duration;

use vip_model::members::Role;
use vip_model::peers::{GroupId, Stage};
use vip_model::plan::{Footprint, Standing};
use vip_model::session::{CLAIM, SessionId};
use vip_model::{Instant, LeaseName};

use super::{FREE_MISSES, Guard, HEIR_MISSES, Whose, Writing, session_in};
use crate::session::hand::Hand;
use crate::session::{Ownership, Peer};

/// A claim that comes back to us is released again after this: somebody takes it by a session that we believe to have followed.
const RELEASED: Duration = Duration::from_secs(1);
/// How often the store is asked whose a group is that another member says it serves.
const COMPARED: Duration = Duration::from_millis(2_500);

impl Ownership {
    pub(in crate::session) fn step_mine(
        &mut self,
        now: Instant,
        claim: &LeaseName,
        from: Option<SessionId>,
    ) -> Option<Instant> {
        self.arrive(now, claim, from);
        self.note_withdrawn(now, claim, from);
        let group = self.groups.get(claim)?;
        let standing = group.want.standing;
        // It may have become another's and ours again while the store was out of reach.
        let is_contested = from.is_none() || group.guard == Guard::Contested;
        let contested = if is_contested { self.step_contested(now, claim) } else { None };
        let group = self.groups.get(claim)?;
        let reading = (group.must_read && group.asking.is_none()).then_some(group.not_before);
        if reading.is_some_and(|at| now >= at) {
            self.ask_claim(now, claim, Writing::Read);
            return self.step_guard(now, claim); // an API that is away holds nobody up
        }
        let looking = self.step_guard(now, claim).into_iter().chain(contested).chain(reading).min();
        let handing = match standing {
            // One move after the other: who gave it to us has to withdraw first.
            Standing::Contend if from.is_some() => self.step_received(now, claim, from),
            Standing::Contend if self.is_drill_asked(claim) => self.step_drill(now, claim),
            Standing::Contend if self.is_asked_for(claim) => self.step_asked_for(now, claim),
            Standing::Contend => {
                let received = self.step_received(now, claim, from);
                received.into_iter().chain(self.step_voluntary(now, claim)).min()
            }
            Standing::HandOver | Standing::Reluctant => self.step_give(now, claim),
            Standing::Leave => self.step_release(now, claim),
        };
        looking.into_iter().chain(handing).min()
    }

    /// Another member serves a group that is ours as far as we know: when its picture of the store is newer than ours, or
    /// most jurors did not see us serve it, we do not, until it says so no more or the store shows whose it is.
    pub(in crate::session) fn step_contested(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let theirs = self.served_by_other(now, claim);
        let ours = self.own.as_ref().and_then(|own| own.proven).map(|proven| now - proven);
        let is_old = !self.is_store_fresh(now);
        let is_unseen = self.was_unseen(now, claim);
        let is_handed = matches!(self.whose(self.groups.get(claim)?), Whose::Mine { from: Some(_) });
        let group = self.groups.get_mut(claim)?;
        let Some(theirs) = theirs else {
            // Whoever served it may be dead, and be followed by somebody else: that nobody answers says nothing while the store is
            // known to have another owner than we saw, or none.
            if group.guard == Guard::Contested && !group.is_outdated {
                // Who hands it over is about to answer: looks would tell nothing.
                if is_handed {
                    group.guard = Guard::Clear;
                } else {
                    group.look_first(FREE_MISSES);
                }
            }
            return None;
        };
        if is_unseen || group.is_outdated || (is_old && ours.is_none_or(|ours| theirs < ours)) {
            group.guard = Guard::Contested;
        }
        let is_idle = group.asking.is_none() && now >= group.not_before() && !group.must_read;
        let is_due = group.compared_at.is_none_or(|at| now >= at + COMPARED);
        // Who hands it over says so: one that does not may have taken it back, which our server does not show yet.
        if is_idle && is_due && !group.is_outdated && (!is_handed || group.guard == Guard::Contested) {
            // The store knows whose it is: a write that it refuses says that our picture of the claim is old. We ask while the
            // other one is alive: when it is not, its silence must not make us believe that picture.
            group.compared_at = Some(now);
            self.ask_claim(now, claim, Writing::Rewrite);
        }
        Some(now + self.interval())
    }

    /// The age of the picture of whoever else says that it serves a group.
    pub(in crate::session) fn served_by_other(&self, now: Instant, claim: &LeaseName) -> Option<Duration> {
        let group = self.groups.get(claim)?;
        // Who gives it away answers, too: to us, when we know that it is ours by that.
        let is_handed = matches!(self.whose(group), Whose::Mine { from: Some(_) });
        let stages: &[Stage] =
            if is_handed { &[Stage::Announced] } else { &[Stage::Announced, Stage::Given] };
        let serves = |peer: &&Peer| self.says(now, peer, group.id, stages);
        self.peers.values().filter(serves).filter_map(|peer| peer.word.api_age).min()
    }

    pub(super) fn says(&self, now: Instant, peer: &Peer, group: GroupId, stages: &[Stage]) -> bool {
        peer.stage(group).is_some_and(|stage| stages.contains(&stage))
            && peer.is_exchanging(now)
            && !self.lineage.has_ended(peer.session)
    }

    /// A group has just become ours.
    pub(in crate::session) fn arrive(
        &mut self,
        now: Instant,
        claim: &LeaseName,
        handed_by: Option<SessionId>,
    ) {
        let Some(group) = self.groups.get(claim) else { return };
        if group.was_mine {
            return;
        }
        let inherited = group.record().and_then(|record| session_in(record, CLAIM));
        let own = self.own_id();
        let from = inherited.filter(|session| Some(*session) != own);
        // What was ours when we began to look may have been followed meanwhile: only what becomes ours is a proof, and only
        // while the store knows our session; a server that lags shows what was ours long ago, too.
        let was_decided = self.states.get(claim).is_some_and(|state| state.role != Role::Undecided);
        if was_decided && self.is_store_fresh(now) {
            let grace = now + self.interval() * 3;
            self.trust.grace = self.trust.grace.max(Some(grace));
        }
        let (id, taken_unseen) = (group.id, group.taken_unseen);
        let lists = |peer: &Peer| {
            peer.stage(id).is_some()
                && peer.is_exchanging(now)
                && !self.lineage.has_ended(peer.session)
                && Some(peer.session) != handed_by
        };
        // Whoever says that it has it may begin to serve it at any time: what was looked at before says nothing.
        // What we take back from somebody who never served it is served by us all the time.
        let is_back = matches!(group.hand, Hand::Given { .. }) && group.is_announced();
        let is_listed = !is_back && self.peers.values().any(lists);
        // Who hands it over says so, and serves until we do.
        let keeps =
            |peer: &Peer| Some(peer.session) == handed_by && self.says(now, peer, id, &[Stage::Announced]);
        let is_kept = self.peers.values().any(keeps);
        if taken_unseen || is_listed {
            self.recount_looks(claim);
        }
        if from.is_some() {
            self.spread_later(claim);
        }
        if let Some(group) = self.groups.get_mut(claim) {
            group.taken_unseen = false;
            group.was_mine = true;
            group.found_mine = !was_decided;
            group.mine_since = Some(now);
            group.was_announced = false;
            group.hand = Hand::None;
            group.cleared = None;
            group.unseen_by.clear();
            group.rewrite_at = None;
            group.free_since = None;
            if handed_by.is_some() && (is_listed || is_kept) {
                group.guard = Guard::Contested; // who hands it over answers: looks tell nothing
                group.compared_at = Some(now);
            } else if is_listed {
                group.look_first(FREE_MISSES);
            } else if from.is_some() {
                group.look_first(HEIR_MISSES);
            } else if handed_by.is_some() {
                group.guard = Guard::Clear; // who hands it over answers until we do
            }
        }
        if self.groups.get(claim).is_some_and(|group| group.want.footprint == Footprint::Clear) {
            self.look_at_bare(now, claim);
        }
        self.speak_soon(now);
        self.remember_soon(now);
        self.refreshed = now;
    }

    /// Gives a group up: addresses first, then the claim.
    pub(in crate::session) fn step_release(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let group = self.groups.get(claim)?;
        if group.want.footprint == Footprint::Present || group.asking.is_some() {
            return None;
        }
        let again = group.released.map(|at| at + RELEASED).unwrap_or_default().max(group.not_before);
        if now < again {
            return Some(again);
        }
        if let Some(group) = self.groups.get_mut(claim) {
            group.released = Some(now);
        }
        self.ask_claim(now, claim, Writing::Release);
        None
    }
}
