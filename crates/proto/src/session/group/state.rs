//! What the plan reads of a group: the role in it, who holds it, until when it may be served.

use std::collections::BTreeSet;

use vip_model::members::{ElectionState, Restraint, Role};
use vip_model::peers::Stage;
use vip_model::plan::Standing;
use vip_model::{Instant, LeaseName};

use super::{Group, Guard, Whose};
use crate::session::hand::Hand;
use crate::session::step::ROUNDING;
use crate::session::{Ownership, Peer};

impl Ownership {
    /// What the plan reads of a group.
    pub(in crate::session) fn publish(&mut self, claim: &LeaseName, whose: &Whose) {
        let Some(group) = self.groups.get(claim) else { return };
        let state = ElectionState {
            role: self.role(group, whose),
            holder: self.holder_name(whose),
            history: group.history,
            restraint: self.restraint(group, whose),
            cleared: group.cleared,
            vacant: if group.is_vacant_in_part() { group.vacant.clone() } else { BTreeSet::new() },
            trouble: group.trouble.clone().or_else(|| self.own.as_ref()?.trouble.clone()),
            ..ElectionState::default()
        };
        if self.states.get(claim) != Some(&state) {
            self.states.insert(claim.clone(), state);
            self.changed.insert(claim.clone());
        }
    }

    pub(in crate::session) fn role(&self, group: &Group, whose: &Whose) -> Role {
        let serves = match whose {
            // What a former life left in the kernel is another one's by now.
            Whose::Unknown if self.is_said_to_serve(group) => return Role::Follower,
            Whose::Unknown => return Role::Undecided,
            Whose::Mine { .. } if group.want.standing == Standing::Leave => return Role::Leaving,
            Whose::Mine { .. } if group.hand == Hand::Alone => return Role::Leaving,
            Whose::Mine { .. } => group.guard == Guard::Clear || group.is_vacant_in_part(),
            Whose::Theirs { from_us, .. } => *from_us && group.hand.still_serves(),
            Whose::Leased { .. } | Whose::Free => false,
        };
        if self.trust.is_untested() && matches!(whose, Whose::Mine { .. }) {
            return Role::Undecided;
        }
        if !serves || !self.trust.may_serve() {
            return if matches!(whose, Whose::Theirs { from_us: true, .. }) {
                Role::Leaving
            } else {
                Role::Follower
            };
        }
        let fence_until = self.refreshed + group.lifetime() + ROUNDING;
        Role::Holder { since: self.refreshed_since(group), fence_until, serve_until: fence_until }
    }

    /// Whether another member says that it serves a group. Asked while nothing else is known, right after the start: what was
    /// heard by then is new.
    fn is_said_to_serve(&self, group: &Group) -> bool {
        let says = |peer: &Peer| {
            peer.stage(group.id) == Some(Stage::Announced) && !self.lineage.has_ended(peer.session)
        };
        self.peers.values().any(says)
    }

    /// What keeps us from serving a group that is ours.
    fn restraint(&self, group: &Group, whose: &Whose) -> Restraint {
        let is_ours = matches!(whose, Whose::Mine { .. });
        match (is_ours, group.guard) {
            (true, Guard::Look { .. } | Guard::Contested) => Restraint::Looks,
            (true, Guard::Clear) if !self.trust.may_serve() => Restraint::Proof,
            (true | false, _) => Restraint::None,
        }
    }

    /// Since when we hold it, as the claim's sight tells.
    pub(in crate::session) fn refreshed_since(&self, group: &Group) -> Instant {
        group.seen.as_ref().map_or(self.started, |seen| seen.at)
    }

    pub(in crate::session) fn holder_name(&self, whose: &Whose) -> Option<String> {
        match whose {
            Whose::Unknown | Whose::Free => None,
            Whose::Mine { .. } => Some(self.id.node.to_string()),
            Whose::Theirs { session, .. } => self.lineage.node(*session).map(ToString::to_string),
            Whose::Leased { node, .. } => Some(node.clone()),
        }
    }

    /// The lifetime of addresses was renewed: all holders say so.
    pub(in crate::session) fn republish_held(&mut self) {
        let of = |claim: &LeaseName| Some((claim.clone(), self.whose(self.groups.get(claim)?)));
        let held: Vec<(LeaseName, Whose)> = self.held.iter().filter_map(of).collect();
        for (claim, whose) in held {
            self.publish(&claim, &whose);
        }
    }

    /// The shortest lifetime among the groups that are held. Looked for when one of them is another or wants another.
    pub(in crate::session) fn find_shortest_lifetime(&mut self) {
        if std::mem::take(&mut self.lifetimes_changed) {
            self.shortest_lifetime = self.held_groups().map(Group::lifetime).min();
        }
    }
}
