//! The looks of a member at a drill: at the addresses of the claim, by unicast, at the owner and at everybody who may follow,
//! every 5 ms, and at what comes by itself (announcements). Fed with frames and with what the machine knows; gives back frames,
//! and at the end a report. Its looks are its own: those of the election keep their pace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use vip_model::drill::{Drill, DrillEvent, DrillNotice, DrillReport, DrillStage};
use vip_model::kernel::{FrameIn, FrameOut};
use vip_model::plan::Look;
use vip_model::session::SessionId;
use vip_model::{Instant, LeaseName, LinkAddr, NodeName};

use super::super::look::Looks;
use super::super::{Ownership, OwnershipOutput};
use crate::announce::frame::{Heard, claimed};
use crate::session::group::Whose;

/// Time between two looks: the grain of what is measured.
const EVERY: Duration = Duration::from_millis(5);
/// How long it goes on after the new owner first answered.
const AFTER: Duration = Duration::from_secs(1);
/// How long nothing may happen after it was asked for, or begun.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of the claim that are looked at.
const ADDRESSES: usize = 4;
/// In a larger town only jurors look.
const TOWN: usize = 6;
/// How long a report stays in the session Lease.
const KEPT: Duration = Duration::from_mins(1);

/// A drill that is looked at.
#[derive(Debug)]
pub(super) struct Watch {
    drill: Drill,
    claim: LeaseName,
    owner: NodeName,
    session: SessionId,
    since: Instant,
    targets: Vec<(Look, LinkAddr, NodeName)>,
    looks: Looks,
    voices: BTreeMap<IpAddr, Voice>,
    answers: u32,
    last_of_owner: Option<Instant>,
    first_of_other: Option<(Instant, NodeName)>,
    notices: BTreeMap<DrillNotice, Instant>,
    reported: Option<Instant>,
}

/// One address.
#[derive(Debug, Default)]
struct Voice {
    last: Option<Instant>,
    gap: Duration,
}

impl Watch {
    /// Somebody answered for an address.
    fn note(&mut self, now: Instant, addr: IpAddr, node: &NodeName) {
        self.answers = self.answers.saturating_add(1);
        let voice = self.voices.entry(addr).or_default();
        if let Some(last) = voice.last {
            voice.gap = voice.gap.max(now - last);
        }
        voice.last = Some(now);
        if *node == self.owner {
            self.last_of_owner = Some(now);
        } else if self.first_of_other.is_none() {
            self.first_of_other = Some((now, node.clone()));
        }
    }

    fn hear(&mut self, now: Instant, frame: &FrameIn) {
        self.looks.hear(now, frame);
        let Heard::Claim(addr, whom) = claimed(frame) else { return };
        let node = self.targets.iter().find(|(look, at, _)| look.at.addr == addr && *at == whom);
        if let Some((_, _, node)) = node {
            let node = node.clone();
            self.note(now, addr, &node);
        }
    }

    fn notice(&mut self, at: Instant, what: DrillNotice) {
        self.notices.entry(what).or_insert(at);
    }

    /// When it is over.
    fn end(&self) -> Instant {
        match (&self.first_of_other, self.notices.get(&DrillNotice::Begun)) {
            (Some((first, _)), Some(begun)) => *first.max(begun) + AFTER,
            (_, begun) => begun.map_or(self.since, |begun| *begun) + PATIENCE,
        }
    }

    fn report(&self, now: Instant) -> DrillReport {
        let open = |voice: &Voice| voice.gap.max(voice.last.map_or(now - self.since, |last| now - last));
        let zero = self.last_of_owner.unwrap_or(self.since);
        let micros = |at: Instant| {
            let of = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
            if at >= zero { of(at - zero) } else { -of(zero - at) }
        };
        let first = self.first_of_other.as_ref().map(|(at, _)| (DrillNotice::FirstAnswer, *at));
        let last = self.last_of_owner.map(|at| (DrillNotice::LastAnswer, at));
        let notices = self.notices.iter().map(|(what, at)| (*what, *at)).chain(first).chain(last);
        let mut events: Vec<DrillEvent> =
            notices.map(|(what, at)| DrillEvent { micros: micros(at), what }).collect();
        events.sort_unstable();
        let both = match (&self.first_of_other, self.last_of_owner) {
            (Some((first, _)), Some(last)) if last > *first => last - *first,
            _ => Duration::ZERO,
        };
        DrillReport {
            id: self.drill.id.clone(),
            answers: self.answers,
            gap: self.voices.values().map(open).max().unwrap_or(now - self.since),
            both,
            owner: self.first_of_other.as_ref().map(|(_, node)| node.clone()),
            events,
        }
    }
}

impl Ownership {
    /// A claim was seen: begins to look at a drill, or learns that it begins.
    pub(in crate::session) fn saw_drill(&mut self, now: Instant, claim: &LeaseName) {
        let Some(group) = self.groups.get(claim) else { return };
        let Some(drill) = group.record().and_then(Drill::of) else { return };
        if let Some(watch) = self.drills.watch.as_mut().filter(|watch| watch.drill.id == drill.id) {
            match drill.stage {
                DrillStage::Begun => watch.notice(now, DrillNotice::Begun),
                DrillStage::Refused(_) => self.drills.watch = None,
                DrillStage::Asked => {}
            }
            return;
        }
        let Whose::Theirs { session, from_us: false } = self.whose(group) else { return };
        if drill.stage != DrillStage::Asked || self.drills.stale.contains(&drill.id) {
            return;
        }
        let Some(owner) = self.lineage.node(session).cloned() else { return };
        let jurors = self.tracks.get(&session).map(|track| track.list.members.clone()).unwrap_or_default();
        if !jurors.contains(&self.id.node) && self.members.len() >= TOWN {
            return;
        }
        let nodes: Vec<NodeName> =
            std::iter::once(owner.clone()).chain(jurors).chain(drill.to.clone()).collect();
        let looks: Vec<Look> = group.looks().take(ADDRESSES).cloned().collect();
        let mut targets = Vec::new();
        for look in &looks {
            for node in nodes.iter().filter(|node| **node != self.id.node) {
                let at = self.sites_of(node, look).into_iter();
                targets.extend(at.map(|whom| (look.clone(), whom, node.clone())));
            }
        }
        self.drills.watch = Some(Watch {
            drill,
            claim: claim.clone(),
            owner,
            session,
            since: now,
            targets,
            looks: Looks::default(),
            voices: looks.iter().map(|look| (look.at.addr, Voice::default())).collect(),
            answers: 0,
            last_of_owner: None,
            first_of_other: None,
            notices: BTreeMap::new(),
            reported: None,
        });
    }

    /// A frame may be an answer. Whether any is waited for.
    pub(in crate::session) fn hear_for_drill(&mut self, now: Instant, frame: &FrameIn) -> bool {
        let watch = self.drills.watch.as_mut().filter(|watch| watch.reported.is_none());
        watch.map(|watch| watch.hear(now, frame)).is_some()
    }

    /// Looks, notices, and reports.
    pub(in crate::session) fn step_drill_watch(&mut self, now: Instant) {
        let Some(mut watch) = self.drills.watch.take() else { return };
        match watch.reported {
            Some(at) if now >= at + KEPT => {
                if let Some(own) = &mut self.own {
                    own.record.drill = None;
                }
            }
            Some(_) => self.drills.watch = Some(watch),
            None => {
                self.notice_drill(now, &mut watch);
                if now >= watch.end() {
                    watch.reported = Some(now);
                    if let Some(own) = &mut self.own {
                        own.record.drill = Some(watch.report(now));
                    }
                    self.renew_soon(now);
                } else {
                    self.look_for_drill(now, &mut watch);
                }
                self.drills.watch = Some(watch);
            }
        }
    }

    fn look_for_drill(&mut self, now: Instant, watch: &mut Watch) {
        for (look, whom, _) in &watch.targets {
            watch.looks.want(now, (look, whom), EVERY);
        }
        while let Some(frame) = watch.looks.poll(now, &self.want.sites) {
            let frame: FrameOut = frame;
            self.out.push_back(OwnershipOutput::Frame(frame));
        }
    }

    /// What the machine knows of the drill beside its looks.
    fn notice_drill(&self, now: Instant, watch: &mut Watch) {
        if let Some(peer) = self.peers.get(&watch.owner).filter(|peer| peer.session == watch.session) {
            watch.notices.insert(DrillNotice::LastHeartbeat, peer.heard);
        }
        if let Some(grant) = self.tracks.get(&watch.session).and_then(|track| track.grant) {
            watch.notice(grant.at, DrillNotice::Granted);
        }
        let Some(group) = self.groups.get(&watch.claim) else { return };
        let whose = self.whose(group);
        let is_still_theirs = matches!(whose, Whose::Theirs { session, .. } if session == watch.session);
        if !is_still_theirs && watch.notices.contains_key(&DrillNotice::Begun) {
            watch.notice(now, DrillNotice::Named);
        }
        // Nobody hears itself: who has become the owner answers from when it announces.
        if matches!(whose, Whose::Mine { .. }) && group.is_announced() {
            let since = group.announced_since().unwrap_or(now);
            let at = if watch.first_of_other.is_none() { since } else { now };
            let addrs: Vec<IpAddr> = watch.voices.keys().copied().collect();
            for addr in addrs {
                watch.note(at, addr, &self.id.node);
            }
        }
    }

    /// When the watch has something to do.
    pub(in crate::session) fn drill_watch_due(&self) -> Option<Instant> {
        let watch = self.drills.watch.as_ref()?;
        Some(match watch.reported {
            Some(at) => at + KEPT,
            None => watch.end().min(watch.looks.deadline().unwrap_or(self.stepped + EVERY)),
        })
    }
}
