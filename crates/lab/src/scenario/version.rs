//! Fetches `/version` of the API server through the VIP, as `kubectl version` does: the proof that the VIP carries what
//! it is there for.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::control_plane::PORT;
use crate::bench::Place;

/// The whole request may take this long.
const LIMIT: Duration = Duration::from_secs(3);

/// The `gitVersion` that the API server behind `vip` answers to a client in `place` that trusts `authority` (PEM).
pub fn fetch(place: &Place, authority: &str, vip: IpAddr) -> Result<String> {
    place.within(|| request(authority, vip)).context("moving to the client")?
}

fn request(authority: &str, vip: IpAddr) -> Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).context("reading the authority")?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect_timeout(&SocketAddr::new(vip, PORT), LIMIT)
        .with_context(|| format!("connecting to {vip} port {PORT}"))?;
    socket.set_read_timeout(Some(LIMIT))?;
    let client = ClientConnection::new(Arc::new(config), ServerName::from(vip))?;
    let mut stream = StreamOwned::new(client, socket);
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    // A server that closes without a TLS goodbye ends the body, too.
    if let Err(error) = stream.read_to_string(&mut answer)
        && answer.is_empty()
    {
        return Err(error).context("reading the answer");
    }
    parse(&answer)
}

fn parse(answer: &str) -> Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        bail!("the API server answered `{status}`");
    }
    let (begin, end) = (body.find('{'), body.rfind('}'));
    let json =
        begin.zip(end).and_then(|(begin, end)| body.get(begin..=end)).context("the answer has no JSON")?;
    let value: serde_json::Value = serde_json::from_str(json).context("the answer is no JSON")?;
    Ok(value["gitVersion"].as_str().context("the answer has no gitVersion")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_an_answer() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"gitVersion\": \"v1.36.0\"}";
        assert_eq!(parse(answer).expect("an answer"), "v1.36.0");
        assert!(parse("HTTP/1.1 503 Service Unavailable\r\n\r\n{}").is_err());
    }
}
