//! The heir: asks the jurors of a session that died for their votes, and follows it with more than half of them. What
//! the dead session owned is served at once; its Lease is told in parallel, and its node until it listens. A session that
//! expired in the store and that nobody hears is followed by one write alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::peers::{Fitness, Vote};
use vip_model::session::{End, Jury, SessionId, SessionWrite, Succession, Via};
use vip_model::store::{Answer, Ask, Expect, Purpose, Version};
use vip_model::{Instant, NodeName};

use super::peer::Track;
use super::{Asked, Ownership, Ticket};

/// How long a grant counts for the heir: less than it binds the juror, by more than a datagram takes.
const COUNTS: Duration = Duration::from_millis(800);
/// Jurors that were not heard for so long are not waited for.
const UNHEARD: Duration = Duration::from_secs(3);
/// An attempt without success is followed by the next after this.
const ATTEMPT: Duration = Duration::from_millis(900);
/// A juror whose better-ranked ask was heard is waited for, for so long.
const YIELD: Duration = Duration::from_millis(200);
/// Looks in a row without an answer before an expired session is followed.
const EXPIRED_MISSES: u32 = 12;
/// Each better-placed contender for an expired session is waited for, for so long.
const EXPIRED_STEP: Duration = Duration::from_millis(30);
/// Times between two words to a deposed node, and how many there are.
const TELL_EVERY: Duration = Duration::from_millis(15);
const TELL_MOST: u32 = 200;
/// A session Lease that the store does not have is asked for so often, with these pauses: longer than servers lag.
const ABSENT_MOST: u32 = 16;
const ABSENT_PAUSE: Duration = Duration::from_secs(2);
/// Pauses after failed writes.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(400);
const TIMEOUT: Duration = Duration::from_secs(2);

/// A try to follow a session.
#[derive(Debug, Default)]
pub(super) struct Bid {
    /// Since when all conditions hold.
    since: Option<Instant>,
    /// When it is our turn to ask.
    turn: Option<Instant>,
    /// Our rank among the jurors.
    rank: u8,
    attempts: u32,
    /// When the votes of this attempt were asked for.
    asked: Option<Instant>,
    /// Who granted it, and when that was heard.
    grants: BTreeMap<NodeName, Instant>,
    generation: u32,
}

/// A session whose end is to be told.
#[derive(Debug)]
pub(super) struct Deposal {
    node: NodeName,
    tell_at: Instant,
    told: u32,
    /// Whether the store knows.
    swapped: bool,
    /// Whether it is deposed by this write alone.
    by_store: bool,
    asking: Option<(Ticket, Instant)>,
    /// Whether that is a read.
    reads: bool,
    /// What the write expects: as seen when the silence began.
    version: Version,
    not_before: Instant,
    failures: u32,
    /// How often the store did not have it.
    absent: u32,
}

impl Bid {
    /// The attempt that is under way.
    pub(super) fn attempt(&self) -> Option<u32> {
        self.asked.map(|_| self.attempts)
    }
}

impl Ownership {
    /// Looks at all sessions that may be dead.
    pub(super) fn step_bids(&mut self, now: Instant) {
        let late = self.interval() * 3 / 2;
        let is_silent = |track: &Track| now >= track.silent_since() + late;
        let silent: Vec<SessionId> =
            self.holders().filter(|(_, track)| is_silent(track)).map(|(id, _)| id).collect();
        self.bids.retain(|id, _| silent.contains(id));
        for id in silent {
            self.step_bid(now, id);
        }
    }

    /// The sessions that own something and that we know more of.
    fn holders(&self) -> impl Iterator<Item = (SessionId, &Track)> {
        self.holdings.keys().filter_map(|id| Some((*id, self.tracks.get(id)?)))
    }

    fn step_bid(&mut self, now: Instant, id: SessionId) {
        let Some(track) = self.tracks.get(&id) else { return };
        let is_juror = track.list.members.contains(&self.id.node);
        let is_expired = self.is_expired(now, id, &track.node);
        if !is_juror && !is_expired {
            self.bids.remove(&id); // most sessions of a large cluster: nothing of them is copied
            return;
        }
        let (heard, was_heard, list, node) =
            (track.silent_since(), track.was_heard, track.list.clone(), track.node.clone());
        self.look_at_session(now, id);
        if self.want.fitness != Fitness::Fit || self.own_id().is_none() {
            self.bids.remove(&id);
            return;
        }
        let silence = self.interval() * 3;
        let is_dead = is_juror
            && list.members.len() >= 2
            && was_heard
            && now >= heard + silence
            && !self.is_listening(now)
            && !self.is_resigned(now)
            && self.is_fallen(now, id, heard);
        let is_gone = is_expired && now >= heard + silence && self.is_unanswered(id, heard, EXPIRED_MISSES);
        if !is_dead && !is_gone {
            if let Some(bid) = self.bids.get_mut(&id) {
                bid.since = None;
                bid.withdraw();
            }
            return;
        }
        let rank = if is_dead { self.rank(now, id, &list) } else { self.expired_rank(now, id) };
        let step = if is_dead { self.interval() } else { EXPIRED_STEP };
        self.bid(now, id, &list, (rank, step));
        if is_dead {
            self.conclude(now, id, &list);
        }
        if is_gone {
            self.conclude_expired(now, id, (&node, &list));
        }
    }

    /// Whether this node was itself deposed a short time ago and has not yet heard a majority for long enough.
    fn is_resigned(&self, now: Instant) -> bool {
        let span = self.want.settings.timings.duration;
        self.own.as_ref().and_then(|own| own.after_deposal).is_some_and(|at| now < at + span)
    }

    pub(super) fn is_expired(&self, now: Instant, id: SessionId, node: &NodeName) -> bool {
        let Some(member) = self.members.get(node) else { return false };
        // One whose Lease was deleted can't be told its end: its claims become nobody's after a time.
        let is_there = member.listed && member.record.id == id;
        is_there && now >= member.changed + member.duration && self.is_store_fresh(now)
    }

    /// One heir's try: asks when it is its turn, grants itself, counts. Each better-placed one is waited for.
    fn bid(&mut self, now: Instant, id: SessionId, list: &Jury, (rank, step): (u8, Duration)) {
        let better = self.better_ask(now, id, (list.generation, rank));
        let Some(own) = self.own_id() else { return };
        let bid = self.bids.entry(id).or_default();
        let since = *bid.since.get_or_insert(now);
        let turn = since + step * u32::from(rank);
        (bid.rank, bid.turn, bid.generation) = (rank, Some(turn), list.generation);
        if better {
            bid.withdraw();
            return;
        }
        if bid.asked.is_some_and(|asked| now >= asked + ATTEMPT) {
            bid.withdraw();
            bid.since = Some(now);
            return;
        }
        if bid.asked.is_none() {
            if now < turn {
                return;
            }
            bid.attempts += 1;
            bid.asked = Some(now);
            self.tell_jurors(list);
        }
        let vote = self.vote(id, own);
        if let Some(vote) = vote
            && self.may_grant(now, &vote)
        {
            self.grant(now, vote, now);
            self.count(now, id, self.id.node.clone());
        }
        self.collect(now, id, list);
    }

    fn vote(&self, id: SessionId, own: SessionId) -> Option<Vote> {
        let bid = self.bids.get(&id)?;
        bid.asked?;
        let Bid { generation, attempts, rank, .. } = *bid;
        Some(Vote { of: id, generation, heir: own, attempt: attempts, rank })
    }

    /// The votes that we ask for.
    pub(super) fn asks(&self) -> Vec<Vote> {
        let Some(own) = self.own_id() else { return Vec::new() };
        self.bids.keys().filter_map(|id| self.vote(*id, own)).collect()
    }

    fn count(&mut self, now: Instant, id: SessionId, juror: NodeName) {
        if let Some(bid) = self.bids.get_mut(&id) {
            bid.grants.entry(juror).or_insert(now);
        }
    }

    /// Grants in the newest datagrams of the jurors.
    fn collect(&mut self, now: Instant, id: SessionId, list: &Jury) {
        let Some(own) = self.own_id() else { return };
        let Some(vote) = self.vote(id, own) else { return };
        let same = |given: &Vote| Vote { rank: vote.rank, ..*given } == vote;
        let granting: Vec<NodeName> = list
            .members
            .iter()
            .filter(|node| self.peers.get(*node).is_some_and(|peer| peer.word.grants.iter().any(same)))
            .cloned()
            .collect();
        for node in granting {
            self.count(now, id, node);
        }
    }

    /// Enough votes: follow.
    fn conclude(&mut self, now: Instant, id: SessionId, list: &Jury) {
        let Some(bid) = self.bids.get(&id) else { return };
        let valid = bid.grants.values().filter(|heard| now < **heard + COUNTS).count();
        if valid < list.granting() {
            return;
        }
        self.follow(now, id);
    }

    /// Follows a session: it is ours from now on.
    fn follow(&mut self, now: Instant, id: SessionId) {
        let (Some(own), Some(track)) = (self.own_id(), self.tracks.get(&id)) else { return };
        let node = track.node.clone();
        self.bids.remove(&id);
        self.depose(now, id, &node, false);
        self.note_end(now, Succession { id, heir: Some(own) });
        self.speak_soon(now);
    }

    /// A session left everything to us by heartbeat.
    pub(super) fn depose_for(&mut self, now: Instant, id: SessionId) {
        if let Some(node) = self.lineage.node(id).cloned() {
            self.depose(now, id, &node, false);
        }
    }

    fn depose(&mut self, now: Instant, id: SessionId, node: &NodeName, by_store: bool) {
        let version = self.members.get(node).map(|member| member.version.clone()).unwrap_or_default();
        let deposal = Deposal {
            node: node.clone(),
            tell_at: now,
            told: 0,
            swapped: false,
            by_store,
            asking: None,
            reads: false,
            version,
            not_before: now,
            failures: 0,
            absent: 0,
        };
        self.deposals.entry(id).or_insert(deposal);
    }

    /// What expired in the store is followed by one write. Its jurors may see what we don't, and each that is heard must have
    /// granted it; one that is not heard holds nobody up.
    fn conclude_expired(&mut self, now: Instant, id: SessionId, (node, list): (&NodeName, &Jury)) {
        let Some(bid) = self.bids.get(&id).filter(|bid| bid.asked.is_some()) else { return };
        let is_heard = |juror: &&NodeName| {
            **juror == self.id.node || self.peers.get(*juror).is_some_and(|peer| peer.is_exchanging(now))
        };
        let grants = |juror: &NodeName| bid.grants.get(juror).is_some_and(|heard| now < *heard + COUNTS);
        let is_granted = list.members.iter().filter(is_heard).all(grants);
        if is_granted && !self.deposals.contains_key(&id) {
            self.depose(now, id, node, true);
        }
    }

    /// How many fit members go before us for an expired session.
    fn expired_rank(&self, now: Instant, id: SessionId) -> u8 {
        let weight = |node: &NodeName| self.favour(node, id.0);
        let own = weight(&self.id.node);
        let others = self.peers.iter().filter(|(_, peer)| peer.is_fit(now));
        u8::try_from(others.filter(|(node, _)| weight(node) > own).count().min(8)).unwrap_or(8)
    }

    /// How many jurors go before us: those that are heard and fit, in the order of a hash.
    fn rank(&self, now: Instant, id: SessionId, list: &Jury) -> u8 {
        let weight = |node: &NodeName| self.favour(node, id.0);
        let own = weight(&self.id.node);
        let counts = |node: &&NodeName| {
            let Some(peer) = self.peers.get(*node) else { return false };
            peer.word.fitness == Fitness::Fit && now < peer.heard + UNHEARD && weight(node) > own
        };
        u8::try_from(list.members.iter().filter(counts).count()).unwrap_or(u8::MAX)
    }

    /// Whether a better-placed juror asks already: one that knows a newer jury, or is first in the same.
    fn better_ask(&self, now: Instant, id: SessionId, (generation, rank): (u32, u8)) -> bool {
        let own = self.own_id();
        self.peers.values().any(|peer| {
            let fresh = now < peer.heard + YIELD;
            let place = |vote: &Vote| (Reverse(vote.generation), vote.rank, Some(vote.heir));
            let better = |vote: &Vote| vote.of == id && place(vote) < (Reverse(generation), rank, own);
            fresh && peer.word.asks.iter().any(better)
        })
    }

    fn tell_jurors(&mut self, list: &Jury) {
        for node in &list.members {
            self.calls.tell(node);
        }
    }

    /// Tells the store and the deposed nodes.
    pub(super) fn step_deposals(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self.deposals.keys().copied().collect();
        for id in ids {
            self.step_deposal(now, id);
        }
    }

    /// Whether nothing more is said to a deposed node: it shows a new session, it was told often enough, or the store alone
    /// says it.
    fn is_told(&self, id: SessionId, deposal: &Deposal) -> bool {
        let is_heard = self.peers.get(&deposal.node).is_some_and(|peer| peer.session != id);
        is_heard || deposal.told >= TELL_MOST || deposal.by_store
    }

    fn step_deposal(&mut self, now: Instant, id: SessionId) {
        let is_told = self.deposals.get(&id).is_none_or(|deposal| self.is_told(id, deposal));
        let Some(deposal) = self.deposals.get_mut(&id) else { return };
        if now >= deposal.tell_at && !is_told {
            deposal.told += 1;
            deposal.tell_at = now + TELL_EVERY;
            self.calls.tell(&deposal.node);
        }
        if let Some((ticket, at)) = deposal.asking
            && now >= at + TIMEOUT + super::step::ANSWER_GRACE
        {
            deposal.asking = None;
            self.asked.remove(&ticket);
        }
        if deposal.swapped && is_told {
            self.deposals.remove(&id);
            return;
        }
        if !deposal.swapped && deposal.asking.is_none() && now >= deposal.not_before {
            self.ask_deposal(now, id);
        }
    }

    fn ask_deposal(&mut self, now: Instant, id: SessionId) {
        let Some(deposal) = self.deposals.get(&id) else { return };
        let node = deposal.node.clone();
        let (expect, by_store) = (deposal.version.clone(), deposal.by_store);
        let lease = self.lease_of(&node);
        let (Some(own), Some(member)) = (self.own_id(), self.members.get(&node)) else { return };
        let is_followed = matches!(member.record.end, Some(End::SucceededBy(heir)) if heir != own);
        let is_deleted = deposal.absent > 0 && !member.listed;
        if member.record.id != id || is_followed || is_deleted || (by_store && member.version != expect) {
            // Another session is there already; the claims say the rest. Or somebody else followed, or the session lives.
            if by_store {
                self.deposals.remove(&id);
            } else if let Some(deposal) = self.deposals.get_mut(&id) {
                deposal.swapped = true;
            }
            return;
        }
        let mut record = member.record.clone();
        record.end = Some(End::SucceededBy(own));
        let write = SessionWrite {
            lease,
            instance: self.id.instance.clone(),
            expect: Expect::Version(if by_store { expect } else { member.version.clone() }),
            purpose: Purpose::Depose,
            duration: member.duration,
            record,
            via: Via::Any,
        };
        let ticket = self.ask(Asked::Deposal(id), Ask::WriteSession(Box::new(write)), TIMEOUT);
        if let Some(deposal) = self.deposals.get_mut(&id) {
            (deposal.asking, deposal.reads) = (Some((ticket, now)), false);
        }
    }

    pub(super) fn deposal_answered(&mut self, now: Instant, id: SessionId, answer: Answer) {
        let jitter = 0.75 + self.random.unit() / 4.0;
        let own = self.own_id();
        let Some(deposal) = self.deposals.get_mut(&id) else { return };
        deposal.asking = None;
        let (node, by_store) = (deposal.node.clone(), deposal.by_store);
        match answer {
            Answer::Session(_, Some(seen)) => {
                let is_ours = seen.record.id == id
                    && matches!(seen.record.end, Some(End::SucceededBy(heir)) if Some(heir) == own);
                deposal.swapped |= is_ours;
                if is_ours && by_store {
                    deposal.by_store = false;
                    self.note_end(now, Succession { id, heir: own });
                    self.speak_soon(now);
                }
                self.listing = None;
                self.saw_session(now, &seen);
            }
            Answer::Session(_, None) => {
                // Deleted, which lists show then, too; or not yet there in the picture of a server that lags.
                deposal.absent += 1;
                deposal.swapped |= by_store || deposal.absent >= ABSENT_MOST;
                deposal.not_before = now + ABSENT_PAUSE;
                self.listing = None;
                if let Some(member) = self.members.get_mut(&node).filter(|member| member.record.id == id) {
                    member.listed = false; // before the watch shows it
                    self.is_door_old = true;
                }
            }
            Answer::Conflict => {
                // By the store's word alone: it was renewed after all, or another one was faster. What is read shows it,
                // and ends this; until it can be read the same version would be refused again and again.
                deposal.failures = deposal.failures.saturating_add(1);
                deposal.not_before = now + BACKOFF_FIRST * deposal.failures.min(4).saturating_sub(1);
                // A read that is refused is followed by nothing before the pause is over.
                if std::mem::replace(&mut deposal.reads, false) {
                    return;
                }
                let lease = self.lease_of(&node);
                let ticket = self.ask(Asked::Deposal(id), Ask::ReadSession(lease), TIMEOUT);
                if let Some(deposal) = self.deposals.get_mut(&id) {
                    deposal.asking = Some((ticket, now));
                    deposal.reads = true;
                }
            }
            Answer::Failed(_) | Answer::Done | Answer::Lease(_) => {
                let pause = (BACKOFF_FIRST * 2u32.saturating_pow(deposal.failures.min(8))).min(BACKOFF_MAX);
                deposal.failures = deposal.failures.saturating_add(1);
                deposal.not_before = now + pause.mul_f64(jitter);
            }
        }
    }

    /// When bids and deposals must be looked at again.
    pub(super) fn bids_due(&self, now: Instant) -> Option<Instant> {
        let interval = self.interval();
        let late = self.holders().filter_map(|(id, track)| {
            let late = track.silent_since() + interval * 3 / 2;
            if now < late {
                return Some(late);
            }
            let bid = self.bids.get(&id);
            let next = bid.and_then(|bid| bid.asked.map_or(bid.turn, |asked| Some(asked + ATTEMPT)));
            // Looks wake us while it is silent; this is the rest.
            let ends = [track.silent_since() + interval * 3];
            next.into_iter().chain(ends).filter(|at| *at > now).min()
        });
        let deposals = self.deposals.iter().filter_map(|(id, deposal)| {
            let write = match deposal.asking {
                _ if deposal.swapped => None,
                Some((_, at)) => Some(at + TIMEOUT + super::step::ANSWER_GRACE),
                None => Some(deposal.not_before),
            };
            let word = (!self.is_told(*id, deposal)).then_some(deposal.tell_at);
            write.into_iter().chain(word).min()
        });
        late.chain(deposals).min()
    }
}

impl Bid {
    fn withdraw(&mut self) {
        self.asked = None;
        self.grants.clear();
    }
}
