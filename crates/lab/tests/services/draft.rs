//! Services and their endpoints as a user and the endpoint controller write them: a draft says what matters to a
//! scenario, its objects have everything that an API server wants.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};
use vip_lab::bench::{Responder, net, pod};
use vip_lab::scenario::service::{self, Backend, Family, Standing};

/// The prefix of all annotations.
const PREFIX: &str = "kube-vip.io/";
/// The number of the pod behind every draft on each of its nodes.
const POD: u8 = 5;

/// The families of a Service, the first one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    V4,
    V6,
    V4First,
    V6First,
}

impl Stack {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::V4, Self::V6, Self::V4First, Self::V6First];

    /// Its families, as Kubernetes names them.
    pub(crate) const fn families(self) -> &'static [&'static str] {
        match self {
            Self::V4 => &["IPv4"],
            Self::V6 => &["IPv6"],
            Self::V4First => &["IPv4", "IPv6"],
            Self::V6First => &["IPv6", "IPv4"],
        }
    }

    /// The addresses with this last number, in the order of the families.
    pub(crate) fn addrs(self, number: u8) -> Vec<IpAddr> {
        let of = |family: &&str| -> IpAddr {
            match *family {
                "IPv4" => net::v4(number).into(),
                _ => net::v6(number).into(),
            }
        };
        self.families().iter().map(of).collect()
    }

    /// A short name, legal in names of objects.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
            Self::V4First => "dual4",
            Self::V6First => "dual6",
        }
    }
}

/// `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Cluster,
    Local,
}

impl Policy {
    /// Both of them.
    pub(crate) const ALL: [Self; 2] = [Self::Cluster, Self::Local];

    /// As Kubernetes writes it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// A Service of type `LoadBalancer` that is about to be written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) stack: Stack,
    /// What it asks for in its annotation, in the order of its families; nothing: somebody else gives it addresses.
    pub(crate) addrs: Vec<IpAddr>,
    policy: Policy,
    ports: Vec<(&'static str, u16)>,
    notes: BTreeMap<String, String>,
    /// Fields of the spec that are as the scenario says.
    spec: BTreeMap<String, Value>,
}

impl Draft {
    /// A Service `default/name` of policy `Cluster` with TCP port 80 and no address.
    pub(crate) fn new(name: &str, stack: Stack) -> Self {
        Self {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            stack,
            addrs: Vec::new(),
            policy: Policy::Cluster,
            ports: vec![("TCP", 80)],
            notes: BTreeMap::new(),
            spec: BTreeMap::new(),
        }
    }

    /// In another namespace.
    pub(crate) fn within(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// With the addresses of the bench that end in this number.
    pub(crate) fn at(self, number: u8) -> Self {
        let addrs = self.stack.addrs(number);
        self.on(addrs)
    }

    /// With these addresses.
    pub(crate) fn on(mut self, addrs: Vec<IpAddr>) -> Self {
        self.addrs = addrs;
        self
    }

    /// With this policy.
    pub(crate) fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// With these ports and no other.
    pub(crate) fn ports(mut self, ports: &[(&'static str, u16)]) -> Self {
        ports.clone_into(&mut self.ports);
        self
    }

    /// With an annotation under `kube-vip.io/`.
    pub(crate) fn note(mut self, key: &str, text: &str) -> Self {
        self.notes.insert(format!("{PREFIX}{key}"), text.to_owned());
        self
    }

    /// With this field of the spec.
    pub(crate) fn spec(mut self, field: &str, value: Value) -> Self {
        self.spec.insert(field.to_owned(), value);
        self
    }

    /// Namespace and name.
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The Lease of an election of its own, as `namespace/name`.
    pub(crate) fn own_lease(&self) -> String {
        format!("{}/kubevip-{}", self.namespace, self.name)
    }

    /// The object, without a status.
    pub(crate) fn object(&self) -> Value {
        let families = self.stack.families();
        let policy = if families.len() == 2 { "RequireDualStack" } else { "SingleStack" };
        let port = |(protocol, number): &(&str, u16)| {
            json!({
                "name": format!("{}-{number}", protocol.to_lowercase()), "protocol": protocol,
                "port": number, "targetPort": pod::PORT,
            })
        };
        let mut spec = json!({
            "externalTrafficPolicy": self.policy.word(), "ipFamilies": families, "ipFamilyPolicy": policy,
            "ports": self.ports.iter().map(port).collect::<Vec<_>>(),
        });
        for (field, value) in &self.spec {
            spec[field] = value.clone();
        }
        let mut object = service::service(&self.name, &self.addrs, spec);
        object["metadata"]["namespace"] = json!(self.namespace);
        let notes = object["metadata"]["annotations"].as_object_mut().expect("it names the addresses");
        if self.addrs.is_empty() {
            notes.clear();
        }
        notes.extend(self.notes.iter().map(|(key, text)| (key.clone(), json!(text))));
        object
    }

    /// One `EndpointSlice` for each family, with a ready pod on each of these nodes.
    pub(crate) fn slices(&self, nodes: &[u8]) -> Vec<Value> {
        let of = |name: &&str| {
            let family = if *name == "IPv4" { Family::V4 } else { Family::V6 };
            let backend = |node: &u8| {
                let who = Responder { node: *node, pod: POD };
                let address = if family == Family::V4 { pod::v4(who).into() } else { pod::v6(who).into() };
                Backend { address, node: *node, standing: Standing::Ready }
            };
            let backends: Vec<_> = nodes.iter().map(backend).collect();
            let mut slice = service::slice(&self.name, family, &backends);
            slice["metadata"]["namespace"] = json!(self.namespace);
            slice
        };
        self.stack.families().iter().map(of).collect()
    }
}
