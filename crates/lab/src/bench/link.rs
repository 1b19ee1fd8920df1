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

/// The switch: a bridge in the lab's own network namespace. Port `n1` leads to `eth0` of node `n1`. With a network for
/// nodes there is a second bridge, and port `n1-node` leads to `eth1`.
#[derive(Debug)]
pub struct Switch {
    place: Place,
    netlink: Netlink,
    networks: Networks,
}

/// The networks of the bench.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Networks {
    /// One for everything.
    #[default]
    One,
    /// A second one for what nodes say to each other: API servers and heartbeats. VIPs and clients are on the first.
    Two,
}

/// The port of a node on the network for nodes.
pub(super) fn node_port(node: &str) -> String {
    format!("{node}-node")
}

/// A switch knows nothing of IP: where the kernel's bridge shows frames to the packet filters of this namespace, it ends here.
fn no_packet_filters() -> Result<()> {
    for filters in ["iptables", "ip6tables", "arptables"] {
        let file = format!("/proc/sys/net/bridge/bridge-nf-call-{filters}");
        match std::fs::write(&file, "0") {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::system(format!("writing {file}"))(cause));
            }
            _ => {} // without br_netfilter there is nothing to end
        }
    }
    Ok(())
}

impl Switch {
    /// Makes the bridges in the calling process's network namespace.
    pub(super) fn make(networks: Networks) -> Result<Self> {
        let place = Place::here("switch")?;
        place.ip("link set lo up\n")?;
        no_packet_filters()?;
        let bridges: &[&str] = if networks == Networks::Two { &["br0", "br1"] } else { &["br0"] };
        for bridge in bridges {
            place.ip(&format!(
                "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                 link set {bridge} up\n"
            ))?;
        }
        let netlink =
            Netlink::open(SockProtocol::NetlinkRoute).map_err(Error::system("opening a netlink socket"))?;
        Ok(Self { place, netlink, networks })
    }

    /// Takes everything down that `make` and its ports put up, so that another bench can be raised.
    pub(super) fn clear(&self, ports: &[String]) {
        let bridges = ["br0".to_owned(), "br1".to_owned()];
        for link in ports.iter().chain(&bridges) {
            // Gone already, if the other end went with its namespace.
            let _ = self.place.ip(&format!("link del {link}\n"));
        }
        let _ = self.clear_filters();
    }

    /// The networks that it makes.
    pub fn networks(&self) -> Networks {
        self.networks
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
        let ports = both_ports(node);
        self.filter(&format!("iifname {ports} meta protocol {{ ip, ip6 }} tcp dport {tcp} drop"))?;
        self.filter(&format!("oifname {ports} meta protocol {{ ip, ip6 }} tcp sport {tcp} drop"))
    }

    /// Drops UDP to a port number, from and to one node.
    pub fn drop_udp_of(&self, node: &str, udp: u16) -> Result<()> {
        let ports = both_ports(node);
        self.filter(&format!("iifname {ports} meta protocol {{ ip, ip6 }} udp dport {udp} drop"))?;
        self.filter(&format!("oifname {ports} meta protocol {{ ip, ip6 }} udp dport {udp} drop"))
    }

    /// Drops UDP to a port number between all.
    pub fn drop_udp(&self, udp: u16) -> Result<()> {
        self.filter(&format!("meta protocol {{ ip, ip6 }} udp dport {udp} drop"))
    }

    /// Counts UDP to a port number that a node sends, from now on.
    pub fn count_udp_of(&self, node: &str, udp: u16) -> Result<()> {
        let ports = both_ports(node);
        self.filter(&format!("iifname {ports} meta protocol {{ ip, ip6 }} udp dport {udp} counter"))
    }

    /// Packets and bytes (IP headers and all, without Ethernet's) that the counters have counted, in their order.
    pub fn counted(&self) -> Result<Vec<(u64, u64)>> {
        boot::present("nft", "nftables")?;
        let listing = self
            .place
            .within(|| output(Command::new("nft").args(["list", "chain", "bridge", "lab", "forward"])))??;
        Ok(read_counters(&listing))
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

/// Both ports of a node, as `nft` writes a set.
fn both_ports(node: &str) -> String {
    format!("{{ \"{node}\", \"{}\" }}", node_port(node))
}

/// The counters in what `nft list` prints: `… counter packets 12 bytes 3456 …`.
fn read_counters(listing: &str) -> Vec<(u64, u64)> {
    let of = |line: &str| {
        let (_, rest) = line.split_once("counter packets ")?;
        let mut words = rest.split_whitespace();
        let packets = words.next()?.parse().ok()?;
        Some((packets, words.nth(1)?.parse().ok()?))
    };
    listing.lines().filter_map(of).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_in_their_order() {
        let listing = "table bridge lab {\n\
            \tiifname { \"n1\", \"n1-node\" } udp dport 7949 counter packets 12 bytes 3456\n\
            \tiifname \"n2\" drop\n\
            \tiifname { \"n2\", \"n2-node\" } udp dport 7949 counter packets 0 bytes 0\n}";
        assert_eq!(read_counters(listing), [(12, 3456), (0, 0)]);
    }
}
