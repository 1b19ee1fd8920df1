//! Hand-over: a planned move is make before break. The claim is swapped to the successor, marked "from us"; we serve
//! until it says that it announces, then withdraw and say so. Either side undoes it when the other falls silent.

use std::time::Duration;

use vip_model::peers::Stage;
use vip_model::plan::{Footprint, Look, Standing};
use vip_model::session::{HAND_OVER_TO, SessionId};
use vip_model::{Instant, LeaseName, NodeName};

use super::group::{Group, Writing};
use super::look::LOOK_EVERY;
use super::spread::Wish;
use super::{Life, Ownership};

/// Something of ours that we do not serve yet is looked at again after this, before it is handed on.
const NOT_SERVED: Duration = Duration::from_millis(50);
/// A holder whose health gate is closed gives way at most this often.
const YIELD_PAUSE: Duration = Duration::from_mins(1);
/// How often a holder looks whether a better-placed node is back.
const VOLUNTARY_LOOK: Duration = Duration::from_secs(1);
/// How soon it looks again while one is there.
const VOLUNTARY_AGAIN: Duration = Duration::from_millis(100);
/// An agent that stops serves so long for a successor that is heard and does not announce: what keeps it may be that we
/// answer, and when our process has ended nobody withdraws anything before the lifetime of the addresses ends.
pub(super) const STOPS_WAITING: Duration = Duration::from_millis(500);
/// An heir that was not heard for so long does not count as fit any more, whatever happened (`Peer::is_fit`).
const SILENT: Duration = Duration::from_secs(10);
/// A claim that was handed over is cleaned up when the former owner has not spoken of it for so long.
const CLEAN_AFTER: Duration = Duration::from_secs(2);

/// Where a hand-over stands at the side that gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// None is under way.
    None,
    /// Nobody could take it: the addresses go, then the claim is released.
    Alone,
    /// The claim names the successor; we serve on. A write that takes it back may have reached the store.
    Given { to: SessionId, since: Instant, takes_back: bool },
    /// The successor announces: our addresses go.
    Withdrawing,
    /// They are gone.
    Withdrawn { at: Instant },
}

impl Hand {
    /// Whether nothing of ours is left in it.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::None | Self::Withdrawn { .. })
    }

    /// Whether we serve until the successor does.
    pub(super) const fn still_serves(self) -> bool {
        matches!(self, Self::Given { .. })
    }
}

impl Ownership {
    /// Finds a successor and names it.
    pub(super) fn step_give(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let group = self.groups.get(claim)?;
        if group.asking.is_some() {
            return self.step_unanswered(now, claim);
        }
        if now < group.not_before {
            return Some(group.not_before);
        }
        let is_reluctant = group.want.standing == Standing::Reluctant;
        if is_reluctant && group.gives_way_at.is_some_and(|at| now < at + YIELD_PAUSE) {
            return group.gives_way_at.map(|at| at + YIELD_PAUSE);
        }
        // Whoever gets it from us takes it that we served it until then, and does not look.
        if !group.is_served() && self.want.life == Life::Runs {
            return Some(now + NOT_SERVED);
        }
        let heir = self.successor(now, claim).filter(|_| group.is_served());
        let Some(heir) = heir else {
            if is_reluctant {
                return Some(now + Duration::from_millis(200)); // never the last one that could serve
            }
            return self.leave_alone(now, claim);
        };
        let id = self.peers.get(&heir)?.session;
        if !self.is_store_fresh(now) || group.failures() > 1 {
            if self.want.life == Life::Stops && !is_reluctant {
                self.bequeath(now, id);
            }
            return Some(now + Duration::from_millis(50));
        }
        self.groups.get_mut(claim)?.gives_way_at = Some(now);
        self.ask_claim(now, claim, Writing::HandOver(id));
        self.step_unanswered(now, claim)
    }

    /// Moves that nothing forces: away from a node with another group of the same anti-affinity group; from whoever followed
    /// a dead node to those that have less; and, by `failback`, to a node that is placed better and has been fit for long
    /// enough. One at a time, so that a node that returns is not flooded.
    pub(super) fn step_voluntary(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let group = self.groups.get(claim)?;
        let wish = self.wish(claim, group)?;
        if group.asking.is_some() || !group.is_announced() || !self.trust.is_sure() {
            return None; // whatever ends that looks again
        }
        let heir = match wish {
            Wish::Spread => self.lighter(now, claim),
            Wish::Apart | Wish::Better { .. } => self.successor(now, claim),
        };
        let Some(heir) = heir else {
            self.stop_spreading(now, claim);
            return None;
        };
        let is_better = match wish {
            Wish::Apart => !group.avoids(&heir),
            Wish::Spread => true,
            Wish::Better { .. } => self.place(group, &heir) > self.place(group, &self.id.node),
        };
        let peer = self.peers.get(&heir)?;
        let is_receiving = peer.groups.words().iter().any(|word| word.stage == Stage::Owned);
        if !is_better || is_receiving {
            return Some(now + if is_better { VOLUNTARY_AGAIN } else { VOLUNTARY_LOOK });
        }
        // A move that somebody asked for counts as long as any other.
        let pause = self.want.settings.move_pause;
        let (fit_for, served_for) = match wish {
            Wish::Apart => (Duration::ZERO, pause),
            Wish::Spread => (Duration::ZERO, pause.max(self.want.settings.timings.duration)),
            Wish::Better { after } => (after, pause.max(after)),
        };
        let due = (peer.fit_since? + fit_for).max(group.announced_since()? + served_for);
        let turn = self.gave_at.map_or(due, |gave| due.max(gave + pause));
        if now < turn || !self.is_store_fresh(now) {
            return Some(turn.max(now + VOLUNTARY_AGAIN));
        }
        let to = peer.session;
        self.gave_at = Some(now);
        self.ask_claim(now, claim, Writing::HandOver(to));
        None
    }

    /// Whether somebody asked the owner of a claim to hand it over.
    pub(super) fn is_asked_for(&self, claim: &LeaseName) -> bool {
        self.asked_heir(claim).is_some()
    }

    fn asked_heir(&self, claim: &LeaseName) -> Option<&str> {
        let record = self.groups.get(claim)?.record()?;
        record.annotations.get(HAND_OVER_TO).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Hands a group to the member that was asked for. When that one can't have it the request is removed, and nothing
    /// else changes.
    pub(super) fn step_asked_for(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let group = self.groups.get(claim)?;
        if group.asking.is_some() {
            return None;
        }
        if now < group.not_before() {
            return Some(group.not_before());
        }
        if !group.is_served() {
            return Some(now + NOT_SERVED);
        }
        let text = self.asked_heir(claim)?.to_owned();
        let heir = match text.as_str() {
            "*" => self.successor(now, claim),
            name => Some(NodeName::new(name)),
        };
        let can = |node: &NodeName| self.is_heir(now, group, node);
        let what = match heir.filter(can).and_then(|node| self.peers.get(&node)) {
            Some(peer) => Writing::HandOver(peer.session),
            None => Writing::Rewrite,
        };
        self.ask_claim(now, claim, what);
        None
    }

    fn leave_alone(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let group = self.groups.get_mut(claim)?;
        group.hand = Hand::Alone;
        if group.want.footprint == Footprint::Clear {
            self.ask_claim(now, claim, Writing::Release);
            return None;
        }
        None
    }

    /// Who shall have a group: of the fit members, or of those that could serve it, the one that is placed best.
    pub(super) fn successor(&self, now: Instant, claim: &LeaseName) -> Option<NodeName> {
        let group = self.groups.get(claim)?;
        let could = |node: &&NodeName| self.is_heir(now, group, node);
        self.peers.keys().filter(could).max_by_key(|node| self.place(group, node)).cloned()
    }

    /// Whether a member could have a group: it could serve it, it is fit, and its session is not one that ended since it was
    /// last heard, or to which the group was just given in vain.
    pub(super) fn is_heir(&self, now: Instant, group: &Group, node: &NodeName) -> bool {
        let heirs = group.want.group.as_ref().and_then(|group| group.heirs.as_ref());
        let is_silent = |peer: &super::peer::Peer| {
            group.silent_heirs.get(&peer.session).is_some_and(|at| peer.heard <= *at)
        };
        heirs.is_none_or(|heirs| heirs.contains(node))
            && self.peers.get(node).is_some_and(|peer| {
                peer.is_fit(now) && !self.lineage.has_ended(peer.session) && !is_silent(peer)
            })
    }

    /// We gave a group away and its new owner does not serve it yet, or does.
    pub(super) fn step_theirs(
        &mut self,
        now: Instant,
        claim: &LeaseName,
        (session, from_us): (SessionId, bool),
    ) -> Option<Instant> {
        let node = self.lineage.node(session).cloned();
        let peer = node.as_ref().and_then(|node| self.peers.get(node)).filter(|peer| peer.session == session);
        let (stage, heard) = {
            let group = self.groups.get(claim)?;
            (peer.and_then(|peer| peer.stage(group.id)), peer.map(|peer| peer.heard))
        };
        let group = self.groups.get_mut(claim)?;
        group.free_since = None;
        match group.hand {
            Hand::Given { .. } if !from_us => group.hand = Hand::None,
            Hand::Given { .. } if stage == Some(Stage::Announced) => {
                group.hand = Hand::Withdrawing;
                return Some(now);
            }
            Hand::Given { since, .. } => {
                let stops = (self.want.life == Life::Stops).then_some(since + STOPS_WAITING);
                if stops.is_some_and(|at| now >= at) {
                    group.hand = Hand::Withdrawing;
                    return Some(now);
                }
                // One that is heard and never serves does not know that it is to: its claim may be gone before it saw it.
                let patience = since + self.want.settings.timings.duration;
                let last = if now < patience { heard.unwrap_or(since).max(since) } else { since };
                let given = self.step_given(now, claim, (session, node), last);
                let late = (now < patience).then_some(patience);
                return given.into_iter().chain(stops).chain(late).min();
            }
            Hand::Withdrawing if group.want.footprint == Footprint::Clear => {
                group.hand = Hand::Withdrawn { at: now };
                self.speak_soon(now);
                return Some(now);
            }
            Hand::Withdrawing | Hand::Alone | Hand::None | Hand::Withdrawn { .. } => {}
        }
        None
    }

    /// The new owner does not say that it serves. When it was silent since `last`, we take the group back, unless its kernel
    /// answers: then its agent died right after it began, and two would answer for as long as addresses live.
    fn step_given(
        &mut self,
        now: Instant,
        claim: &LeaseName,
        (session, node): (SessionId, Option<NodeName>),
        last: Instant,
    ) -> Option<Instant> {
        let is_over = self.lineage.has_ended(session);
        let (look_from, until) = (last + self.interval().mul_f64(1.5), last + self.interval() * 3);
        if !is_over && now < look_from {
            return Some(look_from);
        }
        let answers = node.is_some_and(|node| self.answers_at(now, claim, &node));
        let group = self.groups.get_mut(claim)?;
        if answers && !is_over {
            group.hand = Hand::Withdrawing;
            return Some(now);
        }
        if !is_over && now < until {
            return Some((now + LOOK_EVERY).min(until));
        }
        if group.asking.is_none() && now >= group.not_before() {
            group.silent_heirs.retain(|_, at| now < *at + SILENT);
            group.silent_heirs.insert(session, now);
            if let Hand::Given { takes_back, .. } = &mut group.hand {
                *takes_back = true;
            }
            self.speak_soon(now); // its new owner may learn of the gift before it learns that this is over
            self.ask_claim(now, claim, Writing::TakeBack);
        }
        Some(now + self.interval() * 3)
    }

    /// Looks at a group's addresses at a node. Whether one of them has just answered.
    fn answers_at(&mut self, now: Instant, claim: &LeaseName, node: &NodeName) -> bool {
        let Some(group) = self.groups.get(claim) else { return false };
        let looks: Vec<Look> = group.looks().cloned().collect();
        let mut answers = false;
        for look in &looks {
            for whom in self.sites_of(node, look) {
                self.looks.want(now, (look, &whom), LOOK_EVERY);
                let answered = self.looks.answered(look.at.addr, &whom);
                answers |= answered.is_some_and(|answered| now < answered + self.interval());
            }
        }
        answers
    }

    /// Who handed a group to us answered beside us until now: whoever asked meanwhile may have believed that one.
    pub(super) fn note_withdrawn(&mut self, now: Instant, claim: &LeaseName, from: Option<SessionId>) {
        let Some(from) = from else { return };
        let Some(group) = self.groups.get(claim) else { return };
        let peer = self.peers.values().find(|peer| peer.session == from);
        let is_withdrawn = peer.and_then(|peer| peer.stage(group.id)) == Some(Stage::Withdrawn);
        if is_withdrawn && let Some(group) = self.groups.get_mut(claim) {
            group.cleared.get_or_insert(now);
        }
    }

    /// We got a group from a member that serves until we announce; and claims that we inherited are rewritten.
    pub(super) fn step_received(
        &mut self,
        now: Instant,
        claim: &LeaseName,
        from: Option<SessionId>,
    ) -> Option<Instant> {
        let group = self.groups.get_mut(claim)?;
        group.hand = Hand::None;
        if group.asking.is_some() {
            return None;
        }
        let is_deleted = group.seen.as_ref().is_some_and(|seen| seen.version.is_none());
        if is_deleted {
            if now < group.not_before() {
                return Some(group.not_before());
            }
            self.ask_claim(now, claim, Writing::Rewrite); // deleted by hand: its owner makes it again
            return None;
        }
        if let Some(turn) = self.step_rewrite(now, claim) {
            return Some(turn);
        }
        self.step_from(now, claim, from?)
    }

    /// Waits for the member that we have it from to withdraw; gives it back when that member serves on.
    fn step_from(&mut self, now: Instant, claim: &LeaseName, from: SessionId) -> Option<Instant> {
        let group = self.groups.get(claim)?;
        if !group.is_announced() {
            return None; // the plan says when
        }
        if now < group.not_before() {
            return Some(group.not_before());
        }
        let patience = self.interval() * 3;
        let since = group.announced_since()?;
        let node = self.lineage.node(from).cloned();
        let peer = node.as_ref().and_then(|node| self.peers.get(node)).filter(|peer| peer.session == from);
        let stage = peer.and_then(|peer| peer.stage(group.id));
        let is_quiet = peer.is_none_or(|peer| now >= peer.heard + CLEAN_AFTER);
        if stage == Some(Stage::Withdrawn) || is_quiet || self.lineage.has_ended(from) {
            self.ask_claim(now, claim, Writing::Rewrite);
            return None;
        }
        let answers = node.is_some_and(|node| self.answers_at(now, claim, &node));
        if answers && now >= since + patience {
            self.ask_claim(now, claim, Writing::GiveBack(from));
            return None;
        }
        Some(now + LOOK_EVERY)
    }
}
