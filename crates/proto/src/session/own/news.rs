//! News of the own session: what its Lease says has changed, and when a further write is worth it. What changes while a
//! write is under way follows with the next one, soon. Whatever changes how often, so many writes are brought forward at
//! once, and then one in each [`FORWARD_EVERY`]: a cluster that begins is heard member by member. While servers on other nodes
//! are asked twice a second, none is: what they are asked says it, too.

use std::time::Duration;

use vip_model::Instant;
use vip_model::plan::Look;
use vip_model::session::Site;

use super::JURY_EVERY;
use crate::session::Ownership;

/// Time between two writes that are brought forward.
const FORWARD_EVERY: Duration = Duration::from_secs(1);
/// So many of them may come at once: the door opens, the place is known, the first jury, and one more.
const FORWARD_BURST: u32 = 4;

impl Ownership {
    /// What the Lease says changes: write it soon.
    pub(in crate::session) fn renew_soon(&mut self, now: Instant) {
        self.renew_from(now);
    }

    /// A jury could be another one: write it as soon as it may change. Members that are heard within a short span are one
    /// write; only the first jury of all is not waited for.
    pub(in crate::session) fn renew_jury(&mut self, now: Instant) {
        let Some(own) = &self.own else { return };
        let is_first = own.jury_at.is_none() && own.juries().all(|jury| jury.members.is_empty());
        let written = own.written_at.filter(|_| !is_first);
        // What was asked elsewhere a moment ago wrote the jury of that moment, also where doubts come and go.
        let written = written.max(own.elsewhere.filter(|_| !is_first));
        let at = own.jury_at.max(written).map_or(now, |at| now.max(at + JURY_EVERY));
        self.renew_from(at);
    }

    /// A write was asked for: whether it was brought forward, the time since the last one tells.
    pub(super) fn count_forward(&mut self, now: Instant) {
        let retry = self.want.settings.timings.retry_period;
        let Some(own) = &mut self.own else { return };
        let is_forward = own.written_at.replace(now).is_some_and(|written| now < written + retry);
        if is_forward && own.failures == 0 {
            own.forward = own.forward.max(now) + FORWARD_EVERY;
        }
    }

    fn renew_from(&mut self, at: Instant) {
        if self.is_said_elsewhere(at) {
            return;
        }
        let Some(own) = &mut self.own else { return };
        let room = FORWARD_EVERY * (FORWARD_BURST - 1);
        let at = if own.forward > at + room { own.forward.before(room) } else { at };
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
            self.renew_soon(now);
        }
    }

    /// Whether others know where to look for an address before this node serves it: who dies before that could never be
    /// followed.
    pub(in crate::session) fn is_shown(&self, look: &Look) -> bool {
        let near = |sites: &[Site]| sites.iter().any(|site| self.is_near(look, site));
        !near(&self.want.sites) || self.own.as_ref().is_some_and(|own| near(&own.shown))
    }
}
