//! Which addresses a Service asks for, and where it says so. Reads annotation, spec and status in upstream's order;
//! gives back addresses that can be used, or one sentence about what can't.
//!
//! 1. the annotation `kube-vip.io/loadbalancerIPs`, when it names anything;
//! 2. `spec.loadBalancerIP`, when the status already shows a different address of its family: the user changed it;
//! 3. the addresses in the status;
//! 4. `spec.loadBalancerIP`.
//!
//! An address of a family that the Service does not have is left out, because no proxy forwards it; when nothing is
//! left, or `RequireDualStack` is not met, the request is invalid. Several addresses of one family are accepted, as
//! upstream does, up to a limit.

use std::net::IpAddr;

use vip_model::Family;
use vip_model::service::{FamilyPolicy, Service};
use vip_model::verdict::Reason;

use super::notes::Notes;

/// The annotation that names a Service's addresses, as sentences name it.
const ADDRESSES: &str = "annotation kube-vip.io/loadbalancerIPs";
/// The most addresses of one Service: enough for every use that is known, and a bound for what one object can cost.
const ADDRESS_LIMIT: usize = 16;
/// How much of a user's text a sentence repeats.
const SHOWN: usize = 60;

/// What a Service asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The addresses, in the order of the Service's families. Never empty.
    pub(super) addrs: Vec<IpAddr>,
    /// Where it says so.
    pub(super) source: Source,
}

/// Where a Service names its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In the annotation.
    Annotation,
    /// In `spec.loadBalancerIP`.
    Spec,
    /// Only in its status: whoever wrote that may have meant something else by it.
    Status,
}

/// The addresses that a Service asks for; `Err` says why there are none.
pub(super) fn request(service: &Service, notes: &Notes<'_>) -> Result<Request, Reason> {
    if notes.vlan.is_some() {
        let text =
            "annotation kube-vip.io/serviceVLAN: VLAN links are not supported yet; remove the annotation";
        return Err(Reason::NotSupported(text.to_owned()));
    }
    let (addrs, source) = named(service, notes)?;
    let addrs = of_families(service, addrs)?;
    Ok(Request { addrs, source })
}

fn named(service: &Service, notes: &Notes<'_>) -> Result<(Vec<IpAddr>, Source), Reason> {
    let annotation = notes.addresses.map(list).transpose()?.unwrap_or_default();
    if !annotation.is_empty() {
        return Ok((annotation, Source::Annotation));
    }
    let shown = service.ingress.iter().filter_map(|ingress| ingress.ip).map(|addr| addr.to_canonical());
    let spec = service.spec_ip.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if let Some(text) = spec {
        let addr = single("spec.loadBalancerIP", text)?;
        let differs = |other: IpAddr| Family::of(other) == Family::of(addr) && other != addr;
        if shown.clone().next().is_none() || shown.clone().any(differs) {
            return Ok((vec![addr], Source::Spec));
        }
    }
    let mut addrs = Vec::new();
    for addr in shown {
        push(&mut addrs, usable("status.loadBalancer", addr)?)?;
    }
    match (addrs.is_empty(), service.ingress.iter().find_map(|ingress| ingress.hostname.as_deref())) {
        (false, _) => Ok((addrs, Source::Status)),
        (true, Some(name)) => Err(dns("status.loadBalancer", name)),
        (true, None) => Err(Reason::NoAddress),
    }
}

/// A comma list of addresses. Empty items are skipped: templates leave them behind.
fn list(text: &str) -> Result<Vec<IpAddr>, Reason> {
    let mut addrs = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        push(&mut addrs, single(ADDRESSES, item)?)?;
    }
    Ok(addrs)
}

fn push(addrs: &mut Vec<IpAddr>, addr: IpAddr) -> Result<(), Reason> {
    if addrs.contains(&addr) {
        return Ok(());
    }
    if addrs.len() == ADDRESS_LIMIT {
        return Err(Reason::Invalid(format!("a Service has at most {ADDRESS_LIMIT} addresses; name fewer")));
    }
    addrs.push(addr);
    Ok(())
}

fn single(place: &str, item: &str) -> Result<IpAddr, Reason> {
    match item.parse::<IpAddr>() {
        Ok(addr) => usable(place, addr.to_canonical()),
        Err(_) if is_dns_name(item) => Err(dns(place, item)),
        Err(_) => Err(Reason::Invalid(format!(
            "{place}: {:?} is no IP address; a list such as 192.0.2.10,2001:db8::10 is accepted",
            shown(item)
        ))),
    }
}

/// An address that can be a VIP.
fn usable(place: &str, addr: IpAddr) -> Result<IpAddr, Reason> {
    let is_link_local = match addr {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if addr.is_unspecified() {
        let text = format!("{place}: {addr} asks for DHCP, which is not supported yet; name an address");
        return Err(Reason::NotSupported(text));
    }
    if addr.is_loopback() || addr.is_multicast() || is_link_local {
        let text = format!("{place}: {addr} cannot be a VIP; name a unicast address that routers forward");
        return Err(Reason::Invalid(text));
    }
    Ok(addr)
}

fn dns(place: &str, name: &str) -> Reason {
    Reason::NotSupported(format!(
        "{place}: the DNS name {} is not supported yet; name an IP address",
        shown(name)
    ))
}

/// Whether a text can only be meant as a host name (RFC 1123 §2.1): its last label has a letter.
fn is_dns_name(text: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let top = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    text.bytes().all(is_char) && top.bytes().any(|byte| byte.is_ascii_alphabetic())
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// The addresses of the Service's families, in their order.
fn of_families(service: &Service, mut addrs: Vec<IpAddr>) -> Result<Vec<IpAddr>, Reason> {
    let families = &service.families;
    if families.is_empty() {
        return Ok(addrs);
    }
    let rank = |addr: &IpAddr| families.iter().position(|family| *family == Family::of(*addr));
    if addrs.len() == 1 && families.len() == 1 && rank(&addrs[0]).is_some() {
        return Ok(addrs);
    }
    addrs.retain(|addr| rank(addr).is_some());
    addrs.sort_by_key(rank);
    let has = |family: &Family| addrs.iter().any(|addr| Family::of(*addr) == *family);
    if addrs.is_empty() {
        let text = format!("none of the addresses is of the Service's families ({})", text_of(families));
        return Err(Reason::Invalid(text));
    }
    if service.family_policy == FamilyPolicy::RequireDualStack && !families.iter().all(has) {
        let text = format!("RequireDualStack needs an address of each family ({})", text_of(families));
        return Err(Reason::Invalid(text));
    }
    Ok(addrs)
}

fn text_of(families: &[Family]) -> String {
    let texts: Vec<_> = families
        .iter()
        .map(|family| match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
        .collect();
    texts.join(", ")
}
