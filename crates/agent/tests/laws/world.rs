//! A world of dice around one node: a kernel, a store, a wire and a user that mostly behave, and sometimes don't.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vip_model::config::{
    Advertise, Config, ControlPlane, Election, HealthCheck, InterfaceChoice, Layer2, LeaseTimings, LinkDown,
    NodeLabel, OnLoss, Scope,
};
use vip_model::kernel::{
    Actual, Address, Batch, Change, Dad, ETHERTYPE_ARP, ETHERTYPE_IPV6, FrameIn, Lifetime, Link, LinkKind,
    LinkState, Outcome, Report,
};
use vip_model::store::{
    Answer, Ask, Expect, Failure, FailureClass, LeaseRecord, LeaseSeen, LeaseWrite, NodeFacts, Sight,
    Snapshot, Version,
};
use vip_model::{InstanceName, Instant, Known, LeaseName, LinkAddr, LinkIndex, NodeName, Random, VipNet};
use vip_proto::{arp, ndp};

/// The node's name.
pub(crate) const ME: &str = "n1";

/// The Lease that all configurations but one name.
pub(crate) fn lease() -> LeaseName {
    LeaseName::new("kube-system", "plndr-cp-lock")
}

/// Picks one.
pub(crate) fn pick<T: Clone>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).expect("below the length of a slice")].clone()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn vip(text: &str) -> VipNet {
    VipNet(text.parse().expect("an address with a length"))
}

/// What the node starts with.
pub(crate) fn first_config() -> Config {
    let timings = LeaseTimings { duration: seconds(5), renew_deadline: seconds(3), retry_period: seconds(1) };
    Config {
        node: NodeName::new(ME),
        instance: InstanceName::new("control-plane"),
        advertise: Advertise::Arp(Layer2 { announce_interval: seconds(3), skip_conflict_probe: false }),
        services: None,
        election_mode: vip_model::config::ElectionMode::Lease,
        preferred: Vec::new(),
        control_plane: Some(ControlPlane {
            vips: vec![vip("10.0.0.100/32"), vip("fd00::100/128")],
            port: 6443,
            interface: InterfaceChoice::Named("eth0".to_owned()),
            link_down: LinkDown::Yield,
            loopback_scope: Scope::Host,
            election: Election { lease: lease(), annotations: BTreeMap::new(), timings },
            on_loss: OnLoss::Remove,
            health: None,
            node_label: NodeLabel::HasIp,
        }),
    }
}

/// A configuration that a user could reload to.
pub(crate) fn any_config(random: &mut Random) -> Config {
    let mut config = first_config();
    config.advertise = Advertise::Arp(Layer2 {
        announce_interval: Duration::from_millis(pick(random, &[500, 3000])),
        skip_conflict_probe: random.chance(0.5),
    });
    let Some(control_plane) = config.control_plane.as_mut().filter(|_| random.chance(0.95)) else {
        return Config { control_plane: None, ..config };
    };
    let (one, two) = (vip("10.0.0.100/32"), vip("fd00::100/128"));
    control_plane.vips = pick(random, &[vec![one], vec![two], vec![one, two], vec![vip("10.0.0.101/24")]]);
    control_plane.interface = match random.below(4) {
        0 => InterfaceChoice::Auto,
        1 => InterfaceChoice::Named("lo".to_owned()),
        2 => InterfaceChoice::Named("eth1".to_owned()),
        _ => InterfaceChoice::Named("eth0".to_owned()),
    };
    control_plane.link_down = pick(random, &[LinkDown::Yield, LinkDown::Ignore]);
    control_plane.on_loss = pick(random, &[OnLoss::Remove, OnLoss::Remove, OnLoss::Preserve]);
    control_plane.node_label = pick(random, &[NodeLabel::Off, NodeLabel::HasIp]);
    control_plane.health = random.chance(0.5).then(|| HealthCheck {
        url: "https://127.0.0.1:6443/livez".to_owned(),
        period: seconds(1),
        timeout: seconds(3),
        failure_threshold: 2,
        ca_path: None,
    });
    if random.chance(0.3) {
        control_plane.election.timings = LeaseTimings::default();
    }
    if random.chance(0.2) {
        control_plane.election.lease = LeaseName::new("default", "other");
    }
    config
}

/// The kernel of the node.
pub(crate) fn first_kernel() -> Actual {
    let link = |(index, name, kind): (u32, &str, LinkKind)| {
        let index = LinkIndex(index);
        let addr = Some(LinkAddr::Ethernet([2, 0, 0, 0, 0, index.0 as u8]));
        let name = name.to_owned();
        (index, Link { index, name, addr, broadcast: None, state: LinkState::Up, kind })
    };
    let links =
        [(1, "lo", LinkKind::Loopback), (2, "eth0", LinkKind::Broadcast), (3, "eth1", LinkKind::Broadcast)];
    Actual { links: links.map(link).into(), ..Actual::default() }
}

/// Removes what has expired, as the kernel does.
pub(crate) fn expire(kernel: &mut Actual, now: Instant) {
    kernel.addresses.retain(|address| address.valid > Lifetime::Until(now));
}

/// An outsider at work in the kernel.
pub(crate) fn disturb(kernel: &mut Actual, now: Instant, random: &mut Random) {
    match random.below(6) {
        0 => kernel.addresses.clear(),
        1 => {
            let state = pick(random, &[LinkState::Up, LinkState::Up, LinkState::Down]);
            kernel.links.values_mut().for_each(|link| link.state = state);
        }
        2 => {
            let dad = pick(random, &[Dad::Ready, Dad::Tentative, Dad::Failed]);
            kernel.addresses.iter_mut().for_each(|address| address.dad = dad);
        }
        3 => kernel.links = first_kernel().links,
        _ => {
            let net = pick(random, &["10.0.0.100/32", "fd00::100/128", "10.0.0.5/24", "10.0.0.101/24"]);
            let ours = InstanceName::new("control-plane").address_tag();
            let end = now + Duration::from_millis(random.below(20_000));
            let address = Address {
                link: LinkIndex(2 + random.below(2) as u32),
                net: net.parse().expect("an address with a length"),
                scope: Scope::Global,
                tag: pick(random, &[0, ours, 3]),
                valid: pick(random, &[Lifetime::Forever, Lifetime::Until(end)]),
                dad: Dad::Ready,
                secondary: false,
            };
            kernel.addresses.retain(|other| (other.link, other.net) != (address.link, address.net));
            kernel.addresses.push(address);
        }
    }
}

/// Carries out a batch, now and then with a refusal, and reports it.
pub(crate) fn apply(kernel: &mut Actual, now: Instant, batch: &Batch, random: &mut Random) -> Report {
    expire(kernel, now);
    let mut outcomes = Vec::new();
    for change in &batch.changes {
        if random.chance(0.1) {
            outcomes.push(Outcome::Failed { errno: 16, text: "busy".to_owned() });
            continue;
        }
        match change {
            Change::SetAddress(set) if now >= set.not_after => {
                outcomes.push(Outcome::TooLate);
                continue;
            }
            Change::SetAddress(set) => {
                kernel.addresses.retain(|other| (other.link, other.net) != (set.link, set.net.0));
                kernel.addresses.push(Address {
                    link: set.link,
                    net: set.net.0,
                    scope: set.scope,
                    tag: set.tag,
                    valid: set.valid,
                    dad: Dad::Ready,
                    secondary: false,
                });
            }
            Change::SetFilter { .. } => {}
            Change::DelAddress { link, net } => {
                kernel.addresses.retain(|other| (other.link, other.net) != (*link, *net));
            }
        }
        outcomes.push(Outcome::Done);
    }
    kernel.after = batch.id;
    Report { batch: batch.id, outcomes }
}

/// One Lease in a store.
pub(crate) struct Store {
    version: u64,
    record: Option<LeaseRecord>,
}

impl Store {
    /// A store without the Lease.
    pub(crate) const fn new() -> Self {
        Self { version: 100, record: None }
    }

    /// The Lease as it is.
    pub(crate) fn seen(&self, lease: LeaseName) -> LeaseSeen {
        let version = Version(self.version.to_string());
        let sight = match &self.record {
            Some(record) => Sight::Present { version, record: record.clone() },
            None => Sight::Absent(Some(version)),
        };
        LeaseSeen { lease, sight }
    }

    /// Another node, or a user, writes.
    pub(crate) fn disturb(&mut self, random: &mut Random) {
        self.version += 1;
        let holder = pick(random, &[None, Some("n2"), Some(ME)]).map(str::to_owned);
        self.record = random.chance(0.8).then(|| LeaseRecord {
            holder,
            duration: pick(random, &[Some(seconds(1)), Some(seconds(3)), None]),
            transitions: 3,
            acquired: None,
            renewed: None,
            annotations: BTreeMap::new(),
        });
    }

    /// The honest answer.
    pub(crate) fn answer(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::ReadLease(lease) => Answer::Lease(self.seen(lease.clone())),
            Ask::WriteLease(write) => self.write(write),
            Ask::ReadSession(_) | Ask::WriteSession(_) => unreachable!("mode lease has no sessions"),
            Ask::LabelNode { .. } | Ask::WriteService(_) | Ask::WriteServiceStatus(_) | Ask::PostEvent(_) => {
                Answer::Done
            }
        }
    }

    fn write(&mut self, write: &LeaseWrite) -> Answer {
        let holds = match &write.expect {
            Expect::Absent => self.record.is_none(),
            Expect::Version(version) => self.record.is_some() && version.0 == self.version.to_string(),
        };
        if !holds {
            return Answer::Conflict;
        }
        self.version += 1;
        self.record = Some(LeaseRecord {
            holder: write.holder.as_ref().map(NodeName::to_string),
            duration: Some(write.duration),
            transitions: write.transitions,
            acquired: None,
            renewed: None,
            annotations: BTreeMap::new(),
        });
        Answer::Lease(self.seen(write.lease.clone()))
    }
}

/// An answer that helps nobody.
pub(crate) fn bad_answer(random: &mut Random) -> Answer {
    match random.below(4) {
        0 => Answer::Conflict,
        1 => Answer::Done,
        _ => Answer::Failed(Failure { class: pick(random, &FailureClass::ALL), text: "no".to_owned() }),
    }
}

/// What the cluster says of its Nodes.
pub(crate) fn any_snapshot(random: &mut Random) -> Snapshot {
    let mut facts = NodeFacts::default();
    let own = pick(random, &["10.0.0.1", "10.0.0.1", "10.0.0.100"]);
    facts.addresses.insert(own.parse().expect("an address"));
    if random.chance(0.5) {
        facts.labels.insert("kube-vip.io/has-ip".to_owned(), "10.0.0.100".to_owned());
    }
    Snapshot {
        nodes: Known::Known(Arc::new(BTreeMap::from([(NodeName::new(ME), facts)]))),
        ..Snapshot::default()
    }
}

/// Somebody claims a VIP, or sends anything.
pub(crate) fn any_frame(random: &mut Random) -> FrameIn {
    let from = LinkAddr::Ethernet([2, 0, 0, 0, 9, random.below(3) as u8]);
    let (ethertype, mut payload) = if random.chance(0.5) {
        let vip = "10.0.0.100".parse().expect("an address");
        (ETHERTYPE_ARP, arp::encode(&arp::Packet::announcement_reply(&from, vip)))
    } else {
        let vip = "fd00::100".parse().expect("an address");
        let message = ndp::Message::Advertisement(ndp::Advertisement::announcement(&from, vip));
        (ETHERTYPE_IPV6, ndp::encode(&message))
    };
    if random.chance(0.5) {
        payload.truncate(random.below(80) as usize);
        for byte in &mut payload {
            *byte ^= random.below(2) as u8;
        }
    }
    FrameIn { link: LinkIndex(2), from: Some(from), ethertype, payload }
}
