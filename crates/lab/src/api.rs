//! The small Kubernetes API server of the lab: TLS, tokens and client certificates, role checks, lists and watches over
//! one store in memory, reached through one endpoint per control-plane node, with faults that can be turned on while it
//! runs. Scenarios and tests feed it listeners and seeds and read its counters; clients see what the real kube-apiserver
//! would answer, or 501 where it is not built, which is recorded. `tests/api_contract.rs` holds it against the real one.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use vip_lab::api::{Endpoint, Identity, Login, Reach, Server, Whose};
//! let server = Server::new()?;
//! let listener = std::net::TcpListener::bind("127.0.0.1:6443")?;
//! let addresses = vec!["127.0.0.1".parse()?];
//! server.serve(Endpoint { name: "n1".into(), listener, addresses, rebind: None })?;
//! let admin = server.credentials().kubeconfig(Login::Certificate(&Identity::admin()), "https://127.0.0.1:6443")?;
//! server.turn(Whose::Endpoint("n1"), |knobs| knobs.reach = Reach::Down);
//! # drop(admin); Ok(())
//! # }
//! ```

mod access;
mod answer;
mod credential;
mod endpoint;
mod failure;
mod kind;
mod knob;
mod list;
mod object;
mod patch;
mod route;
mod rule;
mod seed;
mod select;
mod service;
mod store;
mod verb;
mod watch;

pub use credential::{Credentials, Identity, KeyedCertificate, Login};
pub use endpoint::{Endpoint, Rebind};
pub use failure::{Cause, Failure};
pub use kind::{KINDS, Kind, Scope};
pub use knob::{Effect, Fault, Health, Knobs, Reach, Watches, Whose};
pub use route::Verb;
pub use store::{Change, Key, Store};

use knob::Panel;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What can go wrong around the server; what goes wrong in a request is a [`Failure`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener that was handed over cannot be used.
    #[error(
        "endpoint {endpoint}: the listener cannot be used: {source}; hand over a bound, open TCP listener"
    )]
    Listen {
        /// Name of the endpoint.
        endpoint: String,
        /// What the system said.
        source: io::Error,
    },
    /// Two endpoints of one name.
    #[error("endpoint {0} exists already; give every endpoint a name of its own")]
    EndpointTaken(String),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS configuration was refused.
    #[error("the TLS configuration was refused: {0}")]
    Tls(#[from] rustls::Error),
    /// A seed's kind is not in the table.
    #[error("cannot apply {0}: the kind is not known; accepted are the kinds of `KINDS`")]
    UnknownKind(String),
    /// A seed was refused by the rules of the API.
    #[error("cannot apply {what}: {why}")]
    Refused {
        /// The object.
        what: String,
        /// The message of the Status that a client would have got.
        why: String,
    },
    /// A seed is no YAML.
    #[error("cannot read the YAML of a seed: {0}")]
    Yaml(String),
}

/// Who did what where; the key of the request counters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Name of the endpoint.
    pub endpoint: String,
    /// Name of the user.
    pub user: String,
    /// What was done.
    pub verb: Verb,
    /// On what, as RBAC names it (`leases`, `services/status`), or a plain path.
    pub resource: String,
}

#[derive(Debug, Default)]
struct Notes {
    counts: BTreeMap<Call, u64>,
    missing: Vec<String>,
}

/// What all endpoints share.
#[derive(Debug)]
pub(crate) struct Shared {
    store: Arc<Store>,
    credentials: Credentials,
    panel: Panel,
    notes: Mutex<Notes>,
}

impl Shared {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, call: Call) {
        *self.notes().counts.entry(call).or_default() += 1;
    }

    fn note_missing(&self, what: &str) {
        self.notes().missing.push(what.to_owned());
    }
}

/// The server. Cloning gives another handle of the same one; all methods may be called from any thread.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// A server without endpoints, over a store that holds what every cluster has.
    pub fn new() -> Result<Self, Error> {
        let store = Store::new();
        store.seed_cluster()?;
        let shared = Shared {
            store: Arc::new(store),
            credentials: Credentials::new()?,
            panel: Panel::default(),
            notes: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Opens an endpoint. Must be called inside a tokio runtime, which then serves it until [`Server::stop`].
    pub fn serve(&self, endpoint: Endpoint) -> Result<(), Error> {
        endpoint::start(&self.shared, endpoint)
    }

    /// Closes every connection and every listener, as the death of all API servers does.
    pub fn stop(&self) {
        self.turn(Whose::All, |knobs| knobs.reach = Reach::Down);
    }

    /// The one store behind all endpoints.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Certificates, tokens and kubeconfig files.
    pub fn credentials(&self) -> &Credentials {
        &self.shared.credentials
    }

    /// Turns knobs of all endpoints or of one. False when there is no endpoint of that name.
    pub fn turn(&self, whose: Whose<'_>, turn: impl FnOnce(&mut Knobs)) -> bool {
        self.shared.panel.turn(whose, turn)
    }

    /// Ends all open watches now, in good order; clients may open them again at once.
    pub fn drop_watches(&self, whose: Whose<'_>) {
        self.shared.panel.drop_watches(whose);
    }

    /// How often who did what where. Requests are counted when they are understood, before faults and role checks.
    pub fn counts(&self) -> BTreeMap<Call, u64> {
        self.shared.notes().counts.clone()
    }

    /// Starts counting from nothing.
    pub fn reset_counts(&self) {
        self.shared.notes().counts.clear();
    }

    /// Everything that was asked for and answered 501, in order. A scenario fails when this is not empty.
    pub fn not_implemented(&self) -> Vec<String> {
        self.shared.notes().missing.clone()
    }
}

/// Opens all endpoints and serves them until the task is dropped: what a program needs that is nothing but a server.
pub async fn serve(server: Server, endpoints: Vec<Endpoint>) -> Result<(), Error> {
    for endpoint in endpoints {
        server.serve(endpoint)?;
    }
    std::future::pending().await
}
