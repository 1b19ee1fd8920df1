//! One group only: a juror looks once a second at an address on each link of the sessions that it watches. When enough jurors do
//! not see a group's addresses although they hear its owner, that node's link to the VIPs' network is lost: the group's
//! claim is swapped, the session stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vip_model::peers::GroupId;
use vip_model::plan::Look;
use vip_model::session::SessionId;
use vip_model::{Instant, LeaseName, LinkAddr, NodeName};

use super::Ownership;
use super::group::{Group, HEIR_MISSES, Writing};
use super::look::LOOK_EVERY;

/// Time between two looks at a living session's addresses.
const QUIET: Duration = Duration::from_secs(1);
/// While all looks are answered, wishes to look are renewed this often: long before one is forgotten.
const RENEWED: Duration = Duration::from_millis(250);
/// While all looks are answered, another group of those that are lost together is looked at after so long.
const SAMPLE: Duration = Duration::from_secs(4);
/// Looks in a row without an answer after which a group is unseen; from the first on they come every 15 ms.
const MISSES: u32 = 5;
/// A group that has not changed hands for so long.
const SETTLED: Duration = Duration::from_secs(1);
/// Groups that are watched this way, over all sessions.
const WATCHED: usize = 32;
/// How long it counts that a juror did not see a group: longer than a take by the store lasts.
const REMEMBERED: Duration = Duration::from_secs(5);
/// A session is heard when its last datagram is younger than this many intervals.
const HEARD: u32 = 3;

impl Ownership {
    /// The groups of living sessions that this juror watches, with the sessions.
    fn watched(&self, now: Instant) -> Vec<(SessionId, LeaseName)> {
        let lives = |id: &SessionId| {
            self.tracks
                .get(id)
                .is_some_and(|track| track.jury > 0 && now < track.heard + self.interval() * HEARD)
        };
        let living = self.holdings.iter().filter(|(id, _)| lives(id));
        living
            .flat_map(|(id, claims)| claims.iter().map(|claim| (*id, claim.clone())))
            .take(WATCHED)
            .collect()
    }

    /// One group of each node, link and family, in turn: what a lost link takes away it takes away from all of them, and one
    /// look without an answer has all of them looked at.
    fn sampled(&self, now: Instant, all: Vec<(SessionId, LeaseName)>) -> Vec<(SessionId, LeaseName)> {
        let mut alike: BTreeMap<_, Vec<(SessionId, LeaseName)>> = BTreeMap::new();
        for (id, claim) in all {
            let places = self.places(id, &claim);
            let place = |(look, whom): (Look, LinkAddr)| (look.at.link, look.at.addr.is_ipv4(), whom);
            let places: BTreeSet<_> = places.into_iter().map(place).collect();
            alike.entry((id, places)).or_default().push((id, claim));
        }
        let turn = usize::try_from(now.as_nanos() / SAMPLE.as_nanos() as u64).unwrap_or_default();
        alike.into_values().map(|mut groups| groups.swap_remove(turn % groups.len())).collect()
    }

    /// Whether anybody else answers on the network of a group: who sees nobody has lost its own link.
    fn sees_others(&self, now: Instant, id: SessionId) -> bool {
        let owner = self.lineage.node(id);
        let answers = |(node, member): (&NodeName, &super::Member)| {
            Some(node) != owner
                && member.record.sites.iter().any(|site| {
                    let answered = self.looks.answered(site.net.addr(), &site.addr);
                    answered.is_some_and(|answered| now < answered + self.interval() * HEARD)
                })
        };
        self.members.iter().any(answers)
    }

    /// Whether a look was missed, or wishes to look must be renewed. Heartbeats are what brings that about: without any
    /// there is no living session to look at.
    pub(super) fn has_to_look(&self, now: Instant) -> bool {
        !self.looks.have_missed_nothing() || now >= self.watched_until
    }

    /// Looks, and takes what more than half of a jury does not see.
    pub(super) fn step_unseen(&mut self, now: Instant) {
        if !self.has_to_look(now) {
            return;
        }
        let mut watched = self.watched(now);
        self.watched_until = now;
        if self.looks.have_missed_nothing() {
            watched = self.sampled(now, watched);
            self.watched_until = now + RENEWED;
            self.groups.values_mut().for_each(|group| group.unseen = false);
        }
        let mut missed = BTreeSet::new();
        for (id, claim) in watched {
            let places = self.places(id, &claim);
            if self.watch_group(now, &places) {
                missed.insert(self.lineage.node(id).cloned());
            }
            let is_unseen = self.is_unseen_at(now, (id, &claim), &places);
            let group = self.groups.get_mut(&claim);
            let was_unseen = group.is_some_and(|group| std::mem::replace(&mut group.unseen, is_unseen));
            if is_unseen && !was_unseen {
                self.speak_soon(now); // its owner shall hear it before somebody takes it
            }
            // It counts the words of its jurors, ours, too.
            let is_told = was_unseen && self.has_told(id);
            if is_unseen && is_told && self.is_unseen_by_most(now, id, &claim) {
                self.take_unseen(now, id, &claim);
            }
        }
        self.look_at_others(now, &missed);
    }

    /// Whether the node of a session has been sent all news.
    fn has_told(&self, id: SessionId) -> bool {
        let node = self.lineage.node(id);
        node.is_some_and(|node| self.calls.have_heard(node) && !self.calls.owe_news(node))
    }

    /// Looks at a group. Whether a look at it was missed.
    fn watch_group(&mut self, now: Instant, places: &[(Look, LinkAddr)]) -> bool {
        let mut is_missed = false;
        for (look, whom) in places {
            let misses = self.looks.misses(look.at.addr, whom).unwrap_or(0);
            let every = if misses > 0 { LOOK_EVERY } else { QUIET };
            is_missed |= misses > 0;
            self.looks.want(now, (look, whom), every);
        }
        is_missed
    }

    /// Looks at the kernels of all that own none of the groups that were missed, or not all of them: is it our own link?
    fn look_at_others(&mut self, now: Instant, owners: &BTreeSet<Option<NodeName>>) {
        let is_other =
            |node: &&NodeName| owners.iter().any(|owner| owner.as_ref().is_none_or(|owner| owner != *node));
        let others: Vec<NodeName> = self.members.keys().filter(is_other).cloned().collect();
        for node in others {
            self.look_at_kernel(now, &node, LOOK_EVERY);
        }
    }

    fn places(&self, id: SessionId, claim: &LeaseName) -> Vec<(Look, LinkAddr)> {
        let (Some(group), Some(node)) = (self.groups.get(claim), self.lineage.node(id)) else {
            return Vec::new();
        };
        let places = group
            .looks()
            .flat_map(|look| self.sites_of(node, look).into_iter().map(|whom| (look.clone(), whom)));
        places.collect()
    }

    /// Whether its addresses do not answer though its owner says that it serves it.
    fn is_unseen(&self, now: Instant, id: SessionId, claim: &LeaseName) -> bool {
        self.serves(now, id, claim) && self.is_unseen_at(now, (id, claim), &self.places(id, claim))
    }

    /// Whether the owner of a group is heard, says that it serves it, and has had time to.
    fn serves(&self, now: Instant, id: SessionId, claim: &LeaseName) -> bool {
        let Some(group) = self.groups.get(claim) else { return false };
        let peer = self.lineage.node(id).and_then(|node| self.peers.get(node));
        let Some(peer) = peer.filter(|peer| peer.session == id) else { return false };
        // One whose heartbeats are late may be dead, which is another matter.
        let is_late = now >= peer.heard + self.interval() * 3 / 2;
        // Whoever has just got it is given time to serve it: looks from before say nothing of that.
        let is_settled = group.owned_since.is_some_and(|since| now >= since + SETTLED);
        !is_late && is_settled && peer.stage(group.id) == Some(vip_model::peers::Stage::Announced)
    }

    fn is_unseen_at(
        &self,
        now: Instant,
        (id, claim): (SessionId, &LeaseName),
        places: &[(Look, LinkAddr)],
    ) -> bool {
        let misses = |(look, whom): &(Look, LinkAddr)| {
            self.looks.misses(look.at.addr, whom).is_some_and(|misses| misses >= MISSES)
        };
        !places.is_empty()
            && places.iter().all(misses)
            && self.serves(now, id, claim)
            && self.sees_others(now, id)
    }

    /// The groups of a node that do not answer.
    pub(super) fn unseen_of(&self, now: Instant, node: &NodeName) -> Vec<GroupId> {
        // Everybody is told of all: whoever would take needs the others' word.
        let _ = node;
        if self.looks.have_missed_nothing() {
            return Vec::new();
        }
        let unseen =
            self.holdings.iter().flat_map(|(id, claims)| claims.iter().map(move |claim| (*id, claim)));
        unseen
            .take(WATCHED)
            .filter(|(id, claim)| self.is_unseen(now, *id, claim))
            .filter_map(|(_, claim)| self.groups.get(claim))
            .map(|group| group.id)
            .take(8)
            .collect()
    }

    /// A juror says what it does not see of what is ours.
    pub(super) fn note_unseen(&mut self, now: Instant, node: &NodeName) {
        let Some(unseen) = self.peers.get(node).map(|peer| peer.word.unseen.clone()) else { return };
        if unseen.is_empty() {
            return;
        }
        // What is said of who had it before us is not said of us: jurors wait longer before they say it.
        let is_settled = |group: &&mut Group| {
            let is_announced = group.is_announced();
            is_announced && group.mine_since.is_some_and(|at| now >= at + SETTLED / 2)
        };
        for claim in &self.held {
            let group = self.groups.get_mut(claim).filter(is_settled);
            if let Some(group) = group.filter(|group| unseen.contains(&group.id)) {
                group.unseen_by.insert(node.clone(), now);
            }
        }
    }

    /// Whether more than half of our jurors did not see a group of ours a short time ago: one of them may have taken it, and
    /// the store, which says so, may be out of our reach.
    pub(super) fn was_unseen(&self, now: Instant, claim: &LeaseName) -> bool {
        let (Some(own), Some(group)) = (&self.own, self.groups.get(claim)) else { return false };
        let jury = &own.record.jury;
        let says = |node: &&NodeName| group.unseen_by.get(*node).is_some_and(|at| now < *at + REMEMBERED);
        jury.members.len() >= 2 && jury.members.iter().filter(says).count() >= jury.granting()
    }

    fn is_unseen_by_most(&self, now: Instant, id: SessionId, claim: &LeaseName) -> bool {
        let (Some(track), Some(group)) = (self.tracks.get(&id), self.groups.get(claim)) else { return false };
        let says = |node: &&NodeName| {
            **node == self.id.node
                || self
                    .peers
                    .get(*node)
                    .is_some_and(|peer| peer.is_exchanging(now) && peer.word.unseen.contains(&group.id))
        };
        let members = &track.list.members;
        members.len() >= 2
            && members.contains(&self.id.node)
            && members.iter().filter(says).count() >= track.list.granting()
    }

    fn take_unseen(&mut self, now: Instant, id: SessionId, claim: &LeaseName) {
        let Some(group) = self.groups.get(claim) else { return };
        let stands = matches!(group.want.standing, vip_model::plan::Standing::Contend);
        let is_first = self.unseen_rank(now, id);
        if stands
            && is_first
            && group.asking.is_none()
            && now >= group.not_before()
            && self.is_store_fresh(now)
        {
            // The write may be late, and the link of its owner back by then.
            if let Some(group) = self.groups.get_mut(claim) {
                group.look_first(HEIR_MISSES);
                group.taken_unseen = true;
            }
            self.ask_claim(now, claim, Writing::Take);
        }
    }

    /// Whether no fit juror goes before us.
    fn unseen_rank(&self, now: Instant, id: SessionId) -> bool {
        let weight = |node: &NodeName| super::spread::mix(super::spread::hash(node.as_str()) ^ id.0);
        let own = weight(&self.id.node);
        let Some(track) = self.tracks.get(&id) else { return false };
        let better = |node: &&NodeName| {
            weight(node) > own && self.peers.get(*node).is_some_and(|peer| peer.is_fit(now))
        };
        !track.list.members.iter().any(|node| better(&node))
    }
}
