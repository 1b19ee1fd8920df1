//! The Linux kernel as the node sees it: what is there (`Actual`), one step of change (`Change`), raw frames.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::Scope;
use crate::plan::PacketFilter;
use crate::{Family, InstanceName, Instant, Known, LinkAddr, LinkIndex, VipNet};

/// What a full dump of the kernel showed. Always whole: links, addresses and default routes of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    /// The last batch that had been applied when the dump began. An older picture than that is thrown away.
    pub after: BatchId,
    /// All links.
    pub links: BTreeMap<LinkIndex, Link>,
    /// All addresses of all links, in the kernel's order.
    pub addresses: Vec<Address>,
    /// Default routes of the main table, best metric first.
    pub default_routes: Vec<DefaultRoute>,
    /// Whether the packet filter that this process set last is still there, untouched. `Unknown` while none was set.
    #[serde(default)]
    pub filter: Known<FilterState>,
}

/// What the kernel's packet filter of this instance looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterState {
    /// As last set.
    AsSet,
    /// No such table.
    Absent,
    /// A table of our name that is not as this process last set it.
    Foreign,
}

impl Actual {
    /// The link with this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Whether another picture shows the same, but for how long the addresses stay.
    pub fn is_alike(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&Address, &Address)| {
            let Address { link, net, scope, tag, valid: _, dad, secondary } = one;
            (link, net, scope, tag, dad, secondary)
                == (&other.link, &other.net, &other.scope, &other.tag, &other.dad, &other.secondary)
        };
        self.addresses.len() == other.addresses.len()
            && self.addresses.iter().zip(&other.addresses).all(is_same)
            && self.links == other.links
            && self.default_routes == other.default_routes
            && self.filter == other.filter
    }
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// Its link-layer address; none on links without one (tunnels) and all-zero on loopback.
    pub addr: Option<LinkAddr>,
    /// Its link-layer broadcast address, needed on IP over `InfiniBand`.
    pub broadcast: Option<LinkAddr>,
    /// Whether frames can pass: administratively up, and its operational state is up or unknown (RFC 2863).
    pub state: LinkState,
    /// Whether it is a loopback link (`IFF_LOOPBACK`).
    pub kind: LinkKind,
}

/// Whether a link can pass frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// `IFF_UP` and operational state up or unknown.
    Up,
    /// Anything else: administratively down, no carrier, dormant.
    Down,
}

/// What kind of link it is, as far as VIPs care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// Ethernet or alike: ARP and NDP work.
    Broadcast,
    /// IP over `InfiniBand`: as above with 20-byte addresses.
    Infiniband,
    /// Loopback: addresses are never announced.
    Loopback,
    /// Point to point and other links without neighbour discovery.
    Other,
}

/// One address of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The link that carries it.
    pub link: LinkIndex,
    /// Address and prefix length.
    pub net: IpNet,
    /// Its scope.
    pub scope: Scope,
    /// `IFA_PROTO`, 0 when unset or when the kernel (< 5.18) does not know it.
    pub tag: u8,
    /// When it expires by itself (`IFA_CACHEINFO`, whole seconds: up to one second later than true).
    pub valid: Lifetime,
    /// Where duplicate address detection stands (always `Ready` for IPv4).
    pub dad: Dad,
    /// `IFA_F_SECONDARY`: it goes when its primary goes (IPv4).
    pub secondary: bool,
}

/// State of the kernel's duplicate address detection for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dad {
    /// Usable.
    Ready,
    /// `IFA_F_TENTATIVE` without `IFA_F_DADFAILED`: not answered for yet.
    Tentative,
    /// `IFA_F_DADFAILED`: somebody else has it; the kernel will not use it.
    Failed,
}

/// How long an address stays without being refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// Not after this instant.
    Until(Instant),
    /// For ever.
    Forever,
}

/// A default route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRoute {
    /// Its family.
    pub family: Family,
    /// Its (first) outgoing link.
    pub link: LinkIndex,
    /// Its metric; lower wins.
    pub metric: u32,
}

/// Number of a batch of changes, counted up from 1; 0 means "none yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub u64);

/// Changes that go to the kernel together, in order. At most one batch is in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its number, carried back by the report and by later dumps.
    pub id: BatchId,
    /// The steps, applied in order; a failed step does not stop the others.
    pub changes: Vec<Change>,
}

/// One step of change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Add an address or refresh its lifetime, scope, tag and flags (`RTM_NEWADDR` with `NLM_F_REPLACE`).
    SetAddress(SetAddress),
    /// Remove an address. That it is not there is success.
    DelAddress {
        /// The link that carries it.
        link: LinkIndex,
        /// Address and prefix length, exactly as installed.
        net: IpNet,
    },
    /// Make the packet filter be this, in one transaction; `None` removes the table.
    SetFilter {
        /// The instance, part of the table's name.
        instance: InstanceName,
        /// The filter.
        filter: Option<PacketFilter>,
    },
}

/// Everything that `Change::SetAddress` sets. Preferred lifetime is always 0 (never a source address), and no
/// prefix route is made (`IFA_F_NOPREFIXROUTE`). IPv6 addresses carry `IFA_F_NODAD`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAddress {
    /// The link that gets it.
    pub link: LinkIndex,
    /// Address and prefix length.
    pub net: VipNet,
    /// Its scope.
    pub scope: Scope,
    /// The owner byte for `IFA_PROTO`.
    pub tag: u8,
    /// When the kernel shall remove it by itself; rounded *down* to whole seconds from the moment of the system
    /// call. Less than one second left counts as too late.
    pub valid: Lifetime,
    /// The change is not carried out after this instant (boot-time clock), checked right before the system call.
    pub not_after: Instant,
    /// What must be so right before the system call.
    #[serde(default)]
    pub premise: Premise,
}

/// What must be so for an address to be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Premise {
    /// Nothing: who sets it has a right to it.
    #[default]
    None,
    /// It is there: its end is only brought forward. Whoever has no right to it must not bring it back when it has gone
    /// since it was last looked at.
    Present,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The batch.
    pub batch: BatchId,
    /// One outcome per change, in the same order.
    pub outcomes: Vec<Outcome>,
}

/// What became of one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Carried out.
    Done,
    /// Its `not_after` (or its lifetime) had passed, or its premise did not hold any more: not carried out.
    TooLate,
    /// The kernel refused.
    Failed {
        /// The errno, positive.
        errno: i32,
        /// What was tried and on what, for people.
        text: String,
    },
}

/// Ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// Ethertype of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A frame to send. The kernel writes the link-layer header (`AF_PACKET`, `SOCK_DGRAM`), so the same bytes work on
/// Ethernet and on IP over `InfiniBand`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameOut {
    /// The link that sends it.
    pub link: LinkIndex,
    /// Link-layer destination.
    pub to: LinkAddr,
    /// Ethertype of the payload.
    pub ethertype: u16,
    /// What follows the link-layer header.
    pub payload: Vec<u8>,
    /// The frame is not sent after this instant, checked right before the system call.
    pub not_after: Instant,
}

/// A frame that arrived (never one that this host sent).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameIn {
    /// The link on which it arrived.
    pub link: LinkIndex,
    /// Link-layer source; none when the driver gave none.
    pub from: Option<LinkAddr>,
    /// Ethertype of the payload.
    pub ethertype: u16,
    /// What followed the link-layer header.
    pub payload: Vec<u8>,
}

impl Address {
    /// The address without its prefix length.
    pub fn addr(&self) -> IpAddr {
        self.net.addr()
    }
}
