//! What users and the cluster do in a drawn world: a handful of Services (seldom a hundred) that come, meet, change, lose
//! their pods and go.

use vip_model::Random;
use vip_model::service::{EndpointState, ServiceName};

use crate::clock::Moment;
use crate::deed::{Act, Deed, Edit, Key, Pod, PodPlace, service};
use crate::setup::{
    ServicesSetup, Setup, Switch, own_addresses, pick, pool_address, service_address, service_address_v6,
    v4_vip,
};

/// More Services than this make a world of their own kind.
pub(super) const MANY: usize = 12;

/// Names of Services; few, so that they come again.
const NAMES: [&str; 6] = ["alpha", "bravo", "charlie", "shop/alpha", "shop/delta", "zulu"];
/// Numbers of addresses that users name; few, so that Services meet.
const ADDRESSES: u64 = 6;
/// Texts that name no address.
const MISTAKES: [&str; 4] = ["10.0.0.300", "0.0.0.0", "vip.example.org", "10.0.0.10,no-address"];

/// What is done, with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pods,
    Create,
    Delete,
    Again,
    Linger,
    Address,
    Policy,
    Type,
    Ignore,
    Election,
    Ports,
    WithoutEndpoints,
    Interface,
    Storm,
    Pools,
    Drain,
    Undrain,
}

const WEIGHTS: &[(Kind, u32)] = &[
    (Kind::Pods, 30),
    (Kind::Create, 10),
    (Kind::Delete, 8),
    (Kind::Again, 6),
    (Kind::Linger, 3),
    (Kind::Address, 10),
    (Kind::Policy, 8),
    (Kind::Type, 6),
    (Kind::Ignore, 4),
    (Kind::Election, 8),
    (Kind::Ports, 5),
    (Kind::WithoutEndpoints, 2),
    (Kind::Interface, 1),
    (Kind::Storm, 2),
    (Kind::Pools, 6),
    (Kind::Drain, 4),
    (Kind::Undrain, 5),
];

struct Draw<'a> {
    dice: Random,
    setup: &'a Setup,
    services: &'a ServicesSetup,
    names: Vec<ServiceName>,
    deeds: Vec<Deed>,
}

/// Deeds until `end` (milliseconds).
pub(super) fn deeds(setup: &Setup, end: u64) -> Vec<Deed> {
    let Some((_, services)) = setup.services() else { return Vec::new() };
    let mut dice = Random::new(setup.seed ^ 0xdeed);
    let count = usize::try_from(services.count).expect("small");
    let names = if count > MANY {
        (0..count).map(|number| service(&format!("s{number:03}"))).collect()
    } else {
        NAMES.iter().take(count).map(|name| service(name)).collect()
    };
    let start = dice.below(8_000);
    let mut draw = Draw { dice, setup, services, names, deeds: Vec::new() };
    draw.begin(start);
    let pause = [2_000, 8_000, 25_000, 80_000][pick(&mut draw.dice, 4)];
    let mut at = start + 2_000 + draw.dice.below(2 * pause);
    while at + 2_000 < end {
        let name = draw.names[pick(&mut draw.dice, count)].clone();
        let kind = draw.kind();
        draw.deed(at, kind, &name);
        at += 20 + draw.dice.below(2 * pause);
    }
    draw.deeds.sort_by_key(|deed| deed.at);
    draw.deeds
}

impl Draw<'_> {
    fn push(&mut self, at: u64, act: Act) {
        self.deeds.push(Deed { at: Moment::from_millis(at), act });
    }

    fn chance(&mut self, per_cent: u64) -> bool {
        self.dice.below(100) < per_cent
    }

    fn kind(&mut self) -> Kind {
        let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = u32::try_from(self.dice.below(u64::from(total))).expect("below a small total");
        for (kind, weight) in WEIGHTS {
            if left < *weight {
                return *kind;
            }
            left -= weight;
        }
        Kind::Pods
    }

    /// The first things: pools, most Services, their pods.
    fn begin(&mut self, at: u64) {
        self.deed(at, Kind::Pools, &service("-"));
        for number in 0..self.names.len() {
            let name = self.names[number].clone();
            if self.chance(80) {
                let at = at + self.dice.below(1_500);
                self.push_pods(at, &name);
                let at = at + self.dice.below(500);
                self.create(at, &name, number);
            }
        }
    }

    fn create(&mut self, at: u64, name: &ServiceName, number: usize) {
        let mut edits = if self.names.len() > MANY {
            vec![Edit::new(Key::Addresses, service_address(u16::try_from(number).expect("few")).to_string())]
        } else {
            self.address()
        };
        if self.chance(50) {
            edits.push(self.ports());
        }
        if self.chance(40) {
            edits.push(Edit::new(Key::Policy, "local"));
        } else if self.chance(25) {
            edits.push(Edit::new(Key::Lease, "common"));
        }
        if self.chance(20) {
            edits.push(Edit::new(Key::Force, "yes"));
        }
        if self.chance(25) {
            edits.push(self.class());
        }
        self.push(at, Act::Apply(name.clone(), edits));
    }

    fn deed(&mut self, at: u64, kind: Kind, name: &ServiceName) {
        let edit = |key, value: &str| vec![Edit::new(key, value)];
        let edits = match kind {
            Kind::Pods => return self.push_pods(at, name),
            Kind::Create => {
                let number = self.names.iter().position(|known| known == name).unwrap_or_default();
                return self.create(at, name, number);
            }
            Kind::Delete => return self.push(at, Act::Delete(name.clone())),
            Kind::Again => {
                let edits = self.address();
                return self.push(at, Act::Again(name.clone(), edits));
            }
            Kind::Linger => {
                self.push(at, Act::Linger(name.clone()));
                let gone = at + 50 + self.dice.below(3_000);
                return self.push(gone, Act::Delete(name.clone()));
            }
            Kind::Pools => return self.pools(at),
            Kind::Drain | Kind::Undrain => {
                let node = pick(&mut self.dice, self.setup.nodes());
                return self
                    .push(at, if kind == Kind::Drain { Act::Drain(node) } else { Act::Undrain(node) });
            }
            Kind::Storm => return self.storm(at, name),
            Kind::Address => self.address(),
            Kind::Policy => edit(Key::Policy, if self.chance(50) { "local" } else { "cluster" }),
            Kind::Type => {
                let back = at + 10 + self.dice.below(6_000);
                let class = self.class();
                self.push(back, Act::Apply(name.clone(), vec![Edit::new(Key::Type, "lb"), class]));
                edit(Key::Type, "other")
            }
            Kind::Ignore => edit(Key::Ignore, if self.chance(50) { "yes" } else { "no" }),
            Kind::Election if self.chance(50) => edit(Key::Force, if self.chance(60) { "yes" } else { "no" }),
            Kind::Election => edit(Key::Lease, if self.chance(60) { "common" } else { "" }),
            Kind::Ports => vec![self.ports()],
            Kind::WithoutEndpoints => edit(Key::WithoutEndpoints, if self.chance(50) { "yes" } else { "no" }),
            Kind::Interface => {
                edit(Key::Interface, ["", "", "auto", "eth0", "eth9"][pick(&mut self.dice, 5)])
            }
        };
        self.push(at, Act::Apply(name.clone(), edits));
    }

    /// Updates in a row, as a broken controller makes them.
    fn storm(&mut self, at: u64, name: &ServiceName) {
        for number in 0..10 {
            let edits = self.address();
            self.push(at + number * 60, Act::Apply(name.clone(), edits));
        }
    }

    fn push_pods(&mut self, at: u64, name: &ServiceName) {
        let count = [0, 1, 1, 1, 2, 2, 3][pick(&mut self.dice, 7)];
        let pods = (0..count).map(|_| self.pod()).collect();
        self.push(at, Act::Pods(name.clone(), pods));
    }

    fn pod(&mut self) -> Pod {
        let node = pick(&mut self.dice, self.setup.nodes());
        Pod {
            place: match self.dice.below(20) {
                0 => PodPlace::Nowhere,
                1 => PodPlace::HostName(node),
                _ => PodPlace::Node(node),
            },
            state: match self.dice.below(10) {
                0 => EndpointState::NotReady,
                1 => EndpointState::ServingTerminating,
                _ => EndpointState::Ready,
            },
        }
    }

    fn ports(&mut self) -> Edit {
        Edit::new(Key::Ports, ["80", "443", "80,443", "53u", "443,53u", "6443"][pick(&mut self.dice, 6)])
    }

    fn class(&mut self) -> Edit {
        Edit::new(Key::Class, ["-", "ours", "ours", "example.org/other"][pick(&mut self.dice, 4)])
    }

    /// One or two addresses, or none; now and then a mistake.
    fn address(&mut self) -> Vec<Edit> {
        let number = u16::try_from(self.dice.below(ADDRESSES)).expect("small");
        let v4 = service_address(number).to_string();
        let v6 = service_address_v6(number).to_string();
        let stack = ["prefer", "require"][pick(&mut self.dice, 2)];
        let single = |ip: &str| {
            vec![
                Edit::new(Key::Addresses, ip),
                Edit::new(Key::Families, "4"),
                Edit::new(Key::Stack, "single"),
            ]
        };
        if self.services.ipam == Switch::On && self.chance(65) {
            return match self.dice.below(4) {
                0 => vec![
                    Edit::new(Key::Addresses, ""),
                    Edit::new(Key::Families, "46"),
                    Edit::new(Key::Stack, stack),
                ],
                _ => single(""),
            };
        }
        match self.dice.below(20) {
            0..=10 => single(&v4),
            11 => vec![
                Edit::new(Key::Addresses, v6),
                Edit::new(Key::Families, "6"),
                Edit::new(Key::Stack, "single"),
            ],
            12..=14 => vec![
                Edit::new(Key::Addresses, format!("{v4},{v6}")),
                Edit::new(Key::Families, if self.chance(50) { "46" } else { "64" }),
                Edit::new(Key::Stack, stack),
            ],
            15 => vec![Edit::new(Key::SpecAddress, v4)],
            16 => single(MISTAKES[pick(&mut self.dice, MISTAKES.len())]),
            17 if self.shares_vip() => single(&v4_vip(0, 32).addr().to_string()),
            18 => single(&own_addresses(0)[0].addr().to_string()),
            _ => single(&pool_address(number % 3).to_string()),
        }
    }

    /// Whether the agent that looks after Services holds the control plane's VIP, too: only then can both share it.
    fn shares_vip(&self) -> bool {
        self.setup.services().is_some_and(|(agent, _)| {
            let vips = &self.setup.agents[agent].vips;
            vips.iter().any(|vip| vip.addr() == v4_vip(0, 32).addr())
        })
    }

    fn pools(&mut self, at: u64) {
        let (first, last) =
            (pool_address(0), pool_address(u16::try_from(self.dice.below(5)).expect("small")));
        let v6 = "fd00::2:1-fd00::2:4";
        let mut pools = vec![("range-global", format!("{first}-{last}"))];
        match self.dice.below(12) {
            0 => pools.clear(),
            1 => pools = vec![("range-global", "10.0.0.400-10.0.0.500".to_owned())],
            2 => pools.push(("range-shop", format!("{}-{}", pool_address(6), pool_address(7)))),
            3 | 4 => pools[0].1 = format!("{first}-{last},{v6}"),
            5 => pools = vec![("cidr-global", "10.0.0.112/30".to_owned())],
            6 => pools.push(("allow-share-global", "true".to_owned())),
            7 => pools.push(("search-order", "desc".to_owned())),
            _ => {}
        }
        let own = |(key, value): (&str, String)| (key.to_owned(), value);
        self.push(at, Act::Pools(pools.into_iter().map(own).collect()));
    }
}
