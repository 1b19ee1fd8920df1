//! Other members as heartbeats show them. A `Peer` is what we know of a node's agent; a `Track` is what we know, as a
//! juror, of one session.

use std::net::SocketAddr;
use std::time::Duration;

use vip_model::peers::{Datagram, DoorState, Fitness, GroupId, GroupList, Kind, Stage, Vote, Word};
use vip_model::session::{Jury, SessionId, Succession};
use vip_model::{Instant, LeaseName, NodeName};

use super::lineage::Heir;
use super::words::{HeardList, ToldList};
use super::{Ownership, OwnershipOutput};
use crate::peers::repeats;

/// A peer that was not heard for so long is not exchanging echoes: three of the slowest heartbeats.
const EXCHANGING: Duration = Duration::from_secs(3);
/// Tracks of sessions that were not heard for so long, and that nobody grants anything of, are forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// Another node's agent.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) session: SessionId,
    /// Where its newest datagram came from.
    pub(super) door: SocketAddr,
    /// When its newest datagram arrived.
    pub(super) heard: Instant,
    /// The newest sequence of it.
    pub(super) sequence: Instant,
    /// The newest own sequence that it echoed, and the newest with which it vouched for our session.
    pub(super) echoed: Option<Instant>,
    pub(super) vouched: Option<Instant>,
    /// When it first vouched for our session.
    pub(super) vouches_since: Option<Instant>,
    /// The first own sequence that vouched for its session.
    pub(super) first_vouch: Option<Instant>,
    /// Its newest datagram, but for its groups.
    pub(super) word: Datagram,
    /// Its groups, and what it has of ours.
    pub(super) groups: HeardList,
    pub(super) told: ToldList,
    /// Since when it is fit and heard without a pause.
    pub(super) fit_since: Option<Instant>,
}

impl Peer {
    /// Whether it spoke a moment ago, whether or not it hears us.
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        now < self.heard + EXCHANGING
    }

    /// Whether both sides hear each other.
    pub(super) fn is_exchanging(&self, now: Instant) -> bool {
        self.is_heard(now) && self.echoed.is_some_and(|echoed| now < echoed + EXCHANGING)
    }

    /// Whether it could hold something now.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        self.is_exchanging(now) && self.word.fitness == Fitness::Fit
    }

    /// Whether its newest datagram says something that groups may wait for, its list of groups aside.
    fn says_more_than(&self, former: &Self) -> bool {
        former.session != self.session
            || former.word.fitness != self.word.fitness
            || former.word.unseen != self.word.unseen
            || !self.word.asks.is_empty()
            || !self.word.grants.is_empty()
    }

    /// Where it says that a group stands.
    pub(super) fn stage(&self, group: GroupId) -> Option<Stage> {
        self.groups.stage(group)
    }

    /// The own session is a new one: nothing was echoed of it yet.
    pub(super) const fn forget_echoes(&mut self) {
        self.echoed = None;
        self.vouched = None;
        self.vouches_since = None;
    }
}

/// What a datagram brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Later times than the last one, and nothing else.
    None,
    Some,
    /// Both sides hear each other, for the first time or again.
    Exchange,
}

/// A session of another node, as a juror and contender sees it.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) node: NodeName,
    /// When its newest datagram arrived; the start of this agent when none did.
    pub(super) heard: Instant,
    pub(super) was_heard: bool,
    /// Whether it has ever been vouched for, and has heard so. Until then it lives by the store alone, and nobody may grant
    /// that it is followed before it has expired there: it would not fall silent.
    pub(super) was_vouched: bool,
    /// Since when it owns something, as far as we know: until then it owed us a heartbeat a second only.
    pub(super) owns_since: Instant,
    /// The generation of its jury in which we are, by its own word.
    pub(super) jury: u32,
    /// Its jury as the store last showed it.
    pub(super) list: Jury,
    /// The vote that we gave.
    pub(super) grant: Option<Grant>,
    /// When its addresses are looked for at everybody else again, where that is many.
    pub(super) beside_at: Instant,
}

impl Track {
    /// Since when nothing was heard of it that it owes.
    pub(super) fn silent_since(&self) -> Instant {
        self.heard.max(self.owns_since)
    }
}

/// A vote that was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) vote: Vote,
    pub(super) at: Instant,
    /// The heir's newest sequence at that time: a newer datagram without the ask voids the grant.
    pub(super) sequence: Instant,
}

impl Ownership {
    pub(super) fn saw_door(&mut self, now: Instant, door: DoorState) {
        if self.door.port != door.port || self.door.keys != door.keys {
            self.renew_soon(now);
        }
        self.door = door;
        self.is_door_old = true;
    }

    /// A heartbeat that the door let in. Whether more of it is new than the times in it: if not, all that it moves is to a
    /// later time, and a step finds nothing to do before it would have anyway.
    pub(super) fn heard(&mut self, now: Instant, heard: vip_model::peers::PeerHeard) -> bool {
        let vip_model::peers::PeerHeard { at, from, datagram } = heard;
        let is_astray = datagram.to != self.id.node || datagram.instance != self.id.tag();
        if is_astray || datagram.from == self.id.node {
            return false;
        }
        self.lineage.lives_at(datagram.session, &datagram.from);
        for succession in datagram.successions.clone() {
            // Left to us by somebody who can't tell the store: we do.
            let is_left_to_us = succession.heir.is_some() && succession.heir == self.own_id();
            if is_left_to_us && !self.lineage.has_ended(succession.id) {
                self.depose_for(now, succession.id);
            }
            self.note_end(now, succession);
        }
        // A session that was succeeded and does not know it is told at once, before anything of it is believed.
        let is_over = self.lineage.has_ended(datagram.session);
        let node = datagram.from.clone();
        let wants_reply = datagram.kind == Kind::Beat && datagram.jury > 0;
        let news = self.note_peer((now, at.min(now)), from, datagram, is_over);
        let mut is_asked = false;
        if wants_reply {
            is_asked = self.step_grants(now);
            self.reply(now, &node);
        }
        if news == News::Exchange {
            self.renew_jury(now);
        }
        news != News::None || is_asked || self.is_busy(now)
    }

    /// Whether something is under way that news of any member may decide.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        !self.bids.is_empty() || !self.handed.is_empty() || self.has_to_look(now)
    }

    /// Keeps what a datagram says.
    fn note_peer(
        &mut self,
        (now, heard): (Instant, Instant),
        door: SocketAddr,
        mut datagram: Datagram,
        is_over: bool,
    ) -> News {
        let node = datagram.from.clone();
        let own = self.own_id();
        let is_old = |former: &Peer| {
            let same = former.session == datagram.session;
            (same && datagram.sequence <= former.sequence) || (!same && is_over)
        };
        if self.peers.get(&node).is_some_and(is_old) {
            return News::Some;
        }
        let said = std::mem::replace(&mut datagram.groups, GroupList::EMPTY);
        let place = self.peers.get_mut(&node);
        let (mut groups, mut told) = place.map_or_else(Default::default, |peer| {
            (std::mem::take(&mut peer.groups), std::mem::take(&mut peer.told))
        });
        let former = self.peers.get(&node);
        let was_exchanging = former.is_some_and(|peer| peer.is_exchanging(now));
        let lists_others = groups.hear(said);
        let same = former.filter(|peer| peer.session == datagram.session);
        let echo = datagram.echo.filter(|echo| Some(echo.session) == own);
        let newest = |old: Option<Instant>, new: Option<Instant>| old.max(new);
        let echoed = newest(same.and_then(|peer| peer.echoed), echo.map(|echo| echo.sequence));
        let vouches = echo.filter(|echo| echo.word == Word::Vouches).map(|echo| echo.sequence);
        let vouched = newest(same.and_then(|peer| peer.vouched), vouches);
        let is_missing_list = echo.is_some_and(|echo| told.echoed(echo));
        // Who begins anew knows nothing of what has happened meanwhile, and acts on that.
        let begins_anew = same.is_none();
        let since = same.and_then(|peer| peer.fit_since).filter(|_| was_exchanging);
        let peer = Peer {
            session: datagram.session,
            door,
            heard,
            sequence: datagram.sequence,
            echoed,
            vouched,
            vouches_since: same.and_then(|peer| peer.vouches_since).or(vouched.map(|_| now)),
            first_vouch: same.and_then(|peer| peer.first_vouch),
            fit_since: (datagram.fitness == Fitness::Fit).then(|| since.unwrap_or(now)),
            word: datagram,
            groups,
            told,
        };
        // A node is back whose session we followed: whoever is on its side of the cut still believes it.
        let is_back = |former: &Peer| {
            let heir = self.lineage.follow(former.session);
            now >= former.heard + self.interval() * 3
                && matches!(heir, Heir::Lives(heir) if Some(heir) == own)
        };
        let is_back = former.is_some_and(is_back);
        let changed = lists_others || former.is_none_or(|former| peer.says_more_than(former));
        let is_mere = former.is_some_and(|former| self.merely_repeats(&peer, former))
            && !(is_back || is_over || is_missing_list || changed);
        if is_back {
            self.clear_held(now);
        }
        self.track(&peer, is_over);
        let is_exchanging = peer.is_exchanging(now);
        self.keep_peer(&node, peer, begins_anew || is_over || is_missing_list);
        self.note_unseen(now, &node);
        if changed {
            self.mark_moving(now);
            self.mark_contested(now, &node);
        }
        match (is_exchanging, was_exchanging) {
            (true, false) => News::Exchange,
            (true, true) if is_mere => News::None,
            _ => News::Some,
        }
    }

    /// Keeps what is known of a peer by now. Whether it must be told something stands beside it.
    fn keep_peer(&mut self, node: &NodeName, peer: Peer, is_owed_news: bool) {
        self.calls.heard(node);
        if is_owed_news {
            self.calls.tell(node);
        }
        if !peer.word.asks.is_empty() {
            self.askers.insert(node.clone());
        } else if !self.askers.is_empty() {
            self.askers.remove(node);
        }
        self.peers.insert(node.clone(), peer);
    }

    /// Whether a datagram says what the last one said, no later than a holder's is expected: one that was late is waited for anew.
    fn merely_repeats(&self, peer: &Peer, former: &Peer) -> bool {
        let is_late = peer.heard >= former.heard + self.interval() * 3 / 2;
        repeats(&former.word, &peer.word)
            && peer.word.unseen.is_empty()
            && !(is_late && self.holdings.contains_key(&peer.session))
    }

    /// All that we serve is announced as if it were new.
    fn clear_held(&mut self, now: Instant) {
        for claim in self.held.clone() {
            if let Some(group) = self.groups.get_mut(&claim) {
                group.cleared = Some(now);
                self.mark(now, &claim);
            }
        }
    }

    /// Groups that are ours and that another member serves are looked at.
    fn mark_contested(&mut self, now: Instant, node: &NodeName) {
        let Some(peer) = self.peers.get(node) else { return };
        let serves = |claim: &&LeaseName| {
            let group = self.groups.get(*claim);
            group.is_some_and(|group| peer.stage(group.id) == Some(Stage::Announced))
        };
        if peer.groups.words().is_empty() {
            return;
        }
        let contested: Vec<LeaseName> = self.held.iter().filter(serves).cloned().collect();
        for claim in contested {
            self.mark(now, &claim);
        }
    }

    fn track(&mut self, peer: &Peer, is_over: bool) {
        if is_over {
            self.tracks.remove(&peer.session);
            return;
        }
        let Datagram { from, jury, echo, .. } = &peer.word;
        let own = self.own_id();
        let echoed = echo.filter(|echo| Some(echo.session) == own).map(|echo| echo.sequence);
        let hears_vouch = peer.first_vouch.is_some_and(|first| echoed >= Some(first));
        let track = self.tracks.entry(peer.session).or_insert_with(|| Track {
            node: from.clone(),
            heard: peer.heard,
            was_heard: true,
            was_vouched: false,
            owns_since: peer.heard,
            jury: *jury,
            list: Jury::default(),
            grant: None,
            beside_at: Instant::ZERO,
        });
        track.heard = peer.heard;
        track.was_heard = true;
        track.was_vouched |= hears_vouch;
        track.jury = *jury;
    }

    /// Sessions that the store shows and that were never heard are tracked too, from the start of this agent.
    pub(super) fn track_members(&mut self) {
        let nodes: Vec<NodeName> = self.members.keys().cloned().collect();
        for node in nodes {
            self.track_member(&node);
        }
    }

    /// The same for one, whose Lease shows something new.
    pub(super) fn track_member(&mut self, node: &NodeName) {
        let Some(member) = self.members.get(node) else { return };
        let id = member.record.id;
        if self.lineage.has_ended(id) {
            self.tracks.remove(&id);
            return;
        }
        let track = self.tracks.entry(id).or_insert_with(|| Track {
            node: member.record.node.clone(),
            heard: self.started,
            was_heard: false,
            was_vouched: false,
            owns_since: self.started,
            jury: 0,
            list: Jury::default(),
            grant: None,
            beside_at: Instant::ZERO,
        });
        track.was_vouched |= member.record.was_heard;
        if track.list != member.record.jury {
            track.list = member.record.jury.clone();
        }
    }

    /// Forgets sessions that nobody speaks of any more.
    pub(super) fn forget_tracks(&mut self, now: Instant) {
        let members = &self.members;
        self.tracks.retain(|id, track| {
            let is_listed = members.get(&track.node).is_some_and(|member| member.record.id == *id);
            is_listed || now < track.heard + FORGET
        });
    }

    /// A session ended, by the word of somebody who may know.
    pub(super) fn note_end(&mut self, now: Instant, succession: Succession) {
        if Some(succession.id) == self.own_id() {
            if let Some(heir) = succession.heir {
                self.deposed(now, heir);
            }
            return;
        }
        if self.lineage.ended(succession) {
            self.tracks.remove(&succession.id);
            self.bids.remove(&succession.id);
            // It may live, serve, and hear nobody else.
            let peer = self.peers.iter().find(|(_, peer)| peer.session == succession.id);
            if let Some((node, _)) = peer {
                self.calls.tell(node);
            }
            self.mark_all(now);
            self.remember_soon(now);
        }
    }

    /// The same by the word of the store, where one heir alone can be written. Who won votes and was stopped before it wrote
    /// may find that somebody else followed meanwhile.
    pub(super) fn note_end_in_store(&mut self, now: Instant, succession: Succession) {
        if self.lineage.corrected(succession) {
            self.mark_all(now);
            self.remember_soon(now);
            self.speak_soon(now);
        }
        self.note_end(now, succession);
    }

    /// Everybody must be told something.
    pub(super) fn speak_soon(&mut self, now: Instant) {
        let _ = now;
        self.calls.tell_all();
    }

    /// Sends a datagram.
    pub(super) fn send(&mut self, to: SocketAddr, datagram: Datagram) {
        self.out.push_back(OwnershipOutput::Peer(vip_model::peers::PeerSend { to, datagram }));
    }
}
