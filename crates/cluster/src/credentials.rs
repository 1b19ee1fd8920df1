//! Who we are to the API and where that is written: the ordered sources, the chosen one loaded, and a fingerprint of
//! its files, so that a rotated token or certificate is noticed (upstream §2.5).

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use http::HeaderValue;

use crate::endpoint::{AuthorityKind, Origin, Scheme, ServerUrl};
use crate::error::Error;
use crate::kubeconfig::{self, Login, Material, Verification};
use crate::settings::ApiSettings;
use crate::tls::TlsMaterial;

/// A place where credentials can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A kubeconfig.
    Kubeconfig(PathBuf, Origin),
    /// A pod's service account.
    ServiceAccount,
}

/// The sources of this agent, best first.
pub(crate) struct Sources {
    /// The one that is used.
    pub(crate) chosen: Source,
    /// What is used instead while `chosen` is forbidden to elect: `super-admin.conf` beside `admin.conf`. Since
    /// Kubernetes 1.29 `admin.conf` has no rights until kubeadm has made a binding, for which it needs the VIP.
    pub(crate) instead: Option<Source>,
}

/// Finds the credentials that exist now.
pub(crate) fn find(settings: &ApiSettings) -> Result<Sources, Error> {
    let admin = settings.kubernetes_dir.join("admin.conf");
    let super_admin = settings.kubernetes_dir.join("super-admin.conf");
    let home = settings.home.as_ref().map(|home| home.join(".kube/config"));
    let kubeconfig = |path: &Path, origin| Source::Kubeconfig(path.to_owned(), origin);
    let explicit = settings.kubeconfig != admin && Some(&settings.kubeconfig) != home.as_ref();
    if explicit && !settings.kubeconfig.as_os_str().is_empty() && settings.kubeconfig.is_file() {
        return Ok(Sources { chosen: kubeconfig(&settings.kubeconfig, Origin::Explicit), instead: None });
    }
    let instead = super_admin.is_file().then(|| kubeconfig(&super_admin, Origin::Admin));
    if admin.is_file() {
        return Ok(Sources { chosen: kubeconfig(&admin, Origin::Admin), instead });
    }
    if let Some(chosen) = instead {
        return Ok(Sources { chosen, instead: None });
    }
    if let Some(home) = home.as_ref().filter(|home| home.is_file()) {
        return Ok(Sources { chosen: kubeconfig(home, Origin::Home), instead: None });
    }
    let token = settings.service_account.join("token");
    if settings.service.is_some() && token.is_file() {
        return Ok(Sources { chosen: Source::ServiceAccount, instead: None });
    }
    let mut looked_at = vec![settings.kubeconfig.clone(), admin, super_admin];
    looked_at.extend(home);
    looked_at.push(token);
    looked_at.dedup();
    let looked_at = looked_at.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(Error::NoCredentials { looked_at })
}

/// Credentials, loaded.
pub(crate) struct Credentials {
    /// Where they are from.
    pub(crate) origin: Origin,
    /// The server that they name, or `kubernetes_addr`.
    pub(crate) written: ServerUrl,
    /// The host that certificates are checked for, from the kubeconfig even when `kubernetes_addr` replaces it.
    pub(crate) vouched: ServerUrl,
    /// `tls-server-name`.
    pub(crate) tls_server_name: Option<String>,
    /// Who vouches for servers.
    pub(crate) authority: AuthorityKind,
    /// What TLS needs; none for a plain server.
    pub(crate) tls: Option<TlsMaterial>,
    /// The `Authorization` header, marked sensitive.
    pub(crate) authorization: Option<HeaderValue>,
    /// The files that were read, as they were.
    pub(crate) files: Files,
}

/// Reads credentials, whole.
pub(crate) fn load(settings: &ApiSettings, source: &Source) -> Result<Credentials, Error> {
    match source {
        Source::Kubeconfig(path, origin) => load_kubeconfig(settings, path, *origin),
        Source::ServiceAccount => load_service_account(settings),
    }
}

fn load_kubeconfig(settings: &ApiSettings, path: &Path, origin: Origin) -> Result<Credentials, Error> {
    let mut files = Files::default();
    let text = files.read_text(path)?;
    let parsed = kubeconfig::parse(path, &text)?;
    let vouched = ServerUrl::parse(&path.display().to_string(), &parsed.server)?;
    let authority = parsed.authority.map(|material| files.material(material)).transpose()?;
    let identity = match parsed.identity {
        Some((certificate, key)) => Some((files.material(certificate)?, files.material(key)?)),
        None => None,
    };
    let authorization = match parsed.login {
        Login::None => None,
        Login::Token(token) => Some(bearer(path, &token)?),
        Login::TokenFile(file) => Some(bearer(&file, &files.read_text(&file)?)?),
        Login::Password(user, password) => Some(basic(path, &user, &password)?),
    };
    let kind = match (parsed.verification, &authority) {
        (Verification::Skipped, _) => AuthorityKind::Nobody,
        (Verification::Checked, Some(_)) => AuthorityKind::Cluster,
        (Verification::Checked, None) => AuthorityKind::System,
    };
    let written = replaced(settings, &vouched)?;
    let source_name = path.display().to_string();
    let tls = tls_for(&written, || TlsMaterial::new(source_name, kind, authority, identity))?;
    Ok(Credentials {
        origin,
        written,
        vouched,
        tls_server_name: parsed.tls_server_name,
        authority: kind,
        tls,
        authorization,
        files,
    })
}

fn load_service_account(settings: &ApiSettings) -> Result<Credentials, Error> {
    let mut files = Files::default();
    let token_file = settings.service_account.join("token");
    let token = files.read_text(&token_file)?;
    let authority = files.read(&settings.service_account.join("ca.crt"))?;
    let service = settings
        .service
        .as_ref()
        .ok_or_else(|| Error::Server { key: "KUBERNETES_SERVICE_HOST".to_owned(), value: String::new() })?;
    let vouched = ServerUrl {
        scheme: Scheme::Https,
        host: service.host.clone(),
        port: service.port,
        base: String::new(),
    };
    let written = replaced(settings, &vouched)?;
    let source_name = settings.service_account.display().to_string();
    let kind = AuthorityKind::Cluster;
    let tls = tls_for(&written, || TlsMaterial::new(source_name, kind, Some(authority), None))?;
    Ok(Credentials {
        origin: Origin::ServiceAccount,
        written,
        vouched,
        tls_server_name: None,
        authority: kind,
        tls,
        authorization: Some(bearer(&token_file, &token)?),
        files,
    })
}

/// TLS is only set up for a server that speaks it: a plain one must not need certificate authorities.
fn tls_for(
    written: &ServerUrl,
    build: impl FnOnce() -> Result<TlsMaterial, Error>,
) -> Result<Option<TlsMaterial>, Error> {
    match written.scheme {
        Scheme::Https => build().map(Some),
        Scheme::Http => Ok(None),
    }
}

fn replaced(settings: &ApiSettings, vouched: &ServerUrl) -> Result<ServerUrl, Error> {
    match settings.server.as_deref() {
        Some(server) if !server.trim().is_empty() => ServerUrl::parse("kubernetes_addr", server),
        _ => Ok(vouched.clone()),
    }
}

fn bearer(path: &Path, token: &str) -> Result<HeaderValue, Error> {
    header(path, &format!("Bearer {}", token.trim()))
}

fn basic(path: &Path, user: &str, password: &str) -> Result<HeaderValue, Error> {
    let packed = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    header(path, &format!("Basic {packed}"))
}

fn header(path: &Path, text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Kubeconfig {
        path: path.to_owned(),
        what: "its token holds characters that no token has".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The files of the credentials and what the file system said about them when they were read.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<(PathBuf, Option<Stamp>)>);

/// What changes when a file does: an atomic rename changes the inode, a rewrite time or size. A kubelet's projected
/// volume swaps a symbolic link, which also shows as another inode.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

impl Files {
    /// Whether one of them is not what was read.
    pub(crate) fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, seen)| stamp(path) != *seen)
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, Error> {
        // The stamp is taken first: a change in between is then seen as a change.
        self.0.push((path.to_owned(), stamp(path)));
        std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
    }

    fn read_text(&mut self, path: &Path) -> Result<String, Error> {
        String::from_utf8(self.read(path)?)
            .map_err(|_| Error::Kubeconfig { path: path.to_owned(), what: "is no UTF-8 text".to_owned() })
    }

    fn material(&mut self, material: Material) -> Result<Vec<u8>, Error> {
        match material {
            Material::Inline(bytes) => Ok(bytes),
            Material::File(path) => self.read(&path),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp { inode: meta.ino(), size: meta.len(), modified: meta.modified().ok() })
}

#[cfg(test)]
mod tests;
