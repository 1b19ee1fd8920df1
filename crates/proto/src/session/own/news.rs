//! News of the own session: what its Lease says has changed, and when a further write is worth it. What changes while a
//! write is under way follows with the next one, soon.

use vip_model::Instant;
use vip_model::plan::Look;
use vip_model::session::Site;

use super::JURY_EVERY;
use crate::session::Ownership;

impl Ownership {
    /// What the Lease says changes: write it soon.
    pub(in crate::session) fn renew_soon(&mut self, now: Instant) {
        self.renew_from(now);
    }

    /// A jury could be another one: write it as soon as it may change.
    pub(in crate::session) fn renew_jury(&mut self, now: Instant) {
        let at = self.own.as_ref().and_then(|own| own.jury_at).map_or(now, |at| now.max(at + JURY_EVERY));
        self.renew_from(at);
    }

    fn renew_from(&mut self, at: Instant) {
        let Some(own) = &mut self.own else { return };
        if own.asking.is_some() {
            own.news = Some(own.news.map_or(at, |news| news.min(at))); // what is under way may not say it
        } else if own.failures == 0 {
            own.renew_at = own.renew_at.min(at);
        }
    }

    /// The store shows where this node is. What changed while the write was under way follows at once.
    pub(in crate::session) fn show(&mut self, now: Instant, sites: Vec<Site>) {
        let is_old = !self.want.sites.is_empty() && sites != self.want.sites;
        let Some(own) = &mut self.own else { return };
        own.shown = sites;
        if is_old {
            own.renew_at = now;
        }
    }

    /// Whether others know where to look for an address before this node serves it: who dies before that could never be
    /// followed.
    pub(in crate::session) fn is_shown(&self, look: &Look) -> bool {
        let near = |sites: &[Site]| sites.iter().any(|site| self.is_near(look, site));
        !near(&self.want.sites) || self.own.as_ref().is_some_and(|own| near(&own.shown))
    }
}
