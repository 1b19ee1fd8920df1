//! One step: everything that is due, in an order that lets each part see what the one before decided.

use std::time::Duration;

use vip_model::{Instant, LeaseName};

use super::{Ownership, OwnershipOutput};
use crate::Rest;

/// How much longer than its timeout a question may stay unanswered: the gateway promises an answer by the timeout.
pub(super) const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// The kernel counts whole seconds, rounded down: what is added so that the wanted number is left after the way there.
pub(super) const ROUNDING: Duration = Duration::from_millis(300);
/// Groups that are looked at in one step; the rest follows at once.
const GROUPS_AT_ONCE: usize = 512;
/// Tracks are tidied this often.
const TIDY: Duration = Duration::from_secs(1);

impl Ownership {
    pub(super) fn step(&mut self, now: Instant) {
        self.stepped = now;
        if self.is_absent(now) {
            return;
        }
        self.step_tidy(now);
        self.step_drill_watch(now);
        self.step_own(now);
        self.step_trust(now);
        self.step_refresh(now);
        self.step_grants(now);
        self.step_bids(now);
        self.step_deposals(now);
        self.step_unseen(now);
        self.step_groups(now);
        self.find_shortest_lifetime();
        self.step_memory(now);
        self.step_beats(now);
        while let Some(frame) = self.looks.poll(now, &self.want.sites) {
            self.out.push_back(OwnershipOutput::Frame(frame));
        }
    }

    fn step_tidy(&mut self, now: Instant) {
        if now >= self.tidied + TIDY {
            self.tidied = now;
            self.forget_tracks(now);
        }
    }

    fn step_groups(&mut self, now: Instant) {
        for _ in 0..GROUPS_AT_ONCE {
            let Some(claim) = self.next_due(now).or_else(|| self.ventures.next()) else { break };
            if let Some(group) = self.groups.get_mut(&claim) {
                group.due = None;
            }
            self.step_group(now, &claim);
        }
    }

    fn next_due(&mut self, now: Instant) -> Option<LeaseName> {
        self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.pop_first().map(|(_, claim)| claim)
    }

    /// Renews the lifetime of all addresses at a third of it, in one go.
    fn step_refresh(&mut self, now: Instant) {
        self.find_shortest_lifetime();
        if self.refresh_due().is_some_and(|due| now >= due) && self.trust.may_serve() {
            self.refreshed = now;
            self.republish_held();
        }
    }

    fn refresh_due(&self) -> Option<Instant> {
        // A process that was stopped finds its right run out: nothing is lengthened before there is a proof again.
        (self.horizon(self.stepped) > self.stepped).then_some(())?;
        Some(self.refreshed + self.shortest_lifetime? / 3)
    }

    /// Groups in motion wait for news of members.
    pub(super) fn mark_moving(&mut self, now: Instant) {
        let moving: Vec<LeaseName> = self.handed.iter().cloned().collect();
        for claim in moving {
            self.mark(now, &claim);
        }
    }

    /// Whether a step at this moment would find nothing to do.
    pub fn rests(&self, now: Instant) -> bool {
        self.out.is_empty() && self.rest.lasts(now)
    }

    /// A step that gave nothing but heartbeats is followed by the next when something is due: what was asked or looked for
    /// may decide more at once. In doubt every step counts: it sees that the process runs.
    pub(super) fn rest_after_step(&self) -> Rest {
        let is_calm = self.trust.is_sure() && self.trust.may_serve();
        let is_over = self.out.iter().all(|output| matches!(output, OwnershipOutput::Peer(_)));
        if is_calm && is_over { Rest::Until(self.first_due()) } else { Rest::No }
    }

    pub(super) fn next_step(&self) -> Option<Instant> {
        if !self.out.is_empty() {
            return Some(Instant::ZERO);
        }
        self.first_due()
    }

    pub(super) fn first_due(&self) -> Option<Instant> {
        if let Some(until) = self.drills.absent_until() {
            return Some(until);
        }
        self.all_dues().into_iter().flatten().min()
    }

    /// What a step would do at a moment in which this machine rests: nothing, or the rest is too long. Wishes to look are
    /// renewed with the next heartbeat.
    #[cfg(test)]
    pub(super) fn missed(&mut self, now: Instant) -> Vec<OwnershipOutput> {
        if self.rests(now) && !self.has_to_look(now) {
            let due = self.rest;
            self.step(now);
            let wakes = |at: Instant| matches!(due, Rest::Until(Some(due)) if due <= at);
            assert!(self.first_due().is_none_or(wakes), "rests until {due:?}: {}", self.dues());
        }
        self.out.drain(..).collect()
    }

    #[cfg(test)]
    pub(super) fn dues(&self) -> String {
        format!("now {} dues {:?}", self.stepped, self.all_dues())
    }

    fn all_dues(&self) -> [Option<Instant>; 10] {
        [
            self.own.as_ref().and_then(super::Own::deadline),
            self.trust_due(),
            self.refresh_due(),
            self.grants_due(),
            self.bids_due(self.stepped),
            self.due.first().map(|(due, _)| *due),
            self.own.as_ref().and(self.memory.due),
            self.beats_due(),
            self.looks.deadline(),
            self.drill_watch_due(),
        ]
    }
}
