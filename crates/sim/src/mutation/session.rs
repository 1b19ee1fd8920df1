//! Rules of the mode `session` broken on purpose: what heartbeats say and what is heard of them, which answers to looks
//! an agent gets, what is written of its session, what it finds again when it starts. As all mutations they stand
//! between an agent and the world; the machines know nothing of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use vip_model::config::{Config, ElectionMode};
use vip_model::drill::{DRILL, Drill, DrillStage};
use vip_model::kernel::{ETHERTYPE_ARP, ETHERTYPE_IPV6, FrameIn, Lifetime, Premise, SetAddress};
use vip_model::peers::{Datagram, Fitness, GroupList, Stage, Vote, Word};
use vip_model::session::{SessionId, SessionWrite};
use vip_model::store::{Expect, LeaseSeen, Purpose, Sight};
use vip_model::{Instant, NodeName, VipNet};
use vip_proto::{arp, ndp};

use super::Mutation;
use crate::clock::Moment;
use crate::process::ProcessId;
use crate::setup::own_addresses;
use crate::world::World;

/// For how long a juror that is bound by its grant says nothing for the holder.
const BOUND: Duration = Duration::from_secs(1);

/// Heartbeats tell of so many ended sessions when there are more than they have room for.
const MANY_ENDED: usize = 8;

/// What a mutation remembers of the heartbeats of an agent.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// The newest sequence that it sent.
    sequence: Option<Instant>,
    /// What it asked for in its newest datagram.
    asks: Vec<Vote>,
    /// What others asked for in theirs.
    asked: BTreeMap<NodeName, Vec<Vote>>,
    /// When it last granted something.
    granted: Option<Moment>,
    /// The newest sequence that it was told of each session.
    told: BTreeMap<SessionId, Instant>,
}

/// A claim whose drill was answered, as if it were still asked for.
pub(super) fn asked_again(mut seen: LeaseSeen) -> LeaseSeen {
    if let Sight::Present { record, .. } = &mut seen.sight
        && let Some(drill) = Drill::of(record)
    {
        record.annotations.insert(DRILL.to_owned(), drill.at(DrillStage::Asked).to_string());
    }
    seen
}

/// The address that a frame claims for its sender.
fn claimed(frame: &FrameIn) -> Option<IpAddr> {
    match frame.ethertype {
        ETHERTYPE_ARP => arp::decode(&frame.payload).ok()?.claimed().map(IpAddr::V4),
        ETHERTYPE_IPV6 => ndp::decode(&frame.payload).ok()?.claimed().map(|(addr, _)| IpAddr::V6(addr)),
        _ => None,
    }
}

impl Mutation {
    /// What an agent is configured with.
    pub(super) fn session_config(self, config: &mut Config) {
        if let (Self::ChattyRenewals, ElectionMode::Session(settings)) = (self, &mut config.election_mode) {
            settings.timings.retry_period /= 4;
        }
    }

    /// What a heartbeat says when it leaves.
    pub(crate) fn says(self, words: &mut Words, datagram: &mut Datagram, now: Moment) {
        words.sequence = Some(datagram.sequence);
        words.asks.clone_from(&datagram.asks);
        if !datagram.grants.is_empty() {
            words.granted = Some(now);
        }
        match self {
            Self::TellsNobody => datagram.successions.clear(),
            Self::CrowdsOutHeirs if datagram.successions.len() >= MANY_ENDED => {
                datagram.successions.retain(|ended| ended.heir.is_none());
            }
            Self::GrantsEverybody => {
                for vote in words.asked.values().flatten() {
                    if !datagram.grants.contains(vote) {
                        datagram.grants.push(*vote);
                    }
                }
            }
            Self::AnnouncesTooSoon => {
                if let GroupList::Listed(words) = &mut datagram.groups {
                    for word in words.iter_mut().filter(|word| word.stage == Stage::Owned) {
                        word.stage = Stage::Announced;
                    }
                }
            }
            Self::BoundByGrants if words.granted.is_some_and(|granted| now.since(granted) < BOUND) => {
                datagram.echo.iter_mut().for_each(|echo| echo.word = Word::Silent);
            }
            _ => {}
        }
    }

    /// What a heartbeat says when it is read.
    pub(crate) fn hears(self, words: &mut Words, datagram: &mut Datagram) {
        match self {
            Self::CountsUngranted => {
                let missing = words.asks.iter().filter(|vote| !datagram.grants.contains(vote));
                let missing: Vec<Vote> = missing.copied().collect();
                datagram.grants.extend(missing);
            }
            Self::VouchesFromArrival => {
                if let (Some(echo), Some(sequence)) = (&mut datagram.echo, words.sequence) {
                    echo.sequence = sequence;
                }
            }
            Self::BelievesReplays => {
                let told = words.told.entry(datagram.session).or_insert(datagram.sequence);
                *told = datagram.sequence.max(*told + Duration::from_nanos(1));
                datagram.sequence = *told;
            }
            Self::BelievesAllFit => datagram.fitness = Fitness::Fit,
            Self::AllAreFirst => datagram.fitness = Fitness::Unhealthy,
            Self::YieldsToNobody if !words.asks.is_empty() => datagram.asks.clear(),
            Self::GrantsEverybody => {
                words.asked.insert(datagram.from.clone(), datagram.asks.clone());
            }
            _ => {}
        }
    }

    /// Whether an agent does not get a frame.
    pub(crate) fn hides(self, frame: &FrameIn, world: &World, id: ProcessId) -> bool {
        let node = world.processes[id].node;
        let Some(addr) = claimed(frame) else { return false };
        match self {
            Self::LooksInVain => world.number_of(addr).is_some(),
            Self::NoSecondLook => {
                let holds = |number: usize| world.answering[number] & (1 << node) != 0;
                world.number_of(addr).is_some_and(holds)
            }
            Self::NoKernelProof => {
                (0..world.nodes.len()).any(|other| own_addresses(other).iter().any(|own| own.addr() == addr))
            }
            _ => false,
        }
    }

    /// What is written of a session.
    pub(crate) fn session_write(self, write: &mut SessionWrite, world: &World) {
        match self {
            Self::EmptiesJury if write.purpose == Purpose::Renew => write.record.jury.members.clear(),
            Self::BlindSessionWrites => {
                let truth = world.store.sessions.truth(&write.lease);
                write.expect = truth.map_or(Expect::Absent, |seen| Expect::Version(seen.version.clone()));
            }
            _ => {}
        }
    }

    /// An agent starts: what it finds lives as long again as if it had just been installed.
    pub(crate) fn starts(self, world: &mut World, id: ProcessId) {
        let (true, Some(setup)) = (self == Self::AdoptionLengthens, &world.setup.session) else { return };
        let (local, now, node) = (world.local(id), world.now, world.processes[id].node);
        let valid = Lifetime::Until(local + setup.control_plane_lifetime);
        let tag = world.processes[id].config.instance.address_tag();
        let place = &mut world.nodes[node];
        let Some(kernel) = &mut place.kernel else { return };
        for held in kernel.addresses().to_vec().into_iter().filter(|held| held.tag == tag) {
            let (link, net) = (held.link, VipNet(held.net));
            let set = SetAddress {
                link,
                net,
                scope: held.scope,
                tag,
                valid,
                not_after: local,
                premise: Premise::None,
            };
            kernel.set(now, &place.clock, &set, Duration::ZERO);
        }
    }
}
