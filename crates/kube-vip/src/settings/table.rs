//! The one table of settings: every name that kube-vip knows, in each of its spellings, with its default and what
//! becomes of it here. Flags, environment parsing, file reading, `--help`, suggestions and `docs/configuration.md`
//! are all made from it.

use super::key;

mod agent;
mod later;
mod services;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Long flag without the dashes, camelCase; empty when there is none.
    pub(crate) flag: &'static str,
    /// Environment variable; empty when there is none.
    pub(crate) env: &'static str,
    /// Key in the configuration file, dots between levels; empty when there is none.
    pub(crate) file: &'static str,
    /// How its value is written.
    pub(crate) kind: Kind,
    /// The default, as the user would write it.
    pub(crate) default: &'static str,
    /// What becomes of it here.
    pub(crate) status: Status,
    /// One sentence.
    pub(crate) help: &'static str,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// As Go's `strconv.ParseBool` takes it.
    Bool,
    /// A whole number without a unit.
    Number,
    /// A TCP port.
    Port,
    /// Whole seconds.
    Seconds,
    /// Whole milliseconds.
    Millis,
    /// A time with its unit, `50ms` or `1m30s`.
    Span,
    /// Several texts: the flag repeated, or commas.
    List,
    /// A JSON object (in a file: a map).
    Object,
}

impl Kind {
    /// The placeholder of a value in help texts.
    pub(crate) const fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Bool => "BOOL",
            Self::Number => "NUMBER",
            Self::Port => "PORT",
            Self::Seconds => "SECONDS",
            Self::Millis => "MILLISECONDS",
            Self::Span => "DURATION",
            Self::List => "LIST",
            Self::Object => "JSON",
        }
    }
}

/// What becomes of a setting here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It works.
    Built,
    /// Accepted, and warned about when it is set: this feature is not built yet.
    NotYet(&'static str),
    /// Accepted, and not needed here, for this reason.
    NotNeeded(&'static str),
    /// It once meant something; set today it changes nothing, for this reason.
    Retired(&'static str),
}

/// Settings that belong together, under one heading.
#[derive(Debug)]
pub(crate) struct Group {
    /// The heading.
    pub(crate) title: &'static str,
    /// The settings.
    pub(crate) settings: &'static [Setting],
}

/// All settings, in the order in which users read about them.
pub(crate) static GROUPS: &[Group] = &[
    Group { title: "What this agent does", settings: agent::AGENT },
    Group { title: "Control-plane address", settings: agent::CONTROL_PLANE },
    Group { title: "Announcing (ARP and NDP)", settings: agent::ANNOUNCING },
    Group { title: "Election", settings: agent::ELECTION },
    Group { title: "Sessions and heartbeats (election_mode session)", settings: agent::SESSION },
    Group { title: "Health gate of the control plane", settings: agent::HEALTH },
    Group { title: "Kubernetes API", settings: agent::API },
    Group { title: "Logs, metrics, health pages", settings: agent::SEEING },
    Group { title: "Services", settings: services::SERVICES },
    Group { title: "More about Services", settings: later::MORE_SERVICES },
    Group { title: "Names and DHCP", settings: later::NAMES },
    Group { title: "Load balancing of the control plane (IPVS)", settings: later::BALANCE },
    Group { title: "BGP", settings: later::BGP },
    Group { title: "Routing table", settings: later::ROUTES },
    Group { title: "Egress", settings: later::EGRESS },
    Group { title: "Election in etcd", settings: later::ETCD },
    Group { title: "Names of the past", settings: later::RETIRED },
];

/// Second names of environment variables, read when the first is not set.
pub(crate) const ENV_ALIASES: &[(&str, &str)] =
    &[(key::INSTANCE, "INSTANCE_NAME"), ("egress_clean", "EGRESS_CLEAN")];

/// Flags with a short form.
pub(crate) const SHORT_FLAGS: &[(&str, char)] = &[("namespace", 'n')];

/// All settings.
pub(crate) fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The setting with this key.
pub(crate) fn setting(key: &str) -> &'static Setting {
    settings().find(|setting| setting.is(key)).expect("every constant of `key` is in the table")
}

impl Setting {
    /// Whether this is the key of the setting: its environment variable, else its flag with dashes, else its file key.
    pub(crate) fn is(&self, key: &str) -> bool {
        if !self.env.is_empty() {
            self.env == key
        } else if self.flag.is_empty() {
            self.file == key
        } else {
            key.strip_prefix("--") == Some(self.flag)
        }
    }

    /// Its key: see [`Setting::is`].
    pub(crate) fn key(&self) -> String {
        if !self.env.is_empty() {
            self.env.to_owned()
        } else if self.flag.is_empty() {
            self.file.to_owned()
        } else {
            format!("--{}", self.flag)
        }
    }

    /// The second name of its environment variable.
    pub(crate) fn env_alias(&self) -> Option<&'static str> {
        ENV_ALIASES.iter().find(|(name, _)| *name == self.env).map(|(_, alias)| *alias)
    }

    /// The short form of its flag.
    pub(crate) fn short_flag(&self) -> Option<char> {
        SHORT_FLAGS.iter().find(|(flag, _)| *flag == self.flag).map(|(_, short)| *short)
    }
}

/// Rows: flag, environment, file; kind and default; status; help.
macro_rules! rows {
    ($($(#[$doc:meta])* $table:ident { $($flag:expr, $env:expr, $file:expr; $kind:ident $default:literal; $status:expr; $help:literal)* })*) => {
        $($(#[$doc])* pub(super) static $table: &[super::Setting] = &[$(super::Setting {
            flag: $flag,
            env: $env,
            file: $file,
            kind: super::Kind::$kind,
            default: $default,
            status: $status,
            help: $help,
        }),*];)*
    };
}
use rows;

#[cfg(test)]
mod tests;
