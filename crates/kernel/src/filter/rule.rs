//! The rules of the packet filter in the kernel's own terms: load something into a register, compare it or look it up,
//! give a verdict. `table` asks for them by what they mean.
//!
//! A rule of the family `inet` sees both IPv4 and IPv6, so whatever reads an address asks for its family first. Parts
//! of a concatenation lie in registers of four bytes one after another, as in the keys of the sets.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta,
    MetaKey, Operator, Payload, Register, Verdict, VerdictAttribute,
};
use vip_model::Family;
use vip_model::service::Protocol;

/// One step of a rule.
pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// The port of a DHCP client (RFC 2131 §4.1): an address that is leased by DHCP renews its lease.
pub(super) const DHCP_CLIENT: u16 = 68;

// linux/netfilter.h
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
// linux/netfilter/nf_tables.h: enum nft_payload_bases, nft_ct_attributes, nft_ct_keys
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CT_REGISTER: u16 = 1;
const CT_KEY: u16 = 2;
const CT_STATE: u32 = 0;
/// `NF_CT_STATE_BIT` of `IP_CT_ESTABLISHED` and `IP_CT_RELATED`.
const ESTABLISHED_OR_RELATED: u32 = 0b110;
/// Offset and length of the destination port in TCP, UDP and SCTP alike.
const PORT: (u32, u32) = (2, 2);

/// Where a value is loaded that is looked at once.
const SCRATCH: Register = Register::Reg32_00;

/// Packets to an address that is in this set.
pub(super) fn destination_in(family: Family, set: &str, verdict: Expression) -> Vec<Expression> {
    let mut rule = destination(family);
    rule.extend([lookup(set), verdict]);
    rule
}

/// Packets whose destination address, protocol and destination port are in this set.
pub(super) fn destination_port_in(family: Family, set: &str, verdict: Expression) -> Vec<Expression> {
    let (protocol, port) = match family {
        Family::V4 => (Register::Reg32_01, Register::Reg32_02),
        Family::V6 => (Register::Reg32_04, Register::Reg32_05),
    };
    let mut rule = destination(family);
    rule.extend([
        meta(MetaKey::L4Proto, protocol),
        payload(TRANSPORT_HEADER, PORT, port),
        lookup(set),
        verdict,
    ]);
    rule
}

/// Packets of connections that are known already, and errors about them.
pub(super) fn reply(verdict: Expression) -> Vec<Expression> {
    let state = Expressions::Other {
        expression_type: "ct".to_owned(),
        attributes: vec![
            DefaultNla::new(CT_KEY, CT_STATE.to_be_bytes().to_vec()),
            DefaultNla::new(CT_REGISTER, u32::from(SCRATCH).to_be_bytes().to_vec()),
        ],
    };
    let mask = Expressions::Bitwise(vec![
        Bitwise::SourceRegister(SCRATCH),
        Bitwise::DestinationRegister(SCRATCH),
        Bitwise::Length(4),
        Bitwise::Mask(DataAttribute::Value(ESTABLISHED_OR_RELATED.to_ne_bytes().to_vec())),
        Bitwise::Xor(DataAttribute::Value(vec![0; 4])),
    ]);
    vec![state.into(), mask.into(), compare(Operator::NotEqual, vec![0; 4]), verdict]
}

/// Packets of this protocol.
pub(super) fn protocol(number: u8, verdict: Expression) -> Vec<Expression> {
    vec![meta(MetaKey::L4Proto, SCRATCH), compare(Operator::Equal, vec![number]), verdict]
}

/// Packets of this protocol to this port.
pub(super) fn port(protocol: Protocol, port: u16, verdict: Expression) -> Vec<Expression> {
    vec![
        meta(MetaKey::L4Proto, SCRATCH),
        compare(Operator::Equal, vec![number(protocol)]),
        payload(TRANSPORT_HEADER, PORT, SCRATCH),
        compare(Operator::Equal, port.to_be_bytes().to_vec()),
        verdict,
    ]
}

/// The number of a protocol in an IP header.
pub(super) fn number(protocol: Protocol) -> u8 {
    let number = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
        Protocol::Sctp => libc::IPPROTO_SCTP,
    };
    number as u8
}

pub(super) fn accept() -> Expression {
    verdict(vec![VerdictAttribute::Code(Verdict::Other(NF_ACCEPT))])
}

pub(super) fn drop() -> Expression {
    verdict(vec![VerdictAttribute::Code(Verdict::Other(NF_DROP))])
}

/// Goes on in this chain and does not come back.
pub(super) fn goto(chain: &str) -> Expression {
    verdict(vec![VerdictAttribute::Code(Verdict::Goto), VerdictAttribute::Chain(chain.to_owned())])
}

/// Packets of this family, with their destination loaded.
fn destination(family: Family) -> Vec<Expression> {
    let (number, place) = match family {
        Family::V4 => (NFPROTO_IPV4, (16, 4)),
        Family::V6 => (NFPROTO_IPV6, (24, 16)),
    };
    vec![
        meta(MetaKey::Nfproto, SCRATCH),
        compare(Operator::Equal, vec![number]),
        payload(NETWORK_HEADER, place, SCRATCH),
    ]
}

fn meta(key: MetaKey, register: Register) -> Expression {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register)]).into()
}

fn payload(base: u32, (offset, length): (u32, u32), register: Register) -> Expression {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn compare(operator: Operator, value: Vec<u8>) -> Expression {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(SCRATCH),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
    .into()
}

fn lookup(set: &str) -> Expression {
    Expressions::Lookup(vec![Lookup::Set(set.to_owned()), Lookup::SourceRegister(SCRATCH)]).into()
}

fn verdict(attributes: Vec<VerdictAttribute>) -> Expression {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(attributes)),
    ])
    .into()
}
