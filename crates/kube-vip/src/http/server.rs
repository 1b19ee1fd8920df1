//! One listener and its connections: bound when the port is free, tried again while it is not; one request per
//! connection, each with a time limit, and not more of them at once than a node can have good use for.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time;

use super::{Listener, Pages, answer};
use crate::board::Board;
use crate::settings::Listen;

/// Connections that are served at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 32;

/// How long a connection may take in all. Prometheus gives up after 10 s itself.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Time between two attempts to bind a port that is taken. Somebody else has it, often the former instance of this
/// very program, for a second or for good.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// Pause after a failed accept: out of descriptors, as a rule.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves `listener` for ever.
pub(crate) async fn serve(listener: Listener, board: Arc<Board>) {
    let socket = bind(listener).await;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        match socket.accept().await {
            Ok((stream, _)) => {
                let board = Arc::clone(&board);
                tokio::spawn(async move {
                    let _ = time::timeout(CONNECTION_LIMIT, converse(stream, board, listener.pages)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, setting = listener.setting, "cannot accept a connection");
                time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Waits until the port can be had. Says so once when it cannot, and once when it then can.
async fn bind(listener: Listener) -> TcpListener {
    let mut complained = false;
    loop {
        match listen(listener.listen) {
            Ok(socket) => {
                if complained {
                    tracing::info!(setting = listener.setting, "the http server listens now");
                }
                return socket;
            }
            Err(error) if !complained => {
                complained = true;
                tracing::error!(
                    setting = listener.setting,
                    listen = ?listener.listen,
                    %error,
                    "the http server cannot listen, trying again every 5 s; everything else goes on"
                );
            }
            Err(_) => {}
        }
        time::sleep(BIND_AGAIN).await;
    }
}

/// All addresses means one socket for both families, as in Go; IPv4 alone where the kernel has no IPv6.
fn listen(listen: Listen) -> io::Result<TcpListener> {
    match listen {
        Listen::At(addr) => open(addr),
        Listen::AnyAddress { port } => match open((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into()) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                open((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into())
            }
            outcome => outcome,
        },
    }
}

fn open(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // A sysctl (net.ipv6.bindv6only) must not decide whether IPv4 is answered.
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

async fn converse(stream: TcpStream, board: Arc<Board>, pages: Pages) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let answer = answer(&board, pages, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    // One request per connection: nothing idles, and the time limit above means the request.
    let mut protocol = http1::Builder::new();
    protocol.keep_alive(false).max_buf_size(16 * 1024);
    if let Err(error) = protocol.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the http server ended early");
    }
}
