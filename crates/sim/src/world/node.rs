//! One node: its kernel, its clock and what is wrong with it. Its processes stand beside it in the world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use vip_model::peers::KeyId;
use vip_model::session::{BootId, Memory, SessionId};
use vip_model::{Instant, LinkIndex, Random};

use crate::clock::{Clock, Moment};
use crate::kernel::FakeKernel;
use crate::peers::KeyTrouble;
use crate::setup::Setup;

/// One node: a kernel with a clock. Its processes stand beside it.
pub struct Node {
    /// Its kernel; none while the power is off.
    pub kernel: Option<FakeKernel>,
    /// Its boot-time clock.
    pub clock: Clock,
    /// Since when it is suspended.
    pub suspended: Option<Moment>,
    /// Until when it may hold what it should not, after a suspension (`docs/simulation.md`).
    pub excused_until: Moment,
    /// Until when that is so while an agent of it is dead or stopped.
    pub fenced_until: Moment,
    /// Which boot this is.
    pub boot: BootId,
    /// What its agents left behind since it booted, by their numbers.
    pub(crate) kept: BTreeMap<usize, Box<Memory>>,
    /// The keys that were left behind since then.
    pub(crate) kept_keys: BTreeSet<KeyId>,
    /// Since when its kubelet does not report.
    pub silent_since: Option<Moment>,
    pub(crate) trouble: Trouble,
}

/// What is wrong on a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) gate_red: bool,
    pub(crate) slow_apply: Duration,
    pub(crate) errno: i32,
    pub(crate) overrun: Duration,
    pub(crate) slow_dump: Duration,
    pub(crate) outsider_busy: bool,
    pub(crate) own_addresses_gone: bool,
    /// Removals that were reported and not carried out (a mutation).
    pub(crate) hidden: Vec<(LinkIndex, IpNet)>,
    pub(crate) key: KeyTrouble,
    /// The door for heartbeats cannot be opened.
    pub(crate) door_shut: bool,
    /// It never comes back.
    pub(crate) for_ever: bool,
}

impl Node {
    pub(super) fn boot(setup: &Setup, node: usize, dice: &mut Random) -> Self {
        let uptime = Instant::from_millis(5000 + dice.below(1_000_000_000));
        Self {
            kernel: Some(FakeKernel::boot(node, setup.secondaries)),
            clock: Clock::new(Moment::START, uptime, setup.drifts[node]),
            suspended: None,
            excused_until: Moment::START,
            fenced_until: Moment::START,
            boot: boot_id(setup.seed, node, Moment::START),
            kept: BTreeMap::new(),
            kept_keys: BTreeSet::new(),
            silent_since: None,
            trouble: Trouble::default(),
        }
    }

    /// Whether it runs at all.
    pub fn is_awake(&self) -> bool {
        self.kernel.is_some() && self.suspended.is_none()
    }
}

/// The id of a boot: another one for every node and moment.
pub(super) fn boot_id(seed: u64, node: usize, now: Moment) -> BootId {
    let mut random = Random::new(seed ^ ((node as u64) << 40) ^ now.as_nanos());
    BootId(SessionId(random.next_u64()))
}
