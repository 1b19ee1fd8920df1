//! What people are told of Services by Events, within bounds. Fed with what was written; gives back what is told of it now.
//!
//! The same about the same life of a Service is told with its count, so that the API brings the former Event up to date
//! instead of keeping many. A Service of which there is ever more to say (endpoints that flap, two users who disagree) is
//! told of ten times in a row, and then twice a minute: what is left out is counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vip_model::Instant;
use vip_model::service::{Service, ServiceName};
use vip_model::store::EventPost;

/// How many Events about one Service may come in a row: more than a Service has on its way into service, or in a day
/// without trouble.
const BURST: u32 = 10;
/// After which time one more may come.
const REFILL: Duration = Duration::from_secs(30);
/// How many different texts about one Service are counted; of more the oldest begins anew.
const TEXTS: usize = 16;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Bulletin {
    pages: BTreeMap<ServiceName, Page>,
}

/// What was told of one life of a Service.
#[derive(Debug)]
struct Page {
    uid: String,
    /// How many Events may come now.
    left: u32,
    /// Since when that number has not grown.
    since: Instant,
    said: VecDeque<Said>,
}

#[derive(Debug)]
struct Said {
    reason: String,
    message: String,
    count: u32,
}

impl Bulletin {
    /// The Event as it is told now; none when there were too many about its Service.
    pub(super) fn admit(&mut self, now: Instant, mut post: EventPost) -> Option<EventPost> {
        let fresh = || Page { uid: post.uid.clone(), left: BURST, since: now, said: VecDeque::new() };
        let page = self.pages.entry(post.service.clone()).or_insert_with(fresh);
        if page.uid != post.uid {
            *page = fresh();
        }
        post.count = page.count(&post);
        page.refill(now);
        page.left = page.left.checked_sub(1)?;
        Some(post)
    }

    /// Forgets Services that are no more.
    pub(super) fn forget_others(&mut self, services: &BTreeMap<ServiceName, Arc<Service>>) {
        if self.pages.len() > services.len() {
            self.pages.retain(|name, _| services.contains_key(name));
        }
    }
}

impl Page {
    /// How often it came to that, this time included.
    fn count(&mut self, post: &EventPost) -> u32 {
        let is_same = |said: &&mut Said| said.reason == post.reason && said.message == post.message;
        if let Some(said) = self.said.iter_mut().find(is_same) {
            said.count = said.count.saturating_add(1);
            return said.count;
        }
        if self.said.len() == TEXTS {
            self.said.pop_front();
        }
        let (reason, message) = (post.reason.clone(), post.message.clone());
        self.said.push_back(Said { reason, message, count: 1 });
        1
    }

    fn refill(&mut self, now: Instant) {
        while self.left < BURST && now - self.since >= REFILL {
            self.left += 1;
            self.since = self.since + REFILL;
        }
        if self.left == BURST {
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests;
