//! The own session: which id it has, its Lease, its jury. Renewed every retry period; every answered renewal proves it.

mod jury;
mod news;
mod proof;

use std::collections::btree_map::Entry;
use std::time::Duration;

use vip_model::session::{
    End, FORMER_LIMIT, Jury, Recall, SessionId, SessionRecord, SessionSeen, SessionWrite, Site, Succession,
    Via,
};
use vip_model::store::{Answer, Ask, Expect, Failure, FailureClass, Purpose, Version};
use vip_model::{Instant, NodeName};

use super::{Asked, Life, Ownership, Ticket};

/// Shortest and longest time that an answer is worth waiting for.
const TIMEOUT_MIN: Duration = Duration::from_millis(500);
const TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// First pause after a failed question; doubles.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest: a store that returns is noticed within 0.7 s, and two questions a second are left for claims.
const BACKOFF_MAX: Duration = Duration::from_millis(550);
/// The shortest in doubt.
const DOUBT_PAUSE: Duration = Duration::from_millis(900);
/// The same after conflicts, each of which is followed by a read and a write.
const CONFLICT_MAX: Duration = Duration::from_millis(800);
/// A jury is chosen anew at most this often, but for the first time.
const JURY_EVERY: Duration = Duration::from_secs(1);

/// The own session.
#[derive(Debug)]
pub(super) struct Own {
    /// As it is to be written; `record.jury` is the list that was last answered.
    pub(super) record: SessionRecord,
    /// A jury that is written and not answered: both lists count.
    pub(super) pending: Option<Jury>,
    /// What the next write expects.
    pub(super) version: Option<Version>,
    /// The question in flight.
    pub(super) asking: Option<Asking>,
    /// When the last answered renewal was asked.
    pub(super) proven: Option<Instant>,
    /// The same for renewals by an API server on another node.
    pub(super) elsewhere: Option<Instant>,
    /// When a server on another node was last asked.
    pub(super) elsewhere_asked: Option<Instant>,
    /// What one is asked now, beside the question in flight.
    pub(super) asking_elsewhere: Vec<Asking>,
    pub(super) renew_at: Instant,
    /// From when on a further write says something new: it changed while one was under way.
    news: Option<Instant>,
    /// What the last write expected that was refused.
    refused: Option<Version>,
    /// When the last write was asked for.
    written_at: Option<Instant>,
    /// When all writes that were brought forward would have been due, had they kept their distance.
    forward: Instant,
    /// Where the store says that this node is: others look there before they follow it.
    pub(super) shown: Vec<Site>,
    pub(super) must_read: bool,
    failures: u32,
    jury_at: Option<Instant>,
    /// When it began after a former one had been deposed.
    pub(super) after_deposal: Option<Instant>,
    /// Why the store did not answer last time.
    pub(super) trouble: Option<Failure>,
    end: Leaving,
}

/// Whether the session is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    Wanted,
    Written,
}

#[derive(Debug)]
pub(super) struct Asking {
    pub(super) ticket: Ticket,
    pub(super) at: Instant,
    pub(super) what: Writing,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Writing {
    Read,
    Renew(Jury),
    Release,
}

impl Own {
    fn new(now: Instant, record: SessionRecord) -> Self {
        Self {
            record,
            pending: None,
            version: None,
            asking: None,
            proven: None,
            elsewhere: None,
            elsewhere_asked: None,
            asking_elsewhere: Vec::new(),
            renew_at: now,
            news: None,
            refused: None,
            written_at: None,
            forward: now,
            shown: Vec::new(),
            must_read: false,
            failures: 0,
            jury_at: None,
            after_deposal: None,
            trouble: None,
            end: Leaving::No,
        }
    }

    /// The session as the next life of the agent shall find it: one that is being released never lives again, whatever an
    /// API server that lags shows of it.
    pub(super) fn to_remember(&self) -> SessionRecord {
        let is_released = self.end != Leaving::No;
        SessionRecord { end: is_released.then_some(End::Released), ..self.record.clone() }
    }

    /// Whether the usual renewals are not answered.
    pub(super) const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether its Lease needs nothing more of a node that stops.
    pub(super) const fn has_left(&self) -> bool {
        matches!(self.end, Leaving::Written) || self.proven.is_none()
    }

    /// The juries that count: the answered one and the one on its way.
    pub(super) fn juries(&self) -> impl Iterator<Item = &Jury> {
        std::iter::once(&self.record.jury).chain(&self.pending)
    }

    /// The generation in which a node is a juror; 0 when it is none.
    pub(super) fn generation_for(&self, node: &NodeName) -> u32 {
        let has = |jury: &&Jury| jury.members.contains(node);
        self.juries().filter(has).map(|jury| jury.generation).max().unwrap_or(0)
    }

    /// When the next question is due, when none is in flight.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match (&self.asking, self.end) {
            (Some(_), _) | (_, Leaving::Written) => None,
            (None, _) => Some(self.renew_at),
        }
    }
}

impl Ownership {
    pub(super) fn recalled(&mut self, now: Instant, recall: Recall) {
        if let Some(memory) = &recall.memory {
            // They are kept with the newest first, and lineage grows the other way.
            for succession in memory.successions.iter().rev() {
                self.lineage.ended(*succession);
            }
            if let Some(end) = memory.record.end {
                self.lineage.ended(end.succession(memory.record.id));
            }
            for record in &memory.members {
                self.lineage.lives_at(record.id, &record.node);
                let member = super::Member {
                    record: record.clone(),
                    version: Version(String::new()),
                    duration: self.want.settings.timings.duration,
                    changed: now,
                    listed: false,
                };
                if let Entry::Vacant(place) = self.members.entry(record.node.clone()) {
                    place.insert(member);
                    self.calls.listed(&record.node);
                }
            }
        }
        self.recall = Some(recall);
        self.remember_claims(now);
        self.settle_identity(now);
        if let Some(early) = self.early.take() {
            self.own_seen(now, &early);
        }
    }

    /// Finds out which session this is: the one of an earlier life on this boot, else a new one.
    fn settle_identity(&mut self, now: Instant) {
        let (None, Some(recall)) = (&self.own, &self.recall) else { return };
        let boot = recall.boot;
        if let Some(memory) = &recall.memory
            && memory.record.boot == boot
            && memory.record.end.is_none()
            && !self.lineage.has_ended(memory.record.id)
        {
            let mut own = Own::new(now, memory.record.clone());
            own.must_read = true;
            own.may_have_been_heard();
            self.begin(now, own);
        }
    }

    fn begin(&mut self, now: Instant, own: Own) {
        let node = self.id.node.clone();
        self.lineage.lives_at(own.record.id, &node);
        self.own = Some(own);
        self.trust = super::Trust::default();
        self.remember_soon(now);
        self.speak_soon(now);
        self.mark_all(now);
    }

    /// A session that never was before. `former` are this node's ended ones.
    fn begin_anew(&mut self, now: Instant, mut former: Vec<Succession>, version: Option<Version>) {
        let surplus = former.len().saturating_sub(FORMER_LIMIT);
        former.drain(..surplus);
        let record = SessionRecord {
            id: SessionId(self.random.next_u64()),
            node: self.id.node.clone(),
            boot: self.boot(),
            doors: Vec::new(),
            sites: Vec::new(),
            jury: Jury::default(),
            former,
            end: None,
            keys: Vec::new(),
            was_heard: false,
            drill: None,
        };
        let mut own = Own::new(now, record);
        own.version = version;
        self.begin(now, own);
    }

    /// The own Lease, as a watch or an answer shows it.
    pub(super) fn own_seen(&mut self, now: Instant, seen: &SessionSeen) {
        let Some(recall) = &self.recall else {
            self.early = Some(seen.clone());
            return;
        };
        let boot = recall.boot;
        let Some(own) = &mut self.own else {
            let is_over = seen.record.end.is_some() || self.lineage.has_ended(seen.record.id);
            if seen.record.boot == boot && !is_over {
                let mut own = Own::new(now, seen.record.clone());
                own.version = Some(seen.version.clone());
                own.may_have_been_heard();
                self.begin(now, own);
            } else {
                let mut former = seen.record.former.clone();
                let heir = seen.record.end.and_then(|end| end.succession(seen.record.id).heir);
                let ended = Succession { id: seen.record.id, heir };
                former.push(ended);
                self.lineage.ended(ended);
                self.begin_anew(now, former, Some(seen.version.clone()));
            }
            return;
        };
        if own.version.as_ref().is_some_and(|version| seen.version.is_older_than(version)) {
            return;
        }
        if own.asking.is_none() {
            own.version = Some(seen.version.clone());
        }
        if seen.record.id != own.record.id {
            self.inherit_former(seen);
        } else if let Some(End::SucceededBy(heir)) = seen.record.end {
            self.deposed(now, heir);
        } else if seen.record.end == Some(End::Released) && own.end == Leaving::No {
            // A former life released it: others know that it ended, and it never lives again.
            own.version = Some(seen.version.clone());
            self.begin_after(now, None);
        }
    }

    /// The own Lease still shows a former session of this node: what is known of that must not be lost, or claims would
    /// name a session of which nobody can say that it ended.
    fn inherit_former(&mut self, seen: &SessionSeen) {
        let heir = seen.record.end.and_then(|end| end.succession(seen.record.id).heir);
        let shown = Succession { id: seen.record.id, heir };
        let Some(own) = &mut self.own else { return };
        for succession in seen.record.former.iter().copied().chain([shown]) {
            let is_known = own.record.former.iter().any(|former| former.id == succession.id);
            if is_known || succession.id == own.record.id {
                continue;
            }
            self.lineage.ended(succession);
            own.record.former.push(succession);
        }
        let surplus = own.record.former.len().saturating_sub(FORMER_LIMIT);
        own.record.former.drain(..surplus);
    }

    /// The list of sessions was seen, and the own one may not be in it.
    pub(super) fn settle_absent(&mut self, now: Instant) {
        if self.own.is_none() && self.listed_at.is_some() && self.recall.is_some() {
            self.begin_anew(now, Vec::new(), None);
        }
    }

    /// Somebody who may says that this session was succeeded: final, whatever the store says.
    pub(super) fn deposed(&mut self, now: Instant, heir: SessionId) {
        self.begin_after(now, Some(heir));
        if let Some(own) = &mut self.own {
            own.must_read = true;
            own.after_deposal = Some(now);
        }
    }

    /// The own session has ended, for everybody, whatever an earlier life of the agent left of it.
    fn begin_after(&mut self, now: Instant, heir: Option<SessionId>) {
        let Some(own) = &self.own else { return };
        let ended = Succession { id: own.record.id, heir };
        let former = own.record.former.iter().copied().chain([ended]).collect();
        let (version, failures) = (own.version.clone(), own.failures);
        self.asked.retain(|_, asked| !matches!(asked, Asked::Own | Asked::Elsewhere));
        self.lineage.ended(ended);
        self.begin_anew(now, former, version);
        if let Some(own) = &mut self.own {
            own.failures = failures; // the store is no better for it
        }
        for peer in self.peers.values_mut() {
            peer.forget_echoes();
        }
    }

    /// Asks what is due for the own session.
    pub(super) fn step_own(&mut self, now: Instant) {
        self.settle_absent(now);
        let timeout = self.patience();
        let is_leaving = self.want.life == Life::Stops && self.is_idle();
        let Some(own) = &mut self.own else { return };
        if is_leaving && own.end == Leaving::No {
            own.end = Leaving::Wanted;
            own.renew_at = own.renew_at.min(now);
        } else if !is_leaving && own.end == Leaving::Wanted {
            own.end = Leaving::No;
        }
        if let Some(asking) = &own.asking
            && now >= asking.at + timeout + super::step::ANSWER_GRACE
        {
            let text = "the gateway gave no answer in time".to_owned();
            let ticket = asking.ticket;
            self.asked.remove(&ticket);
            self.own_answered(now, ticket, Answer::Failed(Failure { class: FailureClass::Timeout, text }));
            return;
        }
        if own.asking.is_some() || own.end == Leaving::Written || now < own.renew_at {
            return;
        }
        if own.must_read {
            let ask = Ask::ReadSession(self.own_lease());
            return self.ask_own(now, ask, Writing::Read);
        }
        self.write_own(now);
    }

    pub(super) fn patience(&self) -> Duration {
        self.want.settings.timings.retry_period.clamp(TIMEOUT_MIN, TIMEOUT_MAX)
    }

    fn ask_own(&mut self, now: Instant, ask: Ask, what: Writing) {
        let timeout = self.patience();
        let ticket = self.ask(Asked::Own, ask, timeout);
        if let Some(own) = &mut self.own {
            own.asking = Some(Asking { ticket, at: now, what });
        }
    }

    fn write_own(&mut self, now: Instant) {
        let Some((write, what)) = self.compose(now, Via::Any) else { return };
        // Before it is asked: an agent may end with the answer.
        match what {
            Writing::Release => self.remember_now(now),
            Writing::Read | Writing::Renew(_) => self.remember_soon(now),
        }
        self.ask_own(now, Ask::WriteSession(Box::new(write)), what);
        self.count_forward(now);
    }

    /// What is to be written of the own session, and what an answer to it proves.
    pub(super) fn compose(&mut self, now: Instant, via: Via) -> Option<(SessionWrite, Writing)> {
        let jury = self.choose_jury(now);
        let lease = self.own_lease();
        let doors = self.doors();
        let own = self.own.as_mut()?;
        own.news = own.news.filter(|news| now < *news);
        let releases = own.end == Leaving::Wanted;
        own.record.doors = doors;
        // An agent that has not read its kernel yet has not lost its place: others must be able to look at it.
        if !self.want.sites.is_empty() {
            own.record.sites.clone_from(&self.want.sites);
        }
        own.record.keys = self.door.keys.iter().copied().collect();
        let mut record = own.record.clone();
        record.end = releases.then_some(End::Released);
        if jury != own.record.jury {
            own.pending = Some(jury.clone());
        }
        record.jury = jury.clone();
        let timings = self.want.settings.timings;
        let write = SessionWrite {
            lease,
            instance: self.id.instance.clone(),
            expect: own.version.clone().map_or(Expect::Absent, Expect::Version),
            purpose: if releases { Purpose::Release } else { Purpose::Renew },
            duration: timings.duration,
            record,
            via,
        };
        Some((write, if releases { Writing::Release } else { Writing::Renew(jury) }))
    }

    pub(super) fn own_answered(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        let retry = self.want.settings.timings.retry_period;
        let least = if self.asks_elsewhere() { DOUBT_PAUSE } else { Duration::ZERO };
        let Some(own) = &mut self.own else { return };
        let Some(asking) = own.asking.take_if(|asking| asking.ticket == ticket) else { return };
        let is_written = matches!(answer, Answer::Session(..)) && asking.what != Writing::Read;
        if is_written {
            own.failures = 0;
        }
        if !matches!(answer, Answer::Failed(_)) {
            own.trouble = None;
        }
        match answer {
            Answer::Session(_, Some(seen)) => {
                own.must_read = false;
                own.version = Some(seen.version.clone());
                let is_ours = seen.record.id == own.record.id;
                if is_ours && asking.what == Writing::Release {
                    own.end = Leaving::Written;
                    self.remember_soon(now);
                } else if is_ours && seen.record.end.is_none() {
                    self.proven(now, &asking, &seen.record);
                } else {
                    own.renew_at = now;
                }
                self.own_seen(now, &seen);
            }
            Answer::Session(_, None) => {
                own.must_read = false;
                own.version = None;
                own.renew_at = now;
            }
            Answer::Conflict => {
                // Once at once; then a lagging server is given time, and the budget is kept.
                own.must_read = true;
                own.refused.clone_from(&own.version);
                let pause = (BACKOFF_FIRST * 2u32.saturating_pow(own.failures.min(8))).min(CONFLICT_MAX);
                let pause = pause.max(least);
                own.renew_at = if own.failures == 0 { now } else { now + pause };
                own.failures = own.failures.saturating_add(1);
            }
            Answer::Failed(failure) => self.own_failed(now, failure, retry),
            Answer::Done | Answer::Lease(_) => own.must_read = true,
        }
    }

    fn own_failed(&mut self, now: Instant, failure: Failure, retry: Duration) {
        // Never sooner than the pause: at most 2.5 questions a second while the store is away.
        let jitter = 1.0 + self.random.unit() / 4.0;
        let asks_elsewhere = self.asks_elsewhere();
        let Some(own) = &mut self.own else { return };
        let pause = if failure.class.is_transient() && failure.class != FailureClass::Throttled {
            (BACKOFF_FIRST * 2u32.saturating_pow(own.failures.min(8))).min(BACKOFF_MAX)
        } else {
            retry
        };
        let pause = if asks_elsewhere { pause.max(DOUBT_PAUSE) } else { pause };
        own.failures = own.failures.saturating_add(1);
        own.renew_at = now + pause.mul_f64(jitter);
        own.trouble = Some(failure);
    }

    /// Whether the store answered within a retry period or so.
    pub(super) fn is_store_fresh(&self, now: Instant) -> bool {
        let timings = self.want.settings.timings;
        let limit = timings.retry_period.mul_f64(1.5) + TIMEOUT_MIN;
        self.own.as_ref().and_then(|own| own.proven).is_some_and(|proven| now < proven + limit)
    }
}
