use std::collections::BTreeMap;

use super::*;

fn sources(environment: &[(&str, &str)]) -> Sources {
    let enough = [("vip_arp", "true"), ("cp_enable", "true"), ("address", "192.0.2.1")];
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Sources {
        environment: enough.iter().chain(environment).map(pair).collect::<BTreeMap<_, _>>(),
        ..Sources::default()
    }
}

fn machine() -> Machine {
    Machine { hostname: Some("Host-1".into()), service_account_namespace: None }
}

fn lease(environment: &[(&str, &str)], machine: &Machine) -> String {
    let effective = load(&sources(environment), machine).unwrap();
    effective.config.control_plane.unwrap().election.lease.to_string()
}

#[test]
fn the_namespace_of_the_lease_is_its_own_then_the_pods_then_cp_namespace() {
    let in_pod = Machine { service_account_namespace: Some("vips".into()), ..machine() };
    let namespace = ("cp_namespace", "edge");
    assert_eq!(lease(&[namespace], &machine()), "edge/plndr-cp-lock");
    assert_eq!(lease(&[], &machine()), "kube-system/plndr-cp-lock");
    assert_eq!(lease(&[namespace], &in_pod), "vips/plndr-cp-lock");
    assert_eq!(lease(&[namespace, ("vip_leasename", "own/lock")], &in_pod), "own/lock");
}

#[test]
fn without_a_node_name_the_host_name_is_taken_in_lower_case() {
    assert_eq!(load(&sources(&[]), &machine()).unwrap().config.node.as_str(), "host-1");
    let refusal = load(&sources(&[]), &Machine::default()).unwrap_err().to_string();
    assert!(refusal.starts_with("the host name=\"\" is not accepted"), "{refusal}");
}

#[test]
fn an_empty_variable_is_unset_but_for_the_class_name() {
    let values = Values::read(&sources(&[("vip_interface", ""), ("lb_class_name", "")])).unwrap();
    assert!(values.given(key::INTERFACE).is_none());
    assert_eq!(values.given(key::CLASS_NAME).map(|given| given.text.as_str()), Some(""));
}

#[test]
fn each_setting_that_is_not_built_is_warned_about_once() {
    let mut checked = 0;
    for setting in table::settings().filter(|setting| matches!(setting.status, table::Status::NotYet(_))) {
        let mode = [key::BGP, key::TABLE, key::WIREGUARD, key::DDNS].contains(&setting.env);
        if setting.env.is_empty() || mode {
            continue;
        }
        let value = match setting.kind {
            table::Kind::Bool if setting.default == "true" => "false",
            table::Kind::Bool => "true",
            _ => "7",
        };
        let effective = load(&sources(&[(setting.env, value)]), &machine()).unwrap();
        let [warning] = effective.warnings.as_slice() else {
            panic!("{}: {:?}", setting.env, effective.warnings)
        };
        assert_eq!((warning.key.as_str(), warning.weight), (setting.env, Weight::Warning));
        let default = load(&sources(&[(setting.env, setting.default)]), &machine()).unwrap();
        assert_eq!(default.warnings, [], "{} at its default", setting.env);
        checked += 1;
    }
    assert!(checked > 30, "only {checked} settings were checked");
}

/// Whatever stands in the environment or in a file: the settings load, or one line says why not.
#[test]
fn strange_values_of_every_setting_load_or_are_refused_on_one_line() {
    let strange = [
        "\n",
        "a\nb",
        ",",
        ",,1.2.3.4,\n1.2.3.5,1.2.3.6",
        "/",
        "a/",
        "%",
        "\u{0}",
        "\u{1f600}",
        "-",
        "--",
        "+1",
        "1e9",
        "0x10",
        "9223372036854775808",
        "-9223372036854775808",
        "https://",
        "http://a\nb",
        "{}",
        "{\"a\":1}",
        "[",
        "::",
        "1.2.3.4%eth0",
        "fe80::1%2",
        "::ffff:1.2.3.4",
        "١٢",
        " true",
        "128,128,",
        "255",
        "256",
    ];
    let services = [("svc_enable", "true"), ("svc_ipam", "true")];
    for setting in table::settings().filter(|setting| !setting.env.is_empty()) {
        for value in strange {
            let given = [&services[..], &[(setting.env, value)]].concat();
            if let Err(refusal) = load(&sources(&given), &machine()) {
                let line = refusal.to_string();
                assert!(!line.contains('\n') && line.len() > 20, "{}={value:?}: {line:?}", setting.env);
            }
        }
    }
}
