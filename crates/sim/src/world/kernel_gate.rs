//! Between agents and their kernels: batches step by step, dumps, notifications, expiry.

use std::time::Duration;

use ipnet::IpNet;
use vip_agent::Input;
use vip_model::LinkIndex;
use vip_model::kernel::{Actual, Batch, Change, Lifetime, Outcome, Report};

use super::{Fact, Voice, World};
use crate::clock::Moment;
use crate::kernel::{Held, Origin, failed};
use crate::mutation::{Carrying, Mutation};
use crate::process::{Dumping, Flight, News, ProcessId};
use crate::queue::{Event, Own, Picture};

/// Notifications within this time make one dump.
const COALESCE: Duration = Duration::from_millis(5);
/// How long a system call and its way there take on a good day.
const SYSCALL: Duration = Duration::from_micros(300);
/// How much too late the kernel may remove an address.
const LATENESS: Duration = Duration::from_secs(1);

impl World {
    /// A batch leaves an agent.
    pub(super) fn batch_leaves(&mut self, id: ProcessId, mut batch: Batch) {
        let decided = self.local(id);
        if let Some(mutation) = self.mutation {
            mutation.batch(&mut batch, self, id);
        }
        if self.mutation == Some(Mutation::EarlyReports) {
            let outcomes = batch.changes.iter().map(|_| Outcome::Done).collect();
            let report = Report { batch: batch.id, outcomes };
            self.processes[id].applied = batch.id;
            self.later(id, Duration::from_micros(50), Own::Input(Box::new(Input::Report(report))));
        }
        self.processes[id].batches.push_back(Flight { batch, decided, outcomes: Vec::new() });
        if self.processes[id].batches.len() == 1 {
            self.next_step(id);
        }
    }

    fn next_step(&mut self, id: ProcessId) {
        let slow = self.nodes[self.processes[id].node].trouble.slow_apply;
        let delay = Duration::from_micros(20) + self.up_to(SYSCALL + slow);
        self.later(id, delay, Own::Apply);
    }

    /// One step of the batch in front.
    pub(super) fn apply(&mut self, id: ProcessId) {
        let Some(flight) = self.processes[id].batches.front() else { return };
        if let Some(change) = flight.batch.changes.get(flight.outcomes.len()).cloned() {
            let decided = flight.decided;
            let carrying = match self.mutation {
                Some(mutation) => mutation.carrying(&change, decided, self, id),
                None => Carrying::AsSaid,
            };
            let outcome = self.step(id, &change, carrying);
            if let Some(flight) = self.processes[id].batches.front_mut() {
                flight.outcomes.push(outcome);
            }
        }
        let Some(flight) = self.processes[id].batches.front() else { return };
        if flight.outcomes.len() < flight.batch.changes.len() {
            self.next_step(id);
            return;
        }
        let flight = self.processes[id].batches.pop_front().expect("seen above");
        let batch = flight.batch.id;
        if self.mutation != Some(Mutation::EarlyReports) {
            self.processes[id].applied = batch;
            let report = Report { batch, outcomes: flight.outcomes };
            let delay = self.up_to(Duration::from_micros(100));
            self.later(id, delay, Own::Input(Box::new(Input::Report(report))));
        }
        if !self.processes[id].batches.is_empty() {
            self.next_step(id);
        }
        self.dump_soon(id, Duration::ZERO);
    }

    /// Carries out one change, as the gateway and the kernel do.
    pub(super) fn step(&mut self, id: ProcessId, change: &Change, carrying: Carrying) -> Outcome {
        let node = self.processes[id].node;
        let before = self.met(node, change);
        let outcome = self.try_step(id, change, carrying);
        if outcome == Outcome::Done {
            self.claim(id, change, before.as_ref());
        }
        self.trace.step(self.now, id, change, &outcome);
        self.tell(&Fact::Step(id, change, (&outcome, before.as_ref())));
        if outcome == Outcome::Done {
            self.kernel_changed(node);
        }
        outcome
    }

    /// An address that an agent set is the agent's, but for one: what an outsider put there and an agent without a
    /// right to it merely gives an end.
    fn claim(&mut self, id: ProcessId, change: &Change, before: Option<&Held>) {
        let Change::SetAddress(set) = change else { return };
        let installs = self.installs(id, set.link, set.net.addr());
        let origin = match before {
            Some(held) if held.origin == Origin::Outsider && !installs => Origin::Outsider,
            _ => Origin::Agent,
        };
        let node = self.processes[id].node;
        if let Some(kernel) = &mut self.nodes[node].kernel {
            kernel.claim(set.link, set.net.0, origin);
        }
        self.look_after(set.net.addr());
    }

    fn met(&self, node: usize, change: &Change) -> Option<Held> {
        let kernel = self.nodes[node].kernel.as_ref()?;
        match change {
            Change::SetAddress(set) => kernel.find(set.link, set.net.0).cloned(),
            Change::DelAddress { link, net } => kernel.find(*link, *net).cloned(),
            Change::SetFilter { .. } => None,
        }
    }

    fn try_step(&mut self, id: ProcessId, change: &Change, carrying: Carrying) -> Outcome {
        let node = self.processes[id].node;
        let errno = self.nodes[node].trouble.errno;
        if errno != 0 && self.chance(50) {
            return failed(errno, "the kernel refused");
        }
        let late = self.up_to(LATENESS);
        let now = self.now;
        let place = &mut self.nodes[node];
        let late = place.clock.true_span(late);
        let Some(kernel) = &mut place.kernel else { return Outcome::Done };
        match (change, carrying) {
            (_, Carrying::Skipped) => Outcome::Done,
            (Change::SetAddress(set), Carrying::Late(shift)) => {
                let mut set = set.clone();
                if let Lifetime::Until(end) = set.valid {
                    set.valid = Lifetime::Until(end + shift);
                }
                kernel.set(now, &place.clock, &set, late)
            }
            _ => kernel.carry_out(now, &place.clock, change, late),
        }
    }

    /// Something in a kernel has changed: everybody on the node is told, who answers is looked at again.
    pub(super) fn kernel_changed(&mut self, node: usize) {
        for id in self.processes_of(node) {
            self.kernel_changed_for(id);
        }
        if let Some(kernel) = &self.nodes[node].kernel {
            let next = kernel.next_purge();
            if next < Moment::NEVER {
                self.queue.push(next.max(self.now), Event::Expire(node));
            }
        }
        self.look_who_answers(node);
    }

    /// A notification reaches one process, or is lost and noticed later.
    pub(super) fn kernel_changed_for(&mut self, id: ProcessId) {
        let overrun = self.nodes[self.processes[id].node].trouble.overrun;
        let delay = COALESCE + self.up_to(overrun);
        self.dump_soon(id, delay);
    }

    fn dump_soon(&mut self, id: ProcessId, delay: Duration) {
        let at = self.now + delay;
        let process = &mut self.processes[id];
        if process.agent.is_none() && process.life == crate::process::Life::Dead {
            return;
        }
        match process.dumping {
            Dumping::Flying(_) => process.dumping = Dumping::Flying(News::Came),
            Dumping::Due(due) if due <= at => {}
            Dumping::Due(_) | Dumping::Idle => {
                process.dumping = Dumping::Due(at);
                self.later(id, delay, Own::DumpBegin);
            }
        }
    }

    pub(super) fn dump_begins(&mut self, id: ProcessId) {
        let now = self.now;
        let process = &mut self.processes[id];
        match process.dumping {
            Dumping::Due(due) if due <= now => process.dumping = Dumping::Flying(News::No),
            _ => return,
        }
        let after = process.applied;
        let picture = if self.chance(50) { Picture::Early } else { Picture::Late };
        let slow = self.nodes[self.processes[id].node].trouble.slow_dump;
        let actual = match picture {
            Picture::Early => self.picture(id, after),
            Picture::Late => Actual { after, ..Actual::default() },
        };
        let delay = Duration::from_micros(100) + self.up_to(Duration::from_millis(1) + slow);
        self.later(id, delay, Own::DumpEnd(Box::new(actual), picture));
    }

    fn picture(&self, id: ProcessId, after: vip_model::kernel::BatchId) -> Actual {
        let node = &self.nodes[self.processes[id].node];
        let mut actual = match &node.kernel {
            Some(kernel) => kernel.dump(self.now, node.clock.read(self.now), after),
            None => Actual { after, ..Actual::default() },
        };
        if let Some(mutation) = self.mutation {
            mutation.picture(&mut actual, self, id);
        }
        if self.mutation == Some(Mutation::ReportsRemovalsEarly) {
            let hidden = &node.trouble.hidden;
            actual.addresses.retain(|address| !hidden.contains(&(address.link, address.net)));
        }
        actual
    }

    pub(super) fn dump_ends(&mut self, id: ProcessId, early: Actual, picture: Picture) {
        let mut actual = match picture {
            Picture::Early => early,
            Picture::Late => self.picture(id, early.after),
        };
        if self.mutation == Some(Mutation::RelabelsDumps) {
            actual.after = self.processes[id].applied;
        }
        let news = self.processes[id].dumping;
        self.processes[id].dumping = Dumping::Idle;
        if news == Dumping::Flying(News::Came) {
            self.dump_soon(id, COALESCE);
        }
        self.input(id, Input::Actual(actual));
    }

    /// Addresses of a node may have reached their end.
    pub(super) fn expire(&mut self, node: usize) {
        let now = self.now;
        let place = &mut self.nodes[node];
        if place.suspended.is_some() {
            return;
        }
        let Some(kernel) = &mut place.kernel else { return };
        if kernel.purge(now) {
            self.trace.world(now, || format!("n{}: an address expires in the kernel", node + 1));
            self.kernel_changed(node);
        } else if kernel.became_usable(now) {
            self.kernel_changed(node);
        }
    }

    /// Removes the VIPs of an agent, whatever it says (a mutation).
    pub(super) fn delete_vips(&mut self, id: ProcessId) {
        let kernel = self.nodes[self.processes[id].node].kernel.as_ref();
        let Some(link) = kernel.and_then(|kernel| kernel.vip_link()).map(|link| link.index) else { return };
        for vip in self.vips.clone() {
            if vip.agent == self.processes[id].number {
                self.step(id, &Change::DelAddress { link, net: vip.net.0 }, Carrying::AsSaid);
            }
        }
    }

    /// A removal is reported, hidden, and carried out later (a mutation).
    pub(crate) fn remove_later(&mut self, node: usize, address: (LinkIndex, IpNet)) {
        self.nodes[node].trouble.hidden.push(address);
        self.queue.push(self.now + Duration::from_millis(800), Event::LateRemoval(node));
    }

    /// A removal that was reported too early is carried out now.
    pub(super) fn late_removal(&mut self, node: usize) {
        let place = &mut self.nodes[node];
        let Some((link, net)) = place.trouble.hidden.pop() else { return };
        if let Some(kernel) = &mut place.kernel {
            kernel.remove(link, net);
        }
        self.kernel_changed(node);
    }

    /// Looks which VIPs the kernel of a node answers for.
    pub(super) fn look_who_answers(&mut self, node: usize) {
        if self.checkers.is_none() {
            return; // nobody asks
        }
        let place = &self.nodes[node];
        let bit = 1_u64 << node;
        let mut now: Vec<Option<Origin>> = vec![None; self.vips.len()];
        if let Some(kernel) = place.kernel.as_ref().filter(|_| place.suspended.is_none()) {
            for (addr, origin) in kernel.answered(self.now) {
                if let Some(number) = self.numbers.get(&addr) {
                    now[*number].get_or_insert(origin);
                }
            }
        }
        let mut changed = false;
        for (number, origin) in now.into_iter().enumerate() {
            let owned = origin == Some(Origin::Agent);
            for (mask, yes) in
                [(&mut self.answering[number], origin.is_some()), (&mut self.owning[number], owned)]
            {
                let new = if yes { *mask | bit } else { *mask & !bit };
                changed |= new != *mask;
                *mask = new;
            }
        }
        for (voice, mask) in self.voices.iter_mut().zip(&self.answering) {
            match (*mask, *voice) {
                (0, Voice::Answers) => *voice = Voice::SilentSince(self.now),
                (0, _) | (_, Voice::Answers) => {}
                (_, Voice::SilentSince(since)) => {
                    self.gap = self.gap.max(self.now.since(since));
                    *voice = Voice::Answers;
                }
                (_, Voice::NotYet) => *voice = Voice::Answers,
            }
        }
        if changed {
            self.clients_look();
            let (answering, now) = (&self.answering, self.now);
            self.trace.world(now, || format!("who answers, by VIP: {answering:?} (bit 0 is n1)"));
            self.tell(&Fact::Answering);
        }
    }
}
