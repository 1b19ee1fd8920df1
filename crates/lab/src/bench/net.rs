//! Who has which address on the bench: one /24 and one /64, the same last number in both, and a MAC address that shows
//! it too. `Lab` hands the addresses out, instruments read nodes back from MACs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// UDP port of the echo on every node.
pub const ECHO_PORT: u16 = 7007;
/// Last number of the router's addresses.
pub const ROUTER: u8 = 1;
/// Last number of the first node's addresses is one more.
pub const NODES: u8 = 10;
/// Last number of the client's addresses.
pub const CLIENT: u8 = 100;
/// Last number of the watcher's addresses.
pub const WATCH: u8 = 101;
/// Last number of the VIP in the scenarios.
pub const VIP: u8 = 200;
/// First of the last numbers that the detector writes into its questions as sender.
pub const QUESTIONS: u8 = 128;
/// How many senders the detector goes through before it begins again.
pub const QUESTION_SLOTS: u8 = 32;

/// The IPv4 address of the thing with this number.
pub const fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

/// The IPv6 address of the thing with this number; reads like the IPv4 one (`fd77::11` is node 1).
pub fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, decimal_as_hex(number))
}

/// The link-local address of the thing with this number.
pub fn link_local(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, decimal_as_hex(number))
}

/// `fd77::100` for number 100: the digits stay, although IPv6 reads them as hexadecimal.
fn decimal_as_hex(number: u8) -> u16 {
    let number = u16::from(number);
    (number / 100) * 0x100 + (number / 10 % 10) * 0x10 + number % 10
}

/// The IPv4 address of a node on the network for nodes.
pub const fn node_v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, 0, number)
}

/// The IPv6 address of a node on the network for nodes.
pub fn node_v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, decimal_as_hex(number))
}

/// The VIP of the scenarios, IPv4 first.
pub fn vips() -> [IpAddr; 2] {
    [v4(VIP).into(), v6(VIP).into()]
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The MAC of the thing with this number.
    pub const fn of(number: u8) -> Self {
        Self([0x02, 0x77, 0, 0, 0, number])
    }

    /// The MAC on the network for nodes.
    pub const fn of_node_port(number: u8) -> Self {
        Self([0x02, 0x78, 0, 0, 0, number])
    }

    /// The node behind this MAC, counted from 1, if it is one of ours.
    pub const fn node(self) -> Option<u8> {
        match self.0 {
            [0x02, 0x77, 0, 0, 0, number] if number > NODES && number < CLIENT => Some(number - NODES),
            _ => None,
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&text.join(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_the_same_in_both_families() {
        assert_eq!(v4(11).to_string(), "10.77.0.11");
        assert_eq!(v6(11).to_string(), "fd77::11");
        assert_eq!(v6(100).to_string(), "fd77::100");
        assert_eq!(link_local(200).to_string(), "fe80::200");
    }

    #[test]
    fn a_mac_names_its_node() {
        assert_eq!(Mac::of(NODES + 3).node(), Some(3));
        assert_eq!(Mac::of(CLIENT).node(), None);
        assert_eq!(Mac::of(12).to_string(), "02:77:00:00:00:0c");
    }
}
