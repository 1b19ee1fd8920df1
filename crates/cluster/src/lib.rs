//! The Kubernetes gateway: what the cluster says goes in, questions and their answers go out.
//!
//! The program gives [`ApiSettings`] and a [`Sink`]; from then on [`Cluster::ask`] answers every question by its
//! timeout and [`Cluster::watch`] keeps the wanted objects in view. Everything comes back as [`ClusterEvent`]s.
//! Nothing here decides anything: failures are classified and reported, the machines of the node decide.
//!
//! ```text
//!  Cluster ── ask ──► answer ─┐  lanes: Leases, sessions,   ┌─► connection (TCP, TLS, HTTP/1.1)
//!     │                       ├─► other writes, lists and ──┤
//!     └──── watch ─► follow ──┘  watches; or elsewhere      └─► directory (files, servers) ◄── roster, detect
//!                      │
//!                      └─► ledgers (Leases, sessions), snapshots (everything else) ──► events
//! ```

mod answer;
mod call;
mod classify;
mod connection;
mod console;
mod credentials;
mod detect;
mod directory;
mod elsewhere;
mod endpoint;
mod error;
mod event;
mod follow;
mod gateway;
mod health;
mod kubeconfig;
mod lane;
mod lease;
mod ledger;
mod roster;
mod service;
mod session;
mod settings;
mod shape;
mod slice;
mod slots;
mod snapshots;
mod tls;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::watch as cell;
use tokio::task::AbortHandle;
use vip_model::peers::PeerKey;
use vip_model::store::{Question, Watches};

pub use crate::console::{Console, Target};
pub use crate::event::{ClusterEvent, Sink};
pub use crate::settings::{ApiSettings, LocalApi, ServiceAddress};

use crate::gateway::Gateway;

/// The running gateway. Dropping it ends its tasks; questions in flight are then never answered.
pub struct Cluster {
    gateway: Arc<Gateway>,
    wanted: cell::Sender<Watches>,
    tasks: Vec<AbortHandle>,
}

impl Cluster {
    /// Starts the gateway on the current tokio runtime. It does not wait for the API: whatever is missing (files, the
    /// server, rights) is tried again for as long as it takes.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(settings: ApiSettings, sink: Sink) -> Self {
        let gateway = Arc::new(Gateway::new(settings, sink));
        let (wanted, seen) = cell::channel(Watches::default());
        let tasks = vec![
            tokio::spawn(watch::keep(Arc::clone(&gateway), seen)).abort_handle(),
            tokio::spawn(publish(Arc::clone(&gateway))).abort_handle(),
            tokio::spawn(roster::learn(Arc::clone(&gateway))).abort_handle(),
            tokio::spawn(detect::find_local(Arc::clone(&gateway))).abort_handle(),
        ];
        Self { gateway, wanted, tasks }
    }

    /// Asks a question. Its [`ClusterEvent::Answer`] comes by the question's timeout, always; questions run side by
    /// side.
    pub fn ask(&self, question: Question) {
        tokio::spawn(answer::answer(Arc::clone(&self.gateway), question));
    }

    /// Keeps the keys for heartbeats in view: the Secret `namespace/name`, with `key` (the newest) and `previous` in its
    /// data. When it is not there, it is made with a key of `fresh`. They come as [`ClusterEvent::PeerKeys`].
    pub fn keep_peer_keys(
        &mut self,
        namespace: &str,
        name: &str,
        fresh: impl Fn() -> PeerKey + Send + Sync + 'static,
    ) {
        let place = (namespace.to_owned(), name.to_owned());
        let task = watch::peer_key::keep(Arc::clone(&self.gateway), place, Box::new(fresh));
        self.tasks.push(tokio::spawn(task).abort_handle());
    }

    /// Tells which networks are this node itself: its loopback networks and each of its addresses. Until then no API
    /// server counts as being on another node.
    pub fn note_here(&self, here: BTreeSet<IpNet>) {
        self.gateway.directory.note_here(here);
    }

    /// Watches these: the whole set. The newest call counts.
    pub fn watch(&self, wanted: Watches) {
        self.wanted.send_if_modified(|now| {
            let differs = *now != wanted;
            *now = wanted;
            differs
        });
    }
}

async fn publish(gateway: Arc<Gateway>) {
    gateway.snapshots.publish(|snapshot| gateway.tell(ClusterEvent::Snapshot(snapshot))).await;
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
