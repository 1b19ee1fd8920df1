//! Which build this is, in one place for the banner, the metrics, the dump and `kube-vip version`.

/// This build.
pub(crate) const VERSION: Version = Version {
    number: concat!("v", env!("CARGO_PKG_VERSION")),
    build: match option_env!("KUBE_VIP_BUILD") {
        Some(build) => build,
        None => "dev",
    },
};

/// A build's names.
pub(crate) struct Version {
    /// Like `v0.1.0`.
    pub(crate) number: &'static str,
    /// The commit, as the release build was told by `KUBE_VIP_BUILD`; `dev` else.
    pub(crate) build: &'static str,
}
