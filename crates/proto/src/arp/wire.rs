//! The bytes of ARP packets. Cutting and joining is `etherparse`'s; what is accepted is decided here.

use std::net::Ipv4Addr;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, ArpPacketSlice, EtherType};

use super::{Hardware, Ignored, Operation, Packet};

/// Reads the bytes that followed the link-layer header. Bytes after the packet are allowed: Ethernet pads short frames
/// to 46 bytes.
pub fn decode(payload: &[u8]) -> Result<Packet, Ignored> {
    let arp = ArpPacketSlice::from_slice(payload).map_err(|_| Ignored::Truncated)?;
    let protocol = Ignored::Protocol { kind: arp.proto_addr_type().0, length: arp.proto_addr_size() };
    if arp.proto_addr_type() != EtherType::IPV4 {
        return Err(protocol);
    }
    let address = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from).map_err(|_| protocol);
    Ok(Packet {
        hardware: hardware(&arp)?,
        sender_ip: address(arp.sender_protocol_addr())?,
        target_ip: address(arp.target_protocol_addr())?,
        operation: match arp.operation() {
            ArpOperation::REQUEST => Operation::Request,
            ArpOperation::REPLY => Operation::Reply,
            ArpOperation(other) => return Err(Ignored::Operation(other)),
        },
    })
}

fn hardware(arp: &ArpPacketSlice<'_>) -> Result<Hardware, Ignored> {
    let refused = Ignored::Hardware { kind: arp.hw_addr_type().0, length: arp.hw_addr_size() };
    let (sender, target) = (arp.sender_hw_addr(), arp.target_hw_addr());
    let pair = match arp.hw_addr_type() {
        ArpHardwareId::ETHERNET => {
            sender.try_into().and_then(|sender| Ok(Hardware::Ethernet { sender, target: target.try_into()? }))
        }
        ArpHardwareId::INFINIBAND => sender
            .try_into()
            .and_then(|sender| Ok(Hardware::Infiniband { sender, target: target.try_into()? })),
        _ => return Err(refused),
    };
    pair.map_err(|_| refused)
}

/// The bytes that follow the link-layer header, without padding (the driver pads).
pub fn encode(packet: &Packet) -> Vec<u8> {
    let (kind, sender, target): (_, &[u8], &[u8]) = match &packet.hardware {
        Hardware::Ethernet { sender, target } => (ArpHardwareId::ETHERNET, sender, target),
        Hardware::Infiniband { sender, target } => (ArpHardwareId::INFINIBAND, sender, target),
    };
    let operation = match packet.operation {
        Operation::Request => ArpOperation::REQUEST,
        Operation::Reply => ArpOperation::REPLY,
    };
    let (sender_ip, target_ip) = (packet.sender_ip.octets(), packet.target_ip.octets());
    ArpPacket::new(kind, EtherType::IPV4, operation, sender, &sender_ip, target, &target_ip)
        .expect("both hardware addresses have one length, and so have both IPv4 addresses")
        .to_bytes()
        .to_vec()
}
