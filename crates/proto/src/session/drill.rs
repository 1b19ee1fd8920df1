//! Drills: a fail-over that somebody asks for, by an annotation of a claim. The owner refuses what would be unsafe, else says
//! with its next write that the drill begins: that write proves the store, uses the request up, and is what all
//! others begin to measure from. A *planned* drill is a hand-over. In a *crash* the owner takes its addresses away at once
//! and says nothing for three seconds, to nobody: what the others see is what a power-off looks like, and they do
//! what they always do. It hears on meanwhile, so that it comes back as after a cut that heals.

mod watch;

use std::collections::BTreeSet;
use std::time::Duration;

use vip_model::config::PeerMode;
use vip_model::drill::{Drill, DrillKind, DrillStage};
use vip_model::{Instant, LeaseName, NodeName};

use super::Ownership;
use super::group::Writing;
use super::peer::Peer;
use watch::Watch;

/// How long a crash lasts.
const ABSENCE: Duration = Duration::from_secs(3);

/// How soon a drill is looked at again that came while the store took no writes.
const LATER: Duration = Duration::from_millis(500);

/// What this node has to do with drills.
#[derive(Debug, Default)]
pub(super) struct Drills {
    /// Until when it plays dead.
    absent_until: Option<Instant>,
    /// The drill that it looks at.
    watch: Option<Watch>,
    /// Requests that were there before this agent looked, or that it could not answer: nobody waits for them any more.
    stale: BTreeSet<String>,
}

impl Drills {
    /// Whether this node plays dead: it sends nothing, asks nothing and serves nothing.
    pub(super) fn is_absent(&self, now: Instant) -> bool {
        self.absent_until.is_some_and(|until| now < until)
    }

    pub(super) const fn absent_until(&self) -> Option<Instant> {
        self.absent_until
    }
}

impl Ownership {
    /// Whether this node plays dead. When that is over it goes on as after a cut.
    pub(super) fn is_absent(&mut self, now: Instant) -> bool {
        if self.drills.absent_until.is_some_and(|until| now >= until) {
            self.drills.absent_until = None;
            self.renew_soon(now);
            self.mark_all(now);
        }
        self.drills.is_absent(now)
    }

    /// The drill that a claim asks for.
    fn drill_asked(&self, claim: &LeaseName) -> Option<Drill> {
        let drill = Drill::of(self.groups.get(claim)?.record()?)?;
        (drill.stage == DrillStage::Asked).then_some(drill)
    }

    pub(super) fn is_drill_asked(&self, claim: &LeaseName) -> bool {
        self.drill_asked(claim).is_some()
    }

    /// A claim was seen for the first time by this agent, with or without a request.
    pub(super) fn note_stale_drill(&mut self, claim: &LeaseName) {
        if let Some(drill) = self.drill_asked(claim) {
            self.drills.stale.insert(drill.id);
        }
    }

    /// Accepts a drill or refuses it.
    pub(super) fn step_drill(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let group = self.groups.get(claim)?;
        if group.asking.is_some() {
            return None;
        }
        if now < group.not_before() {
            return Some(group.not_before());
        }
        let drill = self.drill_asked(claim)?;
        if self.own.as_ref().is_some_and(super::Own::is_failing) {
            // Nothing can be written, and by the time it can, whoever asked has gone.
            self.drills.stale.insert(drill.id);
            return Some(now + LATER);
        }
        let stage = match self.drill_obstacle(now, claim, &drill) {
            Some(reason) => DrillStage::Refused(reason),
            None => DrillStage::Begun,
        };
        let heir = drill.to.clone().or_else(|| self.successor(now, claim));
        let heir = heir.and_then(|heir| self.peers.get(&heir)).map(|peer| peer.session);
        let what = match (&stage, drill.kind, heir) {
            (DrillStage::Begun, DrillKind::Planned, Some(heir)) => Writing::HandOver(heir),
            _ => Writing::Rewrite,
        };
        self.groups.get_mut(claim)?.drill = Some(drill.at(stage));
        self.ask_claim(now, claim, what);
        None
    }

    /// Why a drill would be unsafe.
    fn drill_obstacle(&self, now: Instant, claim: &LeaseName, drill: &Drill) -> Option<String> {
        let me = &self.id.node;
        if self.drills.stale.contains(&drill.id) {
            return Some(format!("the agent on {me} could not begin it when it was asked for; ask again"));
        }
        if self.groups.get(claim).is_some_and(|group| !group.is_served()) {
            return Some(format!("{me} does not serve it yet"));
        }
        if self.want.settings.peers == PeerMode::Off {
            return Some("heartbeats are off (peers=false)".to_owned());
        }
        if !self.is_store_fresh(now) {
            return Some(format!("the API did not answer {me} in time"));
        }
        if self.trust.is_untested() || !self.trust.is_sure() {
            return Some(format!("{me} is in doubt about its own connection"));
        }
        if let Some(moving) = self.handed.first() {
            return Some(format!("another move is under way: {moving}"));
        }
        if self.want.life == super::Life::Stops {
            return Some(format!("the agent on {me} is stopping"));
        }
        let others = || self.held.iter().filter(|held| drill.kind == DrillKind::Crash || *held == claim);
        if let Some(alone) = others().find(|held| self.successor(now, held).is_none()) {
            return Some(format!("no other node can have {alone}"));
        }
        match (&drill.to, drill.kind) {
            (Some(to), DrillKind::Planned) => self.heir_obstacle(now, claim, to),
            (None, DrillKind::Planned) => None,
            (_, DrillKind::Crash) => self.jury_obstacle(now),
        }
    }

    fn heir_obstacle(&self, now: Instant, claim: &LeaseName, to: &NodeName) -> Option<String> {
        let heirs = self.groups.get(claim)?.want.group.as_ref().and_then(|group| group.heirs.as_ref());
        if heirs.is_some_and(|heirs| !heirs.contains(to)) {
            return Some(format!("{to} has no endpoint for it (policy Local)"));
        }
        let can = self.peers.get(to).is_some_and(|peer| peer.is_fit(now));
        (!can).then(|| format!("{to} is not heard, or not fit to have it"))
    }

    /// A crash needs a jury that follows without the store, all of it heard, and no death under way elsewhere.
    fn jury_obstacle(&self, now: Instant) -> Option<String> {
        let own = self.own.as_ref()?;
        let members = &own.record.jury.members;
        if members.len() < 2 {
            let count = members.len();
            return Some(format!(
                "{} has {count} jurors, and at least 2 are needed to follow a death at once (three nodes)",
                self.id.node
            ));
        }
        if own.pending.is_some() {
            return Some("its jury is just changing".to_owned());
        }
        // An owner hears its jurors every interval: one that just died is no juror to follow it.
        let late = self.interval() * 3;
        let hears = |peer: &Peer| peer.is_exchanging(now) && now < peer.heard + late;
        let mute = |node: &&NodeName| self.peers.get(*node).is_none_or(|peer| !hears(peer));
        if let Some(node) = members.iter().find(mute) {
            return Some(format!("the juror {node} is not heard"));
        }
        // Who does not know that we know it vouches grants nothing yet.
        let is_new = |node: &&NodeName| {
            let peer = self.peers.get(*node);
            peer.is_none_or(|peer| {
                peer.vouches_since.is_none_or(|since| self.calls.last(node).is_none_or(|sent| sent <= since))
            })
        };
        if let Some(node) = members.iter().find(is_new) {
            return Some(format!("the juror {node} has only just begun to vouch for it"));
        }
        let unfit = |node: &&NodeName| self.peers.get(*node).is_none_or(|peer| !peer.is_fit(now));
        if members.iter().all(|node| unfit(&node)) {
            return Some("no juror is fit to follow".to_owned());
        }
        if members.iter().all(|node| unfit(&node) || self.may_be_resigned(now, node)) {
            let span = self.want.settings.timings.duration.as_secs();
            return Some(format!(
                "no juror may follow yet: each was itself followed not long ago, and votes {span} s after that"
            ));
        }
        self.bids.keys().next().map(|id| format!("the death of session {id} is just looked at"))
    }

    /// Whether a member may follow nobody yet, because it was itself followed a short time ago (`is_resigned`).
    fn may_be_resigned(&self, now: Instant, node: &NodeName) -> bool {
        let span = self.want.settings.timings.duration;
        let since = self.peers.get(node).and_then(|peer| peer.fit_since);
        let former = self.members.get(node).map_or([].as_slice(), |member| &member.record.former);
        let was_followed = former.iter().any(|succession| succession.heir.is_some());
        was_followed && since.is_none_or(|since| now < since + span)
    }

    /// The store has the owner's word: a crash begins.
    pub(super) fn drill_written(&mut self, now: Instant, claim: &LeaseName) {
        let drill = self.groups.get_mut(claim).and_then(|group| group.drill.take());
        let Some(drill) = drill else { return };
        if drill.kind == DrillKind::Crash && drill.stage == DrillStage::Begun {
            self.drills.absent_until = Some(now + ABSENCE);
            self.trust.play_dead(now);
            self.republish_held();
        }
    }
}
