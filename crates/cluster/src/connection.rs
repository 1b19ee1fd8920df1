//! Connections to one API server: TCP, TLS when wanted, HTTP/1.1. One request at a time each; a watch has one of its
//! own. Fed by lanes, gives back request senders.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::directory::Endpoint;
use crate::endpoint::Dial;

/// What can go wrong with a connection. Classified by `classify`.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// Sends requests on one connection.
pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// How long one address may take to accept.
const CONNECT: Duration = Duration::from_secs(2);
/// How long TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// A connection on which nothing was heard for so long is asked whether it lives, by TCP itself: a watch is silent for
/// most of its life, and a server that lost power says nothing.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// After how many unanswered ones the connection is dead.
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Opens a connection. Never to one of `vips`, whatever a name stands for.
pub(crate) async fn open(endpoint: &Endpoint, vips: &BTreeSet<IpAddr>) -> Result<Sender, BoxError> {
    let stream = dial(&endpoint.dial, vips).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    match &endpoint.tls {
        None => speak(stream).await,
        Some((name, config)) => {
            let handshake = TlsConnector::from(config.clone()).connect(name.clone(), stream);
            let stream = timeout(HANDSHAKE, handshake).await.map_err(|_| late("TLS handshake"))??;
            speak(stream).await
        }
    }
}

/// Connects to the first address that accepts.
pub(crate) async fn dial(dial: &Dial, vips: &BTreeSet<IpAddr>) -> Result<TcpStream, BoxError> {
    let addresses: Vec<SocketAddr> = match dial {
        Dial::Address(address) => vec![*address],
        Dial::Name(name, port) => lookup_host((name.as_str(), *port)).await?.collect(),
    };
    let mut last: BoxError = format!("{dial} stands for no address").into();
    for address in addresses {
        if vips.contains(&address.ip()) {
            last = format!("{address} is a VIP of this agent and not used to reach the API").into();
            continue;
        }
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error.into(),
            Err(_) => last = late("connect"),
        }
    }
    Err(last)
}

fn late(what: &str) -> BoxError {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took too long")).into()
}

async fn speak<S>(stream: S) -> Result<Sender, BoxError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::Builder::new().max_buf_size(64 * 1024).handshake(TokioIo::new(stream)).await?;
    // It ends with its last request or its sender; what fails is told to the request.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
