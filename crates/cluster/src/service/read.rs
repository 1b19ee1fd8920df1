//! A Service as the API sends it, and what it comes to. Numbers and words that no API server would send are left out;
//! they never keep another Service from being read.

use std::collections::BTreeMap;

use serde::Deserialize;
use vip_model::Family;
use vip_model::service::{
    Condition, FamilyPolicy, Ingress, ObjectLife, Protocol, Service, ServiceKind, ServiceName, ServicePort,
    TrafficPolicy,
};
use vip_model::store::Version;

use crate::shape::{Keys, Texts, or_default};

/// What our annotations and conditions begin with.
const OURS: &str = "kube-vip.io/";

/// Labels of the external cloud-provider that matter.
const LABELS: [&str; 2] = ["implementation", "ipam-address"];

/// A Service, as far as it is read.
#[derive(Deserialize)]
pub(crate) struct ServiceShape {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    namespace: String,
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default, deserialize_with = "or_default")]
    creation_timestamp: String,
    #[serde(default)]
    deletion_timestamp: Option<String>,
    #[serde(default)]
    annotations: Texts<OurAnnotations>,
    #[serde(default)]
    labels: Texts<OurLabels>,
}

struct OurAnnotations;

impl Keys for OurAnnotations {
    fn keep(key: &str) -> bool {
        key.starts_with(OURS)
    }
}

struct OurLabels;

impl Keys for OurLabels {
    fn keep(key: &str) -> bool {
        LABELS.contains(&key)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    load_balancer_class: Option<String>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<String>,
    #[serde(deserialize_with = "or_default")]
    ip_families: Vec<String>,
    ip_family_policy: Option<String>,
    external_traffic_policy: Option<String>,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<PortShape>,
}

#[derive(Deserialize)]
struct PortShape {
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    port: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: Option<LoadBalancer>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<ConditionShape>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct LoadBalancer {
    #[serde(deserialize_with = "or_default")]
    ingress: Vec<IngressShape>,
}

impl LoadBalancer {
    /// The ingress list as the model has it.
    pub(super) fn convert(self) -> Vec<Ingress> {
        self.ingress.into_iter().map(IngressShape::convert).collect()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IngressShape {
    ip: Option<String>,
    hostname: Option<String>,
    ip_mode: Option<String>,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<PortShape>,
}

#[derive(Deserialize)]
struct ConditionShape {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl ServiceShape {
    /// Its name, whatever it says.
    pub(crate) fn name(&self) -> ServiceName {
        ServiceName::new(&self.metadata.namespace, &self.metadata.name)
    }

    /// Its name and what it says.
    pub(crate) fn convert(self) -> (ServiceName, Service) {
        let name = self.name();
        let Self { metadata, spec, status } = self;
        let service = Service {
            uid: metadata.uid,
            version: Version(metadata.resource_version),
            created: metadata.creation_timestamp,
            kind: match spec.kind.as_deref() {
                Some("LoadBalancer") => ServiceKind::LoadBalancer,
                _ => ServiceKind::Other,
            },
            class: spec.load_balancer_class,
            families: families(&spec.ip_families),
            family_policy: match spec.ip_family_policy.as_deref() {
                Some("PreferDualStack") => FamilyPolicy::PreferDualStack,
                Some("RequireDualStack") => FamilyPolicy::RequireDualStack,
                _ => FamilyPolicy::SingleStack,
            },
            traffic: match spec.external_traffic_policy.as_deref() {
                Some("Local") => TrafficPolicy::Local,
                _ => TrafficPolicy::Cluster,
            },
            ports: ports(&spec.ports),
            spec_ip: given(spec.load_balancer_ip),
            ingress: status.load_balancer.unwrap_or_default().convert(),
            annotations: metadata.annotations.0,
            labels: metadata.labels.0,
            conditions: conditions(status.conditions),
            life: match metadata.deletion_timestamp {
                Some(_) => ObjectLife::Deleting,
                None => ObjectLife::Alive,
            },
        };
        (name, service)
    }
}

impl IngressShape {
    fn convert(self) -> Ingress {
        Ingress {
            ip: self.ip.and_then(|ip| ip.parse().ok()),
            hostname: given(self.hostname),
            mode: given(self.ip_mode),
            ports: ports(&self.ports),
        }
    }
}

fn families(names: &[String]) -> Vec<Family> {
    names
        .iter()
        .filter_map(|name| match name.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        })
        .collect()
}

fn ports(shapes: &[PortShape]) -> Vec<ServicePort> {
    let mut ports: Vec<_> = shapes.iter().filter_map(port).collect();
    ports.shrink_to_fit();
    ports
}

/// None for a number or a protocol that cannot be.
fn port(shape: &PortShape) -> Option<ServicePort> {
    let protocol = match shape.protocol.as_deref() {
        None | Some("TCP" | "") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    let port = u16::try_from(shape.port).ok().filter(|port| *port > 0)?;
    Some(ServicePort { protocol, port })
}

fn conditions(shapes: Vec<ConditionShape>) -> BTreeMap<String, Condition> {
    let ours = shapes.into_iter().filter(|shape| shape.kind.starts_with(OURS));
    ours.map(|shape| {
        let ConditionShape { kind, status, reason, message } = shape;
        (kind, Condition { status, reason, message })
    })
    .collect()
}

/// An empty text says as little as none.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
