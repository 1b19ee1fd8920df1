//! The control-plane VIP: its addresses and prefix lengths, its link, its Lease, its health gate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use vip_model::config::{
    ControlPlane, Election, HealthCheck, InterfaceChoice, LeaseTimings, LinkDown, NodeLabel, OnLoss, Scope,
};
use vip_model::{Family, LeaseName, VipNet};

use super::refusal::Refusal;
use super::source::Values;
use super::{Machine, Warning, Weight, key, parse, subnet, warning};

/// More addresses than this are not built yet.
const MOST_ADDRESSES: usize = 2;

/// The kernel's limit for the name of a link, without the closing zero (`IFNAMSIZ`).
const LONGEST_LINK_NAME: usize = 15;

/// What an address in the kernel must keep between the last renewal and the moment others may take over.
const SHORTEST_FENCE: Duration = Duration::from_secs(1);

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
        interface: interface(values)?,
        link_down: if values.boolean(key::INTERFACE_NOT_UP)? { LinkDown::Ignore } else { LinkDown::Yield },
        loopback_scope: either(key::LOOPBACK_GLOBAL, Scope::Global, Scope::Host)?,
        election: election(values, machine)?,
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
    IpNet::new(address, length).map(VipNet).map_err(|_| {
        let (family, most) = if family == Family::V4 { ("IPv4", 32) } else { ("IPv6", 128) };
        values.refuse(
            key::SUBNET,
            format!(
                "provided CIDR mask '{length}' is greater than the highest mask value for the {family} family ({most})"
            ),
        )
    })
}

fn interface(values: &Values) -> Result<InterfaceChoice, Refusal> {
    match values.text(key::INTERFACE) {
        "" | "auto" => Ok(InterfaceChoice::Auto),
        name if name.len() > LONGEST_LINK_NAME || name.contains(|c: char| c == '/' || c.is_whitespace()) => {
            Err(values.refuse(
                key::INTERFACE,
                "no link can have this name; give 1 to 15 bytes without slash and space, or leave it empty",
            ))
        }
        name => Ok(InterfaceChoice::Named(name.to_owned())),
    }
}

fn election(values: &Values, machine: &Machine) -> Result<Election, Refusal> {
    require_lease_mode(values)?;
    let text = values.text(key::LEASE_NAME);
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (
            machine.service_account_namespace.as_deref().unwrap_or_else(|| values.text(key::NAMESPACE)),
            text,
        ),
    };
    if !parse::is_object_name(namespace) || !parse::is_object_name(name) {
        return Err(values.refuse(
            key::LEASE_NAME,
            "give name or namespace/name, each of lower-case letters, digits, '-' and '.' (and cp_namespace alike)",
        ));
    }
    Ok(Election {
        lease: LeaseName::new(namespace, name),
        annotations: lease_annotations(values)?,
        timings: lease_timings(values)?,
    })
}

fn require_lease_mode(values: &Values) -> Result<(), Refusal> {
    let not_built = |key: &str| Refusal::NotBuilt {
        asked: format!("{}={}", values.spelled(key), values.text(key)),
        instead: "elections are held by Lease (election_mode=lease, leaderElectionType kubernetes)".into(),
    };
    match values.text(key::ELECTION_MODE) {
        "lease" => {}
        "session" | "etcd" => return Err(not_built(key::ELECTION_MODE)),
        _ => return Err(values.refuse(key::ELECTION_MODE, "give lease")),
    }
    match values.text(key::ELECTION_BACKEND) {
        "kubernetes" => Ok(()),
        "etcd" => Err(not_built(key::ELECTION_BACKEND)),
        other => Err(values.refuse(
            key::ELECTION_BACKEND,
            format!("invalid LeaderElectionMode {other} not supported; give kubernetes"),
        )),
    }
}

fn lease_annotations(values: &Values) -> Result<BTreeMap<String, String>, Refusal> {
    match values.set(key::LEASE_ANNOTATIONS) {
        None => Ok(BTreeMap::new()),
        Some(text) => serde_json::from_str(text).map_err(|_| {
            values.refuse(key::LEASE_ANNOTATIONS, "give a JSON object of texts, such as {\"team\":\"edge\"}")
        }),
    }
}

/// client-go's rules (`leaderelection.NewLeaderElector`), and room for the fence.
fn lease_timings(values: &Values) -> Result<LeaseTimings, Refusal> {
    let timings = LeaseTimings {
        duration: values.seconds(key::LEASE_DURATION, 1)?,
        renew_deadline: values.seconds(key::RENEW_DEADLINE, 1)?,
        retry_period: values.seconds(key::RETRY_PERIOD, 1)?,
    };
    let written = |key: &str| format!("{}={}", values.spelled(key), values.text(key));
    let (duration, deadline) = (written(key::LEASE_DURATION), written(key::RENEW_DEADLINE));
    if timings.fence() < SHORTEST_FENCE {
        return Err(Refusal::Combination(format!(
            "{duration} is too short: less than 1 s is left for an address between a renewal and the moment when the \
             kernel must have removed it (0.98 times the duration less 1 s); give at least 3 seconds"
        )));
    }
    if timings.duration <= timings.renew_deadline {
        return Err(Refusal::Combination(format!(
            "{duration} must be greater than {deadline}: a holder has to give up before others may take over"
        )));
    }
    if timings.renew_deadline <= timings.retry_period.mul_f64(1.2) {
        return Err(Refusal::Combination(format!(
            "{deadline} must be greater than 1.2 times {}: one renewal has to fit in before the deadline",
            written(key::RETRY_PERIOD)
        )));
    }
    Ok(timings)
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
