//! Indexes of who owns what: the groups that are ours, those in motion, those of each other session.

use vip_model::{Instant, LeaseName};

use super::Whose;
use crate::session::Ownership;

impl Ownership {
    /// Keeps the indexes of who owns what.
    pub(super) fn index(&mut self, now: Instant, claim: &LeaseName, whose: &Whose) {
        let is_held = self.groups.get(claim).is_some_and(|group| self.is_held(group));
        self.lifetimes_changed |= is_held != self.held.contains(claim);
        if !is_held {
            self.held.remove(claim);
            self.stop_spreading(now, claim);
        } else if !self.held.contains(claim) {
            self.held.insert(claim.clone());
        }
        let is_moving = match whose {
            Whose::Mine { from } => from.is_some(),
            Whose::Theirs { from_us, .. } => *from_us,
            Whose::Unknown | Whose::Leased { .. } | Whose::Free => false,
        };
        if is_moving {
            self.handed.insert(claim.clone());
        } else {
            self.handed.remove(claim);
        }
        let owner = match whose {
            Whose::Theirs { session, .. } => Some(*session),
            _ => None,
        };
        let group = self.groups.get_mut(claim);
        let former = group.and_then(|group| {
            if group.owner != owner {
                group.owned_since = owner.map(|_| now);
            }
            std::mem::replace(&mut group.owner, owner)
        });
        if former == owner {
            return;
        }
        if let Some(former) = former
            && let Some(claims) = self.holdings.get_mut(&former)
        {
            claims.remove(claim);
            if claims.is_empty() {
                self.holdings.remove(&former);
            }
        }
        if let Some(owner) = owner {
            let claims = self.holdings.entry(owner).or_default();
            if claims.is_empty()
                && let Some(track) = self.tracks.get_mut(&owner)
            {
                track.owns_since = now;
            }
            claims.insert(claim.clone());
        }
    }
}
