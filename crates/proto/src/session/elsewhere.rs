//! The question to an API server on another node, in doubt: an answer proves our own connection. It goes beside the usual
//! renewal and never in its place: where no other server answers, the own one may, and with one juror that is what the
//! addresses live by.

use std::time::Duration;

use vip_model::Instant;
use vip_model::session::Via;
use vip_model::store::{Answer, Ask};

use super::own::Asking;
use super::{Asked, Ownership, Ticket};

/// Time between two questions, when the last one was answered; and when it was not: then the usual renewal is asked, too,
/// and both keep one budget.
const EVERY: Duration = Duration::from_millis(500);
const EVERY_UNANSWERED: Duration = Duration::from_millis(750);

impl Ownership {
    /// Asks, when it is time.
    pub(super) fn step_elsewhere(&mut self, now: Instant) {
        // What lasts costs no more than a renewal does.
        let lasting = self.is_long_in_doubt(now).then_some(self.want.settings.timings.retry_period);
        let is_due = |own: &super::Own| {
            let is_answered = own.elsewhere >= own.elsewhere_asked && !own.is_failing();
            let every = if is_answered { EVERY } else { EVERY_UNANSWERED };
            let every = lasting.map_or(every, |lasting| lasting.max(every));
            own.elsewhere_asked.is_none_or(|asked| now >= asked + every)
        };
        if self.own.as_ref().is_some_and(is_due) {
            self.ask_elsewhere(now);
        }
    }

    /// Whether servers on other nodes are asked so often, and answer, that what is new is written as soon as it would be by
    /// itself.
    pub(super) fn is_said_elsewhere(&self, now: Instant) -> bool {
        let answers = |own: &super::Own| own.elsewhere.is_some_and(|answered| now < answered + EVERY * 3 / 2);
        self.asks_elsewhere() && !self.is_long_in_doubt(now) && self.own.as_ref().is_some_and(answers)
    }

    fn ask_elsewhere(&mut self, now: Instant) {
        let Some((write, what)) = self.compose(now, Via::Elsewhere) else { return };
        let timeout = self.patience();
        let ticket = self.ask(Asked::Elsewhere, Ask::WriteSession(Box::new(write)), timeout);
        let Some(own) = &mut self.own else { return };
        own.elsewhere_asked = Some(now);
        let asked = &mut self.asked;
        own.asking_elsewhere.retain(|asking| {
            let is_waited_for = now < asking.at + timeout + super::step::ANSWER_GRACE;
            if !is_waited_for {
                asked.remove(&asking.ticket);
            }
            is_waited_for
        });
        own.asking_elsewhere.push(Asking { ticket, at: now, what });
        self.remember_soon(now);
    }

    pub(super) fn elsewhere_answered(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        let Some(own) = &mut self.own else { return };
        let Some(place) = own.asking_elsewhere.iter().position(|asking| asking.ticket == ticket) else {
            return;
        };
        let asking = own.asking_elsewhere.remove(place);
        let is_newest = place == own.asking_elsewhere.len();
        if matches!(answer, Answer::Failed(_)) {
            return; // whether any server answers is what the usual renewal finds out
        }
        // A slow server's answer to an older question proves as much, from the moment of asking.
        own.elsewhere = own.elsewhere.max(Some(asking.at));
        let Answer::Session(_, seen) = answer else {
            // Another write was faster, most likely our own renewal. If not, our server shows old things, and asking it
            // sooner than usual would not help.
            own.must_read |= is_newest;
            return;
        };
        let Some(seen) = seen else {
            own.version = None;
            own.renew_at = now;
            return;
        };
        if !own.version.as_ref().is_some_and(|version| seen.version.is_older_than(version)) {
            own.version = Some(seen.version.clone());
        }
        if seen.record.id == own.record.id && seen.record.end.is_none() {
            self.proven(now, &asking, &seen.record);
        }
        self.own_seen(now, &seen);
    }
}
