//! The settings as text for people: the end of `--help`, and `docs/configuration.md`.

use std::fmt::Write;

use crate::settings::table::{self, Setting, Status};

/// What stands at the beginning of the page.
const INTRODUCTION: &str = "# Settings

This page is printed by `kube-vip settings`; a test keeps it so. Do not edit it.

Every setting can be given as an environment variable, as a flag, or in a file (`--config-file settings.yaml`, JSON or
YAML, keys in any case). **The environment wins over flags, flags win over the file.** An empty variable counts as not
set, except `lb_class_name`. Switches take `true`, `false` and what else Go takes for a boolean (`1`, `t`, `T`, `0` …).

`kube-vip validate` prints what comes out of all three and exits with 1 if there is anything to warn about;
`strict_config=true` makes the agent itself refuse to start then.

Column *here*: **works**; *not yet* (accepted, with one warning when it is set; kube-vip refuses to start when the mode
asked for is one of these); *not needed* (accepted, nothing is lost); *no effect*.
";

/// The settings without a flag, and where to read about the others.
pub(super) fn after_help() -> String {
    let mut text = String::from("Only in the environment:\n");
    let alone = |setting: &&Setting| setting.flag.is_empty() && setting.status == Status::Built;
    for setting in table::settings().filter(alone) {
        let default = if setting.default.is_empty() { "" } else { " [default: " };
        let close = if setting.default.is_empty() { "" } else { "]" };
        let line = format!("{}={}", setting.env, setting.kind.placeholder());
        writeln!(text, "  {line}\n          {}{default}{}{close}", setting.help, setting.default)
            .expect("a String takes all");
    }
    text.push_str(
        "\nThe environment wins over flags, flags win over the file. `kube-vip settings` prints all settings, also those \
         of kube-vip that are not built yet; `kube-vip validate` prints what is in effect.",
    );
    text
}

/// The page.
pub(super) fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for group in table::GROUPS {
        write!(
            text,
            "\n## {}\n\n| environment | flag | file | default | what it does | here |\n|---|---|---|---|---|---|\n",
            group.title
        )
        .expect("a String takes all");
        for setting in group.settings {
            row(&mut text, setting);
        }
    }
    text
}

fn row(text: &mut String, setting: &Setting) {
    let code = |name: &str| if name.is_empty() { String::new() } else { format!("`{name}`") };
    let environment = match setting.env_alias() {
        Some(alias) => format!("`{}`, `{alias}`", setting.env),
        None => code(setting.env),
    };
    let flag = match (setting.flag, setting.short_flag()) {
        ("", _) => String::new(),
        (flag, Some(short)) => format!("`--{flag}`, `-{short}`"),
        (flag, None) => format!("`--{flag}`"),
    };
    let unit = match setting.kind {
        table::Kind::Seconds => " s",
        table::Kind::Millis => " ms",
        _ => "",
    };
    let default = code(setting.default) + if setting.default.is_empty() { "" } else { unit };
    let here = match setting.status {
        Status::Built => "**works**".to_owned(),
        Status::NotYet(feature) => format!("*not yet*: {feature}"),
        Status::NotNeeded(why) => format!("*not needed*: {why}"),
        Status::Retired(why) => format!("*no effect*: {why}"),
    };
    writeln!(
        text,
        "| {environment} | {flag} | {} | {default} | {} | {here} |",
        code(setting.file),
        setting.help
    )
    .expect("a String takes all");
}
