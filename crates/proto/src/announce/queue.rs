//! Addresses in the order in which they are due. The earliest is found without looking at the others, which keeps the
//! cost of a turn independent of the number of idle addresses.

use std::collections::BTreeSet;

use vip_model::{Instant, ScopedAddr};

/// The queue. Whoever puts an address in remembers under which instant, to take it out again.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(BTreeSet<(Instant, ScopedAddr)>);

impl Queue {
    /// Puts an address in.
    pub(super) fn add(&mut self, due: Instant, at: ScopedAddr) {
        self.0.insert((due, at));
    }

    /// Takes an address out; nothing happens when it is not in.
    pub(super) fn remove(&mut self, due: Instant, at: ScopedAddr) {
        self.0.remove(&(due, at));
    }

    /// When the earliest is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.first().map(|&(due, _)| due)
    }

    /// Takes the earliest out, if it is due, with the instant at which it was.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, ScopedAddr)> {
        self.due().filter(|&due| due <= now)?;
        self.0.pop_first()
    }
}
