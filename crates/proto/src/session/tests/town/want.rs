//! What the town's agents plan: the VIP, and groups beside it whose addresses are there as soon as they are held.

use std::collections::BTreeMap;
use std::time::Duration;

use vip_model::config::SessionSettings;
use vip_model::members::Role;
use vip_model::peers::Fitness;
use vip_model::plan::{ElectionWant, Footprint, GroupWant, Look, Progress, Standing};
use vip_model::session::Site;
use vip_model::{LeaseName, LinkIndex, ScopedAddr};

use super::{LIFETIME, Town, VIP, addr, claim, mac, other_claim, settings};
use crate::Machine;
use crate::session::{Life, OwnershipWant};

impl Town {
    pub(in crate::session::tests) fn want_of(&self, node: usize) -> OwnershipWant {
        let home = &self.homes[node];
        let at = ScopedAddr { addr: VIP, link: LinkIndex(2) };
        let is_there = home.vip.is_some_and(|until| self.now < until);
        let group = GroupWant {
            lifetime: LIFETIME,
            looks: vec![Look { at, addr: mac(node) }],
            heirs: None,
            avoid: self.avoid.clone(),
            progress: if home.announced && is_there { Progress::Announced } else { Progress::Pending },
        };
        let want = ElectionWant {
            timings: settings().timings,
            annotations: BTreeMap::new(),
            standing: if home.fitness == Fitness::Fit { Standing::Contend } else { Standing::HandOver },
            rank: 0,
            footprint: if is_there { Footprint::Present } else { Footprint::Clear },
            heard: None,
            group: Some(group),
        };
        let mut elections = BTreeMap::from([(claim(), want.clone())]);
        for other in (1..=self.others).map(other_claim) {
            let serves = self.has(node, &other);
            let progress = if serves { Progress::Announced } else { Progress::Pending };
            let footprint = if serves { Footprint::Present } else { Footprint::Clear };
            let group = want.group.clone().map(|group| GroupWant { looks: Vec::new(), progress, ..group });
            let rank = if self.is_ranked { self.rank_of(node, &other) } else { 0 };
            elections.insert(other, ElectionWant { group, footprint, rank, ..want.clone() });
        }
        let net = format!("{}/{}", addr(node), self.prefix).parse().expect("a network");
        OwnershipWant {
            settings: SessionSettings { failback: self.failback, move_pause: self.move_pause, ..settings() },
            elections,
            sites: vec![Site { net, addr: mac(node) }],
            preferences: self.preferences.clone(),
            fitness: home.fitness,
            life: if home.fitness == Fitness::Leaving { Life::Stops } else { Life::Runs },
        }
    }

    fn has(&self, node: usize, claim: &LeaseName) -> bool {
        let state = self.homes[node].machine.as_ref().and_then(|machine| machine.state(claim));
        matches!(state.map(|state| state.role), Some(Role::Holder { .. }))
    }

    fn rank_of(&self, node: usize, claim: &LeaseName) -> u32 {
        let first = claim.name().len() + claim.name().bytes().map(usize::from).sum::<usize>();
        ((node + first) % self.homes.len()) as u32
    }

    /// So many new groups, of which one node hears before the others.
    pub(in crate::session::tests) fn make_new(&mut self, count: usize, first: usize, later: Duration) {
        self.is_ranked = true;
        self.others += count;
        for node in std::iter::once(first).chain((0..self.homes.len()).filter(|node| *node != first)) {
            self.want(node);
            self.show_claim(node);
            if node == first {
                self.wait(later);
            }
        }
    }

    /// How many groups each node serves.
    pub(in crate::session::tests) fn loads(&self) -> Vec<usize> {
        let claims: Vec<LeaseName> = self.claims().collect();
        let of = |node: usize| claims.iter().filter(|claim| self.has(node, claim)).count();
        (0..self.homes.len()).map(of).collect()
    }

    pub(super) fn claims(&self) -> impl Iterator<Item = LeaseName> + use<> {
        std::iter::once(claim()).chain((1..=self.others).map(other_claim))
    }

    pub(in crate::session) fn want(&mut self, node: usize) {
        let (now, want) = (self.now, self.want_of(node));
        if let Some(machine) = &mut self.homes[node].machine {
            machine.want(now, want);
        }
    }
}
