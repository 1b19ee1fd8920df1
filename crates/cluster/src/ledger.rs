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
    book: Mutex<Book>,
    answered: Notify,
}

#[derive(Default)]
struct Book {
    pages: BTreeMap<LeaseName, Page>,
    /// The whole collection was last listed as of this version, when there is one that all belong to.
    listed: Option<Version>,
}

impl Book {
    fn page(&mut self, lease: &LeaseName) -> &mut Page {
        let page = || Page { delivered: self.listed.clone(), ..Page::default() };
        self.pages.entry(lease.clone()).or_insert_with(page)
    }
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
        let book = self.lock();
        let (newest, object) = book.pages.get(lease)?.newest.as_ref()?;
        (newest == version).then(|| object.clone())
    }

    /// A question showed this object.
    pub(crate) fn note_answer(&self, lease: &LeaseName, version: &Version, object: Value) {
        let mut book = self.lock();
        let page = book.page(lease);
        page.keep(version, object);
        if !page.answered.as_ref().is_some_and(|answered| version.is_older_than(answered)) {
            page.answered = Some(version.clone());
        }
        page.compare();
        drop(book);
        self.answered.notify_waiters();
    }

    /// A watch or its list showed this object.
    pub(crate) fn note_delivery(&self, lease: &LeaseName, version: &Version, object: Value) {
        let mut book = self.lock();
        let page = book.page(lease);
        page.keep(version, object);
        page.delivered = Some(version.clone());
        page.compare();
    }

    /// A watch or its list showed that there is no such object, as of `version`.
    pub(crate) fn note_absence(&self, lease: &LeaseName, version: Option<Version>) {
        let mut book = self.lock();
        let page = book.page(lease);
        let newest = page.newest.as_ref().map(|(newest, _)| newest);
        let is_older =
            newest.zip(version.as_ref()).is_some_and(|(newest, absent)| absent.is_older_than(newest));
        if !is_older {
            page.newest = None;
        }
        page.delivered = version;
        page.compare();
    }

    /// A list showed the whole collection to which all of these Leases belong, as of `version`: those of which nothing
    /// was delivered so far were not in it, and what is gone is forgotten.
    pub(crate) fn note_list(&self, version: &Version) {
        let mut book = self.lock();
        book.listed = Some(version.clone());
        book.pages.retain(|_, page| page.newest.is_some());
        for page in book.pages.values_mut() {
            page.delivered.get_or_insert_with(|| version.clone());
            page.compare();
        }
    }

    /// Nobody is interested in this Lease any more.
    pub(crate) fn forget(&self, lease: &LeaseName) {
        self.lock().pages.remove(lease);
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
        for (lease, page) in &mut self.lock().pages {
            if concerns(lease, namespace, name) && page.behind_since.is_some() {
                page.behind_since = Some(now);
            }
        }
    }

    fn behind_since(&self, namespace: &str, name: Option<&str>) -> Option<Instant> {
        let book = self.lock();
        book.pages
            .iter()
            .filter(|(lease, _)| concerns(lease, namespace, name))
            .filter_map(|(_, page)| page.behind_since)
            .min()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test(start_paused = true)]
    async fn what_a_list_of_the_whole_did_not_show_counts_as_delivered_as_of_then() {
        let ledger = Ledger::default();
        ledger.note_list(&version(5));
        ledger.note_answer(&LeaseName::new("ns", "l"), &version(6), json!({}));
        let start = Instant::now();
        ledger.overdue("ns", None).await;
        assert!((LAG..LAG + Duration::from_millis(50)).contains(&start.elapsed()), "{:?}", start.elapsed());
        // The next list is newer than the answer: it is not in it, so it is gone.
        ledger.note_list(&version(7));
        let waited = tokio::time::timeout(LAG * 10, ledger.overdue("ns", None)).await;
        assert!(waited.is_ok(), "the page has an object, only its watch says that it is gone");
        ledger.note_absence(&LeaseName::new("ns", "l"), Some(version(7)));
        let waited = tokio::time::timeout(LAG * 10, ledger.overdue("ns", None)).await;
        assert!(waited.is_err());
        ledger.note_list(&version(8));
        assert!(ledger.lock().pages.is_empty());
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
