//! A packet filter as an nftables table: the whole of it as one netlink batch that the kernel carries out or refuses
//! as one.
//!
//! ```text
//! table inet kube_vip_<instance> {
//!   set addresses4, addresses6    the filtered addresses
//!   set open4, open6              address . protocol . port
//!   chain arriving                hook prerouting, priority -150: after connection tracking (-200), before kube-proxy
//!                                 rewrites destinations (-100), so a Service is judged by its own address
//!     ip  daddr @addresses4 goto judge
//!     ip6 daddr @addresses6 goto judge
//!   chain judge                   replies, ICMP, DHCP and open ports pass, the rest is dropped
//! }
//! ```
//!
//! All other traffic passes two look-ups. The sets are constant and know their size, so the kernel takes its fastest
//! kind, and refuses to let anybody change them while the rules stand.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Hook, HookNumber, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetDescription, SetElementAttribute,
    SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use vip_model::plan::PacketFilter;
use vip_model::service::Protocol;
use vip_model::{Family, InstanceName};

use super::rule::{self, Expression};

/// The chains: the one that the kernel calls, and the one with the rules for filtered addresses.
pub(super) const CHAINS: [&str; 2] = [ARRIVING, JUDGE];
const ARRIVING: &str = "arriving";
const JUDGE: &str = "judge";
/// Where `arriving` stands in the prerouting hook, `NF_IP_PRI_MANGLE` of `linux/netfilter_ipv4.h`.
const PRIORITY: i32 = -150;
/// `NF_ACCEPT` of `linux/netfilter.h`.
const ACCEPT: u32 = 1;

/// Everything that a table of ours is called begins so.
const PREFIX: &str = "kube_vip_";
/// Instance names up to this length are kept: what the configuration allows, so that the whole fits into 255 bytes.
const LONGEST_INSTANCE: usize = 243;
/// Elements in one message, at most 36 bytes each: a list of them must be shorter than 64 KiB.
const ELEMENTS: usize = 1024;

/// `NFNL_SUBSYS_NFTABLES` of `linux/netfilter/nfnetlink.h`, carried by the ends of a batch.
const SUBSYSTEM: u16 = 10;
/// Userdata are small records: kind, length, bytes. Kind 0 of a table is its comment
/// (`NFTNL_UDATA_TABLE_COMMENT` of libnftnl).
const COMMENT_KIND: u8 = 0;
const COMMENT: &str = "kube-vip replaces this table as a whole";

// How nft calls the types of set keys; the kernel only stores it (`TYPE_…` in nft's datatype.h, 6 bits each).
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_BITS: u32 = 6;

/// A batch, ready to be sent.
pub(super) struct Transaction {
    /// All its messages.
    pub(super) bytes: Vec<u8>,
    /// How many rules the table has afterwards.
    pub(super) rules: usize,
}

/// The table of an instance. Upstream's tables with this prefix are of the families `ip` and `ip6`, so they never meet.
pub(super) fn name(instance: &InstanceName) -> String {
    let instance = instance.as_str();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if instance.len() <= LONGEST_INSTANCE && instance.chars().all(plain) {
        return format!("{PREFIX}{instance}");
    }
    // Two names that look alike without their special characters must not get the same table. FNV-1a, 64 bits.
    let hash = instance.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let readable = instance.chars().map(|c| if plain(c) { c } else { '_' }).take(LONGEST_INSTANCE - 17);
    format!("{PREFIX}{}_{hash:016x}", readable.collect::<String>())
}

/// The batch after which the table is exactly this filter, or is not there.
pub(super) fn transaction(table: &str, filter: Option<&PacketFilter>) -> Transaction {
    // Adding it first makes the removal succeed whether it was there or not.
    let mut messages = vec![new_table(table, None), delete_table(table)];
    if let Some(filter) = filter {
        messages.push(new_table(table, Some(COMMENT)));
        for (id, set) in (1..).zip(sets(filter)) {
            messages.extend(set.messages(table, id));
        }
        messages.extend(chains(table));
        messages.extend(rules().into_iter().map(|(chain, rule)| new_rule(table, chain, rule)));
    }
    let rules = messages.iter().filter(|message| matches!(message, NfTablesMessage::NewRule(_))).count();
    Transaction { bytes: encode(messages), rules }
}

/// All rules in order, with the chain of each.
fn rules() -> Vec<(&'static str, Vec<Expression>)> {
    let both = [Family::V4, Family::V6];
    let mut rules = Vec::new();
    for family in both {
        rules.push((ARRIVING, rule::destination_in(family, addresses(family), rule::goto(JUDGE))));
    }
    rules.push((JUDGE, rule::reply(rule::accept())));
    for protocol in [libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6] {
        rules.push((JUDGE, rule::protocol(protocol as u8, rule::accept())));
    }
    rules.push((JUDGE, rule::port(Protocol::Udp, rule::DHCP_CLIENT, rule::accept())));
    for family in both {
        rules.push((JUDGE, rule::destination_port_in(family, open(family), rule::accept())));
    }
    rules.push((JUDGE, vec![rule::drop()]));
    rules
}

fn addresses(family: Family) -> &'static str {
    match family {
        Family::V4 => "addresses4",
        Family::V6 => "addresses6",
    }
}

fn open(family: Family) -> &'static str {
    match family {
        Family::V4 => "open4",
        Family::V6 => "open6",
    }
}

/// A set with its elements.
struct Set {
    name: &'static str,
    key_type: u32,
    key_bytes: u32,
    elements: Vec<Vec<u8>>,
}

fn sets(filter: &PacketFilter) -> [Set; 4] {
    let of = |family: Family| filter.open.iter().filter(move |(addr, _)| family_of(**addr) == family);
    let address_set = |family: Family| {
        let (key_type, key_bytes) = address_key(family);
        let elements = of(family).map(|(addr, _)| octets(*addr)).collect();
        Set { name: addresses(family), key_type, key_bytes, elements }
    };
    let open_set = |family: Family| {
        let (address, bytes) = address_key(family);
        let key_type = (address << TYPE_BITS | TYPE_PROTOCOL) << TYPE_BITS | TYPE_PORT;
        let ports = of(family).flat_map(|(addr, ports)| ports.iter().map(move |port| (*addr, *port)));
        // Every part of a key fills whole registers of four bytes.
        let elements = ports.map(|(addr, port)| {
            let mut key = octets(addr);
            key.extend([rule::number(port.protocol), 0, 0, 0]);
            key.extend(port.port.to_be_bytes());
            key.extend([0, 0]);
            key
        });
        Set { name: open(family), key_type, key_bytes: bytes + 8, elements: elements.collect() }
    };
    [address_set(Family::V4), address_set(Family::V6), open_set(Family::V4), open_set(Family::V6)]
}

fn family_of(addr: IpAddr) -> Family {
    if addr.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn address_key(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (TYPE_IPV4, 4),
        Family::V6 => (TYPE_IPV6, 16),
    }
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

impl Set {
    fn messages(self, table: &str, id: u32) -> Vec<NfTablesMessage> {
        let mut attributes = vec![
            SetAttribute::Table(table.to_owned()),
            SetAttribute::Name(self.name.to_owned()),
            SetAttribute::Flags(SetFlags::Constant),
            SetAttribute::KeyType(self.key_type),
            SetAttribute::KeyLen(self.key_bytes),
            SetAttribute::Id(id),
        ];
        if !self.elements.is_empty() {
            let size = u32::try_from(self.elements.len()).unwrap_or(u32::MAX);
            attributes.push(SetAttribute::Description(vec![SetDescription::Size(size)]));
        }
        let mut messages = vec![NfTablesMessage::NewSet(SetMessage { attributes })];
        messages.extend(self.elements.chunks(ELEMENTS).map(|elements| {
            let element = |key: &Vec<u8>| {
                ListAttribute::Element(vec![SetElementAttribute::Key(DataAttribute::Value(key.clone()))])
            };
            NfTablesMessage::NewSetElement(SetElementMessage {
                attributes: vec![
                    SetElementList::Table(table.to_owned()),
                    SetElementList::Set(self.name.to_owned()),
                    SetElementList::Elements(elements.iter().map(element).collect()),
                ],
            })
        }));
        messages
    }
}

fn new_table(table: &str, comment: Option<&str>) -> NfTablesMessage {
    let mut attributes = vec![TableAttribute::Name(table.to_owned())];
    attributes.extend(comment.map(|text| {
        let length = u8::try_from(text.len() + 1).expect("the comment is short");
        TableAttribute::UserData([&[COMMENT_KIND, length], text.as_bytes(), &[0]].concat())
    }));
    NfTablesMessage::NewTable(TableMessage { attributes })
}

fn delete_table(table: &str) -> NfTablesMessage {
    NfTablesMessage::DeleteTable(TableMessage { attributes: vec![TableAttribute::Name(table.to_owned())] })
}

fn chains(table: &str) -> [NfTablesMessage; 2] {
    let named =
        |name: &str| vec![ChainAttribute::Table(table.to_owned()), ChainAttribute::Name(name.to_owned())];
    let hook = vec![
        Hook::Number(HookNumber::Inet(InetHookNumber::PreRouting)),
        Hook::Priority(PRIORITY.cast_unsigned()),
    ];
    let mut arriving = named(ARRIVING);
    arriving.extend([
        ChainAttribute::Hook(hook),
        ChainAttribute::Policy(ACCEPT),
        ChainAttribute::Type("filter".to_owned()),
    ]);
    [arriving, named(JUDGE)].map(|attributes| NfTablesMessage::NewChain(ChainMessage { attributes }))
}

fn new_rule(table: &str, chain: &str, expressions: Vec<Expression>) -> NfTablesMessage {
    NfTablesMessage::NewRule(RuleMessage {
        attributes: vec![
            RuleAttribute::Table(table.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ],
    })
}

/// All messages between the two ends of a batch. The last one of them asks for an acknowledgement.
fn encode(messages: Vec<NfTablesMessage>) -> Vec<u8> {
    let last = messages.len().saturating_sub(1);
    let end = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
    let mut bytes = Vec::new();
    append(&mut bytes, end.clone(), 0, ControlMessage::BatchBegin);
    for (at, message) in messages.into_iter().enumerate() {
        let create = match &message {
            NfTablesMessage::DeleteTable(_) => 0,
            NfTablesMessage::NewRule(_) => NLM_F_CREATE | NLM_F_APPEND,
            _ => NLM_F_CREATE,
        };
        let flags = if at == last { create | NLM_F_ACK } else { create };
        append(&mut bytes, NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), flags, message);
    }
    append(&mut bytes, end, 0, ControlMessage::BatchEnd);
    bytes
}

fn append(bytes: &mut Vec<u8>, header: NetfilterHeader, flags: u16, inner: impl Into<NetfilterMessageInner>) {
    let mut message = NetlinkMessage::from(NetfilterMessage::new(header, inner));
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}
