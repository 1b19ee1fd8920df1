//! The packet filter (`enable_service_security`): for each Service address of this node the ports that may be reached.
//!
//! Services on one address get the union of their ports. When one of them opts out by annotation, the address is left
//! out as a whole: its traffic is not ours to judge. Addresses of the control plane are never in it. While the Services
//! are unknown there is no filter in the plan, and none follows from that: what the kernel has stays.

use std::net::IpAddr;

use vip_model::plan::PacketFilter;

use super::member::Member;

/// Opens the ports of those who use an address, unless one of them opts out.
pub(super) fn open<'m>(
    packets: &mut PacketFilter,
    addr: IpAddr,
    users: impl Iterator<Item = &'m Member<'m>> + Clone,
) {
    if !users.clone().any(|user| user.notes.is_open()) {
        let ports = users.flat_map(|user| user.ports.iter().copied());
        packets.open.insert(addr, ports.collect());
    }
}
