use std::collections::BTreeSet;

use super::*;

#[test]
fn every_key_of_the_program_is_in_the_table() {
    for key in key::ALL {
        assert!(settings().any(|setting| setting.is(key)), "{key} is not in the table");
    }
}

#[test]
fn no_name_is_given_twice() {
    let spellings: [fn(&Setting) -> &str; 3] = [|s| s.flag, |s| s.env, |s| s.file];
    for spelling in spellings {
        let mut seen = BTreeSet::new();
        for name in settings().map(spelling).filter(|name| !name.is_empty()) {
            assert!(seen.insert(name.to_lowercase()), "{name} is given twice");
        }
    }
}

#[test]
fn every_setting_has_a_name_and_a_sentence() {
    for setting in settings() {
        assert!(!setting.key().is_empty(), "{setting:?}");
        assert!(setting.help.ends_with('.'), "{}: {:?}", setting.key(), setting.help);
    }
}

#[test]
fn defaults_are_values_that_the_setting_takes() {
    for setting in settings() {
        let taken = match setting.kind {
            Kind::Bool => crate::settings::parse::boolean(setting.default).is_some(),
            Kind::Number | Kind::Port | Kind::Seconds | Kind::Millis => {
                setting.default.parse::<u32>().is_ok()
            }
            Kind::Span => crate::settings::parse::span(setting.default).is_some(),
            Kind::Text | Kind::List | Kind::Object => true,
        };
        assert!(taken, "{}: {:?}", setting.key(), setting.default);
    }
}

/// All names of upstream 1.2: environment variables and flags. A manifest that uses one of them is understood.
#[test]
fn every_name_of_kube_vip_is_known() {
    let names = include_str!("names.txt");
    let mut checked = 0;
    for name in names.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let known = match name.strip_prefix("--") {
            Some(flag) => settings().any(|setting| setting.flag == flag),
            None => {
                settings().any(|setting| setting.env == name)
                    || ENV_ALIASES.iter().any(|(_, alias)| *alias == name)
            }
        };
        assert!(known, "{name} is not in the table");
        checked += 1;
    }
    assert!(checked >= 180, "only {checked} names were checked");
}
