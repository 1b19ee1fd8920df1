//! Settings through the real binary: which source wins, what is refused and how, what the file may say, and the page
//! about all of them. `BLESS=1` writes the page again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use binary::{Run, run};
use serde_json::Value;

#[path = "support/binary.rs"]
mod binary;

/// What every run needs to get as far as the setting under test.
const ENOUGH: [(&str, &str); 4] =
    [("vip_arp", "true"), ("cp_enable", "true"), ("address", "192.0.2.1"), ("vip_nodename", "n1")];

fn environment(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    ENOUGH.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn validate(arguments: &[&str], more: &[(&str, &str)]) -> Run {
    let arguments: Vec<&str> = ["validate"].iter().chain(arguments).copied().collect();
    run(&arguments, &environment(more))
}

/// The effective settings, which must not be worth a warning.
fn effective(arguments: &[&str], more: &[(&str, &str)]) -> Value {
    let run = validate(arguments, more);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{arguments:?} {more:?}");
    serde_saphyr::from_str(&run.stdout).expect("validate prints YAML")
}

fn refused(arguments: &[&str], more: &[(&str, &str)]) -> String {
    let run = validate(arguments, more);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{arguments:?} {more:?}");
    assert_eq!(run.stderr.lines().count(), 1, "one line: {}", run.stderr);
    run.stderr.trim_start_matches("kube-vip: error: ").trim_end().to_owned()
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file");
    let path = path.to_string_lossy().into_owned();
    (folder, path)
}

type Row = (&'static str, &'static str, &'static str, &'static str, [&'static str; 3], [&'static str; 4]);

/// One setting of each kind: environment, flag and file key with a value each; where it shows; the three values
/// as shown, and the default as shown.
const KINDS: [Row; 8] = [
    (
        "vip_interface",
        "--interface=",
        "interface",
        "/config/control_plane/interface/named",
        ["e0", "f0", "y0"],
        ["e0", "f0", "y0", ""],
    ),
    (
        "vip_skipdad",
        "",
        "skipDAD",
        "/config/advertise/arp/skip_conflict_probe",
        ["true", "", "true"],
        ["true", "", "true", "false"],
    ),
    (
        "vip_preserve_on_leadership_loss",
        "--preserveVipOnLeadershipLoss=",
        "PreserveVIPOnLeadershipLoss",
        "/config/control_plane/on_loss",
        ["1", "F", "true"],
        ["preserve", "remove", "preserve", "remove"],
    ),
    (
        "port",
        "--port=",
        "port",
        "/config/control_plane/port",
        ["7001", "7002", "7003"],
        ["7001", "7002", "7003", "6443"],
    ),
    (
        "vip_leaseduration",
        "--leaseDuration=",
        "leaseduration",
        "/config/control_plane/election/timings/duration",
        ["21", "22", "23"],
        ["21s", "22s", "23s", "15s"],
    ),
    (
        "vip_leasename",
        "--leaseName=",
        "leaseName",
        "/config/control_plane/election/lease",
        ["n/e", "n/f", "n/y"],
        ["n/e", "n/f", "n/y", "kube-system/plndr-cp-lock"],
    ),
    ("vip_loglevel", "--log=", "logging", "/log", ["-4", "4", "8"], ["debug", "warn", "error", "info"]),
    (
        "vip_arpRate",
        "",
        "arpBroadcastRate",
        "/config/advertise/arp/announce_interval",
        ["1000", "", "2500"],
        ["1s", "", "2500ms", "3s"],
    ),
];

fn shown(settings: &Value, at: &str) -> String {
    match settings.pointer(at) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[test]
fn the_environment_wins_over_flags_and_flags_win_over_the_file() {
    for (env, flag, key, at, [env_value, flag_value, file_value], [by_env, by_flag, by_file, default]) in
        KINDS
    {
        let (_folder, path) = file("settings.yaml", &format!("{key}: {file_value}\n"));
        let given = format!("{flag}{flag_value}");
        let with_file = ["--config-file", path.as_str()];
        let with_flag: Vec<&str> = with_file.into_iter().chain([given.as_str()]).collect();
        let flags = if flag.is_empty() { &with_file[..] } else { &with_flag[..] };
        assert_eq!(shown(&effective(flags, &[(env, env_value)]), at), by_env, "{env}: environment");
        if !flag.is_empty() {
            assert_eq!(shown(&effective(flags, &[]), at), by_flag, "{env}: flag");
            assert_eq!(shown(&effective(flags, &[(env, "")]), at), by_flag, "{env}: empty is unset");
        }
        assert_eq!(shown(&effective(&with_file, &[]), at), by_file, "{env}: file");
        assert_eq!(shown(&effective(&[], &[]), at), default, "{env}: default");
    }
}

#[test]
fn a_file_that_does_not_say_a_setting_leaves_its_default() {
    let (_folder, path) = file("settings.yml", "interface: eth7\n");
    let settings = effective(&["--config-file", &path], &[]);
    assert_eq!(shown(&settings, "/config/control_plane/interface/named"), "eth7");
    assert_eq!(shown(&settings, "/prometheus_server/any_address/port"), "2112");
}

#[test]
fn json_and_yaml_say_the_same_in_any_case() {
    let (_folder, yaml) =
        file("a.yaml", "INTERFACE: eth3\ncontrolPlaneHealthCheck:\n  Address: http://127.0.0.1:1/\n");
    let (_other, json) = file(
        "a.json",
        r#"{"interface": "eth3", "CONTROLPLANEHEALTHCHECK": {"address": "http://127.0.0.1:1/"}}"#,
    );
    assert_eq!(effective(&["--config-file", &yaml], &[]), effective(&["--config-file", &json], &[]));
}

#[test]
fn a_broken_file_is_refused_with_its_name() {
    for (name, text, says) in [
        ("a.json", "{", "failed to parse JSON config file "),
        ("a.yaml", "a: [", "failed to parse YAML config file "),
        ("a.yaml", "- a\n", "it is no map of settings"),
        (
            "a.toml",
            "a = 1",
            "unsupported config file format \".toml\". Supported formats: .json, .yaml, .yml",
        ),
    ] {
        let (_folder, path) = file(name, text);
        let line = refused(&["--config-file", &path], &[]);
        assert!(line.starts_with("loading config file: ") && line.contains(says), "{name}: {line}");
    }
}

#[test]
fn a_missing_file_is_refused_by_flag_and_only_warned_about_by_environment() {
    let line = refused(&["--config-file=/no/such.yaml"], &[]);
    assert!(line.starts_with("loading config file: config file does not exist: /no/such.yaml"), "{line}");
    let run = validate(&[], &[("config_file", "/no/such.yaml")]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("config_file: /no/such.yaml does not exist"), "{}", run.stdout);
}

#[test]
fn keys_of_the_file_that_nobody_knows_are_named() {
    let (_folder, path) =
        file("a.yaml", "vip_arp: true\nlbClassName: x\nintreface: eth0\nzzzz: 1\nbgpConfig: {peerz: 1}\n");
    let run = validate(&["--config-file", &path], &[]);
    for line in [
        "vip_arp: no key of the configuration file of kube-vip; it is ignored. Did you mean enableARP?",
        "lbClassName: no key of the configuration file of kube-vip; it is ignored. Did you mean loadBalancerClassName?",
        "intreface: no key of the configuration file of kube-vip; it is ignored. Did you mean interface?",
        "zzzz: no key of the configuration file of kube-vip; it is ignored",
        "bgpConfig.peerz: no key of the configuration file of kube-vip; it is ignored. Did you mean bgpConfig.peers?",
    ] {
        assert!(run.stdout.contains(&format!("\"{line}\"\n")), "{line}: {}", run.stdout);
    }
}

#[test]
fn values_that_no_setting_takes_are_refused_with_key_value_and_what_is_accepted() {
    for (name, value, says) in [
        ("vip_skipdad", "on", "give true or false"),
        ("vip_leaseduration", "15s", "give a whole number from 1 to 2147483647 (seconds)"),
        ("vip_leaseduration", "-1", "give a whole number"),
        ("port", "0", "give a whole number from 1 to 65535"),
        ("vip_loglevel", "info", "should be int"),
        ("health_check_port", "1023", "health check port should be > 1024"),
        ("control_plane_health_check_address", "127.0.0.1:6443", "is not a valid URL"),
        ("control_plane_health_check_address", "https:///livez", "is not a valid URL"),
        ("vip_leasename", "a/b/c", "give name or namespace/name"),
        ("vip_leasename", "Upper", "give name or namespace/name"),
        ("vip_interface", "a-name-too-long-for-linux", "no link can have this name"),
        ("vip_subnet", "24,64,128", "give one prefix length"),
        ("vip_subnet", "24,auto", "auto subnet discovery cannot be used if VIP address was provided"),
        ("vip_nodename", "n_1", "give the name of this Kubernetes node"),
        ("election_mode", "raft", "give session or lease"),
        ("strict_config", "maybe", "give true or false"),
        ("address", "0.0.0.0", "one host cannot answer for this address"),
        ("address", "ff02::1", "one host cannot answer for this address"),
    ] {
        let line = refused_by(name, value);
        assert!(line.starts_with(&format!("{name}={value:?} is not accepted: ")), "{line}");
        assert!(line.contains(says), "{line}");
    }
}

fn refused_by(name: &str, value: &str) -> String {
    let run = run(&["plan", "--cluster", "/dev/null"], &environment(&[(name, value)]));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{name}={value}");
    run.stderr.trim_start_matches("kube-vip: error: ").trim_end().to_owned()
}

#[test]
fn the_shortest_health_port_of_upstream_is_accepted() {
    assert_eq!(shown(&effective(&[], &[("health_check_port", "1024")]), "/health_check_port"), "1024");
    assert_eq!(shown(&effective(&[], &[("health_check_port", "0")]), "/health_check_port"), "");
}

#[test]
fn prefix_lengths_follow_the_families() {
    for (address, subnet, expected) in [
        ("192.0.2.1", "", "192.0.2.1/32"),
        ("2001:db8::1", "", "2001:db8::1/128"),
        ("192.0.2.1,2001:db8::1", "", "192.0.2.1/32 2001:db8::1/128"),
        ("2001:db8::1,192.0.2.1", "24,64", "2001:db8::1/64 192.0.2.1/24"),
        ("2001:db8::1", "64", "2001:db8::1/64"),
        ("2001:db8::1", "32,64", "2001:db8::1/64"),
        ("192.0.2.1", "32,128", "192.0.2.1/32"),
    ] {
        let settings = effective(&[], &[("address", address), ("vip_subnet", subnet)]);
        let vips =
            settings.pointer("/config/control_plane/vips").and_then(Value::as_array).expect("addresses");
        let vips: Vec<&str> = vips.iter().filter_map(Value::as_str).collect();
        assert_eq!(vips.join(" "), expected, "{address} {subnet}");
    }
}

#[test]
fn the_instance_is_named_after_what_the_agent_is_asked_to_do() {
    assert_eq!(shown(&effective(&[], &[]), "/config/instance"), "control-plane");
    assert_eq!(shown(&effective(&[], &[("INSTANCE_NAME", "blue")]), "/config/instance"), "blue");
    assert_eq!(shown(&effective(&[], &[("svc_enable", "true")]), "/config/instance"), "all");
    let services = effective(&[], &[("svc_enable", "true"), ("cp_enable", "false")]);
    assert_eq!(shown(&services, "/config/instance"), "services");
    assert_eq!(services.pointer("/config/control_plane"), Some(&Value::Null));
}

#[test]
fn address_management_is_switched_by_variable_flag_or_file() {
    let services = ("svc_enable", "true");
    let map = "/config/services/ipam/config_map";
    let (_folder, path) = file("a.yaml", "servicesIpam: true\nservicesIpamConfigMap: pools\n");
    assert_eq!(shown(&effective(&["--config-file", &path], &[services]), map), "pools");
    assert_eq!(shown(&effective(&["--servicesIpam"], &[services]), map), "kubevip");
    assert_eq!(shown(&effective(&[], &[services, ("svc_ipam", "true")]), map), "kubevip");
    assert_eq!(shown(&effective(&["--servicesIpam"], &[services, ("svc_ipam", "false")]), map), "");
}

/// What differs in kind from the settings above: a time with its unit, a policy by name, a switch that is on by default.
#[test]
fn settings_of_sessions_are_read_from_variable_flag_and_file() {
    let session = "/config/election_mode/session";
    let shown_by = |arguments: &[&str], more: &[(&str, &str)], at: &str| {
        let run = validate(arguments, &[&[("election_mode", "session")], more].concat());
        let settings: Value = serde_saphyr::from_str(&run.stdout).expect("validate prints YAML");
        shown(&settings, &format!("{session}/{at}"))
    };
    let (_folder, path) = file("a.yaml", "peersInterval: 30ms\napiLoss: hold\npeersPort: 7003\n");
    let by_file = ["--config-file", path.as_str()];
    for (env, flag, at, values) in [
        ("peers_interval", "--peersInterval=", "peers/on/interval", ["10ms", "20ms", "30ms", "50ms"]),
        ("peers_port", "--peersPort=", "peers/on/port", ["7001", "7002", "7003", "7949"]),
    ] {
        let flag = format!("{flag}{}", values[1]);
        let flag_and_file = [by_file[0], by_file[1], &flag];
        assert_eq!(shown_by(&flag_and_file, &[(env, values[0])], at), values[0], "{env}: environment");
        assert_eq!(shown_by(&flag_and_file, &[], at), values[1], "{env}: flag");
        assert_eq!(shown_by(&by_file, &[], at), values[2], "{env}: file");
        assert_eq!(shown_by(&[], &[], at), values[3], "{env}: default");
    }
    assert_eq!(shown_by(&by_file, &[("api_loss", "release")], "api_loss"), "release");
    assert_eq!(shown_by(&by_file, &[], "api_loss"), "hold");
    assert_eq!(shown_by(&["--failback=1h"], &[], "failback/after"), "3600s");
    assert_eq!(shown_by(&["--peers=false"], &[], "peers"), "off");
}

#[test]
fn modes_that_are_not_built_are_refused_with_services_too() {
    for mode in ["bgp_enable", "vip_routingtable", "vip_wireguard"] {
        let line = refused(&[], &[("vip_arp", "false"), ("svc_enable", "true"), (mode, "true")]);
        assert!(line.contains(&format!("({mode}=true): not built yet")), "{line}");
    }
}

#[test]
fn an_instance_name_is_as_long_as_nftables_allows() {
    let longest = "a".repeat(243);
    assert_eq!(shown(&effective(&[], &[("instance_name", &longest)]), "/config/instance"), longest);
    let line = refused(&[], &[("instance_name", &"a".repeat(244))]);
    assert!(line.starts_with("instance_name is 244 bytes, must not exceed 243 bytes"), "{line}");
}

#[test]
fn node_names_are_lower_case() {
    assert_eq!(
        shown(&effective(&[], &[("vip_nodename", "Node-A.Example")]), "/config/node"),
        "node-a.example"
    );
}

#[test]
fn notices_are_never_an_error() {
    let run = validate(&["--leaderElection"], &[("strict_config", "true"), ("vip_loseleadership", "true")]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout.matches("not needed here").count(), 2, "{}", run.stdout);
}

#[test]
fn strict_config_refuses_what_is_worth_a_warning() {
    let quiet = environment(&[("strict_config", "true")]);
    assert_eq!(run(&["plan", "--cluster", "/dev/null"], &quiet).code, 0);
    let loud = environment(&[("strict_config", "true"), ("enable_upnp", "true")]);
    let run = run(&["plan", "--cluster", "/dev/null"], &loud);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("enable_upnp: set but not supported yet: UPnP"), "{}", run.stderr);
}

#[test]
fn the_page_about_settings_is_the_printed_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let printed = run(&["settings"], &BTreeMap::new());
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert!(printed.stdout.contains("| `vip_arp` | `--arp` | `enableARP` |"), "{}", printed.stdout);
    if std::env::var("BLESS").is_ok_and(|bless| bless == "1") {
        fs::write(&page, &printed.stdout).expect("writing the page");
    }
    let written = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == printed.stdout,
        "docs/configuration.md is out of date: BLESS=1 cargo test -p kube-vip --test config"
    );
}
