//! Names that nobody knows: which of the environment's and the file's names look like ours, and what they were
//! probably meant to be.

use std::collections::BTreeMap;

use super::table;
use super::{Warning, Weight, warning};

/// Prefixes of environment variables that are ours.
const PREFIXES: [&str; 7] = ["vip_", "svc_", "bgp_", "cp_", "lb_", "egress_", "peers_"];

/// Of so many letters one may be wrong in a name that is still recognised.
const LETTERS_PER_EDIT: usize = 4;

const FILE_KEY: &str = "key of the configuration file";

/// Warnings about variables that look like ours and are none.
pub(super) fn unknown_in_environment(environment: &BTreeMap<String, String>) -> Vec<Warning> {
    let known: Vec<&str> = table::settings()
        .map(|setting| setting.env)
        .filter(|name| !name.is_empty())
        .chain(table::ENV_ALIASES.iter().map(|(_, alias)| *alias))
        .collect();
    environment
        .iter()
        .filter(|(name, value)| !known.contains(&name.as_str()) && looks_like_ours(name, value, &known))
        .map(|(name, _)| unknown(name, "environment variable", nearest(name, known.iter().copied())))
        .collect()
}

/// A warning about a key of the file. A flag or a variable in the place of a key is recognised.
pub(super) fn unknown_in_file(path: &str) -> Warning {
    let same = |name: &str| !name.is_empty() && name.eq_ignore_ascii_case(path);
    let meant = table::settings().find(|setting| same(setting.flag) || same(setting.env));
    if let Some(key) = meant.map(|setting| setting.file).filter(|key| !key.is_empty()) {
        return unknown(path, FILE_KEY, Some(key));
    }
    let known = table::settings().map(|setting| setting.file).filter(|name| !name.is_empty());
    unknown(path, FILE_KEY, nearest(path, known))
}

/// Variables that Kubernetes makes for a Service (`LB_PORT=tcp://…`) are never meant for us; they are upper case.
fn looks_like_ours(name: &str, value: &str, known: &[&str]) -> bool {
    let prefixed = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    prefixed(name)
        || (prefixed(&name.to_ascii_lowercase())
            && !value.contains("://")
            && known.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

fn unknown(name: &str, what: &str, near: Option<&str>) -> Warning {
    let text = match near {
        Some(near) => format!("no {what} of kube-vip; it is ignored. Did you mean {near}?"),
        None => format!("no {what} of kube-vip; it is ignored"),
    };
    warning(Weight::Warning, name, text)
}

/// The known name with the fewest edits between.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= (lower.len() / LETTERS_PER_EDIT).max(1))
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_named_with_its_nearest_neighbour() {
        let environment = BTreeMap::from(
            [
                ("vip_interfce", "eth0"),
                ("VIP_ARP", "true"),
                ("LB_PORT", "tcp://10.0.0.1:80"),
                ("VIP_WEB_PORT", "tcp://10.0.0.2:80"),
                ("PATH", "/"),
                ("cp_enable", "true"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let warnings = unknown_in_environment(&environment);
        let said: Vec<_> =
            warnings.iter().map(|w| (w.key.as_str(), w.text.rsplit("mean ").next().unwrap())).collect();
        assert_eq!(said, [("VIP_ARP", "vip_arp?"), ("vip_interfce", "vip_interface?")]);
    }

    #[test]
    fn a_name_like_no_other_gets_no_suggestion() {
        assert_eq!(nearest("vip_somethingelse", ["vip_arp", "port"].into_iter()), None);
    }
}
