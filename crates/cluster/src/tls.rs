//! TLS as an API client needs it: who vouches for servers, which names their certificate may hold, who we are.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::endpoint::AuthorityKind;
use crate::error::Error;

/// Where systems keep the authorities that they trust, in the order of Go's `crypto/x509`.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What every TLS connection of one set of credentials has in common.
pub(crate) struct TlsMaterial {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    resumption: Resumption,
    source_name: String,
}

/// How many TLS sessions are kept for all servers together. The library's default keeps 256 for each.
const SESSIONS: usize = 16;

enum Trust {
    Roots(Arc<WebPkiServerVerifier>),
    Everybody,
}

impl TlsMaterial {
    /// From PEM texts. `source_name` is for errors.
    pub(crate) fn new(
        source_name: String,
        kind: AuthorityKind,
        authority: Option<Vec<u8>>,
        identity: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, Error> {
        let refuse =
            |what: &str| Error::Certificates { source_name: source_name.clone(), what: what.to_owned() };
        let provider = Arc::new(crypto::ring::default_provider());
        let trust = match (kind, authority) {
            (AuthorityKind::Nobody, _) => Trust::Everybody,
            (AuthorityKind::Cluster, authority) => {
                let pem = authority.unwrap_or_default();
                let verifier = roots(&provider, &pem)
                    .ok_or_else(|| refuse("its certificate authority is no PEM text with a certificate"))?;
                Trust::Roots(verifier)
            }
            (AuthorityKind::System, _) => {
                let pem = SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read(Path::new(path)).ok());
                let verifier = pem.and_then(|pem| roots(&provider, &pem)).ok_or_else(|| {
                    refuse("names no certificate authority and the system has none; add certificate-authority-data")
                })?;
                Trust::Roots(verifier)
            }
        };
        let identity = match identity {
            None => None,
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(&certificate)
                    .collect::<Result<Vec<_>, _>>()
                    .ok()
                    .filter(|chain| !chain.is_empty())
                    .ok_or_else(|| refuse("its client certificate is no PEM text with a certificate"))?;
                let key = PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|_| refuse("its client key is no PEM text with a private key"))?;
                Some((chain, key))
            }
        };
        let resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Self { provider, trust, identity, resumption, source_name })
    }

    /// The configuration for a server whose certificate may hold one of `names`.
    pub(crate) fn config(&self, names: &[String]) -> Result<Arc<ClientConfig>, Error> {
        let refuse = |error: rustls::Error| Error::Certificates {
            source_name: self.source_name.clone(),
            what: error.to_string(),
        };
        let names = names.iter().filter_map(|name| ServerName::try_from(name.clone()).ok()).collect();
        let verifier: Arc<dyn ServerCertVerifier> = match &self.trust {
            Trust::Roots(inner) => Arc::new(AnyOfNames { inner: Arc::clone(inner), names }),
            Trust::Everybody => Arc::new(Unchecked(Arc::clone(&self.provider))),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(refuse)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(refuse)?
            }
        };
        config.resumption = self.resumption.clone();
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsMaterial({})", self.source_name)
    }
}

fn roots(provider: &Arc<CryptoProvider>, pem: &[u8]) -> Option<Arc<WebPkiServerVerifier>> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build().ok()
}

/// Checks a certificate in full, and for the name accepts one of several. The name that the connection was opened
/// with only serves SNI.
#[derive(Debug)]
struct AnyOfNames {
    inner: Arc<WebPkiServerVerifier>,
    names: Vec<ServerName<'static>>,
}

impl ServerCertVerifier for AnyOfNames {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let check = |name: &ServerName<'_>| {
            self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        let mut first = None;
        for name in &self.names {
            match check(name) {
                Ok(verified) => return Ok(verified),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        // Without any usable name the one that was dialled must hold.
        first.map_or_else(|| check(server_name), Err)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts every certificate, but still that the other side has its key: for `insecure-skip-tls-verify`, and to look
/// at a certificate.
#[derive(Debug)]
pub(crate) struct Unchecked(pub(crate) Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
