//! Unknown is not empty (the first law of a turn).

use serde::{Deserialize, Serialize};

/// A fact from outside that may not have arrived yet. Nothing is ever deleted because of an `Unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known<T> {
    /// Not heard yet.
    #[default]
    Unknown,
    /// Heard in full at least once.
    Known(T),
}

impl<T> Known<T> {
    /// The fact, if it is known.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Unknown => None,
            Self::Known(fact) => Some(fact),
        }
    }

    /// Whether the fact is known.
    pub fn is_known(&self) -> bool {
        self.get().is_some()
    }
}
