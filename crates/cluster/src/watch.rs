//! The wanted watches against those that run: one task each for Leases (for one Lease, or for all of a namespace when
//! many are wanted), one for Nodes, and one each for Services, what stands behind them, the pools, and the sessions.

mod endpoint;
mod lease;
mod node;
pub(crate) mod peer_key;
mod pool;
mod service;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use tokio::sync::watch as cell;
use tokio::task::AbortHandle;
use vip_model::config::EndpointSource;
use vip_model::store::Watches;
use vip_model::{InstanceName, LeaseName};

use crate::follow::{self, Collection};
use crate::gateway::Gateway;
use crate::slice::{EndpointsShape, SliceShape};
use crate::watch::endpoint::EndpointWatch;
use crate::watch::lease::LeaseWatch;
use crate::watch::node::NodeWatch;
use crate::watch::pool::PoolWatch;
use crate::watch::service::ServiceWatch;
use crate::watch::session::SessionWatch;

/// Up to so many Leases of a namespace are watched one by one; more by one watch of the namespace.
const ONE_BY_ONE: usize = 3;

/// Which watch this is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// One Lease.
    Lease(LeaseName),
    /// The Leases of a namespace.
    Namespace(String),
    /// All Nodes.
    Nodes,
    /// The Services of a namespace, or all.
    Services(Option<String>),
    /// What stands behind them, as slices.
    Slices(Option<String>),
    /// What stands behind them, as Endpoints.
    Endpoints(Option<String>),
    /// The ConfigMap of the pools.
    Pools(String, String),
    /// The session Leases of an instance in a namespace.
    Sessions(String, InstanceName),
}

/// A watch that runs.
struct Running {
    names: cell::Sender<BTreeSet<String>>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps the watches as they are wanted, until the task is aborted.
pub(crate) async fn keep(gateway: Arc<Gateway>, mut wanted: cell::Receiver<Watches>) {
    let mut running: BTreeMap<Key, Running> = BTreeMap::new();
    let mut before: BTreeSet<LeaseName> = BTreeSet::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        for gone in before.difference(&now.leases) {
            gateway.ledger.forget(gone);
        }
        let plan = plan(&now);
        running.retain(|key, _| plan.contains_key(key));
        for (key, names) in plan {
            if let Some(watch) = running.get(&key) {
                watch.names.send_if_modified(|now| {
                    let differs = *now != names;
                    *now = names;
                    differs
                });
            } else {
                let watch = start(&gateway, &key, names);
                running.insert(key, watch);
            }
        }
        before = now.leases;
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// Which watches serve what is wanted, and the names of the Leases in each.
fn plan(wanted: &Watches) -> BTreeMap<Key, BTreeSet<String>> {
    let mut namespaces: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for lease in &wanted.leases {
        namespaces.entry(lease.namespace()).or_default().insert(lease.name().to_owned());
    }
    let mut plan = BTreeMap::new();
    for (namespace, names) in namespaces {
        if names.len() > ONE_BY_ONE {
            plan.insert(Key::Namespace(namespace.to_owned()), names);
            continue;
        }
        for name in names {
            plan.insert(Key::Lease(LeaseName::new(namespace, name.clone())), BTreeSet::from([name]));
        }
    }
    if wanted.nodes {
        plan.insert(Key::Nodes, BTreeSet::new());
    }
    if let Some(services) = &wanted.services {
        let namespace = services.namespace.clone();
        plan.insert(Key::Services(namespace.clone()), BTreeSet::new());
        let behind = match services.endpoints {
            EndpointSource::Slices => Key::Slices(namespace),
            EndpointSource::Endpoints => Key::Endpoints(namespace),
        };
        plan.insert(behind, BTreeSet::new());
    }
    if let Some((namespace, name)) = &wanted.pools {
        plan.insert(Key::Pools(namespace.clone(), name.clone()), BTreeSet::new());
    }
    if let Some(sessions) = &wanted.sessions {
        plan.insert(Key::Sessions(sessions.namespace.clone(), sessions.instance.clone()), BTreeSet::new());
    }
    plan
}

fn start(gateway: &Arc<Gateway>, key: &Key, names: BTreeSet<String>) -> Running {
    let (sender, receiver) = cell::channel(names);
    let shared = Arc::clone(gateway);
    let task = match key.clone() {
        Key::Nodes => run(gateway, NodeWatch::new(shared)),
        Key::Lease(lease) => {
            let (namespace, name) = lease.parts();
            let name = Some(name.to_owned());
            run(gateway, LeaseWatch::new(shared, namespace.to_owned(), name, receiver))
        }
        Key::Namespace(namespace) => run(gateway, LeaseWatch::new(shared, namespace, None, receiver)),
        Key::Services(namespace) => run(gateway, ServiceWatch::new(shared, namespace)),
        Key::Slices(namespace) => {
            run(gateway, EndpointWatch::<SliceShape>::new(shared, EndpointSource::Slices, namespace))
        }
        Key::Endpoints(namespace) => {
            run(gateway, EndpointWatch::<EndpointsShape>::new(shared, EndpointSource::Endpoints, namespace))
        }
        Key::Pools(namespace, name) => run(gateway, PoolWatch::new(shared, namespace, name)),
        Key::Sessions(namespace, instance) => run(gateway, SessionWatch::new(shared, namespace, instance)),
    };
    Running { names: sender, task }
}

fn run(gateway: &Arc<Gateway>, collection: impl Collection + 'static) -> AbortHandle {
    let gateway = Arc::clone(gateway);
    tokio::spawn(async move { follow::follow(&gateway, collection, seed()).await }).abort_handle()
}

/// For jitter, which must differ between the nodes of a cluster; nothing else hangs on it.
fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use vip_model::store::ServiceWatch;

    use super::*;

    fn wanted(leases: &[(&str, &str)]) -> Watches {
        let leases = leases.iter().map(|(namespace, name)| LeaseName::new(*namespace, *name)).collect();
        Watches { leases, ..Watches::default() }
    }

    #[test]
    fn few_leases_have_a_watch_each_and_many_share_one() {
        let few = plan(&wanted(&[("a", "1"), ("a", "2"), ("a", "3"), ("b", "1")]));
        assert_eq!(few.len(), 4);
        assert!(few.keys().all(|key| matches!(key, Key::Lease(_))));
        let many = plan(&wanted(&[("a", "1"), ("a", "2"), ("a", "3"), ("a", "4"), ("b", "1")]));
        assert_eq!(many.len(), 2);
        assert_eq!(many[&Key::Namespace("a".to_owned())].len(), 4);
    }

    #[test]
    fn nodes_are_watched_only_when_wanted() {
        assert!(plan(&Watches::default()).is_empty());
        assert!(plan(&Watches { nodes: true, ..Watches::default() }).contains_key(&Key::Nodes));
    }

    #[test]
    fn services_cost_two_watches_and_endpoints_are_read_one_way() {
        let services = |endpoints| Some(ServiceWatch { namespace: Some("a".to_owned()), endpoints });
        let namespace = Some("a".to_owned());
        let rows = [
            (EndpointSource::Slices, Key::Slices(namespace.clone())),
            (EndpointSource::Endpoints, Key::Endpoints(namespace.clone())),
        ];
        for (source, behind) in rows {
            let pools = Some(("kube-system".to_owned(), "kubevip".to_owned()));
            let plan = plan(&Watches { services: services(source), pools, ..Watches::default() });
            let pools = Key::Pools("kube-system".to_owned(), "kubevip".to_owned());
            assert!(plan.into_keys().eq([Key::Services(namespace.clone()), behind, pools]), "{source:?}");
        }
    }
}
