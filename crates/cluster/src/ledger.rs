//! What is known of Leases: the newest object of each, for writes that keep what we do not know, and how far behind
//! its watch is, for watches that went silent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use vip_model::LeaseName;
use vip_model::store::Version;

/// How long a watch may be behind what questions showed.
const LAG: Duration = Duration::from_secs(1);

/// What is known of Leases.
#[derive(Default)]
pub(crate) struct Ledger {
    pages: Mutex<BTreeMap<LeaseName, Page>>,
    answered: Notify,
}

#[derive(Default)]
struct Page {
    newest: Option<(Version, Value)>,
    delivered: Option<Version>,
    answered: Option<Version>,
    behind_since: Option<Instant>,
}

impl Ledger {
    /// The object of this version, when it is the newest that was seen.
    pub(crate) fn object(&self, lease: &LeaseName, version: &Version) -> Option<Value> {
        let pages = self.lock();
        let (newest, object) = pages.get(lease)?.newest.as_ref()?;
        (newest == version).then(|| object.clone())
    }

    /// A question showed this object.
    pub(crate) fn note_answer(&self, lease: &LeaseName, version: &Version, object: Value) {
        let mut pages = self.lock();
        let page = pages.entry(lease.clone()).or_default();
        page.keep(version, object);
        if !page.answered.as_ref().is_some_and(|answered| version.is_older_than(answered)) {
            page.answered = Some(version.clone());
        }
        page.compare();
        drop(pages);
        self.answered.notify_waiters();
    }

    /// A watch or its list showed this object.
    pub(crate) fn note_delivery(&self, lease: &LeaseName, version: &Version, object: Value) {
        let mut pages = self.lock();
        let page = pages.entry(lease.clone()).or_default();
        page.keep(version, object);
        page.delivered = Some(version.clone());
        page.compare();
    }

    /// A watch or its list showed that there is no such object, as of `version`.
    pub(crate) fn note_absence(&self, lease: &LeaseName, version: Option<Version>) {
        let mut pages = self.lock();
        let page = pages.entry(lease.clone()).or_default();
        let newest = page.newest.as_ref().map(|(newest, _)| newest);
        let is_older =
            newest.zip(version.as_ref()).is_some_and(|(newest, absent)| absent.is_older_than(newest));
        if !is_older {
            page.newest = None;
        }
        page.delivered = version;
        page.compare();
    }

    /// Nobody is interested in this Lease any more.
    pub(crate) fn forget(&self, lease: &LeaseName) {
        self.lock().remove(lease);
    }

    /// Returns when the watch of one of `namespace`'s Leases (of `name`, when given) is too far behind.
    pub(crate) async fn overdue(&self, namespace: &str, name: Option<&str>) {
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            let since = self.behind_since(namespace, name);
            match since {
                None => answered.await,
                Some(since) if Instant::now() >= since + LAG => return,
                Some(since) => sleep_until(since + LAG).await,
            }
        }
    }

    /// A new watch starts: what it is behind counts from now.
    pub(crate) fn restart(&self, namespace: &str, name: Option<&str>) {
        let now = Instant::now();
        for (lease, page) in self.lock().iter_mut() {
            if concerns(lease, namespace, name) && page.behind_since.is_some() {
                page.behind_since = Some(now);
            }
        }
    }

    fn behind_since(&self, namespace: &str, name: Option<&str>) -> Option<Instant> {
        let pages = self.lock();
        pages
            .iter()
            .filter(|(lease, _)| concerns(lease, namespace, name))
            .filter_map(|(_, page)| page.behind_since)
            .min()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseName, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    fn keep(&mut self, version: &Version, object: Value) {
        if !self.newest.as_ref().is_some_and(|(newest, _)| version.is_older_than(newest)) {
            self.newest = Some((version.clone(), object));
        }
    }

    fn compare(&mut self) {
        let behind = match (&self.delivered, &self.answered) {
            (Some(delivered), Some(answered)) => delivered.is_older_than(answered),
            _ => false,
        };
        self.behind_since = match (behind, self.behind_since) {
            (false, _) => None,
            (true, None) => Some(Instant::now()),
            (true, since) => since,
        };
    }
}

fn concerns(lease: &LeaseName, namespace: &str, name: Option<&str>) -> bool {
    lease.namespace() == namespace && name.is_none_or(|name| lease.name() == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(number: u64) -> Version {
        Version(number.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_overdue_a_second_after_an_answer_that_it_did_not_show() {
        let ledger = Ledger::default();
        let lease = LeaseName::new("ns", "l");
        ledger.note_delivery(&lease, &version(5), json!({}));
        ledger.note_answer(&lease, &version(6), json!({}));
        let start = Instant::now();
        tokio::time::sleep(Duration::from_millis(600)).await;
        // A later answer does not start the clock again.
        ledger.note_answer(&lease, &version(7), json!({}));
        ledger.overdue("ns", Some("l")).await;
        assert!((LAG..LAG + Duration::from_millis(50)).contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_delivers_is_never_overdue() {
        let ledger = Ledger::default();
        let lease = LeaseName::new("ns", "l");
        ledger.note_answer(&lease, &version(6), json!({}));
        ledger.note_delivery(&lease, &version(6), json!({}));
        let waited = tokio::time::timeout(LAG * 10, ledger.overdue("ns", None)).await;
        assert!(waited.is_err());
    }

    #[test]
    fn the_newest_object_is_kept_and_only_given_for_its_version() {
        let ledger = Ledger::default();
        let lease = LeaseName::new("ns", "l");
        ledger.note_answer(&lease, &version(7), json!({"v": 7}));
        ledger.note_delivery(&lease, &version(6), json!({"v": 6}));
        assert_eq!(ledger.object(&lease, &version(7)), Some(json!({"v": 7})));
        assert_eq!(ledger.object(&lease, &version(6)), None);
        ledger.note_absence(&lease, None);
        assert_eq!(ledger.object(&lease, &version(7)), None);
    }
}
