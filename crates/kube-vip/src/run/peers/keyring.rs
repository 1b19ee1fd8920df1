//! The keys that this node can read, from the threads that learn of them to the loop. Fed by whoever reads the Secret or
//! recalls an earlier life; gives back what is known when that is news, and wakes the loop for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vip_model::peers::PeerKey;
use vip_proto::peers::SealKey;

use crate::run::inbox::Inbox;

/// Where keys are left for the loop.
pub(crate) struct Keyring {
    left: Mutex<Left>,
    inbox: Arc<Inbox>,
}

/// What is known of keys.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// The keys that this node can read, the newest first.
    pub(super) keys: Vec<SealKey>,
    /// Why it can't read any, or no newer ones.
    pub(super) trouble: Option<String>,
}

#[derive(Default)]
struct Left {
    known: Known,
    is_news: bool,
}

impl Keyring {
    /// Without keys.
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { left: Mutex::default(), inbox }
    }

    /// The keys that this node can read now, the newest first.
    pub(crate) fn set_keys(&self, keys: impl IntoIterator<Item = PeerKey>) {
        let keys = keys.into_iter().map(SealKey::new).collect();
        self.change(|known| *known = Known { keys, trouble: None });
    }

    /// The keys cannot be read. Those that are known stay: they may well be the right ones.
    pub(crate) fn set_trouble(&self, trouble: String) {
        self.change(|known| known.trouble = Some(trouble));
    }

    /// What is known, if it is news since the last call.
    pub(super) fn take_news(&self) -> Option<Known> {
        let mut left = self.lock();
        std::mem::take(&mut left.is_news).then(|| left.known.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut left = self.lock();
        change(&mut left.known);
        left.is_news = true;
        drop(left);
        self.inbox.ring();
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        // No code that can panic runs under the lock, and a panic ends the process anyway.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
