//! Which certificates a probe trusts: the system's, where it has any, and those of a PEM file. Read once, and again
//! when the file changes; reading some 140 certificates every five seconds would be most of an idle agent's work.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// What tells one state of a file from another.
type Stamp = (Option<SystemTime>, u64);

/// The configuration of TLS connections, remembered while the file behind it stays the same.
#[derive(Default)]
pub(crate) struct TrustStore {
    last: Mutex<Option<Built>>,
}

/// A configuration and what it was built from.
struct Built {
    ca_path: Option<String>,
    stamp: Option<Stamp>,
    config: Arc<ClientConfig>,
}

impl TrustStore {
    /// The configuration that trusts the system's certificates and those in `ca_path`.
    pub(super) fn config(&self, ca_path: Option<&str>) -> Result<Arc<ClientConfig>, String> {
        let stamp = ca_path.map(stamp).transpose()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |built: &&Built| built.ca_path.as_deref() == ca_path && built.stamp == stamp;
        if let Some(built) = last.as_ref().filter(same) {
            return Ok(Arc::clone(&built.config));
        }
        let config = Arc::new(build(ca_path)?);
        *last = Some(Built { ca_path: ca_path.map(str::to_owned), stamp, config: Arc::clone(&config) });
        Ok(config)
    }
}

fn stamp(path: &str) -> Result<Stamp, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("cannot read the CA file {path}: {error}"))?;
    Ok((metadata.modified().ok(), metadata.len()))
}

fn build(ca_path: Option<&str>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // A container without a system bundle is the rule, not an error.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_path {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_file(roots: &mut RootCertStore, path: &str) -> Result<(), String> {
    let wrong = |why: String| format!("the CA file {path} has no valid certificate: {why}");
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let mut count = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        count += 1;
    }
    if count == 0 { Err(wrong("it holds no PEM block of type CERTIFICATE".to_owned())) } else { Ok(()) }
}
