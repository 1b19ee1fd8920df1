//! Where values come from: environment, flags and file become one text per setting, the environment first.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::file::{self, FileValues};
use super::refusal::{FileRefusal, Refusal};
use super::table::{self, Setting};
use super::{Weight, key, parse, suggest, warning};

/// What the user gave, not yet read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Flags by name without dashes; several values of a list are joined by commas.
    pub(crate) flags: BTreeMap<&'static str, String>,
    /// Whether a configuration file is read. Upstream's manifest generator reads none.
    pub(crate) file: FileUse,
}

/// Whether a configuration file is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum FileUse {
    /// The one that the settings name, when they name one.
    #[default]
    AsSet,
    /// None.
    Never,
}

/// One value as the user gave it.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The value.
    pub(crate) text: String,
    /// How the user spelled the setting: `vip_arp`, `--arp`, `enableARP`.
    pub(crate) spelled: String,
}

/// One text per setting.
#[derive(Debug, Default)]
pub(crate) struct Values {
    given: BTreeMap<String, Given>,
    /// What there is to say about the names that were used.
    pub(crate) warnings: Vec<super::Warning>,
}

impl Values {
    /// Reads the sources: environment over flag over file.
    pub(crate) fn read(sources: &Sources) -> Result<Self, Refusal> {
        let mut values = Self::default();
        let file = match &sources.file {
            FileUse::AsSet => values.read_file(sources)?,
            FileUse::Never => FileValues::default(),
        };
        for setting in table::settings() {
            let given = from_environment(setting, &sources.environment)
                .or_else(|| from_flags(setting, &sources.flags))
                .or_else(|| {
                    let text = file.known.get(&setting.key())?.clone();
                    Some(Given { text, spelled: setting.file.to_owned() })
                });
            if let Some(given) = given {
                values.given.insert(setting.key(), given);
            }
        }
        values.warnings.extend(suggest::unknown_in_environment(&sources.environment));
        values.warnings.extend(file.unknown.iter().map(|path| suggest::unknown_in_file(path)));
        Ok(values)
    }

    /// The file that the flag names must be there; one that only the environment names was never read by upstream.
    fn read_file(&mut self, sources: &Sources) -> Result<FileValues, Refusal> {
        let setting = table::setting(key::CONFIG_FILE);
        let read = |path: &str| file::read(Path::new(path));
        if let Some(path) = sources.environment.get(setting.env).filter(|path| !path.is_empty()) {
            match read(path) {
                Err(FileRefusal::Missing(path)) => {
                    self.warnings.push(missing_file(&path));
                    return Ok(FileValues::default());
                }
                other => return Ok(other?),
            }
        }
        match sources.flags.get(setting.flag).filter(|path| !path.is_empty()) {
            Some(path) => Ok(read(path)?),
            None => Ok(FileValues::default()),
        }
    }

    /// The value that the user gave.
    pub(crate) fn given(&self, key: &str) -> Option<&Given> {
        self.given.get(key)
    }

    /// How the user spelled a setting, or its first name.
    pub(crate) fn spelled(&self, key: &str) -> String {
        self.given(key).map_or_else(|| table::setting(key).key(), |given| given.spelled.clone())
    }

    /// The value: given, else the default.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.given(key).map_or(table::setting(key).default, |given| &given.text)
    }

    /// The value, if it is not empty.
    pub(crate) fn set(&self, key: &str) -> Option<&str> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// The value as a boolean.
    pub(crate) fn boolean(&self, key: &str) -> Result<bool, Refusal> {
        parse::boolean(self.text(key)).ok_or_else(|| self.refuse(key, parse::BOOLEANS))
    }

    /// The value as a whole number in `range`.
    pub(crate) fn number(&self, key: &str, range: &RangeInclusive<i64>) -> Result<i64, Refusal> {
        let number = self.text(key).parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let unit = match table::setting(key).kind {
                table::Kind::Seconds => " (seconds)",
                table::Kind::Millis => " (milliseconds)",
                _ => "",
            };
            let (low, high) = (range.start(), range.end());
            self.refuse(key, format!("give a whole number from {low} to {high}{unit}"))
        })
    }

    /// The value as whole seconds, at least `least`.
    pub(crate) fn seconds(&self, key: &str, least: i64) -> Result<Duration, Refusal> {
        let seconds = self.number(key, &(least..=i64::from(i32::MAX)))?;
        Ok(Duration::from_secs(seconds.unsigned_abs()))
    }

    /// The value as a time with its unit, in `range`.
    pub(crate) fn span(&self, key: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Refusal> {
        let span = parse::span(self.text(key)).filter(|span| range.contains(span));
        span.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.refuse(key, format!("give a time from {least:?} to {most:?}, such as 50ms"))
        })
    }

    /// The value as a port.
    pub(crate) fn port(&self, key: &str) -> Result<u16, Refusal> {
        let port = self.number(key, &(1..=i64::from(u16::MAX)))?;
        Ok(u16::try_from(port).expect("the range is that of a port"))
    }

    /// Refuses the value of a setting.
    pub(crate) fn refuse(&self, key: &str, accepted: impl Into<String>) -> Refusal {
        Refusal::value(self.spelled(key), self.text(key), accepted)
    }
}

fn from_environment(setting: &Setting, environment: &BTreeMap<String, String>) -> Option<Given> {
    let names = [Some(setting.env).filter(|name| !name.is_empty()), setting.env_alias()];
    names.into_iter().flatten().find_map(|name| {
        let text = environment.get(name)?;
        // An empty variable is as good as none, except here: an empty class name means "no class at all".
        (!text.is_empty() || name == key::CLASS_NAME)
            .then(|| Given { text: text.clone(), spelled: name.to_owned() })
    })
}

fn from_flags(setting: &Setting, flags: &BTreeMap<&'static str, String>) -> Option<Given> {
    let text = flags.get(setting.flag)?;
    Some(Given { text: text.clone(), spelled: format!("--{}", setting.flag) })
}

fn missing_file(path: &Path) -> super::Warning {
    warning(
        Weight::Warning,
        key::CONFIG_FILE,
        format!("{} does not exist; nothing is read from it", path.display()),
    )
}
