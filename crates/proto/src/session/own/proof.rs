//! What an answered renewal proves: the session, from the moment of asking; its jury; where others look for this node.

use std::time::Duration;

use vip_model::Instant;
use vip_model::session::SessionRecord;

use super::{Asking, Leaving, Own, Writing};
use crate::session::Ownership;

impl Ownership {
    /// The store confirmed the session.
    pub(in crate::session) fn proven(&mut self, now: Instant, asking: &Asking, stored: &SessionRecord) {
        let was_fresh = self.is_store_fresh(now);
        let retry = self.want.settings.timings.retry_period;
        let is_said_elsewhere = self.is_said_elsewhere(now);
        let Some(own) = &mut self.own else { return };
        own.news = own.news.filter(|_| !is_said_elsewhere);
        own.learn(stored);
        own.prove(asking, retry);
        let was_shown = own.shown == stored.sites;
        self.show(now, stored.sites.clone());
        // Groups wait for a store that answers and for others to know our place; and moves that nothing forces for the time.
        if was_fresh && was_shown {
            self.mark_wishes(now);
        } else {
            self.mark_all(now);
        }
    }
}

impl Own {
    /// What the store knows of this session and a former life of the agent did not tell.
    pub(in crate::session) fn learn(&mut self, stored: &SessionRecord) {
        self.record.was_heard |= stored.was_heard;
        if stored.jury.generation > self.record.jury.generation && self.pending.is_none() {
            self.record.jury = stored.jury.clone();
            self.may_have_been_heard();
        }
    }

    /// A former life had a jury: it may have begun to vouch, and to follow, after what is known of that life was written.
    pub(in crate::session) fn may_have_been_heard(&mut self) {
        self.record.was_heard |= !self.record.jury.members.is_empty();
    }

    /// An answered renewal proves the session, from the moment of asking.
    pub(in crate::session) fn prove(&mut self, asking: &Asking, retry: Duration) {
        if let Writing::Renew(jury) = &asking.what {
            self.proven = Some(self.proven.map_or(asking.at, |proven| proven.max(asking.at)));
            if self.record.jury != *jury {
                self.record.jury = jury.clone();
            }
            self.pending = None;
            let usual = asking.at + retry;
            self.renew_at = self.news.map_or(usual, |news| usual.min(news.max(asking.at)));
            if self.end == Leaving::Wanted {
                self.renew_at = asking.at; // the last address went while this was under way
            }
        } else {
            // A server that still shows what was refused lags behind: the same again would be refused, too.
            let is_behind = self.refused.is_some() && self.refused == self.version;
            let again = self.written_at.filter(|_| is_behind).map(|written| written + retry);
            self.renew_at = again.map_or(asking.at, |again| again.max(asking.at));
        }
    }
}
