//! The way to the API as it is now: credentials from the newest files, the servers in the order in which to try them.
//!
//! Lanes ask for the way before every call; files are looked at again at most every two seconds, and at once after
//! the API said 401 or 403 or a certificate was refused. When something changed, a new [`Access`] with a higher
//! generation is made and connections of the old one are no longer used.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tracing::{info, warn};
use vip_model::Known;
use vip_model::store::{Failure, FailureClass};

use crate::call::Call;
use crate::credentials::{self, Credentials, Source};
use crate::endpoint::{self, Dial, Learned, ServerUrl};
use crate::error::Error;
use crate::health::{Health, Outcome};
use crate::settings::ApiSettings;

/// How often files are looked at, at most.
const LOOK: Duration = Duration::from_secs(2);
/// How long `super-admin.conf` stands in for a forbidden `admin.conf` before the latter is tried again.
const STAND_IN: Duration = Duration::from_secs(60);

/// One API server and how it is spoken to.
pub(crate) struct Endpoint {
    /// Where it is.
    pub(crate) dial: Dial,
    /// For SNI and for TLS; none for a plain server.
    pub(crate) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
}

/// A way to the API.
pub(crate) struct Access {
    /// Grows with every change; connections of different generations are never mixed.
    pub(crate) generation: u64,
    /// Goes before every path.
    pub(crate) base: String,
    /// The `Host` header.
    pub(crate) host: HeaderValue,
    /// The `Authorization` header.
    pub(crate) authorization: Option<HeaderValue>,
    /// The servers, best first.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
}

/// Finds the way, keeps it until it changes.
pub(crate) struct Directory {
    settings: ApiSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    generation: u64,
    looked: Option<Instant>,
    learned: Learned,
    /// The networks that are this node itself.
    here: Known<BTreeSet<IpNet>>,
    health: Health,
    forbidden: Option<Instant>,
}

struct Current {
    source: Source,
    credentials: Credentials,
    access: Arc<Access>,
}

impl Directory {
    pub(crate) fn new(settings: ApiSettings) -> Self {
        Self { settings, state: Mutex::new(State::default()) }
    }

    /// What the program said.
    pub(crate) fn settings(&self) -> &ApiSettings {
        &self.settings
    }

    /// The way to the API, and its servers in the order in which to try them.
    pub(crate) fn access(&self) -> Result<(Arc<Access>, Vec<Arc<Endpoint>>), Failure> {
        let now = Instant::now();
        let mut state = self.lock();
        let access = self.look(&mut state, now, LOOK).map_err(Error::into_failure)?;
        let mut order = access.endpoints.clone();
        state.health.sort(now, &mut order, |endpoint| &endpoint.dial);
        Ok((access, order))
    }

    /// The way to the API, and its servers on other nodes in the order in which to try them: of the endpoints of the
    /// `kubernetes` Service, those that are neither this node nor a VIP. Any other address, such as that of a Service or
    /// of a load balancer, may lead to this node's own server.
    pub(crate) fn elsewhere(&self, call: &Call) -> Result<(Arc<Access>, Vec<Arc<Endpoint>>), Failure> {
        let (access, mut servers) = self.access()?;
        let state = self.lock();
        let nobody = |why: String| Failure {
            class: FailureClass::Unreachable,
            text: format!("{call}: no API server on another node is known: {why}"),
        };
        let Known::Known(here) = &state.here else {
            return Err(nobody("which addresses this node has is not known yet".to_owned()));
        };
        let learned = &state.learned.servers;
        servers.retain(|server| match &server.dial {
            Dial::Address(address) => {
                learned.contains(address) && !here.iter().any(|net| net.contains(&address.ip()))
            }
            Dial::Name(..) => false,
        });
        if servers.is_empty() {
            return Err(nobody(match learned.len() {
                0 => "the endpoints of the Service default/kubernetes were not read yet".to_owned(),
                _ => {
                    format!("the Service default/kubernetes has only the endpoints {learned:?}, on this node")
                }
            }));
        }
        Ok((access, servers))
    }

    /// Takes note of the networks that are this node itself.
    pub(crate) fn note_here(&self, here: BTreeSet<IpNet>) {
        self.lock().here = Known::Known(here);
    }

    /// Looks at the files now, after `access` was not accepted. Says whether there is another way to try.
    pub(crate) fn look_again(&self, access: &Access) -> bool {
        let mut state = self.lock();
        let newest = self.look(&mut state, Instant::now(), Duration::ZERO);
        newest.is_ok_and(|newest| newest.generation != access.generation)
    }

    /// Takes note that `access` may not elect. Says whether there is another way to try.
    pub(crate) fn note_forbidden(&self, access: &Access) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let used = state.current.as_ref().filter(|current| current.access.generation == access.generation);
        let stand_in_exists = credentials::find(&self.settings).is_ok_and(|sources| {
            sources.instead.is_some() && used.is_some_and(|used| used.source == sources.chosen)
        });
        if stand_in_exists {
            state.forbidden = Some(now);
        }
        let newest = self.look(&mut state, now, Duration::ZERO);
        newest.is_ok_and(|newest| newest.generation != access.generation)
    }

    /// Takes note of an attempt.
    pub(crate) fn note(&self, dial: &Dial, outcome: Outcome) {
        self.lock().health.note(Instant::now(), dial, outcome);
    }

    /// Takes note of what was learned about servers. The way is made anew when it changes.
    pub(crate) fn learn(&self, change: impl FnOnce(&mut Learned)) {
        let mut state = self.lock();
        let before = state.learned.clone();
        change(&mut state.learned);
        if state.learned == before {
            return;
        }
        info!(servers = ?state.learned.servers, local = ?state.learned.local, "API servers learned");
        if let Some(Current { source, credentials, .. }) = state.current.take() {
            // What cannot be built is read again with the next question.
            state.current = self.build(&mut state, source, credentials).ok();
        }
    }

    /// The newest way. Files that cannot be read any more, or not yet, do not take away the one that there is.
    fn look(&self, state: &mut State, now: Instant, every: Duration) -> Result<Arc<Access>, Error> {
        let looked_lately = state.looked.is_some_and(|looked| now < looked + every);
        if let Some(current) = state.current.as_ref().filter(|_| looked_lately) {
            return Ok(Arc::clone(&current.access));
        }
        state.looked = Some(now);
        match self.read_again(state, now) {
            Ok(Some(newest)) => {
                info!(source = ?newest.source, servers = %Servers(&newest.access.endpoints), "credentials read");
                state.health.keep_only(newest.access.endpoints.iter().map(|endpoint| &endpoint.dial));
                state.current = Some(newest);
            }
            Ok(None) => {}
            Err(error) if state.current.is_none() => return Err(error),
            Err(error) => warn!(%error, "credentials cannot be read again, the former ones stay in use"),
        }
        let current = state.current.as_ref().expect("set above, or the error was returned");
        Ok(Arc::clone(&current.access))
    }

    /// Reads the credentials if they are not what is in use.
    fn read_again(&self, state: &mut State, now: Instant) -> Result<Option<Current>, Error> {
        let sources = credentials::find(&self.settings)?;
        let forbidden = state.forbidden.is_some_and(|since| now < since + STAND_IN);
        let source = match sources.instead {
            Some(instead) if forbidden => instead,
            _ => sources.chosen,
        };
        let unchanged = state
            .current
            .as_ref()
            .is_some_and(|current| current.source == source && !current.credentials.files.have_changed());
        if unchanged {
            return Ok(None);
        }
        let credentials = credentials::load(&self.settings, &source)?;
        self.build(state, source, credentials).map(Some)
    }

    fn build(&self, state: &mut State, source: Source, credentials: Credentials) -> Result<Current, Error> {
        let Credentials { written, vouched, tls_server_name, authority, tls, .. } = &credentials;
        let dials = endpoint::candidates(&self.settings, credentials.origin, written, &state.learned);
        let mut endpoints = Vec::with_capacity(dials.len());
        for dial in dials {
            let tls = match tls {
                None => None,
                Some(material) => {
                    let names = endpoint::names(vouched, tls_server_name.as_deref(), *authority, &dial);
                    Some((sni(&names, written)?, material.config(&names)?))
                }
            };
            endpoints.push(Arc::new(Endpoint { dial, tls }));
        }
        state.generation += 1;
        let access = Access {
            generation: state.generation,
            base: written.base.clone(),
            host: HeaderValue::from_str(&written.dial().to_string()).map_err(|_| unusable(written))?,
            authorization: credentials.authorization.clone(),
            endpoints,
        };
        Ok(Current { source, credentials, access: Arc::new(access) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name that is sent in the clear, so that a server with several certificates shows the right one.
fn sni(names: &[String], written: &ServerUrl) -> Result<ServerName<'static>, Error> {
    names.iter().find_map(|name| ServerName::try_from(name.clone()).ok()).ok_or_else(|| unusable(written))
}

fn unusable(written: &ServerUrl) -> Error {
    Error::Server { key: "server".to_owned(), value: written.dial().to_string() }
}

/// The servers of a way, for the log.
struct Servers<'a>(&'a [Arc<Endpoint>]);

impl fmt::Display for Servers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, endpoint) in self.0.iter().enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { " " }, endpoint.dial)?;
        }
        Ok(())
    }
}
