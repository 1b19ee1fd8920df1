//! Rewrites: a claim that names a session which we followed is to name our own. Nobody waits for it, so a node that inherits
//! a thousand claims writes them one after the other at a pace that a store does not feel. Each write has a turn; one that
//! fails, or that comes while the store is away, gets another one behind the rest.

use std::time::Duration;

use vip_model::session::CLAIM;
use vip_model::{Instant, LeaseName};

use super::{Writing, session_in};
use crate::session::Ownership;

/// The first claim is written so much later than it was inherited: what is urgent goes before.
const LATER: Duration = Duration::from_millis(500);
/// Time between two of these writes: ten a second, whatever was inherited.
const EVERY: Duration = Duration::from_millis(100);

/// When the next claim may be rewritten.
#[derive(Debug, Default)]
pub(in crate::session) struct Rewrites {
    free: Instant,
}

impl Rewrites {
    /// The next turn from then on.
    pub(in crate::session) fn turn(&mut self, at: Instant) -> Instant {
        let turn = at.max(self.free);
        self.free = turn + EVERY;
        turn
    }
}

impl Ownership {
    /// Rewrites a claim of ours that names another session, when it is its turn. Gives when that is; none when there is
    /// nothing to rewrite.
    pub(in crate::session) fn step_rewrite(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let own = self.own_id();
        let group = self.groups.get_mut(claim)?;
        let named = group.record().and_then(|record| session_in(record, CLAIM));
        if named.is_none() || named == own {
            group.rewrite_at = None;
            return None;
        }
        let at = *group.rewrite_at.get_or_insert_with(|| self.rewrites.turn(now + LATER));
        if now < at.max(group.not_before) {
            return Some(at.max(group.not_before));
        }
        // Used up, whatever comes of it.
        group.rewrite_at = None;
        if self.is_store_fresh(now) {
            self.ask_claim(now, claim, Writing::Rewrite);
            return Some(now + LATER); // its answer comes sooner, or it is looked at again
        }
        let turn = self.rewrites.turn(now + LATER);
        self.groups.get_mut(claim)?.rewrite_at = Some(turn);
        Some(turn)
    }
}
