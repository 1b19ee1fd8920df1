//! Ventures: takes of a group that nobody ever held, by a node that others come before. When hundreds of Services are
//! created at once, one node hears of them before the others and would get them all; so only a few takes of the kind are
//! under way at a time, and each makes room for the next with its answer. Mode `lease` has the same rule. And takes of what a
//! session had, by an agent that has only just begun to see.

use std::collections::BTreeSet;
use std::time::Duration;

use vip_model::config::PeerMode;
use vip_model::members::History;
use vip_model::peers::Stage;
use vip_model::plan::Standing;
use vip_model::session::CLAIM;
use vip_model::{Instant, LeaseName};

use super::session_in;
use crate::session::{Member, Ownership, Peer};

/// So many at a time: two keep a node busy that is alone with a store that answers in milliseconds.
const AT_ONCE: usize = 2;
/// An agent that has seen the store for the first time waits so long for a word of other members before it takes what a session
/// had: a heartbeat a second is what everybody owes everybody.
const LISTENS: Duration = Duration::from_millis(1_200);

/// The takes of the kind.
#[derive(Debug, Default)]
pub(in crate::session) struct Ventures {
    asked: BTreeSet<LeaseName>,
    waiting: BTreeSet<LeaseName>,
}

impl Ventures {
    /// A question for a group was answered or given up, or nobody wants it any more.
    pub(in crate::session) fn end(&mut self, claim: &LeaseName) {
        self.asked.remove(claim);
    }

    /// A group that waited, when there is room for it.
    pub(in crate::session) fn next(&mut self) -> Option<LeaseName> {
        if self.asked.len() < AT_ONCE { self.waiting.pop_first() } else { None }
    }
}

impl Ownership {
    /// Whether a free group may be taken now; when not, it is looked at again as soon as there is room.
    pub(super) fn may_venture(&mut self, claim: &LeaseName) -> bool {
        let Some(group) = self.groups.get(claim) else { return false };
        let is_own = group.want.rank == 0 || group.want.standing != Standing::Contend;
        if is_own || group.history != History::New {
            return true;
        }
        let has_room = self.ventures.asked.len() < AT_ONCE;
        let list = if has_room { &mut self.ventures.asked } else { &mut self.ventures.waiting };
        list.insert(claim.clone());
        has_room
    }

    /// Whether no store and no member ever spoke of a group: a claim may have been deleted, and who owns it says so.
    pub(super) fn is_unheard_of(&self, now: Instant, claim: &LeaseName) -> bool {
        let Some(group) = self.groups.get(claim) else { return false };
        let is_absent = group.seen.as_ref().is_some_and(|seen| seen.record.is_none());
        let speaks = |peer: &Peer| {
            peer.groups.is_unknown()
                || matches!(peer.stage(group.id), Some(Stage::Owned | Stage::Announced | Stage::Given))
        };
        let is_heard = |member: &Member| {
            let peer = self.peers.get(&member.record.node);
            peer.is_some_and(|peer| peer.session == member.record.id && peer.is_exchanging(now))
        };
        let lives = |member: &&Member| member.listed && !self.lineage.has_ended(member.record.id);
        let all_heard = self.members.values().filter(lives).all(is_heard);
        is_absent && all_heard && group.history == History::New && !self.peers.values().any(speaks)
    }

    /// Whether somebody may have followed the session that a claim names, while the store was away, whom this agent can't know
    /// yet: it has just seen the store for the first time, there are other members, and it has heard none of them.
    pub(super) fn may_be_followed_unheard(&self, now: Instant, claim: &LeaseName) -> bool {
        let record = self.groups.get(claim).and_then(super::Group::record);
        let names_a_session = record.is_some_and(|record| session_in(record, CLAIM).is_some());
        let is_deaf = self.want.settings.peers != PeerMode::Off && self.peers.is_empty();
        let others = self.members.values().any(|member| member.listed && member.record.end.is_none());
        let has_just_listed = self.listed_at.is_some_and(|at| now < at + LISTENS);
        names_a_session && is_deaf && others && has_just_listed
    }
}
