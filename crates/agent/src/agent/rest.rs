//! Rest between turns: heartbeats make hundreds of turns a second, and each ends when a poll gives nothing. What such a poll
//! would find is known already, so that neither it nor the next deadline is worked out twice.

use vip_model::Instant;
use vip_proto::{Machine, Rest};

use super::{Agent, STOP_LIMIT};

impl Agent {
    /// A turn that gave nothing is followed by the next when something is due. What waits for a right to grow is tried at
    /// every occasion.
    pub(super) fn rest_after_turn(&self, now: Instant) -> Rest {
        let is_calm = self.ownership.as_ref().is_none_or(|ownership| ownership.rests(now));
        if self.outputs.is_empty() && is_calm && !self.awaits_right {
            Rest::Until(self.next_turn())
        } else {
            Rest::No
        }
    }

    /// After an input that gave nothing to do but, perhaps, later: whoever rested rests on.
    pub(super) fn rest_on(&mut self, now: Instant, rest: Rest) {
        let is_calm = self.ownership.as_ref().is_none_or(|ownership| ownership.rests(now));
        if rest.lasts(now) && is_calm {
            self.rest = Rest::Until(self.next_turn());
        }
    }

    /// When something is due, without the alarm that notices a stop of the process.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        let all = [
            self.elections.deadline(),
            self.ownership.as_ref().and_then(|ownership| ownership.deadline()),
            self.gate.deadline(),
            self.announcer.deadline(),
            self.settle_due,
            self.refresh_due,
            self.desk.deadline(),
            self.desk.first_end(),
            self.outbox.deadline(),
            self.stopping_since.map(|since| since + STOP_LIMIT),
        ];
        all.into_iter().flatten().min()
    }
}
