//! One endpoint of the server: the accept loop and its connections, which obey the knobs. A connection is one future;
//! to freeze it is not to poll it, to cut it is to keep it unpolled for good, to kill it is to drop it.

use super::answer::{Door, answer};
use super::credential::Presented;
use super::knob::{Line, Reach};
use super::{Error, Shared};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch::Receiver;
use tokio_rustls::TlsAcceptor;

/// How long to wait before the next attempt to open a listener again.
const REBIND_AFTER: Duration = Duration::from_millis(20);

/// Attempts to open a listener again before the endpoint gives up: two seconds.
const REBIND_ATTEMPTS: u32 = 100;

/// Opens a listener on an endpoint's address again, in the right network namespace. Runs on a thread of its own.
pub type Rebind = Arc<dyn Fn() -> io::Result<std::net::TcpListener> + Send + Sync>;

/// Where the server is reached: one per control-plane node.
pub struct Endpoint {
    /// The node's name; knobs and counters use it.
    pub name: String,
    /// An open listener. A listener keeps the network namespace in which it was opened.
    pub listener: std::net::TcpListener,
    /// Addresses of the serving certificate: the node's own, the VIP, the `kubernetes` Service's.
    pub addresses: Vec<IpAddr>,
    /// How to open the listener again after `Refused` or `Down`; without it, binding the same address in the
    /// server's own network namespace.
    pub rebind: Option<Rebind>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// Starts the accept loop of an endpoint as a task.
pub(crate) fn start(shared: &Arc<Shared>, endpoint: Endpoint) -> Result<(), Error> {
    let Endpoint { name, listener, addresses, rebind } = endpoint;
    let failed = |source| Error::Listen { endpoint: name.clone(), source };
    let address = listener.local_addr().map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let tokio_listener = TcpListener::from_std(listener).map_err(failed)?;
    let tls = TlsAcceptor::from(Arc::new(shared.credentials.tls(&addresses)?));
    let line = shared.panel.add(&name).ok_or_else(|| Error::EndpointTaken(name.clone()))?;
    let rebind = rebind.unwrap_or_else(|| Arc::new(move || std::net::TcpListener::bind(address)));
    let door =
        Door { shared: Arc::clone(shared), endpoint: name.into(), presented: Presented::Nothing, line };
    tokio::spawn(accept_loop(Gate { door, tls, rebind }, Some(tokio_listener)));
    Ok(())
}

struct Gate {
    door: Door,
    tls: TlsAcceptor,
    rebind: Rebind,
}

async fn accept_loop(gate: Gate, mut listener: Option<TcpListener>) {
    let mut line = gate.door.line.clone();
    loop {
        let now = line.borrow_and_update().clone();
        if matches!(now.reach, Reach::Refused | Reach::Down) {
            listener = None;
            if line.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(open) = &listener else {
            match reopen(&gate.rebind).await {
                Ok(opened) => listener = Some(opened),
                Err(err) => {
                    let name = &gate.door.endpoint;
                    gate.door.shared.note_missing(&format!("endpoint {name} could not listen again: {err}"));
                    return;
                }
            }
            continue;
        };
        tokio::select! {
            turned = line.changed() => if turned.is_err() { return },
            accepted = open.accept() => if let Ok((stream, _)) = accepted {
                let mut born = line.borrow().clone();
                // Who comes during a cut belongs to it.
                born.cuts -= u64::from(born.reach == Reach::Cut);
                let connection = connection(gate.tls.clone(), gate.door.clone(), stream);
                tokio::spawn(obey(connection, born, line.clone()));
            },
        }
    }
}

/// Opens the listener again; the address may still be busy for a moment.
async fn reopen(rebind: &Rebind) -> io::Result<TcpListener> {
    let mut attempt = 0;
    loop {
        let rebind = Arc::clone(rebind);
        let (sender, opened) = tokio::sync::oneshot::channel();
        // A thread of its own: the closure may change its network namespace.
        std::thread::spawn(move || drop(sender.send(rebind())));
        let opened = opened.await.unwrap_or_else(|_| Err(io::Error::other("the rebind closure panicked")));
        attempt += 1;
        match opened {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return TcpListener::from_std(listener);
            }
            Err(err) if attempt >= REBIND_ATTEMPTS => return Err(err),
            Err(_) => tokio::time::sleep(REBIND_AFTER).await,
        }
    }
}

async fn connection(tls: TlsAcceptor, mut door: Door, stream: TcpStream) {
    // Errors of a connection are the client's: it sees them, nobody here could do better.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    door.presented = door.shared.credentials.of_certificate(certificate);
    let service = service_fn(move |request| {
        let door = door.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(door, request).await) }
    });
    let serving =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let _ = serving.await;
}

/// Runs a connection as long as, and only while, the knobs let it.
async fn obey(connection: impl Future<Output = ()>, born: Line, mut line: Receiver<Line>) {
    let mut connection = std::pin::pin!(connection);
    loop {
        let now = line.borrow_and_update().clone();
        if now.deaths != born.deaths || now.reach == Reach::Down {
            return;
        }
        if now.cuts != born.cuts || now.reach == Reach::Frozen {
            if line.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            biased;
            turned = line.changed() => if turned.is_err() { return },
            () = &mut connection => return,
        }
    }
}
