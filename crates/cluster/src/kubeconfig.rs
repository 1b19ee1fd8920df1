//! A kubeconfig file, as far as the gateway uses it: the current context's server, its certificate authority, and who
//! we are. Text in, plain values out; secrets never reach an error text or a `Debug` output.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use crate::error::Error;

/// What the current context of a kubeconfig says.
pub(crate) struct Kubeconfig {
    /// `cluster.server`.
    pub(crate) server: String,
    /// `cluster.tls-server-name`.
    pub(crate) tls_server_name: Option<String>,
    /// `cluster.insecure-skip-tls-verify`.
    pub(crate) verification: Verification,
    /// `cluster.certificate-authority(-data)`.
    pub(crate) authority: Option<Material>,
    /// `user.client-certificate(-data)` and `user.client-key(-data)`.
    pub(crate) identity: Option<(Material, Material)>,
    /// `user.token`, `user.tokenFile`, or user and password.
    pub(crate) login: Login,
}

/// Whether the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verification {
    /// It is.
    Checked,
    /// It is not: the kubeconfig says so.
    Skipped,
}

/// PEM text, or the file that holds it.
pub(crate) enum Material {
    /// In the kubeconfig itself.
    Inline(Vec<u8>),
    /// In this file.
    File(PathBuf),
}

/// Who we are, beside a client certificate.
pub(crate) enum Login {
    /// Nobody.
    None,
    /// A bearer token.
    Token(String),
    /// A file with a bearer token.
    TokenFile(PathBuf),
    /// Basic authentication.
    Password(String, String),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(..)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FileShape {
    current_context: Option<String>,
    #[serde(default)]
    clusters: Option<Vec<Named>>,
    #[serde(default)]
    contexts: Option<Vec<Named>>,
    #[serde(default)]
    users: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    cluster: Option<ClusterShape>,
    context: Option<ContextShape>,
    user: Option<UserShape>,
}

#[derive(Deserialize)]
struct ContextShape {
    cluster: String,
    #[serde(default)]
    user: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterShape {
    server: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserShape {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

/// Reads one kubeconfig: its text and, for relative paths and errors, where it lies.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Kubeconfig, Error> {
    // The parser's own message may quote the file, and the file holds keys: only the place is told.
    let shape: FileShape = serde_saphyr::from_str(text).map_err(|error| {
        let place = error
            .location()
            .map_or_else(String::new, |at| format!(" (line {}, column {})", at.line(), at.column()));
        refuse(path, format!("is no kubeconfig{place}; write it again, for instance with kubeadm"))
    })?;
    let context_name = shape
        .current_context
        .filter(|name| !name.is_empty())
        .ok_or_else(|| refuse(path, "has no current-context; set one".to_owned()))?;
    let context = named(shape.contexts, &context_name)
        .and_then(|entry| entry.context)
        .ok_or_else(|| refuse(path, format!("current-context {context_name:?} is not among its contexts")))?;
    let cluster = named(shape.clusters, &context.cluster)
        .and_then(|entry| entry.cluster)
        .ok_or_else(|| refuse(path, format!("cluster {:?} is not among its clusters", context.cluster)))?;
    let user = match &context.user {
        Some(name) if !name.is_empty() => named(shape.users, name)
            .and_then(|entry| entry.user)
            .ok_or_else(|| refuse(path, format!("user {name:?} is not among its users")))?,
        _ => UserShape::default(),
    };
    assemble(path, cluster, user)
}

fn named(entries: Option<Vec<Named>>, name: &str) -> Option<Named> {
    entries.unwrap_or_default().into_iter().find(|entry| entry.name == name)
}

fn assemble(path: &Path, cluster: ClusterShape, user: UserShape) -> Result<Kubeconfig, Error> {
    let server =
        cluster.server.ok_or_else(|| refuse(path, "its cluster has no server; set one".to_owned()))?;
    let certificate =
        material(path, "client-certificate-data", user.client_certificate_data, user.client_certificate)?;
    let key = material(path, "client-key-data", user.client_key_data, user.client_key)?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(refuse(path, "has one of client-certificate and client-key; give both".to_owned())),
    };
    let login = match (user.token, user.token_file, user.username) {
        (Some(token), _, _) if !token.is_empty() => Login::Token(token),
        (_, Some(file), _) => Login::TokenFile(beside(path, &file)),
        (_, _, Some(name)) => Login::Password(name, user.password.unwrap_or_default()),
        _ => Login::None,
    };
    let plugin = user.exec.is_some() || user.auth_provider.is_some();
    if plugin && identity.is_none() && matches!(login, Login::None) {
        let what = "asks for a credential plugin (exec, auth-provider), which is not supported; \
                    use a client certificate, a token or a token file";
        return Err(refuse(path, what.to_owned()));
    }
    Ok(Kubeconfig {
        server,
        tls_server_name: cluster.tls_server_name.filter(|name| !name.is_empty()),
        verification: match cluster.insecure_skip_tls_verify {
            Some(true) => Verification::Skipped,
            _ => Verification::Checked,
        },
        authority: material(
            path,
            "certificate-authority-data",
            cluster.certificate_authority_data,
            cluster.certificate_authority,
        )?,
        identity,
        login,
    })
}

fn material(
    path: &Path,
    key: &str,
    data: Option<String>,
    file: Option<String>,
) -> Result<Option<Material>, Error> {
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        let packed: String = data.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        return base64::engine::general_purpose::STANDARD
            .decode(packed)
            .map(|bytes| Some(Material::Inline(bytes)))
            .map_err(|_| refuse(path, format!("{key} is no base64 text")));
    }
    Ok(file.filter(|file| !file.is_empty()).map(|file| Material::File(beside(path, &file))))
}

/// A path in a kubeconfig is relative to the kubeconfig's folder.
fn beside(path: &Path, file: &str) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from(file), |folder| folder.join(file))
}

fn refuse(path: &Path, what: String) -> Error {
    Error::Kubeconfig { path: path.to_owned(), what }
}
