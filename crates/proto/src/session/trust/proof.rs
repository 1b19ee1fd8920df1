//! Proof: until when the own session surely has the right to serve, by what was heard, asked and seen.

use std::time::Duration;

use vip_model::config::{ApiLoss, PeerMode};
use vip_model::session::Jury;
use vip_model::{Instant, NodeName};

use super::Mood;
use crate::session::Ownership;

/// For how long a juror's kernel counts as reached: less than others take to find that the addresses do not answer.
const KERNEL_COUNTS: Duration = Duration::from_millis(45);
/// The same where who takes by the store alone looks: twelve times without an answer.
const EXPIRED_COUNTS: Duration = Duration::from_millis(120);
/// For how long the word of an API server elsewhere counts while no juror's kernel answers: two of its questions.
const UNSEEN_PROOF: Duration = Duration::from_millis(1_500);

/// What a proof is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// To keep an address that is there.
    Keep,
    /// To add one.
    Add,
}

/// What proves the right at this moment, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Until(Instant),
    None,
}

impl Ownership {
    /// Since when enough jurors of a list vouch: the send time of the own datagram that the last of them echoed.
    fn vouched_by(&self, jury: &Jury) -> Option<Instant> {
        // The newest, as many as the largest jury needs.
        let mut newest = [None; Jury::MOST.div_ceil(2)];
        for time in jury.members.iter().filter_map(|node| self.peers.get(node)?.vouched) {
            let mut falling = Some(time);
            for place in &mut newest {
                if falling > *place {
                    std::mem::swap(place, &mut falling);
                }
            }
        }
        *newest.get(jury.vouching().checked_sub(1)?)?
    }

    /// The same for all lists that count. None when one of them does not vouch; `Err` when no list has a member.
    pub(super) fn vouched(&self) -> Result<Option<Instant>, ()> {
        let Some(own) = &self.own else { return Err(()) };
        if self.want.settings.peers == PeerMode::Off {
            return Err(());
        }
        let mut oldest: Option<Option<Instant>> = None;
        for jury in own.juries().filter(|jury| !jury.members.is_empty()) {
            let vouched = self.vouched_by(jury);
            oldest = Some(match oldest {
                None => vouched,
                Some(former) => former.zip(vouched).map(|(one, other)| one.min(other)),
            });
        }
        oldest.ok_or(())
    }

    /// The store's word: the renew deadline, counted from the moment of asking.
    pub(super) fn by_store(&self) -> Proof {
        let deadline = self.want.settings.timings.renew_deadline;
        let proven = self.own.as_ref().and_then(|own| own.proven);
        proven.map_or(Proof::None, |proven| Proof::Until(proven + deadline))
    }

    fn by_store_elsewhere(&self) -> Proof {
        let deadline = self.want.settings.timings.renew_deadline;
        let Some(own) = &self.own else { return Proof::None };
        match (own.elsewhere, own.proven) {
            (Some(elsewhere), Some(proven)) => Proof::Until(elsewhere.min(proven) + deadline),
            _ => Proof::None,
        }
    }

    /// Whether this is the only member that anybody ever heard of.
    pub(super) fn is_alone(&self) -> bool {
        let was_heard = self.own.as_ref().is_some_and(|own| own.record.was_heard);
        let others = self.members.values().any(|member| !self.lineage.has_ended(member.record.id));
        let is_known = self.own.as_ref().is_some_and(|own| own.proven.is_some())
            || self.recall.as_ref().is_some_and(|recall| recall.memory.is_some());
        is_known && !was_heard && !others && self.peers.is_empty()
    }

    /// Until when what is done now is surely right, without anything further being heard.
    pub fn horizon(&self, now: Instant) -> Instant {
        self.horizon_of(now, Right::Keep)
    }

    /// The same for an address that is not there: undecided entitlement never adds one.
    pub fn horizon_to_add(&self, now: Instant) -> Instant {
        self.horizon_of(now, Right::Add)
    }

    fn horizon_of(&self, now: Instant, right: Right) -> Instant {
        if !self.trust.may_serve() {
            return now;
        }
        let jurors = match self.vouched() {
            Ok(Some(vouched)) => Some(vouched + self.interval() * 5 / 2),
            Ok(None) | Err(()) => None,
        };
        // In doubt others may have found an address that is gone silent, and taken it: who adds it first looks at them.
        let is_safe = right == Right::Keep || !self.trust.is_in_doubt() || self.nobody_else_answers(now);
        let other = match self.proof(now, right) {
            Proof::Until(until) if is_safe => Some(until),
            Proof::Until(_) | Proof::None => None,
        };
        jurors.max(self.trust.grace).max(other).unwrap_or(now)
    }

    /// What proves the right beside fresh jurors.
    pub(super) fn proof(&self, now: Instant, right: Right) -> Proof {
        let settings = &self.want.settings;
        if settings.api_loss == ApiLoss::Hold {
            return Proof::Until(now + Duration::from_secs(1));
        }
        match (self.vouched(), self.trust.mood) {
            (Err(()), _) if self.is_alone() && settings.api_loss != ApiLoss::Release => {
                Proof::Until(now + Duration::from_secs(1))
            }
            (Err(()), _) => self.by_store(),
            (Ok(_), Mood::Doubt { since, .. } | Mood::Silent { since }) => {
                self.proof_in_doubt(now, since, right)
            }
            (Ok(None), _) if !self.own.as_ref().is_some_and(|own| own.record.was_heard) => self.by_store(),
            (Ok(_), Mood::Untested) => self.proof_in_doubt(now, self.started, right),
            (Ok(_), Mood::Sure) => Proof::None,
        }
    }

    /// An API server elsewhere that answered after the doubt began; else the jurors' kernels; with one juror, who can't
    /// tell whose cable is cut, the store's last word.
    fn proof_in_doubt(&self, now: Instant, since: Instant, right: Right) -> Proof {
        // A refused write proves our cable, not that the session lives: who was succeeded is refused, too.
        let lives = self.own.as_ref().is_some_and(|own| own.proven >= Some(since));
        let is_enough = lives || (right == Right::Keep && !self.trust.is_silent());
        let asked = self.own.as_ref().and_then(|own| own.elsewhere);
        let asked = asked.filter(|asked| *asked >= since && is_enough);
        if let (Some(asked), Proof::Until(until)) = (asked, self.by_store_elsewhere()) {
            // Whoever could take looks at our addresses. Where its kernel is out of sight, they may be out of its sight, too.
            let is_seen = self.juror_kernels_answer(now);
            let until = if is_seen { until } else { until.min(asked + UNSEEN_PROOF) };
            if now < until {
                return Proof::Until(until);
            }
        }
        // Nobody takes from k = 1 without the store, so that its word is a proof, and brings the addresses back.
        let is_one = self.own.as_ref().is_some_and(|own| own.record.jury.members.len() == 1);
        if is_one {
            let by_store = self.by_store();
            if matches!(by_store, Proof::Until(until) if now < until) {
                return by_store;
            }
        }
        // They prove that whoever could take sees that our addresses answer: only while these are there.
        if right == Right::Keep && !self.trust.is_silent() && self.juror_kernels_answer(now) {
            return Proof::Until(now + self.interval());
        }
        Proof::None
    }

    fn juror_kernels_answer(&self, now: Instant) -> bool {
        let Some(own) = &self.own else { return false };
        // From one juror alone nobody takes without the store.
        let is_one = own.record.jury.members.len() == 1;
        let counts = self.interval() * 3;
        let counts = if is_one { counts } else { counts.min(KERNEL_COUNTS) };
        // From when it has expired in the store, anybody may follow it by one write, who then looks for its addresses: whose
        // kernel we don't see does not see ours.
        let duration = self.want.settings.timings.duration;
        let has_expired = own.proven.is_none_or(|proven| now >= proven + duration);
        own.juries().filter(|jury| !jury.members.is_empty()).all(|jury| {
            let answering = |counts| {
                jury.members.iter().filter(move |node| self.kernel_answers(now, node, counts)).count()
            };
            let is_seen_by_all = !has_expired || answering(counts.max(EXPIRED_COUNTS)) == jury.members.len();
            is_seen_by_all && answering(counts) >= jury.vouching()
        })
    }

    /// Whether a member's own addresses answered so short a time ago.
    fn kernel_answers(&self, now: Instant, node: &NodeName, counts: Duration) -> bool {
        let Some(member) = self.members.get(node) else { return false };
        member.record.sites.iter().any(|site| {
            let answered = self.looks.answered(site.net.addr(), &site.addr);
            answered.is_some_and(|answered| now < answered + counts)
        })
    }
}
