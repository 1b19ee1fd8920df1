//! Flags as upstream's parser (pflag) takes them: camelCase, values after a space or `=`, switches with or without
//! `=value`, lists repeated or with commas, the last of a repeated flag wins.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use crate::settings::table::{self, Kind, Setting, Status};

/// The flags of all settings.
pub(super) fn arguments() -> Vec<Arg> {
    table::GROUPS
        .iter()
        .flat_map(|group| group.settings.iter().map(move |setting| (group.title, setting)))
        .filter(|(_, setting)| !setting.flag.is_empty())
        .map(|(heading, setting)| argument(heading, setting))
        .collect()
}

fn argument(heading: &'static str, setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.flag)
        .long(setting.flag)
        .global(true)
        .help(help(setting))
        .help_heading(heading)
        .value_name(setting.kind.placeholder())
        .hide(setting.status != Status::Built);
    let arg = match setting.short_flag() {
        Some(short) => arg.short(short),
        None => arg,
    };
    match setting.kind {
        Kind::Bool => {
            arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Kind::List => arg.action(ArgAction::Append).allow_hyphen_values(true),
        _ => arg.action(ArgAction::Set).allow_hyphen_values(true),
    }
}

fn help(setting: &Setting) -> String {
    let mut text = setting.help.to_owned();
    if !setting.default.is_empty() {
        write!(text, " [default: {}]", setting.default).expect("a String takes all");
    }
    if !setting.env.is_empty() {
        write!(text, " [env: {}]", setting.env).expect("a String takes all");
    }
    text
}

/// The flags that were given.
pub(super) fn given(matches: &ArgMatches) -> BTreeMap<&'static str, String> {
    table::settings()
        .filter(|setting| !setting.flag.is_empty())
        .filter(|setting| matches.value_source(setting.flag) == Some(ValueSource::CommandLine))
        .filter_map(|setting| {
            let values: Vec<&str> = matches.get_many::<String>(setting.flag)?.map(String::as_str).collect();
            Some((setting.flag, values.join(",")))
        })
        .collect()
}

/// A line about an unknown flag, with the nearest one that exists.
pub(super) fn unknown(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let ContextValue::String(given) = error.get(ContextKind::InvalidArg)? else { return None };
    let name = given.strip_prefix("--").and_then(|name| name.split('=').next()).unwrap_or_default();
    let known = table::settings().map(|setting| setting.flag).filter(|flag| !flag.is_empty());
    Some(match crate::settings::nearest(name, known) {
        Some(near) => format!("unknown flag {given}; did you mean --{near}?"),
        None => format!("unknown flag {given}; kube-vip --help lists the flags"),
    })
}
