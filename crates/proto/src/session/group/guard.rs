//! What keeps us from serving a group that is ours: somebody may still answer for its addresses. All members are looked at,
//! and each address is served when nobody answers for it any more.

use std::collections::BTreeSet;
use std::net::IpAddr;

use vip_model::peers::Stage;
use vip_model::plan::Look;
use vip_model::session::Site;
use vip_model::{Instant, LeaseName, LinkAddr, NodeName};

use super::{Group, Whose};
use crate::session::Ownership;
use crate::session::juror::SILENT_ALONE;

/// Looks without an answer after which a free group's address has nobody: 45 ms.
pub(super) const FREE_MISSES: u32 = 3;
/// The same for a group whose owner was looked at before: inherited, or not seen by most jurors.
pub(in crate::session) const HEIR_MISSES: u32 = 2;

/// What keeps us from serving a group that is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Guard {
    Clear,
    /// Its addresses are looked at, at all members: so many looks in a row without an answer are enough.
    Look {
        misses: u32,
    },
    /// A member that knows the store better says that it serves it.
    Contested,
}

impl Group {
    /// Its addresses are looked at before it is served.
    pub(in crate::session) fn look_first(&mut self, misses: u32) {
        self.guard = Guard::Look { misses };
        self.vacant.clear();
    }

    /// Whether it was ours to serve when it was last looked at.
    pub(in crate::session) fn is_served(&self) -> bool {
        self.was_mine && self.guard == Guard::Clear
    }

    /// Whether some of its addresses may be served while the others are looked at.
    pub(super) fn is_vacant_in_part(&self) -> bool {
        matches!(self.guard, Guard::Look { .. }) && !self.vacant.is_empty()
    }
}

impl Ownership {
    /// We are sure again, after a time in which we may have been out of sight: that nobody answered then for what we have not
    /// served yet proves nothing.
    pub(in crate::session) fn look_again(&mut self, now: Instant) {
        let is_heir = |claim: &&LeaseName| {
            let Some(group) = self.groups.get(*claim) else { return false };
            !group.was_announced
                && group.guard != Guard::Contested
                && matches!(self.whose(group), Whose::Mine { from: None })
        };
        let claims: Vec<LeaseName> = self.held.iter().filter(is_heir).cloned().collect();
        for claim in claims {
            let Some(group) = self.groups.get_mut(&claim) else { continue };
            group.look_first(HEIR_MISSES);
            self.recount_looks(&claim);
            self.mark(now, &claim);
        }
    }

    /// What the store or our memory said was ours when this agent began, and of which nothing is in its kernel: it may be the
    /// picture of a server that lags, or of a former life, from before another node served it.
    pub(in crate::session) fn look_at_bare(&mut self, now: Instant, claim: &LeaseName) {
        if let Some(group) = self.groups.get_mut(claim)
            && std::mem::take(&mut group.found_mine)
            && (group.was_mine && !group.was_announced)
            && group.guard == Guard::Clear
        {
            group.look_first(FREE_MISSES);
            self.recount_looks(claim);
            self.mark(now, claim);
        }
    }

    /// Looks from before count no more.
    pub(super) fn recount_looks(&mut self, claim: &LeaseName) {
        let Some(group) = self.groups.get(claim) else { return };
        for (look, whom) in self.places_near(group.looks()) {
            self.looks.recount(look.at.addr, &whom);
        }
    }

    /// Looks whether somebody still answers for a group that is ours.
    pub(in crate::session) fn step_guard(&mut self, now: Instant, claim: &LeaseName) -> Option<Instant> {
        let group = self.groups.get(claim)?;
        let Guard::Look { misses } = group.guard else { return None };
        let places = self.places_near(group.looks());
        // One whose session Lease was deleted is nowhere to be looked at, and says what it serves.
        let is_said = self.peers.iter().any(|(node, peer)| {
            let is_listed = self.members.get(node).is_some_and(|member| member.listed);
            !is_listed && self.says(now, peer, group.id, &[Stage::Announced])
        });
        if !is_said && places.iter().all(|place| self.is_silent(place, misses)) {
            self.groups.get_mut(claim)?.guard = Guard::Clear;
            return None;
        }
        if !is_said {
            let vacant = self.vacant(&places);
            self.groups.get_mut(claim)?.vacant.extend(vacant);
        }
        for (look, whom) in &places {
            self.looks.want(now, (look, whom), self.look_pace());
        }
        Some(now + self.look_pace() / 3)
    }

    fn is_silent(&self, (look, whom): &(Look, LinkAddr), misses: u32) -> bool {
        self.looks.misses(look.at.addr, whom).is_some_and(|count| count >= misses)
    }

    /// The addresses that nobody answers for, though somebody does for others of their group: the kernel of a dead agent
    /// removes one after the other.
    fn vacant(&self, places: &[(Look, LinkAddr)]) -> BTreeSet<IpAddr> {
        let of = |(look, _): &(Look, LinkAddr)| look.at.addr;
        let is_answered = |place: &&(Look, LinkAddr)| !self.is_silent(place, SILENT_ALONE);
        let answered: BTreeSet<IpAddr> = places.iter().filter(is_answered).map(of).collect();
        places.iter().map(of).filter(|addr| !answered.contains(addr)).collect()
    }

    /// Looks at all other members.
    pub(in crate::session) fn places_near<'a>(
        &self,
        looks: impl Iterator<Item = &'a Look>,
    ) -> Vec<(Look, LinkAddr)> {
        let mut places = Vec::new();
        for look in looks {
            let sites = self.members.values().flat_map(|member| &member.record.sites);
            let near = sites.filter(|site| self.is_near(look, site));
            places.extend(near.map(|site| (look.clone(), site.addr.clone())));
        }
        places
    }

    /// Link-layer addresses of a node on the network of an address.
    pub(in crate::session) fn sites_of(&self, node: &NodeName, look: &Look) -> Vec<LinkAddr> {
        let Some(member) = self.members.get(node) else { return Vec::new() };
        let near = member.record.sites.iter().filter(|site| self.is_near(look, site));
        near.map(|site| site.addr.clone()).collect()
    }

    /// Whether a place is where an address can be looked for: on its network or, when it lies outside of the networks that we
    /// are on (routed to the nodes, or of a family that has only link-local addresses here), on one of its link's.
    pub(in crate::session) fn is_near(&self, look: &Look, site: &Site) -> bool {
        if site.holds(look.at.addr) {
            return true;
        }
        let mut here = self.want.sites.iter().filter(|own| own.addr == look.addr);
        let is_outside = !here.clone().any(|own| own.holds(look.at.addr));
        is_outside && here.any(|own| own.net.trunc() == site.net.trunc())
    }
}
