//! The HTTP(S) probe: GET on a connection of its own, which ends with the answer's head. No body is read, nothing is
//! kept alive, no proxy is asked (the probe is of a server on this very node), so nothing can leak.

use std::sync::Arc;

use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::{Target, TargetScheme};
use super::trust::TrustStore;

/// Redirects that are followed, as kube-vip's own client does.
const REDIRECTS: usize = 10;

/// `Ok` when a GET of `url` ends in status 200, else what was wrong.
pub(super) async fn get(trust: &TrustStore, url: &str, ca_path: Option<&str>) -> Result<(), String> {
    let mut target = Target::parse(url)?;
    for _ in 0..=REDIRECTS {
        let (status, location) = ask(trust, &target, ca_path).await.map_err(|why| format!("{url}: {why}"))?;
        match location.filter(|_| status.is_redirection()) {
            None if status == StatusCode::OK => return Ok(()),
            None => return Err(format!("{url}: status {}", status.as_u16())),
            Some(location) => {
                target = target.redirected(&location).map_err(|why| format!("{url}: {why}"))?;
            }
        }
    }
    Err(format!("{url}: more than {REDIRECTS} redirects"))
}

async fn ask(
    trust: &TrustStore,
    target: &Target,
    ca_path: Option<&str>,
) -> Result<(StatusCode, Option<String>), String> {
    // What is wrong with the CA file is said even while nobody listens.
    let tls = match target.scheme {
        TargetScheme::Http => None,
        TargetScheme::Https => Some(trust.config(ca_path)?),
    };
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(|e| e.to_string())?;
    // A request is one small packet.
    let _ = stream.set_nodelay(true);
    let Some(config) = tls else { return exchange(stream, target).await };
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| format!("{:?} is no host name that a certificate can carry", target.host))?;
    let stream = TlsConnector::from(Arc::clone(&config))
        .connect(name, stream)
        .await
        .map_err(|error| format!("TLS: {error}"))?;
    exchange(stream, target).await
}

async fn exchange<S>(stream: S, target: &Target) -> Result<(StatusCode, Option<String>), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::get(target.path.as_str())
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("kube-vip/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    tokio::pin!(connection);
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    // The connection is driven here and not in a task, so that it is closed when this function ends, however it ends.
    let response = tokio::select! {
        response = &mut answer => response,
        driven = &mut connection => match driven {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    let response = response.map_err(|error| error.to_string())?;
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    Ok((response.status(), location.map(str::to_owned)))
}
