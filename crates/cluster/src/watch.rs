//! The wanted watches against those that run: one task each for Leases (for one Lease, or for all of a namespace when
//! many are wanted) and one for Nodes.

mod lease;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use tokio::sync::watch as cell;
use tokio::task::AbortHandle;
use vip_model::LeaseName;
use vip_model::store::Watches;

use crate::follow;
use crate::gateway::Gateway;
use crate::watch::lease::LeaseWatch;
use crate::watch::node::NodeWatch;

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
        namespaces.entry(&lease.namespace).or_default().insert(lease.name.clone());
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
    plan
}

fn start(gateway: &Arc<Gateway>, key: &Key, names: BTreeSet<String>) -> Running {
    let (sender, receiver) = cell::channel(names);
    let gateway = Arc::clone(gateway);
    // Jitter must differ between the nodes of a cluster, nothing else hangs on it.
    let seed = RandomState::new().hash_one(0);
    let task = match key.clone() {
        Key::Nodes => tokio::spawn(async move {
            follow::follow(&gateway, NodeWatch::new(Arc::clone(&gateway)), seed).await;
        }),
        Key::Lease(LeaseName { namespace, name }) => tokio::spawn(async move {
            let watch = LeaseWatch::new(Arc::clone(&gateway), namespace, Some(name), receiver);
            follow::follow(&gateway, watch, seed).await;
        }),
        Key::Namespace(namespace) => tokio::spawn(async move {
            let watch = LeaseWatch::new(Arc::clone(&gateway), namespace, None, receiver);
            follow::follow(&gateway, watch, seed).await;
        }),
    };
    Running { names: sender, task: task.abort_handle() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(leases: &[(&str, &str)]) -> Watches {
        let leases = leases.iter().map(|(namespace, name)| LeaseName::new(*namespace, *name)).collect();
        Watches { leases, nodes: false }
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
}
