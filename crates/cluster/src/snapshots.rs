//! What the cluster says, as one value: every watch changes its own domain, and the whole is told to the program. Many
//! changes in a row are told together. A snapshot shares what did not change with the one before it, so telling one
//! costs a few pointers, and a domain is copied only when it changes while somebody still holds it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use vip_model::Known;
use vip_model::store::Snapshot;

/// The shortest time between two snapshots while changes stream in. Long enough for a burst of events to cost one copy
/// of a large domain, short enough not to be felt.
const PACE: Duration = Duration::from_millis(2);

/// The newest snapshot and whether it was told.
#[derive(Default)]
pub(crate) struct Snapshots {
    newest: Mutex<Snapshot>,
    changed: Notify,
    complete: Notify,
}

impl Snapshots {
    /// One domain was seen as a whole. When `replace` says that it is another than before, it is told at once.
    pub(crate) fn replace(&self, replace: impl FnOnce(&mut Snapshot) -> bool) {
        if replace(&mut self.lock()) {
            self.complete.notify_one();
            self.changed.notify_one();
        }
    }

    /// One object of a domain was seen. When `change` says that it is news, it is told within [`PACE`].
    pub(crate) fn change(&self, change: impl FnOnce(&mut Snapshot) -> bool) {
        if change(&mut self.lock()) {
            self.changed.notify_one();
        }
    }

    /// Tells what changed, until the task is aborted.
    pub(crate) async fn publish(&self, tell: impl Fn(Snapshot)) {
        let mut last: Option<Instant> = None;
        loop {
            self.changed.notified().await;
            if let Some(last) = last {
                tokio::select! {
                    () = sleep_until(last + PACE) => {}
                    () = self.complete.notified() => {}
                }
            }
            last = Some(Instant::now());
            let newest = self.lock().clone();
            tell(newest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts `new` in the place of a whole domain. Says whether it is another than before.
pub(crate) fn put<T: PartialEq>(domain: &mut Known<Arc<T>>, new: T) -> bool {
    let differs = domain.get().is_none_or(|before| **before != new);
    if differs {
        *domain = Known::Known(Arc::new(new));
    }
    differs
}

/// Puts `value` at `key`, or takes away what is there. Says whether that changed anything: then the domain was copied
/// if somebody held it. A domain that is unknown stays so.
pub(crate) fn set<K, V>(domain: &mut Known<Arc<BTreeMap<K, V>>>, key: K, value: Option<V>) -> bool
where
    K: Ord + Clone,
    V: PartialEq + Clone,
{
    let Known::Known(map) = domain else { return false };
    if map.get(&key) == value.as_ref() {
        return false;
    }
    let map = Arc::make_mut(map);
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
    true
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use super::*;

    fn start() -> (Arc<Snapshots>, mpsc::UnboundedReceiver<(Instant, Snapshot)>) {
        let (sender, told) = mpsc::unbounded_channel();
        let snapshots = Arc::new(Snapshots::default());
        let publisher = Arc::clone(&snapshots);
        tokio::spawn(async move {
            publisher.publish(|snapshot| drop(sender.send((Instant::now(), snapshot)))).await;
        });
        (snapshots, told)
    }

    fn pools(number: usize) -> impl FnOnce(&mut Snapshot) -> bool {
        let pools = BTreeMap::from([("number".to_owned(), number.to_string())]);
        move |snapshot| put(&mut snapshot.pools, pools)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_change_is_told_at_once_and_a_stream_of_them_at_the_pace() {
        let (snapshots, mut told) = start();
        let begin = Instant::now();
        for number in 0..50 {
            snapshots.change(pools(number));
            sleep(Duration::from_millis(1)).await;
        }
        sleep(PACE).await;
        let mut all = Vec::new();
        while let Ok((at, snapshot)) = told.try_recv() {
            all.push((at - begin, snapshot));
        }
        assert!(all[0].0 < Duration::from_millis(1), "{:?}", all[0].0);
        assert!((17..=26).contains(&all.len()), "{} snapshots of 50 changes in 50 ms", all.len());
        let Known::Known(pools) = &all.last().expect("some were told").1.pools else { panic!("unknown") };
        assert_eq!(pools["number"], "49", "the last change is not lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_that_is_seen_as_a_whole_does_not_wait() {
        let (snapshots, mut told) = start();
        snapshots.change(pools(1));
        told.recv().await.expect("told");
        let begin = Instant::now();
        snapshots.replace(pools(2));
        let (at, _) = told.recv().await.expect("told");
        assert!(at - begin < Duration::from_millis(1), "{:?}", at - begin);
    }

    #[tokio::test(start_paused = true)]
    async fn what_did_not_change_is_shared_between_snapshots() {
        let (snapshots, mut told) = start();
        snapshots.replace(|snapshot| put(&mut snapshot.nodes, BTreeMap::new()));
        let (_, first) = told.recv().await.expect("told");
        snapshots.replace(pools(1));
        let (_, second) = told.recv().await.expect("told");
        let (Known::Known(before), Known::Known(after)) = (&first.nodes, &second.nodes) else {
            panic!("unknown")
        };
        assert!(Arc::ptr_eq(before, after));
    }

    #[test]
    fn a_change_copies_only_what_somebody_holds_and_an_unknown_domain_takes_none() {
        let mut domain: Known<Arc<BTreeMap<u8, u8>>> = Known::Unknown;
        assert!(!set(&mut domain, 1, Some(1)));
        assert!(put(&mut domain, BTreeMap::from([(1, 1)])));
        assert!(!put(&mut domain, BTreeMap::from([(1, 1)])), "the same again is no news");
        let held = domain.clone();
        assert!(!set(&mut domain, 1, Some(1)));
        assert!(set(&mut domain, 1, None));
        assert_eq!(held.get().map(|map| map.len()), Some(1), "what was told does not change");
        assert_eq!(domain.get().map(|map| map.len()), Some(0));
    }
}
