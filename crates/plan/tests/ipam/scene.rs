//! Clusters to allocate in, in few words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vip_model::Family;
use vip_model::plan::Promise;
use vip_model::service::{
    FamilyPolicy, Ingress, ObjectLife, Protocol, Service, ServiceKind, ServiceName, ServicePort,
    TrafficPolicy,
};
use vip_model::store::Version;
use vip_plan::ipam::{Allocation, AllocationInput, Origin, Outcome, allocate};

pub(crate) const ADDRESSES: &str = "kube-vip.io/loadbalancerIPs";
pub(crate) const ALLOCATED: &str = "kube-vip.io/allocatedIPs";

/// A cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) pools: BTreeMap<String, String>,
    pub(crate) services: BTreeMap<ServiceName, Service>,
    pub(crate) others: Vec<Service>,
    pub(crate) reserved: BTreeSet<IpAddr>,
    pub(crate) seen: BTreeSet<IpAddr>,
    pub(crate) promised: BTreeMap<ServiceName, Promise>,
}

pub(crate) fn tcp(port: u16) -> ServicePort {
    ServicePort { protocol: Protocol::Tcp, port }
}

pub(crate) fn udp(port: u16) -> ServicePort {
    ServicePort { protocol: Protocol::Udp, port }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}

/// `namespace/name`.
pub(crate) fn named(text: &str) -> ServiceName {
    text.to_owned().try_into().expect("namespace/name")
}

/// A Service of no family in particular, with TCP port 80, created in the given second.
pub(crate) fn service(created: u32) -> Service {
    Service {
        uid: format!("uid-{created}"),
        version: Version("1".to_owned()),
        created: format!("2026-01-01T00:{:02}:{:02}Z", created / 60, created % 60),
        kind: ServiceKind::LoadBalancer,
        class: None,
        families: Vec::new(),
        family_policy: FamilyPolicy::SingleStack,
        traffic: TrafficPolicy::Cluster,
        ports: vec![tcp(80)],
        spec_ip: None,
        ingress: Vec::new(),
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        conditions: BTreeMap::new(),
        life: ObjectLife::Alive,
    }
}

pub(crate) fn ingress(text: &str) -> Ingress {
    Ingress { ip: Some(ip(text)), hostname: None, mode: None, ports: Vec::new() }
}

impl Cluster {
    /// A cluster with this ConfigMap.
    pub(crate) fn new(pools: &[(&str, &str)]) -> Self {
        let pools = pools.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { pools, ..Self::default() }
    }

    /// Adds a Service, one second younger than those before.
    pub(crate) fn add(&mut self, name: &str, change: impl FnOnce(&mut Service)) {
        let mut new = service(u32::try_from(self.services.len()).expect("a few"));
        change(&mut new);
        self.services.insert(named(name), new);
    }

    /// The same, with these ipFamilies and this policy.
    pub(crate) fn add_stack(&mut self, name: &str, families: &[Family], policy: FamilyPolicy) {
        self.add(name, |service| {
            service.families = families.to_vec();
            service.family_policy = policy;
        });
    }

    pub(crate) fn allocate(&self) -> Allocation {
        allocate(&AllocationInput {
            pools: &self.pools,
            services: self.services.iter().collect(),
            others: self.others.iter().collect(),
            reserved: self.reserved.clone(),
            seen: self.seen.clone(),
            promised: &self.promised,
        })
    }

    /// What becomes of one Service, as text: the addresses, or the reason.
    pub(crate) fn outcome(&self, name: &str) -> String {
        match &self.allocation_of(name) {
            Outcome::Allocated => "allocated".to_owned(),
            Outcome::SetByUser => "set by user".to_owned(),
            Outcome::Assign(assignment) => list(&assignment.addrs),
            Outcome::Refused(reason) => reason.to_string(),
        }
    }

    /// What becomes of each Service.
    pub(crate) fn outcomes(&self) -> BTreeMap<ServiceName, Outcome> {
        let outcomes = self.allocate().outcomes;
        assert_eq!(outcomes.len(), self.services.len(), "one for each");
        self.services.keys().cloned().zip(outcomes).collect()
    }

    pub(crate) fn allocation_of(&self, name: &str) -> Outcome {
        self.outcomes()[&named(name)].clone()
    }

    /// Writes what was assigned to one Service into it, as the agent does.
    pub(crate) fn apply(&mut self, name: &ServiceName, outcome: &Outcome) {
        let (Outcome::Assign(assignment), Some(service)) = (outcome, self.services.get_mut(name)) else {
            return;
        };
        let text = list(&assignment.addrs);
        if let Origin::Pool(_) = assignment.origin {
            service.annotations.insert(ALLOCATED.to_owned(), text.clone());
            service.spec_ip = Some(assignment.addrs[0].to_string());
        }
        service.annotations.insert(ADDRESSES.to_owned(), text);
    }

    /// Allocates and writes everything.
    pub(crate) fn settle(&mut self) {
        for (name, outcome) in self.outcomes() {
            self.apply(&name, &outcome);
        }
    }

    /// The addresses in a Service's annotation.
    pub(crate) fn addresses(&self, name: &ServiceName) -> Vec<IpAddr> {
        let text = self.services[name].annotations.get(ADDRESSES).map_or("", String::as_str);
        text.split(',').filter_map(|token| token.trim().parse().ok()).collect()
    }
}

pub(crate) fn list(addrs: &[IpAddr]) -> String {
    addrs.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}
