//! What the fake API holds beside Leases: Nodes, Services, what stands behind them, the pools' `ConfigMap`. Agents write
//! to it as through the real gateway; users, pods and kubelets change it as the world says.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use vip_model::NodeName;
use vip_model::service::{Endpoint, EndpointState, Service, ServiceKind, ServiceName};
use vip_model::store::{Answer, NodeFacts, ServiceStatusWrite, ServiceWrite, Snapshot, Version};
use vip_model::{Known, service};

use super::domain::Domain;
use super::{Swap, failure};
use crate::clock::Moment;
use crate::deed::{Pod, PodPlace};
use crate::setup::{NAME_LABEL, node_name, own_addresses};

/// All Services.
pub type Services = BTreeMap<ServiceName, Arc<Service>>;

/// One domain of what is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// Nodes.
    Nodes,
    /// Services.
    Services,
    /// What stands behind them.
    Endpoints,
    /// The pools' `ConfigMap`.
    Pools,
}

/// Whether the kubelet of a node reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kubelet {
    /// It does.
    #[default]
    Reports,
    /// It has been silent for long: the Node is not ready, and so are its pods.
    Lost,
}

/// The objects.
#[derive(Clone, Debug)]
pub struct Objects {
    /// Nodes.
    pub nodes: Domain<BTreeMap<NodeName, NodeFacts>>,
    /// Services.
    pub services: Domain<Services>,
    /// The version of the store at each change of them.
    services_at: Domain<Version>,
    /// What stands behind them.
    pub endpoints: Domain<BTreeMap<ServiceName, Vec<Endpoint>>>,
    /// The data of the pools' `ConfigMap`.
    pub pools: Domain<BTreeMap<String, String>>,
    pods: BTreeMap<ServiceName, Vec<Pod>>,
    kubelets: Vec<Kubelet>,
    births: u64,
}

/// A Service before and after a write.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// What it was.
    pub before: Arc<Service>,
    /// What it is.
    pub after: Arc<Service>,
    /// The version that the writer had seen.
    pub expect: Version,
}

/// What became of a write of a Service.
#[derive(Clone, Debug)]
pub enum Written {
    /// It was carried out.
    Done(Rewrite),
    /// There was nothing to change, or it was refused.
    No(Answer),
}

impl Objects {
    /// `nodes` Nodes, and nothing else.
    pub fn new(nodes: usize) -> Self {
        let facts = |node| {
            let addresses = own_addresses(node).iter().map(ipnet::IpNet::addr).collect();
            let traits = BTreeMap::from([(NAME_LABEL.to_owned(), node_name(node).to_string())]);
            (node_name(node), NodeFacts { addresses, traits, ready: true, ..NodeFacts::default() })
        };
        Self {
            nodes: Domain::new((0..nodes).map(facts).collect()),
            services: Domain::default(),
            services_at: Domain::default(),
            endpoints: Domain::default(),
            pools: Domain::default(),
            pods: BTreeMap::new(),
            kubelets: vec![Kubelet::Reports; nodes],
            births: 0,
        }
    }

    /// The number of the truth of a domain.
    pub fn newest(&self, matter: Matter) -> usize {
        self.at(matter, Moment::NEVER)
    }

    /// The number of what was true of a domain at `moment`.
    pub fn at(&self, matter: Matter, moment: Moment) -> usize {
        match matter {
            Matter::Nodes => self.nodes.at(moment),
            Matter::Services => self.services.at(moment),
            Matter::Endpoints => self.endpoints.at(moment),
            Matter::Pools => self.pools.at(moment),
        }
    }

    /// When change number `number` of a domain became true.
    pub fn born(&self, matter: Matter, number: usize) -> Moment {
        match matter {
            Matter::Nodes => self.nodes.change_number(number).0,
            Matter::Services => self.services.change_number(number).0,
            Matter::Endpoints => self.endpoints.change_number(number).0,
            Matter::Pools => self.pools.change_number(number).0,
        }
    }

    /// Puts what change number `number` made true into a snapshot, without what is outside of `namespace`.
    pub fn show(&self, matter: Matter, number: usize, namespace: Option<&str>, snapshot: &mut Snapshot) {
        match matter {
            Matter::Nodes => snapshot.nodes = Known::Known(Arc::clone(self.nodes.change_number(number).1)),
            Matter::Services => {
                snapshot.services = Known::Known(inside(self.services.change_number(number).1, namespace));
                snapshot.services_at = Version::clone(self.services_at.change_number(number).1);
            }
            Matter::Endpoints => {
                snapshot.endpoints = Known::Known(inside(self.endpoints.change_number(number).1, namespace));
            }
            Matter::Pools => snapshot.pools = Known::Known(Arc::clone(self.pools.change_number(number).1)),
        }
    }

    /// The truth about a Service.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.now().get(name)
    }

    /// Gives a Service another form.
    pub fn put(&mut self, now: Moment, name: &ServiceName, service: Service) {
        self.services_at.change(now, service.version.clone());
        let mut all = Services::clone(self.services.now());
        all.insert(name.clone(), Arc::new(service));
        self.services.change(now, all);
    }

    /// All Services and their pods, from the beginning.
    pub fn fill(&mut self, (services, version): (Services, Version), pods: BTreeMap<ServiceName, Vec<Pod>>) {
        self.services_at.change(Moment::START, version);
        self.services.change(Moment::START, services);
        self.pods = pods;
        self.publish_endpoints(Moment::START);
    }

    /// Deletes a Service.
    pub fn remove(&mut self, now: Moment, name: &ServiceName, version: Version) {
        self.services_at.change(now, version);
        let mut all = Services::clone(self.services.now());
        all.remove(name);
        self.services.change(now, all);
    }

    /// A uid that no other object has.
    pub fn new_uid(&mut self) -> String {
        self.births += 1;
        format!("uid-{}", self.births)
    }

    /// Replaces the pods of a Service.
    pub fn set_pods(&mut self, now: Moment, name: &ServiceName, pods: Vec<Pod>) {
        if pods.is_empty() {
            self.pods.remove(name);
        } else {
            self.pods.insert(name.clone(), pods);
        }
        self.publish_endpoints(now);
    }

    /// Whether a kubelet reports. Says whether that is news.
    pub fn set_kubelet(&mut self, now: Moment, node: usize, kubelet: Kubelet) -> bool {
        if self.kubelets[node] == kubelet {
            return false;
        }
        self.kubelets[node] = kubelet;
        self.change_node(now, node, |facts| facts.ready = kubelet == Kubelet::Reports);
        self.publish_endpoints(now);
        true
    }

    /// Changes a Node.
    pub fn change_node(&mut self, now: Moment, node: usize, change: impl FnOnce(&mut NodeFacts)) {
        let mut all = BTreeMap::clone(self.nodes.now());
        if let Some(facts) = all.get_mut(&node_name(node)) {
            change(facts);
        }
        self.nodes.change(now, all);
    }

    fn publish_endpoints(&mut self, now: Moment) {
        let of = |(name, pods): (&ServiceName, &Vec<Pod>)| {
            let all = pods.iter().enumerate();
            let mut endpoints: Vec<_> =
                all.flat_map(|(number, pod)| self.endpoints_of(number, pod)).collect();
            endpoints.sort();
            (name.clone(), endpoints)
        };
        let all = self.pods.iter().map(of).collect();
        self.endpoints.change(now, all);
    }

    /// A pod in both families: every Service finds it in its own ones.
    fn endpoints_of(&self, number: usize, pod: &Pod) -> [Endpoint; 2] {
        let node = match pod.place {
            PodPlace::Node(node) | PodPlace::HostName(node) => Some(node),
            PodPlace::Nowhere => None,
        };
        let is_lost = node.is_some_and(|node| self.kubelets.get(node) == Some(&Kubelet::Lost));
        let name = node.map(node_name);
        let (node, host) = match pod.place {
            PodPlace::Node(_) => (name, None),
            PodPlace::HostName(_) => (None, name.map(|name| name.to_string())),
            PodPlace::Nowhere => (None, None),
        };
        let last = u8::try_from(number + 1).expect("few pods");
        let state = if is_lost { EndpointState::NotReady } else { pod.state };
        let (v4, v6) =
            (Ipv4Addr::new(10, 244, 0, last), Ipv6Addr::new(0xfd00, 10, 0x244, 0, 0, 0, 0, last.into()));
        [IpAddr::V4(v4), IpAddr::V6(v6)].map(|addr| Endpoint {
            addr,
            node: node.clone(),
            host: host.clone(),
            state,
        })
    }

    /// Labels a Node.
    pub(super) fn label(
        &mut self,
        now: Moment,
        node: &NodeName,
        labels: &BTreeMap<String, Option<String>>,
    ) -> Answer {
        let mut all = BTreeMap::clone(self.nodes.now());
        let Some(facts) = all.get_mut(node) else { return failure(404) };
        for (key, value) in labels {
            set(&mut facts.labels, key, value.as_ref());
        }
        self.nodes.change(now, all);
        Answer::Done
    }

    /// Writes annotations, labels and address of a Service. `seen` is the version that the server shows.
    pub(super) fn write(
        &mut self,
        now: Moment,
        (write, seen): (&ServiceWrite, Option<&Version>),
        (version, swap): (Version, Swap),
    ) -> Written {
        self.rewrite(now, (&write.service, &write.expect, seen), (version, swap), |service| {
            for (key, value) in &write.annotations {
                set(&mut service.annotations, key, value.as_ref());
            }
            for (key, value) in &write.labels {
                set(&mut service.labels, key, value.as_ref());
            }
            if write.spec_ip.is_some() {
                service.spec_ip.clone_from(&write.spec_ip);
            }
            Ok(())
        })
    }

    /// Writes the status of a Service.
    pub(super) fn write_status(
        &mut self,
        now: Moment,
        (write, seen): (&ServiceStatusWrite, Option<&Version>),
        (version, swap): (Version, Swap),
    ) -> Written {
        self.rewrite(now, (&write.service, &write.expect, seen), (version, swap), |service| {
            // The API server's validation: only a load balancer has a load balancer's status.
            if service.kind != ServiceKind::LoadBalancer && !write.ingress.is_empty() {
                return Err(Box::new(failure(422)));
            }
            service.ingress.clone_from(&write.ingress);
            for (kind, condition) in &write.conditions {
                set::<service::Condition>(&mut service.conditions, kind, condition.as_ref());
            }
            Ok(())
        })
    }

    /// As the gateway: read, compare, put in what is wanted, replace.
    fn rewrite(
        &mut self,
        now: Moment,
        (name, expect, seen): (&ServiceName, &Version, Option<&Version>),
        (version, swap): (Version, Swap),
        compose: impl FnOnce(&mut Service) -> Result<(), Box<Answer>>,
    ) -> Written {
        let Some(before) = self.service(name).cloned() else { return Written::No(Answer::Conflict) };
        let is_expected = before.version == *expect && seen == Some(expect);
        if swap == Swap::Compared && !is_expected {
            return Written::No(Answer::Conflict);
        }
        let mut after = Service::clone(&before);
        if let Err(refusal) = compose(&mut after) {
            return Written::No(*refusal);
        }
        if after == *before {
            return Written::No(Answer::Done);
        }
        after.version = version;
        self.put(now, name, after.clone());
        Written::Done(Rewrite { before, after: Arc::new(after), expect: expect.clone() })
    }
}

fn set<T: Clone>(map: &mut BTreeMap<String, T>, key: &str, value: Option<&T>) {
    match value {
        Some(value) => map.insert(key.to_owned(), value.clone()),
        None => map.remove(key),
    };
}

/// What is inside of a namespace; everything when there is none.
fn inside<V: Clone>(
    all: &Arc<BTreeMap<ServiceName, V>>,
    namespace: Option<&str>,
) -> Arc<BTreeMap<ServiceName, V>> {
    let Some(namespace) = namespace else { return Arc::clone(all) };
    let here = all.iter().filter(|(name, _)| name.namespace() == namespace);
    Arc::new(here.map(|(name, value)| (name.clone(), value.clone())).collect())
}
