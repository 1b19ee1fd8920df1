//! A plain HTTPS client for the rows: one connection per request, so that no row depends on another's connection.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use vip_lab::api::{Credentials, Identity, KeyedCertificate};

/// Tokens by the name that the rows use.
pub(crate) type Tokens = BTreeMap<&'static str, String>;

pub(crate) struct Client {
    address: SocketAddr,
    plain: TlsConnector,
    carol: TlsConnector,
    mallory: TlsConnector,
    tokens: Tokens,
}

/// What a row sends.
pub(crate) struct Question<'a> {
    pub(crate) who: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: String,
}

impl Client {
    /// A client of our server, which makes tokens itself.
    pub(crate) fn new(
        address: SocketAddr,
        credentials: &Credentials,
        users: &BTreeMap<&'static str, Identity>,
    ) -> Self {
        let tokens = users.iter().map(|(&name, identity)| (name, credentials.token(identity))).collect();
        Self::with_tokens(address, credentials, tokens)
    }

    pub(crate) fn with_tokens(address: SocketAddr, credentials: &Credentials, tokens: Tokens) -> Self {
        let carol = credentials.certificate(&Identity::new("carol", &["team"])).expect("a certificate");
        let elsewhere = Credentials::new().expect("an authority of somebody else");
        let mallory = elsewhere.certificate(&Identity::admin()).expect("a certificate");
        Self {
            address,
            plain: connector(credentials, None),
            carol: connector(credentials, Some(&carol)),
            mallory: connector(credentials, Some(&mallory)),
            tokens,
        }
    }

    pub(crate) async fn ask(&self, question: &Question<'_>) -> Result<Response<Incoming>, String> {
        let text = |err: &dyn std::fmt::Display| format!("{} {}: {err}", question.method, question.path);
        let tcp = TcpStream::connect(self.address).await.map_err(|err| text(&err))?;
        let tls = match question.who {
            "carol" => &self.carol,
            "mallory" => &self.mallory,
            _ => &self.plain,
        };
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = tls.connect(name, tcp).await.map_err(|err| text(&err))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|err| text(&err))?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(question.method)
            .uri(question.path)
            .header("host", self.address.to_string())
            .header("content-type", question.content_type);
        let token = match question.who {
            "nobody" | "carol" | "mallory" => None,
            "stranger" => Some("not-a-token"),
            who => Some(self.tokens.get(who).ok_or_else(|| format!("the rows know no user {who}"))?.as_str()),
        };
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = Full::new(Bytes::from(question.body.clone()));
        let request = request.body(body).map_err(|err| text(&err))?;
        sender.send_request(request).await.map_err(|err| text(&err))
    }

    /// A GET by the administrator, whose answer is still to be read.
    pub(crate) async fn open(&self, path: &str) -> Result<Response<Incoming>, String> {
        let question = Question {
            who: "admin",
            method: "GET",
            path,
            content_type: "application/json",
            body: String::new(),
        };
        self.ask(&question).await
    }

    /// A GET by the administrator: code and text.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String), String> {
        read(self.open(path).await?).await
    }
}

/// Code and whole text of an answer.
pub(crate) async fn read(response: Response<Incoming>) -> Result<(u16, String), String> {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|err| format!("the answer broke off: {err}"))?;
    Ok((code, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

fn connector(credentials: &Credentials, pair: Option<&KeyedCertificate>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(credentials.authority_pem().as_bytes()).expect("PEM");
    roots.add(authority).expect("the authority is a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_root_certificates(roots);
    let config = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("certificate and key fit")
        }
    };
    TlsConnector::from(Arc::new(config))
}
