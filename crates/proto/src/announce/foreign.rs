//! Who else claims one address: counted always, reported once per claimant until it was quiet for a while.

use std::collections::BTreeMap;

use vip_model::{Instant, LinkAddr};

use super::{FOREIGN_PER_ADDRESS, FOREIGN_QUIET};

/// The foreign claimants of one address.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimants {
    /// When each was heard last.
    heard: BTreeMap<LinkAddr, Instant>,
    frames: u64,
}

impl Claimants {
    /// Frames heard from all of them.
    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }

    /// A claimant was heard; whether that is worth one of the `room` reports that are left. With no room it is not
    /// remembered either, so that its next frame is reported.
    pub(super) fn hear(&mut self, now: Instant, from: &LinkAddr, room: usize) -> bool {
        self.frames += 1;
        if let Some(last) = self.heard.get_mut(from) {
            let quiet = now.since(*last) >= FOREIGN_QUIET;
            if !quiet || room > 0 {
                *last = now;
            }
            return quiet && room > 0;
        }
        if self.heard.len() >= FOREIGN_PER_ADDRESS {
            self.heard.retain(|_, last| now.since(*last) < FOREIGN_QUIET);
        }
        let known = room > 0 && self.heard.len() < FOREIGN_PER_ADDRESS;
        if known {
            self.heard.insert(from.clone(), now);
        }
        known
    }
}
