//! Where API servers are: addresses to connect to, in the order in which they are tried.
//!
//! The address that is dialled and the name that the certificate must hold are two things. A kubeconfig often names a
//! VIP that only we can raise; we dial the server of this node instead and still check the certificate.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;

use crate::error::Error;
use crate::settings::{ApiSettings, LocalApi};

/// The name that upstream's manifests map to 127.0.0.1 by a host alias.
const HOST_ALIAS: &str = "kubernetes";

/// An API server as a URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    /// How it is spoken to.
    pub(crate) scheme: Scheme,
    /// A name or an address, IPv6 without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// What stands before every path; empty or `/something`.
    pub(crate) base: String,
}

/// How an API server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl ServerUrl {
    /// Parses a URL or `host:port`. Without a scheme it is https, as client-go takes it when there are certificates.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self, Error> {
        let refuse = || Error::Server { key: key.to_owned(), value: text.to_owned() };
        let text = text.trim();
        let whole = match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("https://[{address}]"),
            _ if text.contains("://") => text.to_owned(),
            _ => format!("https://{text}"),
        };
        let uri: Uri = whole.parse().map_err(|_| refuse())?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err(refuse()),
        };
        let host =
            uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']')).unwrap_or_default();
        if host.is_empty() {
            return Err(refuse());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
        let port = match (uri.port_u16(), scheme) {
            (Some(port), _) => port,
            (None, _) if after_host.contains(':') => return Err(refuse()),
            (None, Scheme::Https) => 443,
            (None, Scheme::Http) => 80,
        };
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { scheme, host: host.to_owned(), port, base })
    }

    /// Where it is.
    pub(crate) fn dial(&self) -> Dial {
        Dial::new(&self.host, self.port)
    }
}

/// What a connection is made to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dial {
    /// This address.
    Address(SocketAddr),
    /// What this name stands for at the moment of connecting.
    Name(String, u16),
}

impl Dial {
    /// By host (name or address) and port.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        host.parse::<IpAddr>().map_or_else(
            |_| Self::Name(host.to_owned(), port),
            |address| Self::Address(SocketAddr::new(address, port)),
        )
    }

    /// The host as a certificate would name it.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Address(address) => address.ip().to_string(),
            Self::Name(name, _) => name.clone(),
        }
    }

    /// Whether it is known, without asking anybody, to be one of `vips`.
    fn is_one_of(&self, vips: &BTreeSet<IpAddr>) -> bool {
        matches!(self, Self::Address(address) if vips.contains(&address.ip()))
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Where credentials come from, as far as the order of servers depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A kubeconfig that the user named.
    Explicit,
    /// `admin.conf` or `super-admin.conf`.
    Admin,
    /// `$HOME/.kube/config`.
    Home,
    /// A pod's service account.
    ServiceAccount,
}

/// What was learned about API servers while running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Learned {
    /// The addresses in the certificate that is served on the loopback address (`cp_detect`).
    pub(crate) local: Vec<IpAddr>,
    /// The endpoints of the `kubernetes` Service.
    pub(crate) servers: BTreeSet<SocketAddr>,
}

/// Every server that may be asked, best first, each once; never a VIP that we manage.
///
/// * `kubernetes_addr`, when given, comes before everything else.
/// * A kubeconfig that the user named, or that of the home directory: as it is written, then this node's server.
/// * `admin.conf` and the service account of an agent that has a control plane: this node's server first
///   (`127.0.0.1:port`, `[::1]:port`, `kubernetes:port`, with `cp_detect` the certificate's addresses), then as it is
///   written.
/// * Last, the servers that were learned from the `kubernetes` Service.
///
/// A server that is a managed VIP is left out: this node's server stands in its place.
pub(crate) fn candidates(
    settings: &ApiSettings,
    origin: Origin,
    written: &ServerUrl,
    learned: &Learned,
) -> Vec<Dial> {
    let mut all = Vec::new();
    let has_control_plane = settings.local != LocalApi::NotOurs;
    let local = local_servers(settings, origin, learned);
    let replaced = settings.server.is_some();
    match origin {
        _ if replaced => all.push(written.dial()),
        Origin::Explicit | Origin::Home => all.push(written.dial()),
        Origin::Admin | Origin::ServiceAccount if has_control_plane => {}
        Origin::Admin | Origin::ServiceAccount => all.push(written.dial()),
    }
    if has_control_plane || !settings.vips.is_empty() {
        all.extend(local);
    }
    all.push(written.dial());
    all.extend(learned.servers.iter().copied().map(Dial::Address));
    let mut once = BTreeSet::new();
    all.retain(|dial| !dial.is_one_of(&settings.vips) && once.insert(dial.clone()));
    all
}

/// The loopback addresses come before the name: they need no resolver, and the host alias stands for them anyway. The
/// name serves those who point it at a server that listens elsewhere.
fn local_servers(settings: &ApiSettings, origin: Origin, learned: &Learned) -> Vec<Dial> {
    let port = settings.port;
    let at = |address: IpAddr| Dial::Address(SocketAddr::new(address, port));
    let mut local = vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())];
    if origin == Origin::Admin && settings.local == LocalApi::HostAlias {
        local.push(Dial::Name(HOST_ALIAS.to_owned(), port));
    }
    if settings.local == LocalApi::Certificate {
        local.extend(learned.local.iter().copied().map(at));
    }
    local
}

/// The names that the certificate of a server at `dial` may hold, the one for SNI first.
///
/// With a `tls-server-name` only that one. Else the host of the kubeconfig and, when the certificate authority is the
/// cluster's own, what every API server is called and the address that was dialled. With the system's authorities
/// only the kubeconfig's host: there `kubernetes` would prove nothing.
pub(crate) fn names(
    written: &ServerUrl,
    tls_server_name: Option<&str>,
    authority: AuthorityKind,
    dial: &Dial,
) -> Vec<String> {
    if let Some(name) = tls_server_name {
        return vec![name.to_owned()];
    }
    let mut names = vec![written.host.clone()];
    if authority == AuthorityKind::Cluster {
        let well_known = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
        for name in well_known.into_iter().chain([dial.host()]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Who vouches for servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthorityKind {
    /// The authority that the credentials name.
    Cluster,
    /// The system's authorities.
    System,
    /// Nobody: the kubeconfig says that certificates are not checked.
    Nobody,
}

#[cfg(test)]
mod tests;
