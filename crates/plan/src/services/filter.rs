//! The packet filter (`enable_service_security`): for each Service address of this node the ports that may be reached.
//!
//! Services on one address get the union of their ports. When one of them opts out by annotation, the address is left
//! out as a whole: its traffic is not ours to judge. Addresses of the control plane are never in it. While the Services
//! are unknown there is no filter in the plan, and none follows from that: what the kernel has stays.

use std::net::IpAddr;

use vip_model::plan::PacketFilter;
use vip_model::service::Service;

/// The annotation that takes a Service out of the filter when it is exactly `true`.
const OPT_OUT: &str = "kube-vip.io/ignore-service-security";

/// Opens the ports of those who use an address, unless one of them opts out.
pub(super) fn open<'s>(
    packets: &mut PacketFilter,
    addr: IpAddr,
    users: impl Iterator<Item = &'s Service> + Clone,
) {
    let opts_out = |service: &Service| service.annotations.get(OPT_OUT).is_some_and(|value| value == "true");
    if !users.clone().any(opts_out) {
        packets.open.insert(addr, users.flat_map(|service| service.ports.iter().copied()).collect());
    }
}
