//! Faults begin and end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vip_agent::Input;
use vip_model::Instant;
use vip_model::drill::DRILL;
use vip_model::kernel::LinkState;
use vip_model::members::Role;

use super::World;
use crate::clock::{Clock, Moment};
use crate::fault::{Fault, HOLDER, Place, What};
use crate::kernel::{Duplicate, FakeKernel, Outside};
use crate::peers::Passage;
use crate::process::{Life, Process, ProcessId, Trap};
use crate::queue::{Event, Own};
use crate::setup::own_addresses;
use crate::store::{Endpoint, Reach, STRANGER, Watching};
use crate::wire::Path;

/// How long an agent may need after a suspension to let go: one turn and a slow kernel.
const RESUME_GRACE: Duration = Duration::from_millis(700);
/// How long a node needs from power to its agents, at least and at most.
const BOOT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

/// Composed faults become the simple ones that they consist of.
pub(super) fn expand(schedule: Vec<Fault>, nodes: usize) -> Vec<Fault> {
    let one = |fault: Fault| -> Vec<Fault> {
        if fault.what != What::RollingRestart {
            return super::session_faults::expand(fault);
        }
        let gap = Duration::from_millis(u64::from(fault.amount.max(300)));
        let restart = |node: usize| Fault {
            at: fault.at + gap * u32::try_from(node).expect("few nodes"),
            span: Some(Duration::from_millis(200)),
            what: What::Terminate,
            place: Place::Node(node),
            amount: 0,
        };
        (0..nodes).map(restart).collect()
    };
    schedule.into_iter().flat_map(one).collect()
}

/// When everything is healed that heals.
pub(super) fn healed(schedule: &[Fault]) -> Moment {
    schedule.iter().map(|fault| fault.end().unwrap_or(fault.at)).max().unwrap_or(Moment::START)
}

impl World {
    pub(super) fn places(&self, place: Place) -> Vec<usize> {
        match place {
            Place::Node(node) => (node < self.nodes.len()).then_some(node).into_iter().collect(),
            Place::All => (0..self.nodes.len()).collect(),
            Place::Holder => vec![self.holder.1],
            Place::Other(number) => vec![(self.holder.1 + number) % self.nodes.len()],
        }
    }

    /// Finds out which nodes a fault means: the holder is the one at its beginning.
    fn resolve(&mut self, number: usize) {
        let fault = self.schedule[number];
        if self.holder.0 != fault.at {
            let mask = self.answering.first().copied().unwrap_or_default();
            self.holder = (fault.at, if mask == 0 { 0 } else { mask.trailing_zeros() as usize });
        }
        let place = match fault.place {
            Place::Holder | Place::Other(_) => Place::Node(self.places(fault.place)[0]),
            place => place,
        };
        let names_a_node =
            matches!(fault.what, What::Cut | What::CutOut | What::PeerCut | What::PeerCutOut | What::ApiCut);
        let amount = match fault.amount.checked_sub(HOLDER) {
            Some(after) if names_a_node => {
                let node = (self.holder.1 + after as usize) % self.nodes.len();
                u32::try_from(node + 1).expect("few nodes")
            }
            _ => fault.amount,
        };
        self.schedule[number] = Fault { place, amount, ..fault };
    }

    pub(super) fn fault_begins(&mut self, number: usize) {
        self.resolve(number);
        let fault = self.schedule[number];
        self.trace.world(self.now, || format!("FAULT {fault}"));
        if fault.span.is_none() && matches!(fault.what, What::PowerOff | What::Kill | What::Terminate) {
            for node in self.places(fault.place) {
                self.nodes[node].trouble.for_ever = true;
            }
        }
        self.begin_wide(&fault);
        self.session_wide(&fault, Passage::Cut);
        for node in self.places(fault.place) {
            self.begin_process(&fault, node);
            self.begin_node(&fault, node);
            self.begin_api(&fault, node);
            self.begin_kernel(&fault, node);
            self.session_node(&fault, node, Passage::Cut);
        }
        self.segment_changed();
    }

    pub(super) fn fault_ends(&mut self, number: usize) {
        let fault = self.schedule[number];
        self.trace.world(self.now, || format!("HEALS {fault}"));
        match fault.what {
            What::Loss => self.wire.loss = 0,
            What::WireDelay => self.wire.delay = Duration::ZERO,
            What::Duplicate => self.wire.duplicate = 0,
            _ => {}
        }
        self.session_wide(&fault, Passage::Open);
        for node in self.places(fault.place) {
            self.end_process(&fault, node);
            self.end_node(&fault, node);
            self.end_api(&fault, node);
            self.end_kernel(&fault, node);
            self.session_node(&fault, node, Passage::Open);
        }
        self.segment_changed();
    }

    /// Faults of the whole world.
    fn begin_wide(&mut self, fault: &Fault) {
        let leases = self.store.leases();
        match fault.what {
            What::Loss => self.wire.loss = fault.amount,
            What::WireDelay => self.wire.delay = millis(fault.amount),
            What::Duplicate => self.wire.duplicate = fault.amount,
            What::LeaseDeleted => {
                self.deleted = self.now;
                for lease in leases {
                    self.store.delete(&lease, self.now);
                    self.lease_news(&lease);
                }
            }
            What::Drill => {
                let lease = self.setup.lease(0);
                let kind = if fault.amount == 0 { "crash" } else { "planned" };
                let word = format!("drill{} {kind} asked -", self.now.as_millis());
                self.store.annotate(&lease, self.now, (DRILL, &word));
                self.lease_news(&lease);
            }
            What::LeaseStolen => {
                for lease in leases {
                    self.store.steal(&lease, self.now);
                    self.lease_news(&lease);
                }
                let until = fault.end().unwrap_or(self.now);
                self.queue.push(self.now + self.setup.timings.retry_period, Event::Stranger(until));
            }
            _ => {}
        }
    }

    /// The other client renews what it still holds.
    pub(super) fn stranger_renews(&mut self, until: Moment) {
        for lease in self.store.leases() {
            if self.now < until && self.store.holder(&lease) == Some(STRANGER) {
                self.store.steal(&lease, self.now);
                self.lease_news(&lease);
            }
        }
        if self.now < until {
            self.queue.push(self.now + self.setup.timings.retry_period, Event::Stranger(until));
        }
    }

    fn begin_process(&mut self, fault: &Fault, node: usize) {
        let trap = match fault.what {
            What::KillAtBatch => Some(Trap::KillAtBatch),
            What::KillAtAsk => Some(Trap::KillAtAsk),
            What::PauseAtBatch => Some(Trap::PauseAtBatch),
            What::PauseAtAsk => Some(Trap::PauseAtAsk),
            _ => Self::counting_trap(fault),
        };
        for id in self.processes_of(node) {
            match fault.what {
                What::Kill => self.end(id),
                What::Pause if self.processes[id].life == Life::Running => {
                    self.processes[id].life = Life::Paused;
                    self.excuse(node);
                }
                What::Terminate if self.processes[id].life != Life::Dead => {
                    self.later(id, Duration::ZERO, Own::Input(Box::new(Input::Stop)));
                }
                _ if trap.is_some() => self.processes[id].trap = trap,
                _ => {}
            }
        }
    }

    fn end_process(&mut self, fault: &Fault, node: usize) {
        for id in self.processes_of(node) {
            match fault.what {
                What::Kill => self.start(id),
                What::KillAtBatch | What::KillAtAsk | What::KillAfter => {
                    self.processes[id].trap = None;
                    self.start(id);
                }
                What::Pause | What::PauseAtBatch | What::PauseAtAsk | What::PauseAfter => {
                    self.processes[id].trap = None;
                    self.go_on(id);
                }
                What::Terminate => self.restart(id),
                _ => {}
            }
        }
    }

    /// The supervisor starts the process again; what did not end by itself is killed.
    fn restart(&mut self, id: ProcessId) {
        self.end(id);
        self.start(id);
    }

    fn begin_node(&mut self, fault: &Fault, node: usize) {
        match fault.what {
            What::PowerOff => self.power_off(node),
            What::Suspend if self.nodes[node].is_awake() => {
                self.nodes[node].suspended = Some(self.now);
                self.kubelet_changes(node, Some(self.now));
                self.look_who_answers(node);
            }
            What::GateRed => self.nodes[node].trouble.gate_red = true,
            What::Cut | What::CutOut => self.cut(fault, node, Path::Cut),
            What::Isolate => self.wire.set_all(node, Path::Cut),
            _ => {}
        }
    }

    fn end_node(&mut self, fault: &Fault, node: usize) {
        match fault.what {
            What::PowerOff => self.power_on(node),
            What::Suspend => self.resume(node),
            What::GateRed => self.nodes[node].trouble.gate_red = false,
            What::Cut | What::CutOut => self.cut(fault, node, Path::Open),
            What::Isolate => self.wire.set_all(node, Path::Open),
            _ => {}
        }
    }

    fn cut(&mut self, fault: &Fault, node: usize, path: Path) {
        let peer = usize::try_from(fault.amount).unwrap_or(usize::MAX).saturating_sub(1);
        self.wire.set(node, peer, path);
        if fault.what == What::Cut && peer < self.nodes.len() {
            self.wire.set(peer, node, path);
        }
    }

    pub(crate) fn power_off(&mut self, node: usize) {
        for id in self.processes_of(node) {
            self.end(id);
        }
        self.nodes[node].kernel = None;
        self.nodes[node].suspended = None;
        self.kubelet_changes(node, Some(self.now));
        self.look_who_answers(node);
    }

    fn power_on(&mut self, node: usize) {
        if self.nodes[node].kernel.is_some() || self.nodes[node].trouble.for_ever {
            return;
        }
        let uptime = Instant::ZERO + self.up_to(Duration::from_secs(1));
        let boot = super::node::boot_id(self.setup.seed, node, self.now);
        let place = &mut self.nodes[node];
        place.clock = Clock::new(self.now, uptime, self.setup.drifts[node]);
        place.kernel = Some(FakeKernel::boot(node, self.setup.secondaries));
        (place.excused_until, place.fenced_until) = (Moment::START, Moment::START);
        (place.boot, place.kept, place.kept_keys) = (boot, BTreeMap::new(), BTreeSet::new());
        for id in self.processes_of(node) {
            let delay = self.between(BOOT.0, BOOT.1);
            self.queue.push(self.now + delay, Event::Start(id));
        }
        self.break_watches(node);
        self.kubelet_changes(node, None);
        self.look_who_answers(node);
    }

    /// A suspended node goes on. Its agents let go in their next turn; where they cannot, the address stays for what
    /// was left of its lifetime, because `jiffies` stood still.
    fn resume(&mut self, node: usize) {
        let Some(since) = self.nodes[node].suspended.take() else { return };
        let slept = self.now.since(since);
        let place = &mut self.nodes[node];
        place.fenced_until = self.now + self.setup.timings.duration + Duration::from_secs(1);
        if let Some(kernel) = &mut place.kernel {
            kernel.resume(&place.clock, slept);
        }
        self.excuse(node);
        self.kubelet_changes(node, None);
        for id in self.processes_of(node) {
            self.go_on(id);
        }
        self.break_watches(node);
        self.kernel_changed(node);
    }

    /// A node that was suspended may hold what it should not: for one turn and a slow kernel while its agents run, for
    /// what was left of the lifetime when one of them does not.
    pub(super) fn excuse(&mut self, node: usize) {
        // One that has not heard of Services yet has no elections to be undecided in.
        let has_heard =
            |process: &Process| process.config.services.is_none() || process.heard.services.is_known();
        let decided = |process: &Process| {
            process.life == Life::Running
                && has_heard(process)
                && process.view.elections.values().all(|election| election.role != Role::Undecided)
        };
        let can_act = self.nodes[node].trouble.errno == 0
            && self.processes_of(node).all(|id| decided(&self.processes[id]));
        let now = self.now;
        let place = &mut self.nodes[node];
        if place.fenced_until > now {
            let short = now + RESUME_GRACE + place.trouble.slow_apply * 2;
            place.excused_until = if can_act { place.excused_until.max(short) } else { place.fenced_until };
        }
    }

    fn begin_api(&mut self, fault: &Fault, node: usize) {
        let server = &mut self.store.endpoints[node];
        match fault.what {
            What::ApiRefuse => server.reach = Reach::Refuse,
            What::ApiHang => server.reach = Reach::Hang,
            What::ApiSlow => server.slow = millis(fault.amount),
            What::WriteStatus => server.write_status = fault.amount,
            What::ServiceStatus => server.service_status = fault.amount,
            What::ReadStatus => server.read_status = fault.amount,
            What::ApiLag => server.lag = millis(fault.amount),
            What::WatchFreeze => server.watches = Watching::Silent,
            What::LoseAnswers => server.lost_answers = fault.amount,
            What::LateWrites => server.late = millis(fault.amount),
            _ => {}
        }
        match fault.what {
            What::ApiRefuse | What::WatchDrop | What::ReadStatus => self.break_watches(node),
            What::ApiHang | What::WatchFreeze | What::PowerOff | What::Suspend => {
                self.watches_fall_silent(node);
            }
            _ => {}
        }
    }

    fn end_api(&mut self, fault: &Fault, node: usize) {
        let fresh = Endpoint::default();
        let server = &mut self.store.endpoints[node];
        match fault.what {
            What::ApiRefuse | What::ApiHang => server.reach = fresh.reach,
            What::ApiSlow => server.slow = fresh.slow,
            What::WriteStatus => server.write_status = fresh.write_status,
            What::ServiceStatus => server.service_status = fresh.service_status,
            What::ReadStatus => server.read_status = fresh.read_status,
            What::ApiLag => server.lag = fresh.lag,
            What::WatchFreeze => server.watches = fresh.watches,
            What::LoseAnswers => server.lost_answers = fresh.lost_answers,
            What::LateWrites => server.late = fresh.late,
            _ => return,
        }
        self.break_watches(node);
    }

    fn begin_kernel(&mut self, fault: &Fault, node: usize) {
        let trouble = &mut self.nodes[node].trouble;
        match fault.what {
            What::SlowApply => trouble.slow_apply = millis(fault.amount),
            What::ApplyFails => {
                trouble.errno = i32::try_from(fault.amount).unwrap_or(i32::MAX);
                self.excuse(node);
            }
            What::Overrun => trouble.overrun = millis(fault.amount),
            What::SlowDump => trouble.slow_dump = millis(fault.amount),
            What::OutsiderBusy => {
                trouble.outsider_busy = true;
                self.queue.push(self.now, Event::Outsider(node));
            }
            What::CarrierLoss => self.with_kernel(node, |kernel| kernel.set_link(LinkState::Down)),
            What::LinkDown => self.with_kernel(node, |kernel| {
                kernel.set_link(LinkState::Down);
                kernel.flush_v6();
            }),
            What::LinkRemoved => self.with_kernel(node, FakeKernel::remove_vip_link),
            What::OutsiderAdds | What::OutsiderAddsWide | What::OutsiderRemoves => {
                self.outsider_meddles(fault, node);
            }
            What::OwnAddressRemoved => {
                trouble.own_addresses_gone = true;
                let [own, _] = own_addresses(node);
                self.with_kernel(node, |kernel| kernel.outsider_removes(own.addr()));
            }
            _ => {}
        }
    }

    fn end_kernel(&mut self, fault: &Fault, node: usize) {
        let now = self.now;
        let trouble = &mut self.nodes[node].trouble;
        match fault.what {
            What::SlowApply => trouble.slow_apply = Duration::ZERO,
            What::ApplyFails => trouble.errno = 0,
            What::Overrun => trouble.overrun = Duration::ZERO,
            What::SlowDump => trouble.slow_dump = Duration::ZERO,
            What::OutsiderBusy => trouble.outsider_busy = false,
            What::CarrierLoss | What::LinkDown => {
                self.with_kernel(node, |kernel| kernel.set_link(LinkState::Up));
            }
            What::LinkRemoved => self.with_kernel(node, FakeKernel::add_vip_link),
            What::OwnAddressRemoved => trouble.own_addresses_gone = false,
            _ => return,
        }
        if matches!(fault.what, What::OwnAddressRemoved | What::LinkDown) {
            for net in own_addresses(node) {
                let own = Outside { net, tag: 0 };
                self.with_kernel(node, |kernel| kernel.outsider_adds(now, own, Duplicate::No));
            }
        }
    }

    fn with_kernel(&mut self, node: usize, change: impl FnOnce(&mut FakeKernel)) {
        if let Some(kernel) = &mut self.nodes[node].kernel {
            change(kernel);
            self.kernel_changed(node);
        }
    }

    fn outsider_meddles(&mut self, fault: &Fault, node: usize) {
        let Some(number) = usize::try_from(fault.amount).unwrap_or(0).checked_rem(self.vips.len()) else {
            return;
        };
        let net = self.vips[number].net.0;
        let now = self.now;
        let others = self.answering[number] & !(1 << node);
        let duplicate = if others == 0 { Duplicate::No } else { Duplicate::Yes };
        let wide = ipnet::IpNet::new(net.addr(), if net.addr().is_ipv4() { 28 } else { 96 });
        self.with_kernel(node, |kernel| match fault.what {
            What::OutsiderRemoves => kernel.outsider_removes(net.addr()),
            What::OutsiderAddsWide => {
                let net = wide.expect("a prefix length of either family");
                kernel.outsider_adds(now, Outside { net, tag: 0 }, duplicate);
            }
            _ => kernel.outsider_adds(now, Outside { net, tag: 0 }, duplicate),
        });
        // Duplicate address detection ends later, and then it answers.
        self.queue.push(now + Duration::from_millis(1001), Event::Expire(node));
    }

    /// The busy outsider adds or removes an address of his own.
    pub(super) fn outsider_acts(&mut self, node: usize) {
        if !self.nodes[node].trouble.outsider_busy {
            return;
        }
        let number = 100 + u8::try_from(node).expect("few nodes");
        let net = crate::setup::v4_vip(0, 32).0;
        let std::net::IpAddr::V4(base) = net.addr() else { return };
        let [a, b, c, _] = base.octets();
        let net = ipnet::IpNet::new([a, b, c, number].into(), 32).expect("a prefix length of IPv4");
        let now = self.now;
        let there = |kernel: &FakeKernel| kernel.addresses().iter().any(|held| held.net == net);
        self.with_kernel(node, |kernel| {
            if there(kernel) {
                kernel.outsider_removes(net.addr());
            } else {
                kernel.outsider_adds(now, Outside { net, tag: 0 }, Duplicate::No);
            }
        });
        self.queue.push(now + Duration::from_millis(50), Event::Outsider(node));
    }
}

fn millis(amount: u32) -> Duration {
    Duration::from_millis(u64::from(amount))
}
