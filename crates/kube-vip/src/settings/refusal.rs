//! Why the settings are refused: one line each, with the key, the value, what is accepted and what to do.

use std::path::PathBuf;

/// Why the program does not start with these settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A value that a setting does not take.
    #[error("{key}={value:?} is not accepted: {accepted}")]
    Value {
        /// The setting as the user spelled it.
        key: String,
        /// Its value.
        value: String,
        /// What is accepted.
        accepted: String,
    },
    /// Settings that do not go together, or that are missing.
    #[error("{0}")]
    Combination(String),
    /// A mode, feature or kind of value that this build does not have.
    #[error("{asked}: not built yet; {instead}")]
    NotBuilt {
        /// What was asked for, as the user spelled it.
        asked: String,
        /// What works.
        instead: String,
    },
    /// The configuration file.
    #[error("loading config file: {0}")]
    File(FileRefusal),
    /// Warnings under `strict_config`.
    #[error("strict_config is on and there is something to warn about: {}", .0.join("; "))]
    Strict(Vec<String>),
}

/// Why the configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileRefusal {
    /// It is not there.
    #[error("config file does not exist: {}; check the path and the volume that should carry it", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("failed to read config file {}: {cause}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It is not what its name says.
    #[error("failed to parse {format} config file {}: {cause}", .path.display())]
    Malformed {
        /// JSON or YAML.
        format: &'static str,
        /// The file.
        path: PathBuf,
        /// What the parser says, on one line.
        cause: String,
    },
    /// Its name tells no format.
    #[error("unsupported config file format {0:?}. Supported formats: .json, .yaml, .yml")]
    Format(String),
}

impl From<FileRefusal> for Refusal {
    fn from(refusal: FileRefusal) -> Self {
        Self::File(refusal)
    }
}

impl Refusal {
    /// A value that a setting does not take.
    pub(crate) fn value(key: impl Into<String>, value: &str, accepted: impl Into<String>) -> Self {
        Self::Value { key: key.into(), value: value.to_owned(), accepted: accepted.into() }
    }
}
