//! Addresses of the network: families, links, link-layer addresses, VIPs with their prefix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// The kernel's index of a link (`if_nametoindex(3)`), from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkIndex(pub u32);

/// A link-layer address: 6 bytes on Ethernet, 20 on IP over `InfiniBand` (RFC 4391 §9.1.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum LinkAddr {
    /// Ethernet and friends: 6 bytes.
    Ethernet([u8; 6]),
    /// IP over `InfiniBand`: 20 bytes.
    Infiniband([u8; 20]),
}

/// A byte string that is no link-layer address that we know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a link-layer address has 6 bytes (Ethernet) or 20 (IPoIB), not {0}")]
pub struct WrongLength(pub usize);

impl LinkAddr {
    /// The Ethernet broadcast address.
    pub const BROADCAST: Self = Self::Ethernet([0xff; 6]);

    /// From raw bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WrongLength> {
        if let Ok(mac) = <[u8; 6]>::try_from(bytes) {
            return Ok(Self::Ethernet(mac));
        }
        <[u8; 20]>::try_from(bytes).map(Self::Infiniband).map_err(|_| WrongLength(bytes.len()))
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ethernet(bytes) => bytes,
            Self::Infiniband(bytes) => bytes,
        }
    }
}

impl fmt::Display for LinkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.as_bytes().iter().enumerate() {
            write!(f, "{}{byte:02x}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for LinkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<LinkAddr> for String {
    fn from(addr: LinkAddr) -> Self {
        addr.to_string()
    }
}

impl TryFrom<String> for LinkAddr {
    type Error = WrongLength;

    fn try_from(text: String) -> Result<Self, WrongLength> {
        text.parse()
    }
}

impl FromStr for LinkAddr {
    type Err = WrongLength;

    /// Colon-separated hex, `02:00:00:00:00:01`. A group that is no hex byte counts as a wrong length of 0.
    fn from_str(text: &str) -> Result<Self, WrongLength> {
        let bytes: Option<Vec<u8>> =
            text.split(':').map(|group| u8::from_str_radix(group, 16).ok()).collect();
        Self::from_bytes(&bytes.ok_or(WrongLength(0))?)
    }
}

/// An address on a link; as text `address%link-index`, the form of RFC 4007 §11.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ScopedAddr {
    /// The address.
    pub addr: IpAddr,
    /// The link.
    pub link: LinkIndex,
}

/// A text that is no `address%link-index`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form address%link-index")]
pub struct NotAScopedAddr(pub String);

impl fmt::Display for ScopedAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%{}", self.addr, self.link.0)
    }
}

impl From<ScopedAddr> for String {
    fn from(scoped: ScopedAddr) -> Self {
        scoped.to_string()
    }
}

impl TryFrom<String> for ScopedAddr {
    type Error = NotAScopedAddr;

    fn try_from(text: String) -> Result<Self, NotAScopedAddr> {
        let parsed = text.split_once('%').and_then(|(addr, link)| {
            Some(Self { addr: addr.parse().ok()?, link: LinkIndex(link.parse().ok()?) })
        });
        parsed.ok_or(NotAScopedAddr(text))
    }
}

/// A virtual IP address with the prefix length under which it is installed (host bits are kept).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VipNet(pub IpNet);

impl VipNet {
    /// The address itself.
    pub fn addr(self) -> IpAddr {
        self.0.addr()
    }

    /// Its family.
    pub fn family(self) -> Family {
        Family::of(self.addr())
    }
}

impl fmt::Display for VipNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_addresses_round_trip_as_text() {
        let mac: LinkAddr = "02:00:00:00:00:01".parse().unwrap();
        assert_eq!(mac, LinkAddr::Ethernet([2, 0, 0, 0, 0, 1]));
        assert_eq!(mac.to_string(), "02:00:00:00:00:01");
        let ib = LinkAddr::Infiniband([7; 20]);
        assert_eq!(ib.to_string().parse::<LinkAddr>().unwrap(), ib);
        assert_eq!("02:00".parse::<LinkAddr>(), Err(WrongLength(2)));
    }
}
