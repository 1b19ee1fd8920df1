//! The control-plane VIP: its addresses and prefix lengths, its health gate. Its link and its Lease come from `link`
//! and `election`.

use std::net::IpAddr;

use ipnet::IpNet;
use vip_model::config::{ControlPlane, HealthCheck, NodeLabel, OnLoss, Scope};
use vip_model::{Family, VipNet};

use super::refusal::Refusal;
use super::source::Values;
use super::{Machine, Warning, Weight, election, key, link, parse, subnet, warning};

/// More addresses than this are not built yet.
const MOST_ADDRESSES: usize = 2;

/// Builds the control plane's part of the configuration.
pub(super) fn build(
    values: &Values,
    machine: &Machine,
    warnings: &mut Vec<Warning>,
) -> Result<ControlPlane, Refusal> {
    let either = |key, yes, no| values.boolean(key).map(|on| if on { yes } else { no });
    Ok(ControlPlane {
        vips: vips(values, warnings)?,
        port: values.port(key::PORT)?,
        interface: link::choice(values, key::INTERFACE)?,
        link_down: link::down(values)?,
        loopback_scope: either(key::LOOPBACK_GLOBAL, Scope::Global, Scope::Host)?,
        election: election::control_plane(values, machine)?,
        on_loss: if values.boolean(key::PRESERVE)? { OnLoss::Preserve } else { OnLoss::Remove },
        health: health(values, warnings)?,
        node_label: if values.boolean(key::NODE_LABEL)? { NodeLabel::HasIp } else { NodeLabel::Off },
    })
}

fn vips(values: &Values, warnings: &mut Vec<Warning>) -> Result<Vec<VipNet>, Refusal> {
    if values.boolean(key::DDNS)? {
        return Err(Refusal::NotBuilt {
            asked: format!("an address by DHCP ({}=true)", values.spelled(key::DDNS)),
            instead: "give an IPv4 or IPv6 address in address".into(),
        });
    }
    let source = if values.set(key::ADDRESS).is_some() { key::ADDRESS } else { key::VIP };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for item in parse::list(values.text(source)) {
        let address = address(values, source, item)?;
        if addresses.contains(&address) {
            let text = format!("{address} is named twice; it is used once");
            warnings.push(warning(Weight::Warning, values.spelled(source), text));
        } else {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(Refusal::Combination(
            "no address is specified for the control plane: give one or two in address (address=192.0.2.10 or \
             address=192.0.2.10,2001:db8::10)"
                .into(),
        ));
    }
    if addresses.len() > MOST_ADDRESSES {
        let asked = format!("more than two addresses ({}={:?})", values.spelled(source), values.text(source));
        return Err(Refusal::NotBuilt { asked, instead: "give one or two".into() });
    }
    if source == key::VIP && values.set(key::SUBNET).is_none() {
        return Err(Refusal::Combination(format!(
            "vip_subnet must be set if using {} instead of address: give the address in address, or add vip_subnet",
            values.spelled(key::VIP)
        )));
    }
    let subnet = subnet::Subnet::read(values)?;
    addresses.into_iter().map(|address| net(values, subnet, address, warnings)).collect()
}

fn address(values: &Values, source: &str, item: &str) -> Result<IpAddr, Refusal> {
    let spelled = || values.spelled(source);
    // An IPv4 address in IPv6 clothes is an IPv4 address, as in Go.
    match item.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) if address.is_unspecified() || address.is_multicast() || is_broadcast(address) => {
            Err(Refusal::value(
                spelled(),
                item,
                "one host cannot answer for this address; give a unicast address",
            ))
        }
        Ok(address) => Ok(address),
        Err(_) if item.parse::<IpNet>().is_ok() => Err(Refusal::value(
            spelled(),
            item,
            "give the address alone; its prefix length belongs into vip_subnet",
        )),
        Err(_) if parse::looks_like_a_name(item) => Err(Refusal::NotBuilt {
            asked: format!("an address by DNS name ({}={item})", spelled()),
            instead: "give an IPv4 or IPv6 address".into(),
        }),
        Err(_) => Err(Refusal::value(spelled(), item, "invalid IP address; give an IPv4 or IPv6 address")),
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

fn net(
    values: &Values,
    subnet: subnet::Subnet,
    address: IpAddr,
    warnings: &mut Vec<Warning>,
) -> Result<VipNet, Refusal> {
    let family = Family::of(address);
    let length = match subnet.length(family) {
        subnet::Length::Fits(length) => length,
        subnet::Length::MeantForIpv4(given) => {
            let text = format!(
                "{given} is a length for IPv4; {address} gets 128 (write two lengths, 32,64, to say otherwise)"
            );
            warnings.push(warning(Weight::Warning, values.spelled(key::SUBNET), text));
            128
        }
    };
    IpNet::new(address, length).map(VipNet).map_err(|_| subnet::too_long(values, length, family))
}

fn health(values: &Values, warnings: &mut Vec<Warning>) -> Result<Option<HealthCheck>, Refusal> {
    let Some(url) = values.set(key::HEALTH_URL) else { return Ok(None) };
    check_url(values, url)?;
    let period = values.seconds(key::HEALTH_PERIOD, 1)?;
    let mut timeout = values.seconds(key::HEALTH_TIMEOUT, 0)?;
    if timeout.is_zero() {
        timeout = period;
        let text = format!("0 would wait for ever; {} s is used, as the period", period.as_secs());
        warnings.push(warning(Weight::Warning, values.spelled(key::HEALTH_TIMEOUT), text));
    }
    let threshold = values.number(key::HEALTH_THRESHOLD, &(1..=i64::from(u16::MAX)))?;
    Ok(Some(HealthCheck {
        url: url.to_owned(),
        period,
        timeout,
        failure_threshold: u32::try_from(threshold).expect("the range fits"),
        ca_path: values.set(key::HEALTH_CA).map(str::to_owned),
    }))
}

fn check_url(values: &Values, url: &str) -> Result<(), Refusal> {
    let example = "give a URL such as https://127.0.0.1:6443/livez?exclude=etcd";
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(values.refuse(key::HEALTH_URL, format!("is not a valid URL; {example}")));
    };
    if !matches!(scheme, "http" | "https") {
        let accepted = format!("has unsupported scheme {scheme:?}, expected http or https; {example}");
        return Err(values.refuse(key::HEALTH_URL, accepted));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || url.contains(char::is_whitespace) || url.parse::<::http::Uri>().is_err() {
        return Err(values.refuse(key::HEALTH_URL, format!("is not a valid URL; {example}")));
    }
    Ok(())
}
