//! The switch's side of every fault: ports that stop forwarding while the carrier stays, ports that lose the carrier,
//! and filters between ports. Port faults are one raw netlink message on a socket that is already open, because a
//! power failure must not wait for a program to start.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockProtocol;

use super::netlink::Netlink;
use super::place::{Place, feed, output};
use super::{Error, Result, boot};

const RTM_SETLINK: u16 = 19;
const IFLA_PROTINFO_NESTED: u16 = 0x000c | 0x8000;
const IFLA_BRPORT_STATE: u16 = 1;
const AF_BRIDGE: u8 = 7;
const IFF_UP: u32 = 1;
/// How long a carrier may take to be seen.
const CARRIER_LIMIT: Duration = Duration::from_secs(3);

/// The state of a bridge port (`BR_STATE_*` of `linux/if_bridge.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// Nothing goes through; the carrier stays.
    Disabled,
    /// The usual.
    Forwarding,
}

/// The carrier as the other end of the cable sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Cable in.
    On,
    /// Cable pulled.
    Off,
}

/// The switch: a bridge in the lab's own network namespace. Port `n1` leads to node `n1`.
#[derive(Debug)]
pub struct Switch {
    place: Place,
    netlink: Netlink,
}

impl Switch {
    /// Makes the bridge in the calling process's network namespace.
    pub(super) fn make() -> Result<Self> {
        let place = Place::here("switch")?;
        place.ip("link set lo up\n\
                  link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                  link set br0 up\n")?;
        let netlink =
            Netlink::open(SockProtocol::NetlinkRoute).map_err(Error::system("opening a netlink socket"))?;
        Ok(Self { place, netlink })
    }

    /// The place where the bridge is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Lets a port forward, or not; the node behind it does not notice.
    pub fn set_port(&self, port: &str, state: PortState) -> Result<()> {
        let value = if state == PortState::Forwarding { 3 } else { 0 };
        let mut protinfo = Vec::new();
        protinfo.extend(12_u16.to_ne_bytes());
        protinfo.extend(IFLA_PROTINFO_NESTED.to_ne_bytes());
        protinfo.extend(5_u16.to_ne_bytes());
        protinfo.extend(IFLA_BRPORT_STATE.to_ne_bytes());
        protinfo.extend([value, 0, 0, 0]);
        let header = ifinfo(AF_BRIDGE, Self::index(port)?, 0, 0);
        let message = [&header[..], &protinfo].concat();
        let begin = Instant::now();
        loop {
            let done = self.netlink.request(RTM_SETLINK, &message);
            // A cable that was just plugged in: the kernel looks at carriers up to a second later, and until then no
            // port forwards (`br_set_port_state` asks `netif_oper_up`).
            let early = done.as_ref().is_err_and(|cause| cause.raw_os_error() == Some(libc::ENETDOWN));
            if !early || begin.elapsed() > CARRIER_LIMIT {
                return done.map_err(Error::system(format!("setting port {port}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Pulls the cable of a port, or plugs it in.
    pub fn set_carrier(&self, port: &str, carrier: Carrier) -> Result<()> {
        let flags = if carrier == Carrier::On { IFF_UP } else { 0 };
        let header = ifinfo(0, Self::index(port)?, flags, IFF_UP);
        self.netlink
            .request(RTM_SETLINK, &header)
            .map_err(Error::system(format!("setting the carrier of {port}")))
    }

    /// Drops what goes from one port to another, in this direction only.
    pub fn drop_between(&self, from: &str, to: &str) -> Result<()> {
        self.filter(&format!("iifname \"{from}\" oifname \"{to}\" drop"))
    }

    /// Drops TCP to a port number in both directions of one node: with 6443 it is cut from every other API server.
    pub fn drop_tcp(&self, node: &str, tcp: u16) -> Result<()> {
        self.filter(&format!("iifname \"{node}\" meta protocol {{ ip, ip6 }} tcp dport {tcp} drop"))?;
        self.filter(&format!("oifname \"{node}\" meta protocol {{ ip, ip6 }} tcp sport {tcp} drop"))
    }

    /// Takes all filters away.
    pub fn clear_filters(&self) -> Result<()> {
        self.nft("add table bridge lab\ndelete table bridge lab\n")
    }

    fn filter(&self, rule: &str) -> Result<()> {
        self.nft(&format!(
            "add table bridge lab\n\
             add chain bridge lab forward {{ type filter hook forward priority 0; }}\n\
             add rule bridge lab forward {rule}\n"
        ))
    }

    fn nft(&self, script: &str) -> Result<()> {
        boot::present("nft", "nftables")?;
        self.place.within(|| feed(Command::new("nft").arg("-f").arg("-"), script))?
    }

    /// What the switch looks like, for people.
    pub fn describe(&self) -> Result<String> {
        self.place.within(|| output(Command::new("bridge").args(["link"])))?
    }

    /// The calling thread is in the switch's namespace, as all threads of the lab are that were not moved.
    fn index(port: &str) -> Result<u32> {
        if_nametoindex(port).map_err(Error::system(format!("looking for port {port}")))
    }
}

/// `struct ifinfomsg` of `linux/rtnetlink.h`.
fn ifinfo(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}
