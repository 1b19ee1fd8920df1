//! Who may come in: the certificate authority of the lab's cluster, serving and client certificates, bearer tokens and
//! kubeconfig files. Made at the start of a server; nodes and tests ask it for their credentials.

use super::Error;
use super::object::random;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names that every serving certificate carries beside its addresses.
const SERVING_NAMES: &[&str] = &["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];

/// A user as the API server sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The user name; of a client certificate the CN.
    pub user: String,
    /// The groups; of a client certificate the Os. `system:authenticated` is added by the server.
    pub groups: Vec<String>,
}

impl Identity {
    /// A user of some groups.
    pub fn new(user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Self { user: user.to_owned(), groups }
    }

    /// The identity of kubeadm's `admin.conf`: may all.
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &["system:masters"])
    }

    /// The identity of a ServiceAccount.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        let user = format!("system:serviceaccount:{namespace}:{name}");
        Self::new(&user, &["system:serviceaccounts", &of_namespace])
    }
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct KeyedCertificate {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS 8.
    pub key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

/// What a kubeconfig logs in with.
#[derive(Clone, Copy, Debug)]
pub enum Login<'a> {
    /// A fresh client certificate of this identity.
    Certificate(&'a Identity),
    /// This bearer token.
    Token(&'a str),
}

/// What a connection's client certificate says.
#[derive(Clone, Debug)]
pub(crate) enum Presented {
    /// There is none.
    Nothing,
    /// One that this authority made.
    Known(Identity),
    /// One that this authority did not make.
    Stranger,
}

#[derive(Debug, Default)]
struct Known {
    tokens: BTreeMap<String, Identity>,
    certificates: BTreeMap<Vec<u8>, Identity>,
}

/// The credentials of one cluster.
pub struct Credentials {
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
    authority_der: CertificateDer<'static>,
    known: Mutex<Known>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// A new certificate authority without users.
    pub fn new() -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            authority_pem: certificate.pem(),
            authority_der: certificate.der().clone(),
            authority: Issuer::new(params, key),
            known: Mutex::new(Known::default()),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate of the authority, PEM: `ca.crt` of a ServiceAccount mount.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// A serving certificate for these addresses.
    pub fn serving(&self, addresses: &[IpAddr]) -> Result<KeyedCertificate, Error> {
        let names: Vec<String> = SERVING_NAMES.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// A client certificate: CN is the user, every O a group.
    pub fn certificate(&self, identity: &Identity) -> Result<KeyedCertificate, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, identity.user.as_str());
        // The builder keeps one value per type, so a certificate holds at most one O. Others are remembered here.
        if let Some(group) = identity.groups.first() {
            params.distinguished_name.push(DnType::OrganizationName, group.as_str());
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let pair = self.sign(&params)?;
        self.known().certificates.insert(pair.der.to_vec(), identity.clone());
        Ok(pair)
    }

    fn sign(&self, params: &CertificateParams) -> Result<KeyedCertificate, Error> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        Ok(KeyedCertificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        })
    }

    /// A new bearer token.
    pub fn token(&self, identity: &Identity) -> String {
        let token = format!("lab-{:016x}{:016x}", random(), random());
        self.known().tokens.insert(token.clone(), identity.clone());
        token
    }

    /// A new bearer token of a ServiceAccount: `token` of its mount.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> String {
        self.token(&Identity::service_account(namespace, name))
    }

    /// Forgets a token: from now on it answers 401.
    pub fn revoke(&self, token: &str) {
        self.known().tokens.remove(token);
    }

    /// A kubeconfig file for the server at `url` (`https://address:port`).
    pub fn kubeconfig(&self, login: Login<'_>, url: &str) -> Result<String, Error> {
        let user = match login {
            Login::Token(token) => format!("    token: {token}\n"),
            Login::Certificate(identity) => {
                let pair = self.certificate(identity)?;
                let certificate = STANDARD.encode(&pair.certificate);
                let key = STANDARD.encode(&pair.key);
                format!("    client-certificate-data: {certificate}\n    client-key-data: {key}\n")
            }
        };
        let authority = STANDARD.encode(&self.authority_pem);
        Ok(format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: kubernetes\n  cluster:\n    server: {url}\n    \
             certificate-authority-data: {authority}\nusers:\n- name: user\n  user:\n{user}contexts:\n- name: \
             user@kubernetes\n  context:\n    cluster: kubernetes\n    user: user\ncurrent-context: \
             user@kubernetes\n"
        ))
    }

    pub(crate) fn of_token(&self, token: &str) -> Option<Identity> {
        self.known().tokens.get(token).cloned()
    }

    pub(crate) fn of_certificate(&self, certificate: Option<&CertificateDer<'_>>) -> Presented {
        let Some(certificate) = certificate else { return Presented::Nothing };
        match self.known().certificates.get(certificate.as_ref()) {
            Some(identity) => Presented::Known(identity.clone()),
            None => Presented::Stranger,
        }
    }

    /// The TLS side of an endpoint; a client certificate is welcome, not needed.
    pub(crate) fn tls(&self, addresses: &[IpAddr]) -> Result<ServerConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority_der.clone())?;
        let algorithms = provider.signature_verification_algorithms;
        let clients = Arc::new(AnyClient { hints: roots.subjects(), algorithms });
        let serving = self.serving(addresses)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(serving.key_der));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![serving.der], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Lets every client certificate through the handshake, if its owner has the key: the real server also refuses a
/// stranger only afterwards, with a 401.
#[derive(Debug)]
struct AnyClient {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
