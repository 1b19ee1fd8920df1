//! One change of a Service, as a word: `ip=10.0.0.10`. An empty value takes away what was there.

use std::fmt;
use std::str::FromStr;

use vip_model::Family;
use vip_model::service::{FamilyPolicy, Protocol, Service, ServiceKind, ServicePort, TrafficPolicy};

/// One change of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What is changed.
    pub key: Key,
    /// To what, as text.
    pub value: String,
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The annotation `loadbalancerIPs`.
    Addresses,
    /// `spec.loadBalancerIP`.
    SpecAddress,
    /// `spec.ports`: numbers, with `u` for UDP.
    Ports,
    /// `spec.externalTrafficPolicy`: `local` or `cluster`.
    Policy,
    /// `spec.type`: `lb` or `other`.
    Type,
    /// `spec.loadBalancerClass`; `-` for none, `ours` for ours.
    Class,
    /// The annotation `ignore`.
    Ignore,
    /// The annotation `leaseName`.
    Lease,
    /// The annotation `forcePerServiceElection`.
    Force,
    /// `spec.ipFamilies`: `4`, `6`, `46` or `64`.
    Families,
    /// `spec.ipFamilyPolicy`: `single`, `prefer` or `require`.
    Stack,
    /// The annotation `allow-reconcile-without-endpoints`.
    WithoutEndpoints,
    /// The annotation `serviceInterface`.
    Interface,
    /// The annotation `anti-affinity`.
    Apart,
    /// The annotation `ignore-service-security`.
    Open,
}

const NAMES: &[(&str, Key)] = &[
    ("ip", Key::Addresses),
    ("spec-ip", Key::SpecAddress),
    ("ports", Key::Ports),
    ("policy", Key::Policy),
    ("type", Key::Type),
    ("class", Key::Class),
    ("ignore", Key::Ignore),
    ("lease", Key::Lease),
    ("force", Key::Force),
    ("families", Key::Families),
    ("stack", Key::Stack),
    ("empty", Key::WithoutEndpoints),
    ("interface", Key::Interface),
    ("apart", Key::Apart),
    ("open", Key::Open),
];

impl Edit {
    /// An edit.
    pub fn new(key: Key, value: impl Into<String>) -> Self {
        Self { key, value: value.into() }
    }

    /// Carries it out.
    pub fn change(&self, service: &mut Service) {
        let value = self.value.as_str();
        match self.key {
            Key::Addresses => annotate(service, "loadbalancerIPs", value),
            Key::SpecAddress => service.spec_ip = some(value),
            Key::Ports => service.ports = ports(value).expect("checked when it was read"),
            Key::Policy => {
                let is_local = value == "local";
                service.traffic = if is_local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            }
            Key::Type if value == "lb" => service.kind = ServiceKind::LoadBalancer,
            Key::Type => {
                // The API server clears what only a load balancer has.
                service.kind = ServiceKind::Other;
                service.ingress.clear();
                service.class = None;
            }
            Key::Class => {
                service.class = match value {
                    "-" => None,
                    "ours" => Some(crate::setup::CLASS.to_owned()),
                    other => some(other),
                };
            }
            Key::Ignore => annotate(service, "ignore", truth(value)),
            Key::Lease => annotate(service, "leaseName", value),
            Key::Force => annotate(service, "forcePerServiceElection", truth(value)),
            Key::Families => service.families = families(value).expect("checked when it was read"),
            Key::Stack => {
                service.family_policy = match value {
                    "prefer" => FamilyPolicy::PreferDualStack,
                    "require" => FamilyPolicy::RequireDualStack,
                    _ => FamilyPolicy::SingleStack,
                };
            }
            Key::WithoutEndpoints => annotate(service, "allow-reconcile-without-endpoints", truth(value)),
            Key::Interface => annotate(service, "serviceInterface", value),
            Key::Apart => annotate(service, "anti-affinity", value),
            Key::Open => annotate(service, "ignore-service-security", truth(value)),
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let value = self.value.as_str();
        let one_of = |words: &[&str]| if words.contains(&value) { Ok(()) } else { Err("no such value") };
        match self.key {
            Key::Ports => ports(value).map(drop),
            Key::Families => families(value).map(drop),
            Key::Policy => one_of(&["local", "cluster"]),
            Key::Type => one_of(&["lb", "other"]),
            Key::Stack => one_of(&["single", "prefer", "require"]),
            Key::Ignore | Key::Force | Key::WithoutEndpoints | Key::Open => one_of(&["yes", "no"]),
            Key::Addresses | Key::SpecAddress | Key::Class | Key::Lease | Key::Interface | Key::Apart => {
                Ok(())
            }
        }
    }
}

fn some(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// `yes` as annotations have it; nothing takes one away.
fn truth(value: &str) -> &str {
    if value == "yes" { "true" } else { "" }
}

fn annotate(service: &mut Service, key: &str, value: &str) {
    let key = format!("kube-vip.io/{key}");
    match some(value) {
        Some(value) => service.annotations.insert(key, value),
        None => service.annotations.remove(&key),
    };
}

fn ports(text: &str) -> Result<Vec<ServicePort>, &'static str> {
    let one = |word: &str| {
        let (number, protocol) = match word.strip_suffix('u') {
            Some(number) => (number, Protocol::Udp),
            None => (word, Protocol::Tcp),
        };
        number.parse().map(|port| ServicePort { protocol, port }).map_err(|_| "a port is a number")
    };
    text.split(',').map(one).collect()
}

fn families(text: &str) -> Result<Vec<Family>, &'static str> {
    let one = |digit| match digit {
        '4' => Ok(Family::V4),
        '6' => Ok(Family::V6),
        _ => Err("a family is 4 or 6"),
    };
    text.chars().map(one).collect()
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = NAMES.iter().find(|(_, key)| *key == self.key).expect("every key is in the table");
        write!(f, "{name}={}", self.value)
    }
}

impl FromStr for Edit {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, &'static str> {
        let (name, value) = word.split_once('=').ok_or("an edit reads key=value")?;
        let (_, key) = NAMES.iter().find(|(known, _)| *known == name).ok_or("unknown key")?;
        let edit = Self::new(*key, value);
        edit.check()?;
        Ok(edit)
    }
}
