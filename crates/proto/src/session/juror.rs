//! The juror: grants one heir at a time the right to follow a session that it was to watch. Never before three intervals
//! of silence, never while the addresses answer at the session's node, never two different ones.

use std::net::IpAddr;
use std::time::Duration;

use vip_model::peers::Vote;
use vip_model::session::SessionId;
use vip_model::{Instant, LinkAddr, NodeName};

use super::Ownership;
use super::beat::SLOW;
use super::look::LOOK_EVERY;
use super::peer::{Grant, Track};

/// A grant is void after this, unless the heir announces.
const GRANT_LASTS: Duration = Duration::from_secs(1);
/// Addresses of a silent session that are looked at.
pub(super) const SAMPLE: usize = 4;
/// Wishes to look that are made anew in each step, at most; more of them with each look.
const MANY: usize = 64;
/// Looks in a row without an answer that mean "nobody": usually; and when the address answered after the heartbeats had
/// stopped, so that these stopped for another reason and a lost look proves little.
const SILENT: u32 = 2;
const SILENT_AFTER_ANSWERS: u32 = 5;
/// The same addresses are looked at this often: five in a row shall not take much longer than two usually do. What counts
/// is how many got no answer, because what loses them does so one by one.
const LOOK_AFTER_ANSWERS: Duration = Duration::from_millis(10);
/// Looks in a row without an answer that mean "nobody" for one address while others of its group or node answer.
pub(super) const SILENT_ALONE: u32 = 6;
/// What was written before the heartbeats stopped is seen so much later, at most; and a renewal that is due is waited for
/// as long. A store is as slow as it is, whatever the interval of heartbeats.
const WRITTEN_LATER: Duration = Duration::from_millis(300);

impl Ownership {
    /// The link-layer addresses at which a session's addresses can be looked at: a sample.
    pub(super) fn session_looks(&self, session: SessionId) -> Vec<(vip_model::plan::Look, LinkAddr)> {
        let Some(node) = self.lineage.node(session) else { return Vec::new() };
        let claims = self.holdings.get(&session).into_iter().flatten();
        let groups = claims.filter_map(|claim| self.groups.get(claim));
        let looks = groups.flat_map(super::Group::looks).take(SAMPLE);
        looks
            .flat_map(|look| {
                let whom = self.sites_of(node, look);
                whom.into_iter().map(move |whom| (look.clone(), whom))
            })
            .collect()
    }

    /// Whether a session owns addresses that could be looked for.
    fn has_addresses(&self, session: SessionId) -> bool {
        let claims = self.holdings.get(&session).into_iter().flatten();
        claims.filter_map(|claim| self.groups.get(claim)).any(|group| group.looks().next().is_some())
    }

    /// Time between two looks at what may be dead: with fast heartbeats they keep pace, or they would be what a take-over
    /// waits for.
    pub(super) fn look_pace(&self) -> Duration {
        LOOK_EVERY.min(self.interval())
    }

    /// Goes on looking at a silent session's addresses.
    pub(super) fn look_at_session(&mut self, now: Instant, session: SessionId) {
        let pace = self.look_pace();
        self.look_beside(now, session, pace);
        let heard = self.tracks.get(&session).map(Track::silent_since);
        for (look, whom) in self.session_looks(session) {
            let has_answered = heard.is_some_and(|heard| self.has_answered((look.at.addr, &whom), heard));
            let every = if has_answered { LOOK_AFTER_ANSWERS.min(pace) } else { pace };
            self.looks.want(now, (&look, &whom), every);
        }
    }

    /// The same addresses at everybody else: what we know of the claims may be old, and an heir that begins to look when
    /// it is one would serve later.
    fn look_beside(&mut self, now: Instant, session: SessionId, pace: Duration) {
        if self.tracks.get(&session).is_some_and(|track| now < track.beside_at) {
            return;
        }
        let claims = self.holdings.get(&session).into_iter().flatten();
        let groups = claims.filter_map(|claim| self.groups.get(claim));
        let places = self.places_near(groups.flat_map(super::Group::looks).take(SAMPLE));
        for (look, whom) in &places {
            self.looks.want(now, (look, whom), pace);
        }
        // Fifty nodes bring about a step each millisecond: nobody forgets a wish, or slows it down, so soon.
        if let Some(track) = self.tracks.get_mut(&session).filter(|_| places.len() > MANY) {
            track.beside_at = now + pace;
        }
    }

    /// Whether an address still answered when the heartbeats of its session had stopped.
    fn has_answered(&self, (addr, whom): (IpAddr, &LinkAddr), heard: Instant) -> bool {
        let late = heard + self.interval() * 3 / 2;
        self.looks.answered(addr, whom).is_some_and(|at| at > late)
    }

    /// Whether a session's addresses do not answer at its node; `least` looks at least.
    pub(super) fn is_unanswered(&self, session: SessionId, heard: Instant, least: u32) -> bool {
        let looks = self.session_looks(session);
        if looks.is_empty() && self.has_addresses(session) {
            return false; // nobody knows where to look: that is no silence
        }
        looks.iter().all(|(look, whom)| {
            let misses = self.looks.misses(look.at.addr, whom);
            let enough =
                if self.has_answered((look.at.addr, whom), heard) { SILENT_AFTER_ANSWERS } else { SILENT };
            misses.is_some_and(|misses| misses >= enough.max(least))
        })
    }

    /// Whether a session's node is dead as far as looks tell.
    pub(super) fn is_fallen(&self, now: Instant, session: SessionId, heard: Instant) -> bool {
        self.is_unanswered(session, heard, 0) || self.is_letting_go(now, session, heard)
    }

    /// Whether the kernel of a dead agent is letting go one address after the other, up to a second late each: one of them
    /// answered after the heartbeats had stopped and does no more, and the session was not renewed. Who lives and is not heard,
    /// or can't be seen to renew, may have given that address away.
    fn is_letting_go(&self, now: Instant, session: SessionId, heard: Instant) -> bool {
        if now < heard + self.want.settings.timings.retry_period + WRITTEN_LATER || !self.is_store_fresh(now)
        {
            return false;
        }
        let member = self.lineage.node(session).and_then(|node| self.members.get(node));
        let is_abandoned = |member: &super::Member| {
            member.listed && member.record.id == session && member.changed <= heard + WRITTEN_LATER
        };
        if !member.is_some_and(is_abandoned) {
            return false;
        }
        let looks = self.session_looks(session);
        let has_gone = |addr: IpAddr| {
            let mut places = looks.iter().filter(|(look, _)| look.at.addr == addr);
            places.all(|(_, whom)| {
                let misses = self.looks.misses(addr, whom);
                self.has_answered((addr, whom), heard) && misses.is_some_and(|misses| misses >= SILENT_ALONE)
            })
        };
        looks.iter().any(|(look, _)| has_gone(look.at.addr))
    }

    /// Grants what is asked and may be granted, and ends what is over. Whether anything was asked.
    pub(super) fn step_grants(&mut self, now: Instant) -> bool {
        self.end_grants(now);
        let mut asks: Vec<(NodeName, Instant, Vote)> = Vec::new();
        for node in &self.askers {
            let Some(peer) = self.peers.get(node) else { continue };
            asks.extend(peer.word.asks.iter().map(|vote| (node.clone(), peer.sequence, *vote)));
        }
        asks.sort_by_key(|(_, _, vote)| (vote.rank, vote.heir));
        let is_asked = !asks.is_empty();
        for (node, sequence, vote) in asks {
            self.look_at_session(now, vote.of);
            if self.may_grant(now, &vote) && self.grant(now, vote, sequence) {
                self.calls.tell(&node);
            }
        }
        is_asked
    }

    fn end_grants(&mut self, now: Instant) {
        let own = self.own_id();
        for session in self.granted.clone() {
            let Some(grant) = self.tracks.get(&session).and_then(|track| track.grant) else {
                self.granted.remove(&session);
                continue;
            };
            let is_ours = Some(grant.vote.heir) == own;
            let still_asks = |vote: &Vote| vote.of == session && vote.attempt == grant.vote.attempt;
            let is_withdrawn = if is_ours {
                self.bids.get(&session).is_none_or(|bid| bid.attempt() != Some(grant.vote.attempt))
            } else {
                self.peers.values().any(|peer| {
                    peer.session == grant.vote.heir
                        && peer.sequence > grant.sequence
                        && !peer.word.asks.iter().any(still_asks)
                })
            };
            if is_withdrawn || now >= grant.at + GRANT_LASTS {
                self.granted.remove(&session);
                if let Some(track) = self.tracks.get_mut(&session) {
                    track.grant = None;
                }
            }
        }
    }

    /// Whether a vote may be given: by the rules for a session's death, or by none.
    pub(super) fn may_grant(&self, now: Instant, vote: &Vote) -> bool {
        let Some(track) = self.tracks.get(&vote.of) else { return false };
        let by_list = track.list.members.contains(&self.id.node) && track.list.generation == vote.generation;
        // The store's list may be late here; the session itself said in which generation it counts on us.
        let is_juror = by_list || (track.jury > 0 && track.jury == vote.generation);
        let is_free = track.grant.is_none_or(|grant| grant.vote.heir == vote.heir);
        is_juror
            && (track.was_vouched || self.is_expired(now, vote.of, &track.node))
            && is_free
            && !self.is_listening(now)
            && !self.lineage.has_ended(vote.of)
            && now >= track.silent_since() + self.owed_pace(vote.of) * 3
            && self.is_fallen(now, vote.of, track.silent_since())
    }

    /// How often a session owes its jurors a heartbeat: one that has nothing, by what the store shows and by its own last word,
    /// is not silent between two slow ones. Who asks for votes may not know yet that its groups are elsewhere.
    fn owed_pace(&self, session: SessionId) -> Duration {
        let peer = self.peers.values().find(|peer| peer.session == session);
        let lists = peer.is_none_or(|peer| peer.groups.is_unknown() || !peer.groups.words().is_empty());
        if lists || self.holdings.contains_key(&session) {
            self.interval()
        } else {
            SLOW.max(self.interval())
        }
    }

    /// Gives a vote. Whether it is news.
    pub(super) fn grant(&mut self, now: Instant, vote: Vote, sequence: Instant) -> bool {
        let Some(track) = self.tracks.get_mut(&vote.of) else { return false };
        let is_same = track.grant.is_some_and(|grant| grant.vote == vote);
        if !is_same {
            track.grant = Some(Grant { vote, at: now, sequence });
            self.granted.insert(vote.of);
        }
        !is_same
    }

    /// The votes that are given now.
    pub(super) fn grants(&self) -> Vec<Vote> {
        self.given().map(|grant| grant.vote).collect()
    }

    fn given(&self) -> impl Iterator<Item = Grant> {
        self.granted.iter().filter_map(|session| self.tracks.get(session)?.grant)
    }

    /// When a grant ends.
    pub(super) fn grants_due(&self) -> Option<Instant> {
        self.given().map(|grant| grant.at + GRANT_LASTS).min()
    }
}
