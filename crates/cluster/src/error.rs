//! What can be wrong with credentials and addresses. All of these become a [`Failure`] of class `Tls` or
//! `Unreachable`: the gateway waits for better files.

use std::path::PathBuf;

use vip_model::store::{Failure, FailureClass};

/// Why there is no way to the API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No source of credentials exists.
    #[error(
        "no credentials for the Kubernetes API: none of {looked_at} exists; mount a kubeconfig or run in a pod \
         with a service account"
    )]
    NoCredentials {
        /// The files, joined by commas.
        looked_at: String,
    },
    /// A file of the credentials cannot be read.
    #[error("{path}: cannot be read: {source}; the file is read again until it can be", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A kubeconfig says something that cannot be used.
    #[error("{path}: {what}", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong, what is accepted.
        what: String,
    },
    /// A server address is no address.
    #[error(
        "{key}: {value:?} is no API server address; give https://host:port, http://host:port or host:port"
    )]
    Server {
        /// Where it was given.
        key: String,
        /// What was given.
        value: String,
    },
    /// Certificates or keys cannot be used.
    #[error("{source_name}: {what}")]
    Certificates {
        /// Which credentials.
        source_name: String,
        /// What is wrong, what is accepted.
        what: String,
    },
}

impl Error {
    /// The error as the store's failure.
    pub(crate) fn into_failure(self) -> Failure {
        let class = match self {
            Self::NoCredentials { .. } => FailureClass::Unreachable,
            _ => FailureClass::Tls,
        };
        Failure { class, text: self.to_string() }
    }
}
