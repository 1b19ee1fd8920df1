//! Which addresses a Service has already, and from where: the annotation goes before `spec.loadBalancerIP`, that before
//! the status. What can't be read is said, and hides nothing that can.

use std::net::IpAddr;

use vip_model::Family;
use vip_model::service::Service;

use super::pool::shown;
use super::{ANNOTATION_ADDRESSES, ANNOTATION_ALLOCATED};

/// What a Service has.
#[derive(Debug)]
pub(super) enum Held {
    /// The annotation names these addresses (none when it has only DNS names or asks for DHCP).
    Annotation(Vec<IpAddr>, Author),
    /// `spec.loadBalancerIP` names one; with it come those beside which the status shows it.
    Spec(Vec<IpAddr>),
    /// Only the status names some.
    Status(Vec<IpAddr>),
    /// Something can't be read; these addresses can.
    Unreadable(Vec<IpAddr>, String),
    /// It has none.
    Nothing,
}

/// Who wrote the annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    /// The allocator: both annotations agree.
    Allocator,
    /// Somebody else.
    User,
}

/// What a Service has.
pub(super) fn held(service: &Service) -> Held {
    let annotation = service.annotations.get(ANNOTATION_ADDRESSES);
    if let Some(text) = annotation.filter(|text| tokens(text).next().is_some()) {
        let is_ours = service.annotations.get(ANNOTATION_ALLOCATED) == Some(text);
        return annotated(text, if is_ours { Author::Allocator } else { Author::User });
    }
    if let Some(text) = service.spec_ip.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        return match text.parse::<IpAddr>() {
            Ok(addr) if !addr.is_unspecified() => Held::Spec(beside(service, addr.to_canonical())),
            Ok(_) => {
                Held::Unreadable(Vec::new(), format!("spec.loadBalancerIP {text} asks for DHCP: {DHCP}"))
            }
            Err(_) => {
                let problem = format!("spec.loadBalancerIP {} is no IP address", shown(text));
                Held::Unreadable(Vec::new(), problem)
            }
        };
    }
    let status = from_status(service);
    if status.is_empty() { Held::Nothing } else { Held::Status(status) }
}

/// What to do instead of asking for DHCP in `spec.loadBalancerIP`.
const DHCP: &str = "set the annotation kube-vip.io/loadbalancerIPs instead";

/// Addresses that a Service shows beside those that decide: they may still be answered for somewhere.
pub(super) fn leftovers(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let spec = service.spec_ip.as_deref().and_then(|text| text.trim().parse::<IpAddr>().ok());
    let status = service.ingress.iter().filter_map(|ingress| ingress.ip);
    spec.into_iter().chain(status).map(|addr| addr.to_canonical()).filter(|addr| !addr.is_unspecified())
}

/// An address with those that the status shows together with it: the other half of a dual-stack Service whose annotation
/// was lost.
fn beside(service: &Service, addr: IpAddr) -> Vec<IpAddr> {
    let mut shown = from_status(service);
    shown.retain(|other| Family::of(*other) != Family::of(addr) || *other == addr);
    if shown.contains(&addr) { shown } else { vec![addr] }
}

fn from_status(service: &Service) -> Vec<IpAddr> {
    let mut addrs = Vec::new();
    for addr in service.ingress.iter().filter_map(|ingress| ingress.ip).map(|addr| addr.to_canonical()) {
        if !addr.is_unspecified() && !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    addrs
}

fn annotated(text: &str, author: Author) -> Held {
    let (mut addrs, mut bad) = (Vec::new(), Vec::new());
    for token in tokens(text) {
        match token.parse::<IpAddr>() {
            Ok(addr) if addr.is_unspecified() || addrs.contains(&addr.to_canonical()) => {}
            Ok(addr) => addrs.push(addr.to_canonical()),
            Err(_) if is_dns_name(token) => {}
            Err(_) => bad.push(shown(token)),
        }
    }
    if bad.is_empty() {
        return Held::Annotation(addrs, author);
    }
    bad.truncate(BAD_TOKENS);
    let problem = format!(
        "annotation {ANNOTATION_ADDRESSES}: {} is neither an IP address nor a DNS name; a list such as \
         10.0.0.1,2001:db8::1 is accepted",
        bad.join(", ")
    );
    Held::Unreadable(addrs, problem)
}

/// How many bad tokens of one annotation are told.
const BAD_TOKENS: usize = 4;

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// Whether a text can be a host name (RFC 1123 §2.1) that nobody takes for an address: its last label has a letter.
fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let top = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(is_label) && top.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_address_is_no_dns_name() {
        for name in ["vip.example.org", "vip", "a-1.b2c", "10.0.0.1.nip.io", "example.org."] {
            assert!(is_dns_name(name), "{name}");
        }
        for name in ["10.0.0.300", "10.0.0", "", "a..b", "-a", "a_b", "10.0.0.1/24", "fd00::1::2"] {
            assert!(!is_dns_name(name), "{name}");
        }
    }
}
