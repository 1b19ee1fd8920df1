//! Trust: whether the own session may serve what it owns. Jurors lend the right in slices of a few heartbeats. When their
//! word comes late, doubt begins: an API server on another node is asked over a fresh connection, and every juror's
//! kernel by ARP or neighbour discovery. Whoever can be reached proves our own cable; without proof the addresses go, and
//! come back when enough jurors vouch again, or when the store confirms the session and nobody else answers.
//!
//! ```text
//!          vouched 1.5 I ago            no proof at 3 I
//!   Sure ─────────────────────► Doubt ─────────────────► Silent
//!    ▲  ▲     jurors vouch        │ proof: serve on         │
//!    │  └─────────────────────────┘                         │
//!    └── jurors vouch, or an API server elsewhere confirms ─┘
//! ```

mod proof;

use std::time::Duration;

use vip_model::config::ApiLoss;
use vip_model::peers::Word;
use vip_model::view::TrustView;
use vip_model::{Instant, NodeName};

use super::Ownership;
use super::look::LOOK_EVERY;
use proof::{Proof, Right};

/// Heartbeats in doubt.
pub(super) const DOUBT_BEAT: Duration = Duration::from_millis(10);
/// A turn that comes so late in doubt was late by no fault of others.
const STALL: Duration = Duration::from_millis(40);
/// Own addresses that a doubting holder looks for at others.
pub(super) const SECOND_LOOKS: usize = 4;
/// How often.
const SECOND_EVERY: Duration = Duration::from_millis(20);
/// Looks without an answer before a silent session takes its addresses back by the word of the store.
const BACK_MISSES: u32 = 3;

/// Whether the own session may serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    mood: Mood,
    /// Own take: nobody else can have the right before this.
    pub(super) grace: Option<Instant>,
    /// It played dead: whoever took over, by whatever right, is looked for before it serves again.
    must_look: bool,
    /// When the mood was last looked at.
    checked: Instant,
}

/// How sure it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    /// Nothing was heard yet: what is installed stays, and lives no longer for it.
    #[default]
    Untested,
    Sure,
    /// Jurors are late.
    Doubt {
        since: Instant,
        decide_at: Instant,
    },
    /// There was no proof.
    Silent {
        since: Instant,
    },
}

impl Trust {
    /// Whether nothing was heard yet.
    pub(super) const fn is_untested(&self) -> bool {
        matches!(self.mood, Mood::Untested)
    }

    /// Whether there is no doubt.
    pub(super) const fn is_sure(&self) -> bool {
        matches!(self.mood, Mood::Untested | Mood::Sure)
    }

    /// Whether it may serve.
    pub(super) const fn may_serve(&self) -> bool {
        matches!(self.mood, Mood::Sure | Mood::Doubt { .. })
    }

    /// Whether jurors are late.
    pub(super) const fn is_in_doubt(&self) -> bool {
        matches!(self.mood, Mood::Doubt { .. } | Mood::Silent { .. })
    }

    /// Since when jurors are late, while it serves.
    const fn doubts_since(&self) -> Option<Instant> {
        match self.mood {
            Mood::Doubt { since, .. } => Some(since),
            Mood::Untested | Mood::Sure | Mood::Silent { .. } => None,
        }
    }

    pub(super) const fn view(&self) -> TrustView {
        match self.mood {
            Mood::Untested => TrustView::Untested,
            Mood::Sure => TrustView::Sure,
            Mood::Doubt { .. } => TrustView::Doubt,
            Mood::Silent { .. } => TrustView::Silent,
        }
    }

    /// It may not, until there is a proof again.
    pub(super) fn fall_silent(&mut self, now: Instant) {
        (self.mood, self.grace) = (Mood::Silent { since: now }, None);
    }

    /// The same for one that plays dead: until it has also seen that nobody else answers.
    pub(super) fn play_dead(&mut self, now: Instant) {
        self.fall_silent(now);
        self.must_look = true;
    }

    fn is_silent(&self) -> bool {
        matches!(self.mood, Mood::Silent { .. })
    }
}

impl Ownership {
    /// Looks at the mood again. Whether it may serve has changed when this says so.
    pub(super) fn step_trust(&mut self, now: Instant) {
        if self.own.is_none() {
            return;
        }
        let checked = std::mem::replace(&mut self.trust.checked, now);
        self.forgive_stall(now, checked);
        let served = self.trust.may_serve();
        let mood = self.next_mood(now);
        let was_in_doubt = self.trust.is_in_doubt();
        if mood != self.trust.mood {
            self.trust.mood = mood;
        }
        if was_in_doubt && !self.trust.is_in_doubt() {
            self.look_again(now);
        }
        let is_late = !self.trust.is_untested() || now >= self.started + self.interval() * 3;
        if self.asks_elsewhere() && is_late {
            self.doubt(now);
        }
        if served != self.trust.may_serve() {
            if self.trust.may_serve() {
                self.refreshed = now;
            }
            self.mark_all(now);
        }
    }

    /// Whether other nodes' API servers are asked beside the own one, so that both share a budget: in doubt, and before
    /// anything was heard.
    pub(super) fn asks_elsewhere(&self) -> bool {
        self.owns_anything() && (self.trust.is_in_doubt() || self.trust.is_untested())
    }

    /// A process that was stopped in the middle of a doubt has heard nothing meanwhile: the answers wait for it.
    fn forgive_stall(&mut self, now: Instant, checked: Instant) {
        let interval = self.interval();
        if let Mood::Doubt { since, decide_at } = &mut self.trust.mood
            && now > checked + STALL
        {
            *decide_at = (*decide_at).max(now + interval * 3 / 2);
            if now >= checked + interval * 3 {
                // Others may have taken meanwhile: what was proven before proves nothing about that time.
                *since = now;
                if let Some(own) = &mut self.own {
                    own.elsewhere_asked = None;
                }
            }
        }
    }

    /// Whether the doubt has lasted for so long that dead jurors have expired in the store.
    pub(super) fn is_long_in_doubt(&self, now: Instant) -> bool {
        let span = self.want.settings.timings.duration;
        self.trust.doubts_since().is_some_and(|since| now >= since + span)
    }

    fn next_mood(&mut self, now: Instant) -> Mood {
        if let (Mood::Silent { .. }, true) = (self.trust.mood, self.trust.must_look) {
            if self.owns_anything() && !self.nobody_else_answers(now) {
                return self.trust.mood;
            }
            self.trust.must_look = false;
        }
        let interval = self.interval();
        let vouched = self.vouched();
        if let Ok(Some(vouched)) = vouched {
            if let Some(own) = &mut self.own
                && !own.record.was_heard
            {
                own.record.was_heard = true;
            }
            let is_fresh = now < vouched + interval * 3 / 2;
            if is_fresh && self.is_store_enough(now) && !self.awaits_lists(now) {
                return Mood::Sure;
            }
        }
        // Who owns nothing is not asked for proof; its heartbeats are slow.
        if !self.owns_anything() && self.own.as_ref().is_some_and(|own| own.proven.is_some()) {
            return Mood::Sure;
        }
        if self.trust.grace.is_some_and(|grace| now < grace) {
            return Mood::Sure;
        }
        let is_proven = matches!(self.proof(now, Right::Keep), Proof::Until(until) if now < until);
        match (vouched, self.trust.mood) {
            (Err(()), Mood::Silent { .. }) if is_proven && self.nobody_else_answers(now) => Mood::Sure,
            (Err(()), Mood::Silent { since }) => Mood::Silent { since },
            (Err(()), _) if is_proven => Mood::Sure,
            (Err(()) | Ok(_), Mood::Untested) if !is_proven => Mood::Untested,
            (Err(()), _) => Mood::Silent { since: now },
            (Ok(_), Mood::Untested) => Mood::Doubt { since: self.started, decide_at: now },
            (Ok(None), Mood::Sure) if is_proven => Mood::Sure,
            (Ok(vouched), Mood::Sure) => {
                let late = vouched.unwrap_or(now) + interval * 3;
                Mood::Doubt { since: now, decide_at: late.max(now + interval * 3 / 2) }
            }
            (Ok(_), Mood::Doubt { since, decide_at }) => {
                let another = self.another_took(now);
                if (now < decide_at || is_proven) && !another {
                    Mood::Doubt { since, decide_at }
                } else {
                    Mood::Silent { since: now }
                }
            }
            (Ok(_), Mood::Silent { since }) if is_proven && self.nobody_else_answers(now) => {
                Mood::Doubt { since, decide_at: now }
            }
            (Ok(_), Mood::Silent { since }) => Mood::Silent { since },
        }
    }

    /// Whether it has heard nothing but that members are there: what they hold follows with the next datagram, and may be what
    /// a former life of this agent held.
    fn awaits_lists(&self, now: Instant) -> bool {
        let is_unknown = |peer: &super::peer::Peer| peer.is_exchanging(now) && peer.groups.is_unknown();
        self.trust.is_untested() && self.peers.values().any(is_unknown)
    }

    /// `api_loss: release` wants the store's word beside the jurors'.
    fn is_store_enough(&self, now: Instant) -> bool {
        self.want.settings.api_loss != ApiLoss::Release
            || matches!(self.by_store(), Proof::Until(until) if now < until)
    }

    /// What a doubting session asks: other nodes' API servers, jurors' kernels, and whether somebody else answers.
    fn doubt(&mut self, now: Instant) {
        self.step_elsewhere(now);
        let jurors: Vec<NodeName> = self
            .own
            .iter()
            .flat_map(super::Own::juries)
            .flat_map(|jury| jury.members.iter().cloned())
            .collect();
        for node in jurors {
            self.look_at_kernel(now, &node, LOOK_EVERY);
        }
        for (look, whom) in self.second_looks() {
            self.looks.want(now, (&look, &whom), SECOND_EVERY);
        }
    }

    /// Own addresses at all other members.
    fn second_looks(&self) -> Vec<(vip_model::plan::Look, vip_model::LinkAddr)> {
        self.places_near(self.held_groups().flat_map(super::group::Group::looks).take(SECOND_LOOKS))
    }

    /// Whether another member answers for an address of ours.
    fn another_answers(&self, now: Instant) -> bool {
        self.answering_elsewhere(now).next().is_some()
    }

    /// Where else an address of ours has just answered.
    fn answering_elsewhere(&self, now: Instant) -> impl Iterator<Item = vip_model::LinkAddr> {
        let recent = move |(look, whom): &(vip_model::plan::Look, vip_model::LinkAddr)| {
            let answered = self.looks.answered(look.at.addr, whom);
            answered.is_some_and(|answered| now < answered + self.interval() * 3)
        };
        self.second_looks().into_iter().filter(recent).map(|(_, whom)| whom)
    }

    /// The same for members that may have taken it: where a session has ended that we know of, and no other is known to have
    /// begun, an address may answer that a dead agent left behind.
    fn another_took(&self, now: Instant) -> bool {
        let has_ended = |whom: &vip_model::LinkAddr| {
            let is_at = |member: &&super::Member| member.record.sites.iter().any(|site| site.addr == *whom);
            let member = self.members.values().find(is_at);
            member.is_some_and(|member| self.lineage.has_ended(member.record.id))
        };
        self.answering_elsewhere(now).any(|whom| !has_ended(&whom))
    }

    /// Whether looks at all other members found nobody who answers for an address of ours.
    fn nobody_else_answers(&self, now: Instant) -> bool {
        let silent = |(look, whom): &(vip_model::plan::Look, vip_model::LinkAddr)| {
            self.looks.misses(look.at.addr, whom).is_some_and(|misses| misses >= BACK_MISSES)
        };
        !self.another_answers(now) && self.second_looks().iter().all(silent)
    }

    /// Looks at a node's own address on a network that we share.
    pub(super) fn look_at_kernel(&mut self, now: Instant, node: &NodeName, every: Duration) {
        let Some(member) = self.members.get(node) else { return };
        let sites = member.record.sites.clone();
        for site in sites {
            let Some(look) = self.look_on(&site) else { continue };
            let at = vip_model::ScopedAddr { addr: site.net.addr(), link: look.at.link };
            let look = vip_model::plan::Look { at, addr: look.addr.clone() };
            self.looks.want(now, (&look, &site.addr), every);
        }
    }

    /// Some look at an address of ours on the network of a place. All groups are gone through for that, so it is found once
    /// for each network until what is wanted changes.
    fn look_on(&mut self, site: &vip_model::session::Site) -> Option<vip_model::plan::Look> {
        let net = site.net.trunc();
        if let Some(found) = self.looks_on.get(&net) {
            return found.clone();
        }
        let mut looks = self.groups.values().flat_map(super::group::Group::looks);
        let found = looks.find(|look| self.is_near(look, site)).cloned();
        self.looks_on.insert(net, found.clone());
        found
    }

    /// What we say of a session, as its juror.
    pub(super) fn word_for(&self, now: Instant, session: vip_model::session::SessionId) -> Word {
        let Some(track) = self.tracks.get(&session) else { return Word::Silent };
        let is_free = track.grant.is_none() && !self.lineage.has_ended(session);
        if track.jury > 0 && is_free && !self.is_listening(now) { Word::Vouches } else { Word::Silent }
    }

    /// A restarted juror first listens: what it granted before is void by then.
    pub(super) fn is_listening(&self, now: Instant) -> bool {
        now < self.started + Duration::from_secs(1) + self.interval() * 3
    }

    /// When the mood must be looked at again.
    pub(super) fn trust_due(&self) -> Option<Instant> {
        let own = self.own.as_ref()?;
        if !self.owns_anything() && own.proven.is_some() {
            return None; // nothing hangs on it, and its slow heartbeats are always late
        }
        let interval = self.interval();
        match (self.trust.mood, self.vouched()) {
            (Mood::Sure, Ok(Some(vouched))) => {
                let late = vouched + interval * 3 / 2;
                let late = match self.by_store() {
                    Proof::Until(until) if self.want.settings.api_loss == ApiLoss::Release => late.min(until),
                    Proof::Until(_) | Proof::None => late,
                };
                Some(self.trust.grace.map_or(late, |grace| late.max(grace)))
            }
            (Mood::Sure, Err(())) if self.is_alone() => None,
            (Mood::Sure, _) => {
                let until = match self.by_store() {
                    Proof::Until(until) => Some(until),
                    Proof::None => None,
                };
                until.max(self.trust.grace)
            }
            _ if self.owns_anything() => Some(self.trust.checked + DOUBT_BEAT),
            (Mood::Untested | Mood::Doubt { .. } | Mood::Silent { .. }, _) => None,
        }
    }
}
