//! The addresses that a Service asks for, by upstream's order: the annotation; `spec.loadBalancerIP` when the status shows
//! another one of its family; the status; `spec.loadBalancerIP`.

use std::net::IpAddr;

use vip_model::Family;
use vip_model::service::{FamilyPolicy, Service};

use super::Duty;

/// The addresses, in the order in which the status shows them.
pub(super) fn of(service: &Service) -> Result<Vec<IpAddr>, Duty> {
    let addrs = named(service)?;
    if addrs.is_empty() {
        return Err(Duty::NoAddress);
    }
    if addrs.iter().any(IpAddr::is_unspecified) {
        return Err(Duty::Impossible); // DHCP
    }
    let mut sorted = Vec::new();
    for family in &service.families {
        sorted.extend(addrs.iter().copied().filter(|addr| Family::of(*addr) == *family));
    }
    let has = |family: &Family| sorted.iter().any(|addr| Family::of(*addr) == *family);
    let lacks_one = !service.families.iter().all(has);
    if sorted.is_empty() || (service.family_policy == FamilyPolicy::RequireDualStack && lacks_one) {
        return Err(Duty::Impossible);
    }
    Ok(sorted)
}

fn named(service: &Service) -> Result<Vec<IpAddr>, Duty> {
    let annotation = service.annotations.get("kube-vip.io/loadbalancerIPs").map_or("", String::as_str);
    let mut addrs = Vec::new();
    for word in annotation.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let addr: IpAddr = word.parse().map_err(|_| Duty::Impossible)?;
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if !addrs.is_empty() {
        return Ok(addrs);
    }
    let shown: Vec<IpAddr> = service.ingress.iter().filter_map(|ingress| ingress.ip).collect();
    let spec: Option<IpAddr> = match &service.spec_ip {
        Some(text) => Some(text.trim().parse().map_err(|_| Duty::Impossible)?),
        None => None,
    };
    let moved = |spec: IpAddr| {
        shown.is_empty() || shown.iter().any(|addr| Family::of(*addr) == Family::of(spec) && *addr != spec)
    };
    Ok(match spec {
        Some(spec) if moved(spec) => vec![spec],
        _ => shown,
    })
}
