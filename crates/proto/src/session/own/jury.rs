//! Who shall vouch for our session: the jury of the next write, from the members that live and are heard.

use vip_model::session::{Jury, Site};
use vip_model::{Instant, NodeName};

use super::JURY_EVERY;
use crate::session::Ownership;
use crate::session::spread::{hash, mix};

impl Ownership {
    /// The jury of the next write. It changes only with a fresh store and without doubt.
    pub(super) fn choose_jury(&mut self, now: Instant) -> Jury {
        let Some(own) = &self.own else { return Jury::default() };
        let current = own.pending.as_ref().unwrap_or(&own.record.jury).clone();
        let is_due = own.jury_at.is_none_or(|at| now >= at + JURY_EVERY);
        // In doubt it is frozen; but one of the dead would stay for ever, and with it the doubt. So would nobody: a session that is
        // handed something before it is sure needs somebody who vouches for it.
        let may_change = self.trust.is_sure() || self.is_long_in_doubt(now) || current.members.is_empty();
        if !is_due || !may_change || !self.is_store_fresh(now) || own.pending.is_some() {
            return current;
        }
        let members = self.next_jury(now, &current);
        if members.is_empty() && !self.trust.is_sure() {
            return current; // a jury of nobody holds for ever
        }
        if let Some(own) = &mut self.own {
            own.jury_at = Some(now);
        }
        if members == current.members {
            return current;
        }
        Jury { generation: current.generation + 1, members }
    }

    /// Members of the next jury: those that are in it stay while the store shows them alive; others follow when they
    /// are heard, those on the same networks first.
    fn next_jury(&self, now: Instant, current: &Jury) -> Vec<NodeName> {
        let lives = |node: &&NodeName| {
            self.members.get(*node).is_some_and(|member| {
                member.listed && member.record.end.is_none() && now < member.changed + member.duration
            })
        };
        let mut next: Vec<NodeName> = current.members.iter().filter(lives).cloned().collect();
        let is_heard = |node: &&NodeName| {
            self.peers.get(*node).is_some_and(|peer| peer.is_exchanging(now)) && !next.contains(node)
        };
        let mut others: Vec<&NodeName> = self.members.keys().filter(lives).filter(is_heard).collect();
        others.sort_by_key(|node| (!self.shares_network(node), self.affinity(node)));
        let room = Jury::MOST.saturating_sub(next.len());
        let added: Vec<NodeName> = others.into_iter().take(room).cloned().collect();
        next.extend(added);
        next.sort_unstable();
        next
    }

    fn shares_network(&self, node: &NodeName) -> bool {
        let Some(member) = self.members.get(node) else { return false };
        let is_near = |site: &Site| self.want.sites.iter().any(|own| own.net.trunc() == site.net.trunc());
        member.record.sites.iter().any(is_near)
    }

    /// A number that spreads jurors over the members (rendezvous hash).
    fn affinity(&self, node: &NodeName) -> u64 {
        mix(hash(self.id.node.as_str()) ^ hash(node.as_str()))
    }
}
