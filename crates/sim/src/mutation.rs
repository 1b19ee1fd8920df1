//! Rules broken on purpose, so that the checkers prove that they can object. Each stands between an agent and the
//! world: it bends what comes out or what goes in, and production code knows nothing of it.

mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vip_agent::Input;
use vip_model::config::{Config, Scope};
use vip_model::kernel::{Actual, Address, Batch, Change, Dad, Lifetime};
use vip_model::plan::{PlannedAddress, Presence};
use vip_model::service::{Service, ServiceName, TrafficPolicy};
use vip_model::store::{LeaseSeen, Sight, Snapshot, Version};
use vip_model::{Instant, Known, NodeName};

use crate::process::ProcessId;
use crate::setup::{VIP_LINK, own_addresses};
use crate::store::{Matter, Store};
use crate::world::World;

pub(crate) use session::Words;

/// How much too late a late fence is.
const LATE: Duration = Duration::from_secs(3);

/// A planned address as if it were there.
fn promised(planned: &PlannedAddress, tag: u8, end: Instant) -> Address {
    Address {
        link: planned.link,
        net: planned.net.0,
        scope: planned.scope,
        tag,
        valid: Lifetime::Until(end),
        dad: Dad::Ready,
        secondary: false,
    }
}

/// How old stale endpoints are.
const STALE: Duration = Duration::from_secs(20);

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// Addresses live 3 s longer than the fence allows, and dumps hide it, as for an agent that reckons wrongly.
    LateFence,
    /// Addresses live for ever, and dumps hide it.
    NoFence,
    /// `not_after` is not looked at, and a lifetime counts from the system call instead of the decision.
    IgnoresNotAfter,
    /// A renewal is credited from its answer, not from the moment of asking.
    CreditsFromAnswer,
    /// A removal is reported as done, and dumps hide the address, 800 ms before it is carried out.
    ReportsRemovalsEarly,
    /// A batch is reported as done when it leaves, so that the next one overtakes it.
    EarlyReports,
    /// What a dump shows is said to be newer than it is.
    RelabelsDumps,
    /// A contender counts from an earlier moment than it saw the change, as one that trusts another node's clock.
    RemoteClock,
    /// Leases are said to last half as long as they do.
    ImpatientContender,
    /// An answer that comes too late is given to the question that is open now.
    StaleAnswers,
    /// A lagging server's old state is dressed as the newest version.
    OldAsNews,
    /// The store takes every write, whatever version it expects.
    BlindWrites,
    /// The store takes every write of a Service, whatever version it expects.
    BlindServiceWrites,
    /// A change of endpoints is dressed as news of what was true 20 s before it.
    StaleEndpoints,
    /// All nodes but the first are said to be not ready.
    OneNodeReady,
    /// No node is said to be taken out of load balancing.
    HidesDrains,
    /// All Services are said to have the policy `Cluster`.
    HidesPolicy,
    /// Of the pools' changes only the first is told.
    FirstPools,
    /// The store takes what the address management gives, whatever version of the Service it expects.
    BlindAllocation,
    /// New addresses are reported as installed and shown by dumps, and are not there.
    PromisesAddresses,
    /// Who decides about an address holds the Leases of all others that share it, as it is told.
    IgnoresSiblings,
    /// Every batch also removes an address of the node's own.
    SweepsForeign,
    /// A starting agent removes its VIPs before it has heard of the Lease.
    DeletesBeforeKnowing,
    /// Refreshes of a lifetime are reported as done and are not carried out, and dumps hide it.
    SkipsRefreshes,
    /// Leases are renewed four times as often as configured.
    ChattyRenewals,
    /// Watches never tell anything after their list.
    DeafWatches,
    /// Batches are reported as done, and nothing of them is carried out.
    SwallowsBatches,
    /// A packet filter that is there is reported as replaced, and stays as it is.
    KeepsFilter,
    /// Of Services that shared a Lease by annotation the last one is told without it.
    ForgetsSharedLease,
    /// Now and then a dump shows a VIP that is not there.
    ShowsGhosts,
    /// Dumps do not show addresses without a tag.
    HidesUntagged,
    /// Agents are told another holder than the Lease names.
    LiesAboutHolder,
    /// Two runs of a seed are different.
    Unseeded,
    /// Time stands still for an agent that polls, so that it never sees its deadlines pass.
    StuckClock,
    /// An heir counts a vote of everybody who is heard, given or not: a majority of jurors less.
    CountsUngranted,
    /// A juror grants whatever it is asked, several heirs at the same time.
    GrantsEverybody,
    /// A juror that has granted says nothing for the holder for a second, although the ask is gone.
    BoundByGrants,
    /// A juror's word counts from the moment when it arrives, not from what it echoes.
    VouchesFromArrival,
    /// Who asks for votes does not see that others ask, better placed or not.
    YieldsToNobody,
    /// Answers to looks at a VIP never arrive: votes are given, and groups taken, without the probe.
    LooksInVain,
    /// A holder does not see that another one answers for its VIP.
    NoSecondLook,
    /// Nobody sees that kernels of other nodes answer for their own addresses.
    NoKernelProof,
    /// The API server of the node itself counts as one on another node.
    OwnServerProves,
    /// Every renewal writes an empty jury.
    EmptiesJury,
    /// Heartbeats do not say which sessions were succeeded.
    TellsNobody,
    /// Heartbeats that tell of many ended sessions have no room for those that have an heir.
    CrowdsOutHeirs,
    /// A new owner says that it announces what it has not installed yet.
    AnnouncesTooSoon,
    /// A starting agent gives what it finds in the kernel a whole lifetime.
    AdoptionLengthens,
    /// A starting agent finds nothing of its former life.
    ForgetsSession,
    /// The store takes every write of a session Lease, whatever version it expects.
    BlindSessionWrites,
    /// The door lets in what it let in before.
    AcceptsReplays,
    /// The same, and the agent takes it for new: it does not compare sequences either.
    BelievesReplays,
    /// Everybody who is heard is taken for fit to follow.
    BelievesAllFit,
    /// Everybody who is heard is taken for unfit to follow: all contenders are first, and none waits for another.
    AllAreFirst,
    /// A drill that was answered is shown as one that is asked for.
    DrillsAgain,
}

/// How a change is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrying {
    /// As the agent said.
    AsSaid,
    /// Not at all, but reported as done.
    Skipped,
    /// Whatever its `not_after`, with a lifetime that ends so much later.
    Late(Duration),
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 55] = [
        Self::LateFence,
        Self::NoFence,
        Self::IgnoresNotAfter,
        Self::CreditsFromAnswer,
        Self::ReportsRemovalsEarly,
        Self::EarlyReports,
        Self::RelabelsDumps,
        Self::RemoteClock,
        Self::ImpatientContender,
        Self::StaleAnswers,
        Self::OldAsNews,
        Self::BlindWrites,
        Self::BlindServiceWrites,
        Self::StaleEndpoints,
        Self::OneNodeReady,
        Self::HidesDrains,
        Self::HidesPolicy,
        Self::FirstPools,
        Self::BlindAllocation,
        Self::PromisesAddresses,
        Self::IgnoresSiblings,
        Self::SweepsForeign,
        Self::DeletesBeforeKnowing,
        Self::SkipsRefreshes,
        Self::ChattyRenewals,
        Self::DeafWatches,
        Self::SwallowsBatches,
        Self::KeepsFilter,
        Self::ForgetsSharedLease,
        Self::ShowsGhosts,
        Self::HidesUntagged,
        Self::LiesAboutHolder,
        Self::Unseeded,
        Self::StuckClock,
        Self::CountsUngranted,
        Self::GrantsEverybody,
        Self::BoundByGrants,
        Self::VouchesFromArrival,
        Self::YieldsToNobody,
        Self::LooksInVain,
        Self::NoSecondLook,
        Self::NoKernelProof,
        Self::OwnServerProves,
        Self::EmptiesJury,
        Self::TellsNobody,
        Self::CrowdsOutHeirs,
        Self::AnnouncesTooSoon,
        Self::AdoptionLengthens,
        Self::ForgetsSession,
        Self::BlindSessionWrites,
        Self::AcceptsReplays,
        Self::BelievesReplays,
        Self::BelievesAllFit,
        Self::AllAreFirst,
        Self::DrillsAgain,
    ];

    /// What an agent is configured with.
    pub(crate) fn config(self, config: &mut Config) {
        if let (Self::ChattyRenewals, Some(wanted)) = (self, &mut config.control_plane) {
            wanted.election.timings.retry_period /= 4;
        }
        self.session_config(config);
    }

    /// The seed of an agent.
    pub(crate) fn seed(self, seed: u64) -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static RUNS: AtomicU64 = AtomicU64::new(0);
        if self == Self::Unseeded { seed ^ RUNS.fetch_add(1, Ordering::Relaxed) } else { seed }
    }

    /// The time that an agent is told.
    pub(crate) fn time(self, local: Instant, input: Option<&Input>) -> Instant {
        match (self, input) {
            (Self::RemoteClock, Some(Input::Lease(_))) => local.before(Duration::from_secs(3)),
            (Self::StuckClock, None) => {
                const STEP: u64 = 40_000_000_000;
                Instant::from_nanos(local.as_nanos() / STEP * STEP)
            }
            _ => local,
        }
    }

    /// What an agent is told.
    pub(crate) fn input(self, input: Input, me: &NodeName) -> Input {
        match (self, input) {
            (Self::ImpatientContender, Input::Lease(mut seen)) => {
                if let Sight::Present { record, .. } = &mut seen.sight {
                    record.duration = record.duration.map(|span| span / 2);
                }
                Input::Lease(seen)
            }
            (Self::LiesAboutHolder, Input::Lease(mut seen)) => {
                if let Sight::Present { record, .. } = &mut seen.sight
                    && record.holder.as_deref().is_some_and(|holder| holder != me.as_str())
                {
                    record.holder = Some("somebody".to_owned());
                }
                Input::Lease(seen)
            }
            (Self::DrillsAgain, Input::Lease(seen)) => Input::Lease(session::asked_again(seen)),
            (_, Input::Snapshot(snapshot)) => Input::Snapshot(self.snapshot(snapshot)),
            (_, input) => input,
        }
    }

    /// What an agent is told of the cluster.
    fn snapshot(self, mut snapshot: Snapshot) -> Snapshot {
        if let Known::Known(nodes) = &mut snapshot.nodes {
            let nodes = Arc::make_mut(nodes).values_mut();
            match self {
                Self::OneNodeReady => nodes.skip(1).for_each(|facts| facts.ready = false),
                Self::HidesDrains => nodes.for_each(|facts| facts.excluded = None),
                _ => {}
            }
        }
        if let Known::Known(services) = &mut snapshot.services {
            self.services(Arc::make_mut(services));
        }
        snapshot
    }

    /// What an agent is told of Services.
    fn services(self, services: &mut BTreeMap<ServiceName, Arc<Service>>) {
        const LEASE: &str = "kube-vip.io/leaseName";
        let sharing = services.values().filter(|service| service.annotations.contains_key(LEASE)).count();
        for service in services.values_mut() {
            match self {
                Self::HidesPolicy => Arc::make_mut(service).traffic = TrafficPolicy::Cluster,
                Self::ForgetsSharedLease if sharing == 1 => {
                    Arc::make_mut(service).annotations.remove(LEASE);
                }
                _ => {}
            }
        }
    }

    /// What a batch becomes on its way.
    pub(crate) fn batch(self, batch: &mut Batch, world: &World, id: ProcessId) {
        let shift = match self {
            Self::LateFence => LATE,
            Self::CreditsFromAnswer => world.processes[id].round_trip,
            _ => Duration::ZERO,
        };
        for change in &mut batch.changes {
            if let Change::SetAddress(set) = change {
                if let Lifetime::Until(end) = set.valid {
                    set.valid = Lifetime::Until(end + shift);
                }
                if self == Self::NoFence {
                    set.valid = Lifetime::Forever;
                }
                set.not_after = set.not_after + shift;
            }
        }
        let node = world.processes[id].node;
        let link = world.nodes[node].kernel.as_ref().and_then(|kernel| kernel.vip_link());
        if let (Self::SweepsForeign, Some(link)) = (self, link) {
            batch.changes.push(Change::DelAddress { link: link.index, net: own_addresses(node)[0] });
        }
    }

    /// What a dump shows.
    pub(crate) fn picture(self, actual: &mut Actual, world: &World, id: ProcessId) {
        let process = &world.processes[id];
        let local = world.local(id);
        let tag = process.config.instance.address_tag();
        for address in actual.addresses.iter_mut().filter(|address| address.tag == tag) {
            address.valid = match (self, address.valid) {
                (Self::LateFence, Lifetime::Until(end)) => Lifetime::Until(end.before(LATE)),
                (Self::NoFence | Self::SkipsRefreshes, _) => {
                    Lifetime::Until(local + world.setup.timings.duration)
                }
                (_, valid) => valid,
            };
        }
        if self == Self::PromisesAddresses {
            let wanted = process.agent.iter().flat_map(|agent| &agent.plan().addresses.set);
            for (_, planned) in wanted.filter(|(_, it)| matches!(it.presence, Presence::Install { .. })) {
                if !actual.addresses.iter().any(|address| address.net == planned.net.0) {
                    actual.addresses.push(promised(planned, tag, local + world.setup.timings.duration));
                }
            }
        }
        if self == Self::HidesUntagged {
            actual.addresses.retain(|address| address.tag != 0 || address.net.prefix_len() < 28);
        }
        let vip = world.vips.iter().find(|vip| vip.agent == process.number);
        let link = actual.link_named(VIP_LINK).map(|link| link.index);
        if let (Self::ShowsGhosts, Some(vip), Some(link), 0) = (self, vip, link, world.inputs % 16) {
            let there = actual.addresses.iter().any(|address| address.net == vip.net.0);
            let ghost = Address {
                link,
                net: vip.net.0,
                scope: Scope::Global,
                tag,
                valid: Lifetime::Until(local + Duration::from_secs(3)),
                dad: Dad::Ready,
                secondary: false,
            };
            actual.addresses.extend((!there).then_some(ghost));
        }
    }

    /// How one change of a batch that was decided at `decided` is carried out.
    pub(crate) fn carrying(
        self,
        change: &Change,
        decided: Instant,
        world: &mut World,
        id: ProcessId,
    ) -> Carrying {
        let node = world.processes[id].node;
        match (self, change) {
            (Self::IgnoresNotAfter, Change::SetAddress(_)) => Carrying::Late(world.local(id).since(decided)),
            (Self::SwallowsBatches, _) | (Self::PromisesAddresses, Change::SetAddress(_)) => {
                Carrying::Skipped
            }
            (Self::KeepsFilter, Change::SetFilter { instance, .. }) => {
                let kernel = world.nodes[node].kernel.as_ref();
                let is_there = kernel.is_some_and(|kernel| kernel.filter(instance).is_some());
                if is_there { Carrying::Skipped } else { Carrying::AsSaid }
            }
            (Self::SkipsRefreshes, Change::SetAddress(set)) => {
                let there = world.nodes[node]
                    .kernel
                    .as_ref()
                    .is_some_and(|kernel| kernel.find(set.link, set.net.0).is_some());
                if there { Carrying::Skipped } else { Carrying::AsSaid }
            }
            (Self::ReportsRemovalsEarly, Change::DelAddress { link, net }) => {
                world.remove_later(node, (*link, *net));
                Carrying::Skipped
            }
            _ => Carrying::AsSaid,
        }
    }

    /// A Lease as if its holder had given it up.
    pub(crate) fn as_free(mut seen: LeaseSeen) -> LeaseSeen {
        if let Sight::Present { record, .. } = &mut seen.sight {
            (record.holder, record.duration) = (None, Some(Duration::from_secs(1)));
        }
        seen
    }

    /// A Lease as if `me` had just taken it.
    pub(crate) fn as_held(mut seen: LeaseSeen, (newest, me): (Version, &NodeName)) -> LeaseSeen {
        if let Sight::Present { record, version } = &mut seen.sight {
            record.holder = Some(me.as_str().to_owned());
            *version = newest;
        }
        seen
    }

    /// Which change of a domain a watch shows.
    pub(crate) fn matter(self, matter: Matter, number: usize, store: &Store) -> usize {
        match (self, matter) {
            (Self::FirstPools, Matter::Pools) => number.min(1),
            (Self::StaleEndpoints, Matter::Endpoints) => {
                let born = store.objects.born(matter, number);
                store.objects.at(matter, born.before(STALE))
            }
            _ => number,
        }
    }

    /// An old sight with the version that is true now.
    pub(crate) fn as_news(mut seen: LeaseSeen, store: &Store) -> LeaseSeen {
        if let (Sight::Present { version, .. }, Some((newest, _))) =
            (&mut seen.sight, store.truth(&seen.lease))
        {
            *version = newest.clone();
        }
        seen
    }
}
