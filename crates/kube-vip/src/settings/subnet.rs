//! `vip_subnet`: one prefix length or one per family, for the control plane and for Services.

use vip_model::Family;
use vip_model::config::PrefixRule;

use super::refusal::Refusal;
use super::source::Values;
use super::{Warning, Weight, key, parse, warning};

const MOST_V4: u8 = 32;
const MOST_V6: u8 = 128;

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

/// The lengths for the addresses of Services, IPv4 and IPv6. One length is meant for IPv4, as upstream has it; IPv6 has
/// its own or 128.
pub(super) fn for_services(
    values: &Values,
    warnings: &mut Vec<Warning>,
) -> Result<(PrefixRule, PrefixRule), Refusal> {
    const HOST: (PrefixRule, PrefixRule) = (PrefixRule::Fixed(MOST_V4), PrefixRule::Fixed(MOST_V6));
    let Some(text) = values.set(key::SUBNET) else { return Ok(HOST) };
    let rules: Option<Vec<PrefixRule>> = parse::list(text).into_iter().map(rule).collect();
    match rules.as_deref() {
        Some([PrefixRule::OfLink]) => Ok((PrefixRule::OfLink, PrefixRule::OfLink)),
        // It is there for an IPv6 control plane; refusing it would take that one away, too.
        Some([PrefixRule::Fixed(length)]) if (MOST_V4 + 1..=MOST_V6).contains(length) => {
            let text = format!(
                "{length} is no length for IPv4; addresses of Services get 32 and 128 (write two lengths, 32,{length}, \
                 to say otherwise)"
            );
            warnings.push(warning(Weight::Warning, values.spelled(key::SUBNET), text));
            Ok(HOST)
        }
        Some([v4]) => Ok((fits(values, *v4, Family::V4)?, HOST.1)),
        Some([v4, v6]) => Ok((fits(values, *v4, Family::V4)?, fits(values, *v6, Family::V6)?)),
        _ => Err(values.refuse(
            key::SUBNET,
            "give one prefix length, or two as IPv4,IPv6, as numbers without a slash (32,128), or auto for that of the \
             link's network",
        )),
    }
}

fn rule(part: &str) -> Option<PrefixRule> {
    if part == "auto" { Some(PrefixRule::OfLink) } else { part.parse().ok().map(PrefixRule::Fixed) }
}

fn fits(values: &Values, rule: PrefixRule, family: Family) -> Result<PrefixRule, Refusal> {
    let most = if family == Family::V4 { MOST_V4 } else { MOST_V6 };
    match rule {
        PrefixRule::Fixed(length) if length > most => Err(too_long(values, length, family)),
        rule => Ok(rule),
    }
}

/// A length of more bits than the family has.
pub(super) fn too_long(values: &Values, length: u8, family: Family) -> Refusal {
    let (family, most) = if family == Family::V4 { ("IPv4", MOST_V4) } else { ("IPv6", MOST_V6) };
    let accepted = format!(
        "provided CIDR mask '{length}' is greater than the highest mask value for the {family} family ({most})"
    );
    values.refuse(key::SUBNET, accepted)
}
