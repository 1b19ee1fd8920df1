//! `cp_detect`: which addresses this node's API server says it has, in the certificate that it shows on the loopback
//! address (upstream §10.1, but tried again until it works). They join the servers that are tried; each is then
//! checked like any other.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::connection::{self, BoxError};
use crate::endpoint::Dial;
use crate::gateway::Gateway;
use crate::settings::LocalApi;
use crate::tls::Unchecked;

/// How often until it worked.
const AT_FIRST: Duration = Duration::from_secs(1);
/// How often then: certificates are renewed once a year or so.
const EVERY: Duration = Duration::from_secs(600);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at the certificate again and again, until the task is aborted. Returns at once when it is not asked for.
pub(crate) async fn find_local(gateway: Arc<Gateway>) {
    let settings = gateway.directory.settings();
    if settings.local != LocalApi::Certificate {
        return;
    }
    let server = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), settings.port);
    loop {
        let found = match timeout(PATIENCE, addresses_of(server)).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let local: Vec<IpAddr> = found
            .into_iter()
            .filter(|address| *address != server.ip() && !settings.vips.contains(address))
            .collect();
        let wait = if local.is_empty() { AT_FIRST } else { EVERY };
        if !local.is_empty() {
            gateway.directory.learn(|learned| learned.local = local);
        }
        sleep(wait).await;
    }
}

/// The addresses in the certificate that `server` shows. Nothing is trusted on its word.
async fn addresses_of(server: SocketAddr) -> Result<Vec<IpAddr>, BoxError> {
    let stream = connection::dial(&Dial::Address(server), &BTreeSet::new()).await?;
    let provider = Arc::new(default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        .with_no_client_auth();
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::from(server.ip()), stream).await?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(certificates.first().map(|certificate| addresses_in(certificate)).unwrap_or_default())
}

/// The DER of `extnID subjectAltName`: OBJECT IDENTIFIER 2.5.29.17 (RFC 5280 §4.2.1.6).
const SUBJECT_ALT_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x11];
/// `critical BOOLEAN TRUE`, which may stand between the identifier and the value.
const CRITICAL: [u8; 3] = [0x01, 0x01, 0xff];
/// `OCTET STRING`.
const OCTET_STRING: u8 = 0x04;
/// `SEQUENCE`.
const SEQUENCE: u8 = 0x30;
/// `GeneralName::iPAddress`, context tag 7.
const IP_ADDRESS: u8 = 0x87;

/// The IP addresses among the subject alternative names of a certificate (RFC 5280 §4.2.1.6), in their order.
fn addresses_in(certificate: &[u8]) -> Vec<IpAddr> {
    let Some(at) = certificate.windows(SUBJECT_ALT_NAME.len()).position(|window| window == SUBJECT_ALT_NAME)
    else {
        return Vec::new();
    };
    let rest = &certificate[at + SUBJECT_ALT_NAME.len()..];
    let rest = rest.strip_prefix(&CRITICAL).unwrap_or(rest);
    let names = element(rest)
        .filter(|(tag, _, _)| *tag == OCTET_STRING)
        .and_then(|(_, octets, _)| element(octets))
        .filter(|(tag, _, _)| *tag == SEQUENCE)
        .map(|(_, names, _)| names);
    let mut found = Vec::new();
    let mut rest = names.unwrap_or_default();
    while let Some((tag, value, after)) = element(rest) {
        if tag == IP_ADDRESS {
            let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
            found.extend(v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok());
        }
        rest = after;
    }
    found
}

/// The first DER element: its tag, its value, what comes after it (X.690 §8.1).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 3 {
            return None;
        }
        let (length, rest) = rest.split_at_checked(count)?;
        (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    let (value, after) = rest.split_at_checked(length)?;
    Some((tag, value, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_a_certificate() {
        let names = ["kubernetes", "10.0.0.11", "fd00::11", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let found: Vec<_> = addresses_in(made.cert.der()).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.11", "fd00::11", "127.0.0.1"]);
    }

    #[test]
    fn a_cut_certificate_never_panics() {
        let names = ["kubernetes", "10.0.0.11"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let der = made.cert.der();
        for end in 0..der.len() {
            assert!(addresses_in(&der[..end]).len() <= 1);
        }
    }
}
