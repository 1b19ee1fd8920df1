//! `vip_subnet`: one prefix length or one per family.

use vip_model::Family;

use super::refusal::Refusal;
use super::source::Values;
use super::{key, parse};

/// The lengths that the user gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subnet {
    /// None: a host address.
    Derived,
    /// One for both families.
    One(u8),
    /// One for IPv4, one for IPv6.
    Two(u8, u8),
}

/// The length for one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// This one; whether its family has so many bits is not said yet.
    Fits(u8),
    /// One length that only makes sense for IPv4, and the address is IPv6. Helm's default `32` does that to every
    /// IPv6 control plane; nobody wants `2001:db8::/32` to be on-link.
    MeantForIpv4(u8),
}

impl Subnet {
    pub(super) fn read(values: &Values) -> Result<Self, Refusal> {
        let Some(text) = values.set(key::SUBNET) else { return Ok(Self::Derived) };
        if text.split(',').any(|part| part.trim() == "auto") {
            let why =
                "auto subnet discovery cannot be used if VIP address was provided; give a prefix length";
            return Err(values.refuse(key::SUBNET, why));
        }
        let lengths: Option<Vec<u8>> = parse::list(text).into_iter().map(|part| part.parse().ok()).collect();
        match lengths.as_deref() {
            Some([one]) => Ok(Self::One(*one)),
            Some([v4, v6]) => Ok(Self::Two(*v4, *v6)),
            _ => Err(values.refuse(
                key::SUBNET,
                "give one prefix length, or two as IPv4,IPv6, as numbers without a slash (32,128)",
            )),
        }
    }

    pub(super) const fn length(self, family: Family) -> Length {
        match (self, family) {
            (Self::Derived, Family::V4) => Length::Fits(32),
            (Self::Derived, Family::V6) => Length::Fits(128),
            (Self::One(length), Family::V6) if length <= 32 => Length::MeantForIpv4(length),
            (Self::One(length) | Self::Two(length, _), Family::V4)
            | (Self::One(length) | Self::Two(_, length), Family::V6) => Length::Fits(length),
        }
    }
}
