//! Members: the other nodes of an instance, as their session Leases in the store show them.

use std::sync::Arc;
use std::time::Duration;

use vip_model::Instant;
use vip_model::session::{SessionRecord, SessionSeen, Sessions};
use vip_model::store::Version;

use super::Ownership;

/// Another node's session as the store shows it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) record: SessionRecord,
    pub(super) version: Version,
    pub(super) duration: Duration,
    /// When this version was seen.
    pub(super) changed: Instant,
    /// Whether the store still has it.
    pub(super) listed: bool,
}

impl Ownership {
    /// The sessions in the store, as a whole. Whether more is new than that others were renewed.
    pub(super) fn saw_sessions(&mut self, now: Instant, sessions: &Arc<Sessions>) -> bool {
        let former = self.listing.replace(Arc::clone(sessions));
        // With every renewal of one comes the whole set: the others are as they were.
        if let Some(former) = former.filter(|former| have_same_keys(former, sessions)) {
            let own = self.own_lease();
            let (mut has_news, mut is_ours) = (false, false);
            for (was, (lease, seen)) in former.values().zip(sessions.iter()) {
                let is_new = !Arc::ptr_eq(was, seen) && was.version != seen.version;
                let is_own = *lease == own;
                is_ours |= is_own && is_new;
                if is_new || is_own {
                    has_news |= self.saw_session(now, seen);
                }
            }
            if has_news {
                self.mark_all(now);
            }
            return has_news || is_ours;
        }
        self.is_door_old = true;
        let is_first = self.listed_at.is_none();
        self.listed_at.get_or_insert(now);
        let mut listed = Vec::with_capacity(self.members.len());
        for member in self.members.values_mut() {
            listed.push(std::mem::take(&mut member.listed));
        }
        let mut has_news = is_first;
        for seen in sessions.values() {
            has_news |= self.saw_session(now, seen);
        }
        if is_first {
            self.track_members();
        }
        // Nothing of a group hangs on a mere renewal.
        if has_news || !self.members.values().map(|member| member.listed).eq(listed) {
            self.mark_all(now);
        }
        true
    }

    /// One session in the store. Whether more is new than that it was renewed.
    pub(super) fn saw_session(&mut self, now: Instant, seen: &SessionSeen) -> bool {
        let SessionRecord { node, former, end, id, .. } = &seen.record;
        // With every renewal of one comes the whole set: the others are as they were.
        if let Some(member) = self.members.get_mut(node)
            && member.version == seen.version
        {
            self.is_door_old |= !member.listed;
            member.listed = true;
            return false;
        }
        self.lineage.lives_at(*id, node);
        for succession in former {
            self.lineage.lives_at(succession.id, node);
            self.note_end(now, *succession);
        }
        if let Some(end) = end {
            self.note_end_in_store(now, end.succession(*id));
        }
        if *node == self.id.node {
            self.own_seen(now, seen);
            return false;
        }
        if let Some(member) = self.members.get_mut(node)
            && seen.version.is_older_than(&member.version)
        {
            self.is_door_old |= !member.listed;
            member.listed = true;
            return false;
        }
        let former = self.members.get(node).map(|member| &member.record);
        let mut record = seen.record.clone();
        if record.sites.is_empty() {
            // Its agent has begun and not read its kernel yet, in which addresses of its former life may still answer.
            record.sites = former.map(|former| former.sites.clone()).unwrap_or_default();
        }
        let is_news = former.is_none_or(|former| *former != record);
        let was_listed = self.members.get(node).is_some_and(|member| member.listed);
        let member = Member {
            record,
            version: seen.version.clone(),
            duration: seen.duration,
            changed: now,
            listed: true,
        };
        self.members.insert(node.clone(), member);
        self.calls.listed(node);
        self.is_door_old |= is_news || !was_listed;
        self.track_member(node);
        is_news
    }
}

/// Whether two sets are of the same Leases. What they share is of the same one.
fn have_same_keys(one: &Sessions, other: &Sessions) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.all(|(one, other)| Arc::ptr_eq(one.1, other.1) || one.0 == other.0)
}
