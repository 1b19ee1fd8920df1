//! Text to value, as upstream's Go libraries take it. Each function says what it accepts when it refuses.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Listen, LogLevel};

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// What [`boolean`] accepts.
pub(crate) const BOOLEANS: &str = "give true or false (or 1, t, T, TRUE, True, 0, f, F, FALSE, False)";

/// A time with its unit, as Go's `time.ParseDuration` writes it: `50ms`, `1.5s`, `1m30s`. Never negative.
pub(crate) fn span(text: &str) -> Option<Duration> {
    let span: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(span).ok()
}

/// A number of Go's `log/slog` as a level: what is shown at `n` is everything at level `n` and above.
pub(crate) fn log_level(number: i64) -> LogLevel {
    match number {
        ..=-8 => LogLevel::Trace,
        -7..=-4 => LogLevel::Debug,
        -3..=0 => LogLevel::Info,
        1..=4 => LogLevel::Warn,
        5.. => LogLevel::Error,
    }
}

/// A listening address as Go's `net.Listen` takes it: `:2112`, `192.0.2.1:2112`, `[::1]:2112`, `localhost:2112`.
pub(crate) fn listen(text: &str) -> Option<Listen> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    match host {
        "" => Some(Listen::AnyAddress { port }),
        "localhost" => Some(Listen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))),
        _ => text.parse().ok().map(Listen::At),
    }
}

/// The items of a comma list, trimmed, without empty ones.
pub(crate) fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// Whether `text` can be the name of a Kubernetes object (RFC 1123 subdomain).
pub(crate) fn is_object_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            label.starts_with(inner) && label.ends_with(inner) && label.chars().all(|c| inner(c) || c == '-')
        })
}

/// Whether `text` looks like a DNS name rather than a mistyped address.
pub(crate) fn looks_like_a_name(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_those_of_go_and_no_others() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(boolean(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(boolean(text), Some(false), "{text}");
        }
        for text in ["", "yes", "on", "tRUE", " true", "2", "30"] {
            assert_eq!(boolean(text), None, "{text}");
        }
    }

    #[test]
    fn log_levels_show_what_slog_would_show() {
        use LogLevel::{Debug, Error, Info, Trace, Warn};
        let levels: Vec<_> = [-8, -4, -1, 0, 1, 4, 5, 8].map(log_level).into();
        assert_eq!(levels, [Trace, Debug, Info, Info, Warn, Warn, Error, Error]);
    }

    #[test]
    fn listeners_are_written_as_in_go() {
        assert_eq!(listen(":2112"), Some(Listen::AnyAddress { port: 2112 }));
        assert_eq!(listen("localhost:2112"), Some(Listen::At("127.0.0.1:2112".parse().unwrap())));
        assert_eq!(listen("[::1]:2112"), Some(Listen::At("[::1]:2112".parse().unwrap())));
        for bad in ["2112", ":x", "::1:2112", "node1:2112", ":70000"] {
            assert_eq!(listen(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_carry_their_unit() {
        let millis = |text| span(text).map(|span| span.as_millis());
        for (text, expected) in
            [("50ms", 50), ("1s", 1_000), ("1.5s", 1_500), ("1m30s", 90_000), ("2h", 7_200_000), ("0s", 0)]
        {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for bad in ["", "50", "-5m", "ms", "5 apples", "1e3s", "never"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_and_mistyped_addresses_are_told_apart() {
        assert!(looks_like_a_name("vip.example.org") && looks_like_a_name("kubernetes"));
        assert!(
            !looks_like_a_name("10.0.0.300")
                && !looks_like_a_name("fd00::zz")
                && !looks_like_a_name("10.0.0.1/32")
        );
    }

    #[test]
    fn object_names_follow_rfc_1123() {
        assert!(is_object_name("plndr-cp-lock") && is_object_name("a.b-c.0"));
        for bad in ["", "-a", "a-", "A", "a..b", "a_b", "a/b"] {
            assert!(!is_object_name(bad), "{bad}");
        }
    }
}
