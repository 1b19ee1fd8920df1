//! The wanted watches against those that run: one task each for Leases (for one Lease, for all of a namespace when many
//! are wanted, or for all namespaces when many of these have some), one for Nodes, and one each for Services, what stands behind them, the pools, and the sessions.

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
use tracing::info;
use vip_model::config::EndpointSource;
use vip_model::store::Watches;
use vip_model::{InstanceName, LeaseName};

use crate::follow::{self, Collection};
use crate::gateway::Gateway;
use crate::lease::Scope;
use crate::slice::{EndpointsShape, SliceShape};
use crate::watch::endpoint::EndpointWatch;
use crate::watch::lease::{LeaseWatch, Wide};
use crate::watch::node::NodeWatch;
use crate::watch::pool::PoolWatch;
use crate::watch::service::ServiceWatch;
use crate::watch::session::SessionWatch;

/// Up to so many Leases of a namespace are watched one by one; more by one watch of the namespace.
const ONE_BY_ONE: usize = 3;

/// Up to so many watches of Leases run side by side; more become one of all namespaces, when the right is there.
const WATCHES: usize = 8;
/// It serves until there would be no more than so many: a Service that comes and goes must not make watches flap.
const FEW_WATCHES: usize = 4;

/// Which watch this is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Leases.
    Leases(Scope),
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
    leases: cell::Sender<BTreeSet<LeaseName>>,
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
    let (report, mut wide) = cell::channel(Wide::default());
    loop {
        let now = wanted.borrow_and_update().clone();
        for gone in before.difference(&now.leases) {
            gateway.ledger.forget(gone);
        }
        let plan = plan(&now, *wide.borrow_and_update(), |key| running.contains_key(key));
        running.retain(|key, _| plan.contains_key(key));
        if !plan.contains_key(&Key::Leases(Scope::All)) {
            report.send_replace(Wide::Untried);
            wide.mark_unchanged();
        }
        for (key, leases) in plan {
            if let Some(watch) = running.get(&key) {
                watch.leases.send_if_modified(|now| {
                    let differs = *now != leases;
                    *now = leases;
                    differs
                });
            } else {
                let watch = start(&gateway, &key, leases, &report);
                running.insert(key, watch);
            }
        }
        before = now.leases;
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            _ = wide.changed() => info!(watch = ?*wide.borrow(), "Leases of all namespaces"),
        }
    }
}

/// Which watches serve what is wanted, and the Leases in each. `runs` says which ones do already.
fn plan(wanted: &Watches, wide: Wide, runs: impl Fn(&Key) -> bool) -> BTreeMap<Key, BTreeSet<LeaseName>> {
    let mut plan = BTreeMap::new();
    let narrow = narrow(&wanted.leases);
    let all = Key::Leases(Scope::All);
    let most = if runs(&all) { FEW_WATCHES } else { WATCHES };
    if narrow.len() > most && wanted.leases.iter().all(|lease| Scope::All.holds(lease)) {
        plan.insert(all, wanted.leases.clone());
        // Nothing goes out of sight before the one watch has seen it all.
        let stay = narrow.into_iter().filter(|(key, _)| match wide {
            Wide::Untried => runs(key),
            Wide::Serves => false,
            Wide::Refused => true,
        });
        plan.extend(stay);
    } else {
        plan.extend(narrow);
    }
    plan.extend(others(wanted).into_iter().map(|key| (key, BTreeSet::new())));
    plan
}

/// Watches of single Leases and of namespaces.
fn narrow(leases: &BTreeSet<LeaseName>) -> BTreeMap<Key, BTreeSet<LeaseName>> {
    let mut namespaces: BTreeMap<&str, BTreeSet<LeaseName>> = BTreeMap::new();
    for lease in leases {
        namespaces.entry(lease.namespace()).or_default().insert(lease.clone());
    }
    let mut plan = BTreeMap::new();
    for (namespace, leases) in namespaces {
        if leases.len() > ONE_BY_ONE {
            plan.insert(Key::Leases(Scope::Namespace(namespace.to_owned())), leases);
            continue;
        }
        for lease in leases {
            plan.insert(Key::Leases(Scope::One(lease.clone())), BTreeSet::from([lease]));
        }
    }
    plan
}

/// Watches of everything else.
fn others(wanted: &Watches) -> Vec<Key> {
    let mut keys = Vec::new();
    if wanted.nodes {
        keys.push(Key::Nodes);
    }
    if let Some(services) = &wanted.services {
        let namespace = services.namespace.clone();
        keys.push(Key::Services(namespace.clone()));
        let behind = match services.endpoints {
            EndpointSource::Slices => Key::Slices(namespace),
            EndpointSource::Endpoints => Key::Endpoints(namespace),
        };
        keys.push(behind);
    }
    if let Some((namespace, name)) = &wanted.pools {
        keys.push(Key::Pools(namespace.clone(), name.clone()));
    }
    if let Some(sessions) = &wanted.sessions {
        keys.push(Key::Sessions(sessions.namespace.clone(), sessions.instance.clone()));
    }
    keys
}

fn start(
    gateway: &Arc<Gateway>,
    key: &Key,
    leases: BTreeSet<LeaseName>,
    wide: &cell::Sender<Wide>,
) -> Running {
    let (sender, receiver) = cell::channel(leases);
    let shared = Arc::clone(gateway);
    let task = match key.clone() {
        Key::Nodes => run(gateway, NodeWatch::new(shared)),
        Key::Leases(scope) => run(gateway, LeaseWatch::new(shared, scope, receiver, wide.clone())),
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
    Running { leases: sender, task }
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

    fn first(wanted: &Watches) -> BTreeMap<Key, BTreeSet<LeaseName>> {
        plan(wanted, Wide::Untried, |_| false)
    }

    #[test]
    fn few_leases_have_a_watch_each_and_many_share_one() {
        let few = first(&wanted(&[("a", "1"), ("a", "2"), ("a", "3"), ("b", "1")]));
        assert_eq!(few.len(), 4);
        assert!(few.keys().all(|key| matches!(key, Key::Leases(Scope::One(_)))));
        let many = first(&wanted(&[("a", "1"), ("a", "2"), ("a", "3"), ("a", "4"), ("b", "1")]));
        assert_eq!(many.len(), 2);
        assert_eq!(many[&Key::Leases(Scope::Namespace("a".to_owned()))].len(), 4);
    }

    #[test]
    fn leases_in_many_namespaces_share_one_watch_as_soon_as_it_serves() {
        let all = Key::Leases(Scope::All);
        let of = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("ns-{number}")).collect();
            wanted(&names.iter().map(|name| (name.as_str(), "l")).collect::<Vec<_>>())
        };
        assert_eq!(first(&of(WATCHES)).len(), WATCHES);
        assert!(first(&of(WATCHES + 1)).into_keys().eq([all.clone()]), "nothing else is tried first");
        // Those that run stay until the one of all has seen what they see.
        let before = first(&of(WATCHES));
        let runs = |key: &Key| before.contains_key(key);
        assert_eq!(plan(&of(WATCHES + 1), Wide::Untried, runs).len(), WATCHES + 1);
        assert!(plan(&of(WATCHES + 1), Wide::Serves, runs).into_keys().eq([all.clone()]));
        assert_eq!(
            plan(&of(WATCHES + 1), Wide::Refused, |_| false).len(),
            WATCHES + 2,
            "it is tried on, slowly"
        );
        // It is not given up at once when fewer are wanted.
        let only_all = |key: &Key| *key == all;
        assert!(plan(&of(FEW_WATCHES + 1), Wide::Serves, only_all).into_keys().eq([all.clone()]));
        assert_eq!(plan(&of(FEW_WATCHES), Wide::Serves, only_all).len(), FEW_WATCHES);
        let mut with_kubelets = of(WATCHES + 1);
        with_kubelets.leases.insert(LeaseName::new("kube-node-lease", "n1"));
        assert_eq!(first(&with_kubelets).len(), WATCHES + 2, "that one would not show it");
    }

    #[test]
    fn nodes_are_watched_only_when_wanted() {
        assert!(first(&Watches::default()).is_empty());
        assert!(first(&Watches { nodes: true, ..Watches::default() }).contains_key(&Key::Nodes));
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
            let plan = first(&Watches { services: services(source), pools, ..Watches::default() });
            let pools = Key::Pools("kube-system".to_owned(), "kubevip".to_owned());
            assert!(plan.into_keys().eq([Key::Services(namespace.clone()), behind, pools]), "{source:?}");
        }
    }
}
