//! Address groups: whose is each, and what is to be done for it. A claim names the session that owns a group; a session
//! that ended leaves its groups to its heir, or free. What the store does not say yet, heartbeats may.

mod claim;
mod guard;
mod index;
mod mine;
mod rewrite;
mod state;
mod venture;
mod whose;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use vip_model::drill::Drill;
use vip_model::members::History;
use vip_model::peers::GroupId;
use vip_model::plan::{ElectionWant, Footprint, Look, Standing};
use vip_model::session::SessionId;
use vip_model::store::{Expect, Failure, LeaseRecord, Version};
use vip_model::{Instant, LeaseName, NodeName};

use super::{Ownership, Ticket};

use guard::FREE_MISSES;
pub(super) use guard::{Guard, HEIR_MISSES};
pub(super) use rewrite::Rewrites;
pub(super) use venture::Ventures;

/// How long each better-placed contender for a free group is waited for.
const RANK_STEP: Duration = Duration::from_millis(30);
/// The longest wait is this many steps.
const RANK_MAX: u32 = 3;
/// A group whose owner the store does not show is looked at again after this.
const UNLISTED: Duration = Duration::from_secs(1);
/// Shortest and longest time that an answer is worth waiting for.
const TIMEOUT_MIN: Duration = Duration::from_millis(500);
const TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Pauses after failed questions.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(400);
/// The longest after conflicts.
const CONFLICT_MAX: Duration = Duration::from_millis(1_600);

/// An address group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) want: ElectionWant,
    pub(super) id: GroupId,
    /// Whether the plan still wants it.
    planned: bool,
    pub(super) seen: Option<Seen>,
    /// When it is to be looked at again.
    pub(super) due: Option<Instant>,
    pub(super) asking: Option<Asking>,
    pub(super) not_before: Instant,
    failures: u32,
    /// Writes in a row that met another version: a lagging server shows the old one again and again.
    conflicts: u32,
    must_read: bool,
    /// What the last write expects.
    expected: Expect,
    /// What the last write expected that was refused, and when.
    refused: Option<(Expect, Instant)>,
    history: History,
    trouble: Option<Failure>,
    /// Since when we stand for it.
    stood_at: Instant,
    pub(super) free_since: Option<Instant>,
    /// Since when nobody knows the session that owns it.
    orphan_since: Option<Instant>,
    /// Whether it was ours when it was last looked at, and what still keeps us from serving it.
    pub(super) guard: Guard,
    /// While it is looked at: its addresses that nobody answers for any more.
    vacant: BTreeSet<IpAddr>,
    was_mine: bool,
    /// Since when it is ours, or was the last time.
    pub(super) mine_since: Option<Instant>,
    /// Whether it was ours when this agent first saw it, and nothing is known of its addresses yet.
    found_mine: bool,
    /// Whether it has been announced here since then.
    pub(super) was_announced: bool,
    /// A former life held it: counts until the store or somebody says otherwise.
    remembered: bool,
    pub(super) hand: super::hand::Hand,
    /// What its next write says of a drill.
    pub(super) drill: Option<Drill>,
    /// When its claim is to be rewritten to our session, which inherited it.
    pub(super) rewrite_at: Option<Instant>,
    pub(super) gives_way_at: Option<Instant>,
    announced_since: Option<Instant>,
    /// When a former owner was last heard to answer no more, since it is ours.
    pub(super) cleared: Option<Instant>,
    /// The other session that owns it, and since when.
    owner: Option<SessionId>,
    pub(super) owned_since: Option<Instant>,
    /// Whether we said that we do not see it at its owner.
    pub(super) unseen: bool,
    /// A write was refused: the store has a newer version of its claim than was seen.
    pub(super) is_outdated: bool,
    /// When the store was last asked because another member says that it serves the group.
    pub(super) compared_at: Option<Instant>,
    /// When it was last released.
    pub(super) released: Option<Instant>,
    /// The newest version of its claim that was ever seen.
    pub(super) newest: Option<Version>,
    /// To whom it was given in vain, and when it was taken back: those are no heirs before they are heard again.
    pub(super) silent_heirs: BTreeMap<SessionId, Instant>,
    /// It was asked for because most jurors do not see it: when it arrives, what was looked at before says nothing.
    pub(super) taken_unseen: bool,
    /// Who said, since it is ours, that its addresses are not seen at this node, and when last.
    pub(super) unseen_by: BTreeMap<NodeName, Instant>,
}

/// A claim as last seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) version: Option<Version>,
    pub(super) record: Option<LeaseRecord>,
    pub(super) at: Instant,
}

/// A question in flight.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) ticket: Ticket,
    pub(super) at: Instant,
    pub(super) what: Writing,
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    Read,
    Take,
    Rewrite,
    Release,
    HandOver(SessionId),
    GiveBack(SessionId),
    TakeBack,
}

/// Whose a group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Too little is known.
    Unknown,
    /// Ours; `from` serves it until we do.
    Mine { from: Option<SessionId> },
    /// Another session's; `from_us` while it is handed over by us.
    Theirs { session: SessionId, from_us: bool },
    /// Held in mode `lease` by a node, until then.
    Leased { node: String, until: Instant },
    /// Nobody's.
    Free,
}

impl Group {
    fn new(now: Instant, claim: &LeaseName, want: ElectionWant, remembered: bool) -> Self {
        Self {
            want,
            id: GroupId::of(claim),
            planned: true,
            seen: None,
            due: None,
            asking: None,
            not_before: now,
            failures: 0,
            conflicts: 0,
            must_read: false,
            expected: Expect::Absent,
            refused: None,
            history: History::Unknown,
            trouble: None,
            stood_at: now,
            free_since: None,
            orphan_since: None,
            guard: Guard::Clear,
            vacant: BTreeSet::new(),
            was_mine: remembered,
            mine_since: remembered.then_some(now),
            found_mine: false,
            was_announced: remembered,
            remembered,
            hand: super::hand::Hand::None,
            drill: None,
            rewrite_at: None,
            gives_way_at: None,
            announced_since: None,
            cleared: None,
            owner: None,
            owned_since: None,
            unseen: false,
            is_outdated: false,
            compared_at: None,
            released: None,
            newest: None,
            silent_heirs: BTreeMap::new(),
            taken_unseen: false,
            unseen_by: BTreeMap::new(),
        }
    }

    /// Where its addresses can be looked for.
    pub(super) fn looks(&self) -> impl Iterator<Item = &Look> {
        self.want.group.iter().flat_map(|group| &group.looks)
    }

    pub(super) fn record(&self) -> Option<&LeaseRecord> {
        self.seen.as_ref()?.record.as_ref()
    }

    /// The premise of a write: the claim is still as it was seen.
    fn expect(&self) -> Expect {
        match self.seen.as_ref().and_then(|seen| seen.version.clone()) {
            Some(version) if self.record().is_some() => Expect::Version(version),
            _ => Expect::Absent,
        }
    }

    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) const fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Since when it is served.
    pub(super) const fn announced_since(&self) -> Option<Instant> {
        self.announced_since
    }

    /// Whether it shall not be on a node while another one can have it.
    pub(super) fn avoids(&self, node: &NodeName) -> bool {
        self.want.group.as_ref().is_some_and(|group| group.avoid.contains(node))
    }

    fn lifetime(&self) -> Duration {
        self.want.group.as_ref().map_or(Duration::from_secs(8), |group| group.lifetime)
    }

    pub(super) fn is_announced(&self) -> bool {
        self.want.group.as_ref().is_some_and(|group| group.progress == vip_model::plan::Progress::Announced)
    }
}

/// The session in an annotation of a claim; none when it is absent, empty or unreadable.
pub(super) fn session_in(record: &LeaseRecord, annotation: &str) -> Option<SessionId> {
    record.annotations.get(annotation).filter(|text| !text.is_empty())?.parse().ok()
}

impl Ownership {
    /// Takes over the wanted set.
    pub(super) fn want_groups(&mut self, now: Instant, wanted: &BTreeMap<LeaseName, ElectionWant>) {
        let mut bare: Vec<LeaseName> = Vec::new();
        for (claim, want) in wanted {
            match self.groups.get_mut(claim) {
                None => {
                    let memory = self.recall.as_ref().and_then(|recall| recall.memory.as_ref());
                    let remembered = memory.is_some_and(|memory| memory.claims.contains(claim));
                    self.groups.insert(claim.clone(), Group::new(now, claim, want.clone(), remembered));
                    self.mark(now, claim);
                }
                Some(group) if group.planned && group.want == *want => {}
                Some(group) => {
                    let stood = stands(group.want.standing);
                    if !stood && stands(want.standing) {
                        group.stood_at = now;
                    }
                    let was_announced = group.is_announced();
                    if (group.want.footprint, want.footprint) == (Footprint::Present, Footprint::Clear) {
                        bare.push(claim.clone());
                    }
                    group.planned = true;
                    group.want.clone_from(want);
                    self.lifetimes_changed = true;
                    if group.is_announced() != was_announced {
                        group.announced_since = group.is_announced().then_some(now);
                        group.was_announced |= group.is_announced();
                        self.speak_soon(now);
                    }
                    self.mark(now, claim);
                }
            }
        }
        for claim in bare {
            self.look_at_bare(now, &claim);
        }
        let gone: Vec<LeaseName> =
            self.groups.keys().filter(|claim| !wanted.contains_key(*claim)).cloned().collect();
        for claim in gone {
            self.unwant(now, &claim);
        }
    }

    /// What a former life held counts for groups that were planned before it was known.
    pub(super) fn remember_claims(&mut self, now: Instant) {
        let Some(memory) = self.recall.as_ref().and_then(|recall| recall.memory.as_ref()) else { return };
        for (claim, group) in &mut self.groups {
            if group.seen.is_none() && memory.claims.contains(claim) {
                (group.was_mine, group.remembered) = (true, true);
                group.found_mine = true; // perhaps long ago: what is not in the kernel any more is looked at
                group.mine_since = Some(now);
            }
        }
    }

    /// A claim that is no longer planned is left in good order.
    fn unwant(&mut self, now: Instant, claim: &LeaseName) {
        let Some(group) = self.groups.get_mut(claim) else { return };
        group.planned = false;
        group.want.standing = Standing::Leave;
        self.mark(now, claim);
    }

    /// What hangs on claims that are no longer planned is gone (or not) from the kernel.
    pub fn leave(&mut self, now: Instant, footprint: Footprint) {
        self.rest = crate::Rest::No;
        let unplanned = self.groups.iter_mut().filter(|(_, group)| !group.planned);
        let mut marked = Vec::new();
        for (claim, group) in unplanned {
            if group.want.footprint != footprint {
                group.want.footprint = footprint;
                marked.push(claim.clone());
            }
        }
        for claim in marked {
            self.mark(now, &claim);
        }
    }

    /// Whether a group is ours, served or not, or handed over and not withdrawn.
    pub(super) fn is_held(&self, group: &Group) -> bool {
        match self.whose(group) {
            Whose::Mine { .. } => true,
            Whose::Theirs { from_us, .. } => from_us && !group.hand.is_over(),
            Whose::Unknown | Whose::Leased { .. } | Whose::Free => false,
        }
    }

    pub(super) fn owns_anything(&self) -> bool {
        !self.held.is_empty()
    }

    /// The groups that are ours.
    pub(super) fn held_groups(&self) -> impl Iterator<Item = &Group> {
        self.held.iter().filter_map(|claim| self.groups.get(claim))
    }

    /// Whether nothing of any group is left to do, and none of their addresses is left in the kernel.
    pub(super) fn is_idle(&self) -> bool {
        let is_over = |group: &Group| group.asking.is_none() && group.want.footprint == Footprint::Clear;
        self.held.is_empty() && self.groups.values().all(is_over)
    }

    /// Looks at a group and does what is due. Gives when it wants to be looked at again.
    pub(super) fn step_group(&mut self, now: Instant, claim: &LeaseName) {
        self.give_up_waiting(now, claim);
        let Some(group) = self.groups.get(claim) else { return };
        let whose = self.whose(group);
        self.note_given(now, claim, &whose);
        self.index(now, claim, &whose);
        let next = match whose.clone() {
            Whose::Unknown => self.step_unknown(now, claim),
            Whose::Mine { from } => self.step_mine(now, claim, from),
            Whose::Theirs { session, from_us: false } if self.is_orphaned(now, claim, session) => {
                self.step_free(now, claim, &whose)
            }
            Whose::Theirs { session, from_us } => {
                let orphaned = self.groups.get(claim).and_then(|group| group.orphan_since);
                let orphaned = orphaned.map(|since| since + self.want.settings.timings.duration);
                let moving = self.step_theirs(now, claim, (session, from_us));
                // One that is known by its heartbeats alone may fall silent.
                let unlisted = (!self.is_listed(session)).then_some(now + UNLISTED);
                moving.into_iter().chain(orphaned).chain(unlisted).min()
            }
            Whose::Leased { until, .. } if now < until => Some(until),
            Whose::Leased { .. } | Whose::Free => self.step_free(now, claim, &whose),
        };
        self.list = None;
        let Some(group) = self.groups.get_mut(claim) else { return };
        group.was_mine = matches!(whose, Whose::Mine { .. });
        let is_gone = !group.planned && !matches!(whose, Whose::Mine { .. }) && group.asking.is_none();
        let timeout = group.asking.as_ref().map(|asking| asking.at + TIMEOUT_MAX + super::step::ANSWER_GRACE);
        if let Some(next) = next.into_iter().chain(timeout).min() {
            self.mark(next.max(now + Duration::from_millis(1)), claim);
        }
        if is_gone {
            self.groups.remove(claim);
            self.ventures.end(claim);
            self.states.remove(claim);
            self.index(now, claim, &Whose::Free);
            return;
        }
        self.publish(claim, &whose);
    }

    /// Whether nobody knows the session that a claim names, for a whole session's duration: its Lease was deleted, and its
    /// node is gone or has begun another one. Then it can neither expire nor be followed.
    fn is_orphaned(&mut self, now: Instant, claim: &LeaseName, session: SessionId) -> bool {
        let node = self.lineage.node(session);
        let peer = node.and_then(|node| self.peers.get(node)).filter(|peer| peer.session == session);
        let is_known = self.listed_at.is_none()
            || self.is_listed(session)
            || peer.is_some_and(|peer| peer.is_exchanging(now));
        let is_fresh = self.is_store_fresh(now);
        let span = self.want.settings.timings.duration;
        let Some(group) = self.groups.get_mut(claim) else { return false };
        if is_known || !is_fresh {
            group.orphan_since = None;
            return false;
        }
        let since = *group.orphan_since.get_or_insert(now);
        now >= since + span
    }

    /// Whether the store shows a session.
    fn is_listed(&self, session: SessionId) -> bool {
        let member = self.lineage.node(session).and_then(|node| self.members.get(node));
        member.is_some_and(|member| member.listed && member.record.id == session)
    }

    /// The watch may show that we gave a group away before the answer does: we serve it until its new owner does, all the
    /// same.
    fn note_given(&mut self, now: Instant, claim: &LeaseName, whose: &Whose) {
        let Some(group) = self.groups.get_mut(claim) else { return };
        if let Whose::Theirs { session, from_us: true } = *whose
            && group.is_served()
            && group.hand.is_over()
        {
            group.hand = super::hand::Hand::Given { to: session, since: now, takes_back: false };
            self.speak_soon(now);
        }
    }

    fn step_unknown(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let group = self.groups.get(claim)?;
        // The watch shows it; a question is asked only when it is late.
        let late = group.stood_at.max(group.not_before) + TIMEOUT_MIN;
        if group.asking.is_none() && now >= late && self.own.is_some() {
            self.ask_claim(now, claim, Writing::Read);
            return None;
        }
        // A session that begins looks at all groups again.
        (group.asking.is_none() && self.own.is_some()).then_some(late)
    }

    /// A group that nobody owns: take it, in the order of ranks.
    pub(super) fn step_free(&mut self, now: Instant, claim: &LeaseName, whose: &Whose) -> Option<Instant> {
        let group = self.groups.get_mut(claim)?;
        if group.asking.is_some() {
            return self.step_guard(now, claim); // a take looks beside its write
        }
        group.guard = Guard::Clear;
        let since = *group.free_since.get_or_insert(now);
        let rank = group.want.rank.min(RANK_MAX);
        let wait = match group.want.standing {
            Standing::Contend => RANK_STEP * rank,
            Standing::Reluctant => self.want.settings.timings.retry_period,
            Standing::HandOver | Standing::Leave => return None,
        };
        let at = since.max(group.stood_at).max(group.not_before) + wait;
        if now < at {
            return Some(at);
        }
        if group.must_read {
            self.ask_claim(now, claim, Writing::Read);
            return None;
        }
        if !self.is_store_fresh(now) || self.listed_at.is_none() {
            return Some(now + BACKOFF_FIRST); // without the members there is nowhere to look
        }
        if !self.groups.get(claim)?.looks().all(|look| self.is_shown(look)) {
            self.renew_soon(now);
            return Some(now + BACKOFF_FIRST); // the answer to the renewal wakes it, too
        }
        if self.may_be_followed_unheard(now, claim) {
            return Some(now + BACKOFF_FIRST);
        }
        if !self.may_venture(claim) {
            return None;
        }
        let is_new = matches!(whose, Whose::Free) && self.is_unheard_of(now, claim);
        let group = self.groups.get_mut(claim)?;
        if !is_new {
            group.look_first(FREE_MISSES);
        }
        self.ask_claim(now, claim, Writing::Take);
        self.step_guard(now, claim)
    }
}

const fn stands(standing: Standing) -> bool {
    matches!(standing, Standing::Contend | Standing::Reluctant)
}
