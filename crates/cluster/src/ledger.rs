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

use crate::lease::Scope;

/// How long a watch may be behind what questions showed without delivering anything.
const LAG: Duration = Duration::from_secs(1);
/// How long it may be behind although it delivers: thousands of Leases that change at once take their time, and to list
/// them all again would take longer.
const LONGEST_LAG: Duration = Duration::from_secs(5);

/// What is known of Leases.
#[derive(Default)]
pub(crate) struct Ledger {
    book: Mutex<Book>,
    answered: Notify,
}

#[derive(Default)]
struct Book {
    pages: BTreeMap<LeaseName, Page>,
    /// Those whose watch is behind, and since when.
    behind: BTreeMap<LeaseName, Instant>,
    /// The whole collection was last listed as of this version, when there is one that all belong to.
    listed: Option<Version>,
}

impl Book {
    fn change(&mut self, lease: &LeaseName, change: impl FnOnce(&mut Page)) {
        let page = || Page { delivered: self.listed.clone(), ..Page::default() };
        let page = self.pages.entry(lease.clone()).or_insert_with(page);
        change(page);
        if !page.is_behind() {
            self.behind.remove(lease);
        } else if !self.behind.contains_key(lease) {
            self.behind.insert(lease.clone(), Instant::now());
        }
    }

    /// When the watch of these Leases, which last delivered anything then, will have been behind for too long; none when
    /// it is not.
    fn due(&self, scope: &Scope, delivered: Option<Instant>) -> Option<Instant> {
        let since =
            self.behind.iter().filter(|(lease, _)| scope.holds(lease)).map(|(_, since)| *since).min()?;
        let delivered = delivered.unwrap_or(since);
        Some((since.max(delivered) + LAG).min(since + LONGEST_LAG))
    }
}

#[derive(Default)]
struct Page {
    newest: Option<(Version, Value)>,
    delivered: Option<Version>,
    answered: Option<Version>,
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
        self.lock().change(lease, |page| {
            page.keep(version, object);
            if !page.answered.as_ref().is_some_and(|answered| version.is_older_than(answered)) {
                page.answered = Some(version.clone());
            }
        });
        self.answered.notify_waiters();
    }

    /// A watch or its list showed this object.
    pub(crate) fn note_delivery(&self, lease: &LeaseName, version: &Version, object: Value) {
        self.lock().change(lease, |page| {
            page.keep(version, object);
            page.delivered = Some(version.clone());
        });
    }

    /// A watch or its list showed that there is no such object, as of `version`.
    pub(crate) fn note_absence(&self, lease: &LeaseName, version: Option<Version>) {
        self.lock().change(lease, |page| {
            let newest = page.newest.as_ref().map(|(newest, _)| newest);
            let is_older =
                newest.zip(version.as_ref()).is_some_and(|(newest, absent)| absent.is_older_than(newest));
            if !is_older {
                page.newest = None;
            }
            page.delivered = version;
        });
    }

    /// A list showed the whole collection to which all of these Leases belong, as of `version`: those of which nothing
    /// was delivered so far were not in it, and what is gone is forgotten.
    pub(crate) fn note_list(&self, version: &Version) {
        let mut book = self.lock();
        book.listed = Some(version.clone());
        book.pages.retain(|_, page| page.newest.is_some());
        let Book { pages, behind, .. } = &mut *book;
        behind.retain(|lease, _| pages.contains_key(lease));
        let open: Vec<LeaseName> = pages
            .iter()
            .filter(|(_, page)| page.delivered.is_none())
            .map(|(lease, _)| lease.clone())
            .collect();
        for lease in open {
            book.change(&lease, |page| page.delivered = Some(version.clone()));
        }
    }

    /// Nobody is interested in this Lease any more.
    pub(crate) fn forget(&self, lease: &LeaseName) {
        let mut book = self.lock();
        book.pages.remove(lease);
        book.behind.remove(lease);
    }

    /// Returns when the watch of these Leases, which last delivered anything then, is too far behind.
    pub(crate) async fn overdue(&self, scope: &Scope, delivered: Option<Instant>) {
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            let due = self.lock().due(scope, delivered);
            match due {
                None => answered.await,
                Some(due) if Instant::now() >= due => return,
                Some(due) => sleep_until(due).await,
            }
        }
    }

    /// A new watch starts: what it is behind counts from now.
    pub(crate) fn restart(&self, scope: &Scope) {
        let now = Instant::now();
        for (_, since) in self.lock().behind.iter_mut().filter(|(lease, _)| scope.holds(lease)) {
            *since = now;
        }
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

    fn is_behind(&self) -> bool {
        match (&self.delivered, &self.answered) {
            (Some(delivered), Some(answered)) => delivered.is_older_than(answered),
            _ => false,
        }
    }
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
        ledger.overdue(&Scope::One(lease.clone()), None).await;
        assert!((LAG..LAG + Duration::from_millis(50)).contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_delivers_is_never_overdue() {
        let ledger = Ledger::default();
        let lease = LeaseName::new("ns", "l");
        ledger.note_answer(&lease, &version(6), json!({}));
        ledger.note_delivery(&lease, &version(6), json!({}));
        let waited =
            tokio::time::timeout(LAG * 10, ledger.overdue(&Scope::Namespace("ns".to_owned()), None)).await;
        assert!(waited.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_list_of_the_whole_did_not_show_counts_as_delivered_as_of_then() {
        let ledger = Ledger::default();
        ledger.note_list(&version(5));
        ledger.note_answer(&LeaseName::new("ns", "l"), &version(6), json!({}));
        let start = Instant::now();
        ledger.overdue(&Scope::Namespace("ns".to_owned()), None).await;
        assert!((LAG..LAG + Duration::from_millis(50)).contains(&start.elapsed()), "{:?}", start.elapsed());
        // The next list is newer than the answer: it is not in it, so it is gone.
        ledger.note_list(&version(7));
        let waited =
            tokio::time::timeout(LAG * 10, ledger.overdue(&Scope::Namespace("ns".to_owned()), None)).await;
        assert!(waited.is_ok(), "the page has an object, only its watch says that it is gone");
        ledger.note_absence(&LeaseName::new("ns", "l"), Some(version(7)));
        let waited =
            tokio::time::timeout(LAG * 10, ledger.overdue(&Scope::Namespace("ns".to_owned()), None)).await;
        assert!(waited.is_err());
        ledger.note_list(&version(8));
        assert!(ledger.lock().pages.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_behind_but_delivers_is_given_more_time_and_not_for_ever() {
        let ledger = Ledger::default();
        let scope = Scope::Namespace("ns".to_owned());
        let lease = LeaseName::new("ns", "l");
        ledger.note_delivery(&lease, &version(5), json!({}));
        ledger.note_answer(&lease, &version(6), json!({}));
        let start = Instant::now();
        for (delivered, after) in [(0, 1_000), (300, 1_300), (3_999, 4_999), (4_500, 5_000), (60_000, 5_000)]
        {
            let delivered = Some(start + Duration::from_millis(delivered));
            let due = ledger.lock().due(&scope, delivered);
            assert_eq!(due, Some(start + Duration::from_millis(after)), "{delivered:?}");
        }
        ledger.overdue(&scope, Some(start + Duration::from_secs(3))).await;
        assert_eq!(start.elapsed().as_millis(), 4_000);
        ledger.restart(&scope);
        assert_eq!(
            ledger.lock().due(&scope, None),
            Some(Instant::now() + LAG),
            "a new watch has its own time"
        );
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
