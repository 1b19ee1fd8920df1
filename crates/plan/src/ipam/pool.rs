//! The pools' ConfigMap, read: text in, pools and settings out, and a sentence for each thing that can't be used. A bad
//! entry is left out and affects nothing else; a key whose every entry is bad stays a pool that gives nothing, so that
//! no Service silently gets an address from another pool.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use vip_model::Family;
use vip_model::plan::PoolUsage;

use super::space::{Order, Space, number};

/// The most problems that are told of one key; a ConfigMap may hold a megabyte.
const PROBLEMS_PER_KEY: usize = 100;
/// How much of a bad text is shown.
const SHOWN_CHARS: usize = 64;
/// The CIDR that stands for "ask DHCP".
const DHCP: &str = "0.0.0.0/32";
/// The namespace that stands for all in a key.
const GLOBAL: &str = "global";
/// The longest name of a network interface (`IFNAMSIZ` less its end).
const INTERFACE_CHARS: usize = 15;

/// What the ConfigMap says.
#[derive(Debug, Default)]
pub(super) struct Settings<'a> {
    /// By key (`cidr-…`, `range-…`).
    pools: BTreeMap<&'a str, Pool<'a>>,
    /// By namespace.
    share: BTreeMap<&'a str, Share>,
    /// By namespace.
    interfaces: BTreeMap<&'a str, &'a str>,
    pub(super) order: Order,
    pub(super) problems: Vec<String>,
}

/// One pool.
#[derive(Debug)]
pub(super) struct Pool<'a> {
    /// Its key.
    pub(super) key: &'a str,
    /// Whose it is; none when everybody's.
    pub(super) namespace: Option<&'a str>,
    pub(super) source: Source,
}

/// Where a pool's addresses come from.
#[derive(Debug)]
pub(super) enum Source {
    /// From these sets.
    Spaces { v4: Space, v6: Space },
    /// From DHCP.
    Dhcp,
    /// From nowhere: nothing in it can be read.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Allowed,
    Refused,
}

/// Whether the first and last address of an IPv4 CIDR are given (`skip-end-ips-in-cidr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Given,
    Skipped,
}

impl<'a> Settings<'a> {
    /// Reads the ConfigMap's data.
    pub(super) fn parse(map: &'a BTreeMap<String, String>) -> Self {
        let mut settings = Self::default();
        let ends = settings.ends(map);
        for (key, value) in map {
            let (key, value) = (key.as_str(), value.trim());
            let problems = settings.read(key, value, ends);
            let told = problems.len().min(PROBLEMS_PER_KEY);
            settings.problems.extend(problems[..told].iter().map(|what| format!("{key}: {what}")));
            if told < problems.len() {
                settings.problems.push(format!("{key}: {} more entries like these", problems.len() - told));
            }
        }
        settings
    }

    fn ends(&mut self, map: &BTreeMap<String, String>) -> Ends {
        const KEY: &str = "skip-end-ips-in-cidr";
        match map.get(KEY).map(|value| value.trim()) {
            Some("true") => Ends::Skipped,
            None | Some("false" | "") => Ends::Given,
            Some(other) => {
                self.problems
                    .push(format!("{KEY}: {} is neither true nor false; taken as false", shown(other)));
                Ends::Given
            }
        }
    }

    /// Reads one key. What is wrong with it comes back.
    fn read(&mut self, key: &'a str, value: &'a str, ends: Ends) -> Vec<String> {
        let pool_of = key.strip_prefix("cidr-").or_else(|| key.strip_prefix("range-"));
        let rest =
            pool_of.or_else(|| key.strip_prefix("allow-share-")).or_else(|| key.strip_prefix("interface-"));
        let namespace = match (rest, key) {
            (Some(namespace), _) if is_label(namespace) => namespace,
            (Some(namespace), _) => return vec![format!("{} is no name of a namespace", shown(namespace))],
            (None, "skip-end-ips-in-cidr") => return Vec::new(),
            (None, "search-order") => return self.read_order(value),
            (None, _) => return vec![UNKNOWN_KEY.to_owned()],
        };
        if pool_of.is_some() {
            let (source, problems) = source(value, ends);
            let namespace = (namespace != GLOBAL).then_some(namespace);
            self.pools.insert(key, Pool { key, namespace, source });
            problems
        } else if key.starts_with("allow-share-") {
            let share = share(value);
            self.share.insert(namespace, share.unwrap_or(Share::Refused));
            let problem = || format!("{} is neither true nor false; taken as false", shown(value));
            share.is_none().then(problem).into_iter().collect()
        } else if is_interface(value) {
            self.interfaces.insert(namespace, value);
            Vec::new()
        } else {
            vec![format!(
                "{} is no name of an interface (1 to 15 characters, no space, no slash)",
                shown(value)
            )]
        }
    }

    fn read_order(&mut self, value: &str) -> Vec<String> {
        match value {
            "desc" => self.order = Order::Descending,
            "asc" | "" => {}
            other => return vec![format!("{} is neither asc nor desc; taken as asc", shown(other))],
        }
        Vec::new()
    }

    /// The pool of a namespace: its CIDRs, else those of all, else its ranges, else those of all. That a CIDR of all
    /// goes before a range of the namespace is how the cloud-provider does it; what people have written counts on it.
    pub(super) fn pool(&self, namespace: &str) -> Option<&Pool<'a>> {
        let of = |kind: &str, namespace: &str| self.pools.get(format!("{kind}-{namespace}").as_str());
        of("cidr", namespace)
            .or_else(|| of("cidr", GLOBAL))
            .or_else(|| of("range", namespace))
            .or_else(|| of("range", GLOBAL))
    }

    /// Whether Services of a namespace may share an address with others.
    pub(super) fn may_share(&self, namespace: &str) -> bool {
        self.share.get(namespace).or_else(|| self.share.get(GLOBAL)) == Some(&Share::Allowed)
    }

    /// The interface for Services of a namespace.
    pub(super) fn interface(&self, namespace: &str) -> Option<&'a str> {
        self.interfaces.get(namespace).or_else(|| self.interfaces.get(GLOBAL)).copied()
    }

    /// How full the pools are, given how many addresses of a space are taken.
    pub(super) fn usage(&self, used: impl Fn(&Space, Family) -> usize) -> Vec<PoolUsage> {
        let of = |key: &str, family, space: &Space| {
            let size = space.size();
            let used = u64::try_from(used(space, family)).unwrap_or(u64::MAX);
            PoolUsage { key: key.to_owned(), family, size, used, free: size.saturating_sub(used) }
        };
        let mut usage = Vec::new();
        for pool in self.pools.values() {
            for family in [Family::V4, Family::V6] {
                usage.extend(pool.space(family).map(|space| of(pool.key, family, space)));
            }
        }
        usage
    }
}

impl Pool<'_> {
    /// Its addresses of a family; none when it has none.
    pub(super) fn space(&self, family: Family) -> Option<&Space> {
        let space = match (&self.source, family) {
            (Source::Spaces { v4, .. }, Family::V4) => v4,
            (Source::Spaces { v6, .. }, Family::V6) => v6,
            (Source::Dhcp | Source::Broken, _) => return None,
        };
        (!space.is_empty()).then_some(space)
    }
}

const UNKNOWN_KEY: &str = "unknown key; known are cidr-NAMESPACE, range-NAMESPACE, allow-share-NAMESPACE and \
    interface-NAMESPACE (NAMESPACE may be global), search-order and skip-end-ips-in-cidr";

/// The addresses of a pool's value. Entries are CIDRs or ranges under either kind of key, as the cloud-provider does it.
fn source(value: &str, ends: Ends) -> (Source, Vec<String>) {
    if value == DHCP {
        return (Source::Dhcp, Vec::new());
    }
    let (mut v4, mut v6, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    for entry in entries {
        match span(entry, ends) {
            Ok((Family::V4, span)) => v4.push(span),
            Ok((Family::V6, span)) => v6.push(span),
            Err(problem) => problems.push(format!("{} {problem}", shown(entry))),
        }
    }
    if v4.is_empty() && v6.is_empty() {
        if problems.is_empty() {
            problems.push(
                "it is empty; a pool needs a CIDR (10.0.0.0/24) or a range (10.0.0.1-10.0.0.9)".to_owned(),
            );
        }
        return (Source::Broken, problems);
    }
    (Source::Spaces { v4: Space::new(Family::V4, v4), v6: Space::new(Family::V6, v6) }, problems)
}

/// First and last address of one entry.
fn span(entry: &str, ends: Ends) -> Result<(Family, (u128, u128)), String> {
    let (first, last) = if entry.contains('/') {
        if entry == DHCP {
            return Err("(DHCP) must be the only entry".to_owned());
        }
        let net: IpNet = entry.parse().map_err(|_| NO_CIDR.to_owned())?;
        (net.network(), last_of(&net))
    } else {
        let (first, last) = entry.split_once('-').ok_or_else(|| NO_RANGE.to_owned())?;
        let parse = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| NO_RANGE.to_owned());
        (parse(first)?, parse(last)?)
    };
    let ((family, low), (last_family, high)) = (number(first), number(last));
    if Family::of(first) != Family::of(last) || family != last_family {
        return Err("mixes IPv4 and IPv6".to_owned());
    }
    if low > high {
        return Err("ends before it begins".to_owned());
    }
    if let Some((what, ..)) =
        NEVER.iter().find(|(_, of, from, to)| *of == family && low <= *to && *from <= high)
    {
        return Err(format!("contains {what}, which no Service can have"));
    }
    let is_short = high - low <= 1;
    if entry.contains('/') && family == Family::V4 && ends == Ends::Skipped && !is_short {
        return Ok((family, (low + 1, high - 1)));
    }
    Ok((family, (low, high)))
}

const NO_CIDR: &str = "is no CIDR such as 10.0.0.0/24 or 2001:db8::/64";
const NO_RANGE: &str = "is neither a range such as 10.0.0.1-10.0.0.9 nor a CIDR such as 10.0.0.0/24";

/// Addresses that are never given: unspecified ("this network", RFC 1122 §3.2.1.3), loopback,
/// link-local (RFC 3927, RFC 4291 §2.5.6), multicast.
const NEVER: [(&str, Family, u128, u128); 7] = [
    ("addresses of 0.0.0.0/8", Family::V4, 0, 0x00ff_ffff),
    ("loopback addresses", Family::V4, 0x7f00_0000, 0x7fff_ffff),
    ("link-local addresses", Family::V4, 0xa9fe_0000, 0xa9fe_ffff),
    ("multicast addresses", Family::V4, 0xe000_0000, 0xefff_ffff),
    ("the unspecified or the loopback address", Family::V6, 0, 1),
    ("link-local addresses", Family::V6, 0xfe80 << 112, (0xfec0 << 112) - 1),
    ("multicast addresses", Family::V6, 0xff << 120, u128::MAX),
];

/// The highest address of a network, for IPv6 too.
fn last_of(net: &IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => net.broadcast().into(),
        IpNet::V6(net) => net.broadcast().into(),
    }
}

/// A Boolean as Go reads it.
fn share(value: &str) -> Option<Share> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Share::Allowed),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Share::Refused),
        _ => None,
    }
}

/// Whether a text can be a namespace's name (RFC 1123 label).
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_interface(text: &str) -> bool {
    let is_allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
    (1..=INTERFACE_CHARS).contains(&text.len()) && text.chars().all(is_allowed)
}

/// A text as it is shown to people: quoted and not too long.
pub(super) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn spans(entries: &[(&str, &str)]) -> Vec<PoolUsage> {
        Settings::parse(&map(entries)).usage(|_, _| 0)
    }

    #[test]
    fn the_lookup_is_cidr_before_range_and_namespace_before_global() {
        let all = map(&[
            ("cidr-web", "10.0.1.0/29"),
            ("cidr-global", "10.0.2.0/29"),
            ("range-web", "10.0.3.1-10.0.3.9"),
            ("range-db", "10.0.4.1-10.0.4.9"),
            ("range-global", "10.0.5.1-10.0.5.9"),
        ]);
        let key = |map: &BTreeMap<String, String>, namespace: &str| {
            Settings::parse(map).pool(namespace).map(|pool| pool.key.to_owned())
        };
        assert_eq!(key(&all, "web").as_deref(), Some("cidr-web"));
        assert_eq!(
            key(&all, "db").as_deref(),
            Some("cidr-global"),
            "a global CIDR goes before a range of its own"
        );
        let mut ranges = all;
        ranges.retain(|key, _| key.starts_with("range"));
        assert_eq!(key(&ranges, "db").as_deref(), Some("range-db"));
        assert_eq!(key(&ranges, "other").as_deref(), Some("range-global"));
        assert_eq!(key(&BTreeMap::new(), "other"), None);
    }

    #[test]
    fn skipped_ends_cost_two_addresses_of_each_ipv4_cidr_that_has_more_than_two() {
        let skip = ("skip-end-ips-in-cidr", "true");
        let size = |value: &str, skip: &[(&str, &str)]| {
            let mut entries = vec![("cidr-global", value)];
            entries.extend(skip);
            spans(&entries)[0].size
        };
        for (value, with, without) in [
            ("10.0.0.8/29", 6, 8),
            ("10.0.0.8/31", 2, 2),
            ("10.0.0.8/32", 1, 1),
            ("10.0.0.8/30,10.0.0.12/30", 4, 8),
            // An end of one that lies inside another is given.
            ("10.0.0.8/29,10.0.0.8/30", 6, 8),
            ("2001:db8::/126", 4, 4),
            ("10.0.0.1-10.0.0.4", 4, 4),
        ] {
            assert_eq!(size(value, &[skip]), with, "{value}");
            assert_eq!(size(value, &[]), without, "{value}");
        }
    }

    #[test]
    fn a_cidr_may_be_written_with_any_of_its_addresses() {
        // The README's own example: 192.168.0.220/29 is .216 to .223.
        let [usage] = &spans(&[("cidr-global", "192.168.0.220/29")])[..] else {
            panic!("one pool, one family")
        };
        assert_eq!(usage.size, 8);
    }

    #[test]
    fn each_bad_text_is_named_and_the_good_ones_stay() {
        let data = map(&[
            ("cidr-a", "10.0.0.0/33, 10.1.0.0/30,nonsense"),
            ("cidr-b", "0.0.0.0/32,10.0.0.0/24"),
            ("cidr-c", "0.0.0.0/0"),
            ("cidr-d", ""),
            ("range-e", "10.0.0.9-10.0.0.1,10.0.0.1-fd00::1,10.0.0.1-10.0.0.2-10.0.0.3"),
            ("range-f", "ff02::1-ff02::9,::1-::2"),
            ("cidr-", "10.0.0.0/24"),
            ("cidr-Big", "10.0.0.0/24"),
            ("cdir-global", "10.0.0.0/24"),
            ("allow-share-a", "yes"),
            ("interface-a", "eth0/1"),
            ("interface-b", ""),
            ("search-order", "up"),
            ("skip-end-ips-in-cidr", "1"),
        ]);
        let settings = Settings::parse(&data);
        for (key, wrong) in [
            ("cidr-a", "\"10.0.0.0/33\" is no CIDR"),
            ("cidr-a", "\"nonsense\" is neither"),
            ("cidr-b", "(DHCP) must be the only entry"),
            ("cidr-c", "\"0.0.0.0/0\" contains"),
            ("cidr-d", "empty"),
            ("range-e", "\"10.0.0.9-10.0.0.1\" ends before"),
            ("range-e", "\"10.0.0.1-fd00::1\" mixes"),
            ("range-e", "\"10.0.0.1-10.0.0.2-10.0.0.3\" is neither"),
            ("range-f", "multicast"),
            ("range-f", "loopback"),
            ("cidr-", "no name of a namespace"),
            ("cidr-Big", "no name of a namespace"),
            ("cdir-global", "unknown key"),
            ("allow-share-a", "\"yes\""),
            ("interface-a", "\"eth0/1\""),
            ("interface-b", "\"\""),
            ("search-order", "\"up\""),
            ("skip-end-ips-in-cidr", "\"1\""),
        ] {
            let is_told =
                |problem: &&String| problem.starts_with(&format!("{key}: ")) && problem.contains(wrong);
            assert_eq!(settings.problems.iter().filter(is_told).count(), 1, "{key} {wrong}: {settings:#?}");
        }
        assert_eq!(settings.problems.len(), 18);
        let sizes: Vec<_> =
            settings.usage(|_, _| 0).iter().map(|usage| (usage.key.clone(), usage.size)).collect();
        // Of 10.1.0.0/30, .0 is never given; of 10.0.0.0/24, .0 and .255.
        assert_eq!(sizes, [("cidr-a".to_owned(), 3), ("cidr-b".to_owned(), 254)]);
        assert!(settings.pool("d").is_some(), "a broken pool does not make way for another");
        assert!(!settings.may_share("a"));
    }

    #[test]
    fn a_flood_of_bad_entries_is_summed_up() {
        let data = map(&[("cidr-global", &"x,".repeat(500))]);
        let settings = Settings::parse(&data);
        assert_eq!(settings.problems.len(), PROBLEMS_PER_KEY + 1);
        assert_eq!(settings.problems.last().unwrap(), "cidr-global: 400 more entries like these");
    }
}
