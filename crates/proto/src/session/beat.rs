//! Heartbeats: to whom, when, and with what. A holder sends one to each juror and interval, a juror answers at once;
//! everybody else exchanges one a second. News goes at once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use vip_model::peers::{Datagram, Echo, GroupWord, Kind, Stage, Word};
use vip_model::session::Succession;
use vip_model::{Instant, NodeName};

use super::Ownership;
use super::group::Whose;
use super::hand::Hand;
use super::trust::DOUBT_BEAT;
use super::words::OwnList;

/// Members that owe each other nothing exchange a heartbeat this often.
pub(super) const SLOW: Duration = Duration::from_secs(1);
/// News to one member goes at most this often.
const NEWS_PAUSE: Duration = Duration::from_millis(2);
/// Groups in one datagram, those in motion first.
const GROUPS_MOST: usize = 64;
/// Successions in one datagram, and how far back they are looked for.
const SUCCESSIONS_MOST: usize = 8;
const SUCCESSIONS_SEEN: usize = 64;
/// Those of them that are there before newer ones: of the receiver's own sessions, and as many that it is the heir of.
const SUCCESSIONS_OF_RECEIVER: usize = 2;
/// How long a withdrawn group is still spoken of.
const WITHDRAWN_LASTS: Duration = Duration::from_secs(3);

impl Ownership {
    /// Sends what is due.
    pub(super) fn step_beats(&mut self, now: Instant) {
        if self.own.is_none() || self.door.port.is_none() {
            return;
        }
        if self.beats_due().is_none_or(|due| now < due) {
            return;
        }
        // Those whose turn is soon get theirs, too, and from then on all with the first: one wake-up for all, and their answers
        // come together. Nobody gets two at once by that.
        let soon = now + self.paces().juror / 2;
        let is_due = |(_, due): &(_, Instant)| *due <= soon;
        let greeted = self.unheard().filter(is_due).map(|(node, _)| node.clone());
        let due: Vec<NodeName> = self.heard_due(soon).into_iter().chain(greeted).collect();
        if due.is_empty() {
            return;
        }
        let groups = self.own_list(now);
        for node in due {
            self.beat(now, &node, Kind::Beat, &groups);
        }
    }

    /// Answers a holder's heartbeat.
    pub(super) fn reply(&mut self, now: Instant, node: &NodeName) {
        if self.own.is_some() && self.door.port.is_some() && !self.drills.is_absent(now) {
            let groups = self.own_list(now);
            // Of two holders the answer of one is its own heartbeat, when that is due soon: three datagrams do for four. Half
            // a pace keeps them from answering each other for ever.
            let sent = self.calls.last(node);
            let is_due_soon = sent.is_none_or(|sent| sent + self.pace(node) / 2 <= now);
            let kind = if self.owes_beats(node) && is_due_soon { Kind::Beat } else { Kind::Reply };
            self.beat(now, node, kind, &groups);
        }
    }

    /// Everybody who was heard and whose heartbeat is due at this time, by name.
    fn heard_due(&self, at: Instant) -> BTreeSet<NodeName> {
        let paces = self.paces();
        let slow = self.calls.longest();
        let slow =
            slow.take_while(|(_, sent)| self.beat_due(*sent, paces.slow()) <= at).map(|(node, _)| node);
        let fast = paces.fast().map(|(node, _)| node).filter(|node| self.calls.have_heard(node));
        let sooner = fast.chain(self.calls.with_news());
        let is_due = |node: &&NodeName| self.next_beat(node, paces.of(node)) <= at;
        slow.chain(sooner.filter(is_due)).cloned().collect()
    }

    /// Everybody else who is a member by the store's word.
    fn unheard(&self) -> impl Iterator<Item = (&NodeName, Instant)> {
        let paces = self.paces();
        self.calls.unheard().map(move |(node, sent)| (node, self.beat_due(sent, paces.of(node))))
    }

    /// Whether a member is a juror of what we hold.
    fn owes_beats(&self, node: &NodeName) -> bool {
        self.owns_anything() && self.own.as_ref().is_some_and(|own| own.generation_for(node) > 0)
    }

    fn pace(&self, node: &NodeName) -> Duration {
        self.paces().of(node)
    }

    fn paces(&self) -> Paces<'_> {
        let interval = self.interval();
        let jurors = self.own.iter().filter(|_| self.owns_anything()).flat_map(super::Own::juries);
        let bids = self.bids.iter().filter(|(_, bid)| bid.attempt().is_some());
        let wooed = bids.filter_map(|(id, _)| self.tracks.get(id)).map(|track| &track.list);
        Paces {
            jurors: jurors.flat_map(|jury| &jury.members).collect(),
            wooed: wooed.flat_map(|list| &list.members).collect(),
            juror: if self.trust.is_in_doubt() { DOUBT_BEAT.min(interval) } else { interval },
            interval,
        }
    }

    fn beat(&mut self, now: Instant, node: &NodeName, kind: Kind, own_list: &OwnList) {
        let Some(to) = self.door_of(now, node) else { return };
        let Some(own) = &self.own else { return };
        self.sequence = now.max(self.sequence + Duration::from_nanos(1));
        let (session, jury) = (own.record.id, own.generation_for(node));
        let api_age = own.proven.map(|proven| now - proven);
        let peer = self.peers.get(node);
        let echo = peer.map(|peer| Echo {
            session: peer.session,
            sequence: peer.sequence,
            word: self.word_for(now, peer.session),
            groups: peer.groups.digest(),
        });
        let sequence = self.sequence;
        let vouches = echo.as_ref().is_some_and(|echo| echo.word == Word::Vouches);
        let peer = self.peers.get_mut(node);
        let groups = peer.map_or_else(|| own_list.listed(), |peer| peer.told.tell(sequence, own_list));
        let datagram = Datagram {
            instance: self.id.tag(),
            from: self.id.node.clone(),
            session,
            to: node.clone(),
            sequence: self.sequence,
            echo,
            kind,
            jury,
            api_age,
            fitness: self.want.fitness,
            groups,
            asks: self.asks(),
            grants: self.grants(),
            successions: self.successions_for(node),
            unseen: self.unseen_of(now, node),
        };
        self.send(to, datagram);
        let owes_beats = self.owes_beats(node);
        self.calls.told(node);
        // Who only ever answers another holder never asks that one to vouch, and lives by echoes an interval old.
        if kind == Kind::Beat || !owes_beats {
            self.calls.sent(now, node);
        }
        if vouches && let Some(peer) = self.peers.get_mut(node) {
            peer.first_vouch.get_or_insert(sequence);
        }
    }

    /// Where a member is reached: where it was heard from, unless it is silent and its session Lease tells other doors by
    /// now; else the first that is told.
    fn door_of(&self, now: Instant, node: &NodeName) -> Option<SocketAddr> {
        let told = self.told_door(node);
        let Some(peer) = self.peers.get(node) else { return told };
        let is_listed = self.members.get(node).is_some_and(|member| member.record.doors.contains(&peer.door));
        let heard = Some(peer.door);
        if is_listed || peer.is_heard(now) { heard } else { told.or(heard) }
    }

    /// The first door of a family that we have.
    fn told_door(&self, node: &NodeName) -> Option<SocketAddr> {
        let reachable = |door: &&SocketAddr| {
            self.want.sites.iter().any(|site| site.net.addr().is_ipv4() == door.is_ipv4())
        };
        self.members.get(node)?.record.doors.iter().find(reachable).copied()
    }

    /// A name for each door: the own addresses on all networks with the port that the door has.
    pub(super) fn doors(&self) -> Vec<SocketAddr> {
        let Some(port) = self.door.port else { return Vec::new() };
        let reachable = self.want.sites.iter().filter(|site| !site.is_link_local());
        reachable.map(|site| SocketAddr::new(site.net.addr(), port)).collect()
    }

    /// The list of our groups. Nothing of it changes without a look at the group, but for what is in motion.
    fn own_list(&mut self, now: Instant) -> Arc<OwnList> {
        if let Some(list) = self.list.as_ref().filter(|_| self.handed.is_empty()) {
            return Arc::clone(list);
        }
        let list = Arc::new(OwnList::new(self.group_words(now)));
        self.list = Some(Arc::clone(&list));
        list
    }

    /// What we say of our groups, those in motion first.
    fn group_words(&self, now: Instant) -> Vec<GroupWord> {
        let mut words: Vec<(bool, GroupWord)> = Vec::new();
        for claim in &self.held {
            let Some(group) = self.groups.get(claim) else { continue };
            if matches!(group.hand, Hand::Withdrawn { .. }) {
                continue; // in the same step in which it was withdrawn: one word for each group
            }
            let whose = self.whose(group);
            let is_moving = !matches!(whose, Whose::Mine { from: None });
            let serves = group.is_announced() && self.trust.may_serve() && group.hand != Hand::Withdrawing;
            let takes_back = matches!(group.hand, Hand::Given { takes_back: true, .. });
            let stage = match (serves, &whose) {
                (true, Whose::Theirs { .. }) if !takes_back => Stage::Given,
                (true, _) => Stage::Announced,
                (false, _) => Stage::Owned,
            };
            words.push((!is_moving, GroupWord { group: group.id, stage }));
            if words.len() >= GROUPS_MOST * 4 {
                break;
            }
        }
        for group in self.handed.iter().filter_map(|claim| self.groups.get(claim)) {
            if let Hand::Withdrawn { at } = group.hand
                && now < at + WITHDRAWN_LASTS
            {
                words.push((false, GroupWord { group: group.id, stage: Stage::Withdrawn }));
            }
        }
        words.sort_unstable();
        words.truncate(GROUPS_MOST);
        words.into_iter().map(|(_, word)| word).collect()
    }

    /// Which sessions ended, for one member: its own last ones, those whose heir it is, and then the newest. A node has one
    /// more ended session with each start of its agent: all of its own would leave no room for what it must act on.
    fn successions_for(&self, node: &NodeName) -> Vec<Succession> {
        let newest = || self.lineage.successions().rev().take(SUCCESSIONS_SEEN);
        let session = self.peers.get(node).map(|peer| peer.session);
        let is_theirs = |succession: &Succession| self.lineage.node(succession.id) == Some(node);
        let is_left_to_them =
            |succession: &Succession| succession.heir.is_some() && succession.heir == session;
        let theirs = newest().filter(is_theirs).take(SUCCESSIONS_OF_RECEIVER);
        let left = newest().filter(is_left_to_them).take(SUCCESSIONS_OF_RECEIVER);
        let mut told: Vec<Succession> = Vec::with_capacity(SUCCESSIONS_MOST);
        for succession in theirs.chain(left).chain(newest()) {
            if told.len() < SUCCESSIONS_MOST && !told.contains(&succession) {
                told.push(succession);
            }
        }
        told
    }

    /// When the next heartbeat is due.
    pub(super) fn beats_due(&self) -> Option<Instant> {
        if self.own.is_none() || self.door.port.is_none() {
            return None;
        }
        let told = self.unheard().filter(|(node, _)| self.told_door(node).is_some()).map(|(_, due)| due);
        // Every turn asks, and most members have the slowest pace: only the others are looked up.
        let paces = self.paces();
        let slow = self.calls.longest().next().map(|(_, sent)| self.beat_due(sent, paces.slow()));
        let fast = paces.fast().filter_map(|(node, pace)| Some(self.calls.last(node)? + pace));
        let news = self.calls.with_news().map(|node| self.next_beat(node, NEWS_PAUSE));
        slow.into_iter().chain(fast).chain(news).chain(told).min()
    }

    /// When the next heartbeat to a member that was heard is due, at this pace or sooner.
    fn next_beat(&self, node: &NodeName, pace: Duration) -> Instant {
        let pace = if self.calls.owe_news(node) { NEWS_PAUSE } else { pace };
        self.beat_due(self.calls.last(node), pace)
    }

    /// When the next one is due to somebody who was sent the last one then.
    fn beat_due(&self, sent: Option<Instant>, pace: Duration) -> Instant {
        sent.map_or(self.started, |sent| sent + pace)
    }
}

/// How often each member gets a heartbeat, by what it is to us.
struct Paces<'a> {
    jurors: Vec<&'a NodeName>,
    /// Jurors of a session that we would follow.
    wooed: Vec<&'a NodeName>,
    juror: Duration,
    interval: Duration,
}

impl Paces<'_> {
    fn of(&self, node: &NodeName) -> Duration {
        if self.jurors.contains(&node) {
            self.juror
        } else if self.wooed.contains(&node) {
            self.interval
        } else {
            self.slow()
        }
    }

    /// Those that get more than others, with how often.
    fn fast(&self) -> impl Iterator<Item = (&NodeName, Duration)> {
        let jurors = self.jurors.iter().map(|node| (*node, self.juror));
        jurors.chain(self.wooed.iter().map(|node| (*node, self.interval)))
    }

    /// What everybody gets: no pace is slower.
    fn slow(&self) -> Duration {
        SLOW.max(self.interval)
    }
}
