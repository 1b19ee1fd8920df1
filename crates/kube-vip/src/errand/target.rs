//! Where a probe goes: a URL, taken apart once.

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

/// An http or https URL, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Whether the connection is encrypted.
    pub(super) scheme: TargetScheme,
    /// Host name or address, an IPv6 address without its brackets.
    pub(super) host: String,
    /// Port, the scheme's own when none is given.
    pub(super) port: u16,
    /// Path and query, `/` when there is none.
    pub(super) path: PathAndQuery,
}

/// How the connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetScheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

impl Target {
    /// Parses `url`; the error names it and says what is accepted.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("{url:?} is no URL like https://127.0.0.1:6443/livez or http://[::1]:8080/");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let scheme = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => TargetScheme::Http,
            Some(scheme) if *scheme == Scheme::HTTPS => TargetScheme::Https,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let default = if scheme == TargetScheme::Http { 80 } else { 443 };
        Ok(Self {
            scheme,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(default),
            path: uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
        })
    }

    /// Where a redirect to `location` leads: another URL, or another path of the same server (RFC 9110 §10.2.2).
    pub(super) fn redirected(&self, location: &str) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            let path =
                location.parse().map_err(|_| format!("redirects to {location:?}, which is no path"))?;
            return Ok(Self { path, ..self.clone() });
        }
        Self::parse(location).map_err(|error| format!("redirects, but {error}"))
    }

    /// The `Host` header.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (TargetScheme::Http, 80) | (TargetScheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let cases = [
            (
                "https://127.0.0.1:6443/livez?verbose",
                TargetScheme::Https,
                "127.0.0.1",
                6443,
                "/livez?verbose",
            ),
            ("https://[::1]:6443/livez", TargetScheme::Https, "::1", 6443, "/livez"),
            ("http://localhost", TargetScheme::Http, "localhost", 80, "/"),
            ("HTTPS://api.example", TargetScheme::Https, "api.example", 443, "/"),
        ];
        for (url, scheme, host, port, path) in cases {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.scheme, target.host.as_str(), target.port), (scheme, host, port), "{url}");
            assert_eq!(target.path.as_str(), path, "{url}");
        }
    }

    #[test]
    fn what_is_no_http_url_is_refused_by_name() {
        for url in ["", "127.0.0.1:6443", "ftp://a/", "https://", "/livez", "https://a b/"] {
            let error = Target::parse(url).unwrap_err();
            assert!(error.starts_with(&format!("{url:?} is no URL")), "{error}");
        }
    }

    #[test]
    fn the_host_header_has_brackets_and_only_unusual_ports() {
        let authority = |url: &str| Target::parse(url).unwrap().authority();
        assert_eq!(authority("https://[::1]:6443/"), "[::1]:6443");
        assert_eq!(authority("https://[::1]/"), "[::1]");
        assert_eq!(authority("http://a:443/"), "a:443");
    }

    #[test]
    fn redirects_lead_to_paths_and_to_urls() {
        let from = Target::parse("https://a:6443/x").unwrap();
        assert_eq!(from.redirected("/y?z").unwrap(), Target::parse("https://a:6443/y?z").unwrap());
        assert_eq!(from.redirected("http://b/").unwrap(), Target::parse("http://b/").unwrap());
        assert!(from.redirected("y").is_err() && from.redirected("//b/").is_err());
    }
}
