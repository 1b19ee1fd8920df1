use std::collections::BTreeMap;

use super::super::{Effective, Sources, load};
use super::*;

const CONTROL_PLANE: [(&str, &str); 2] = [("cp_enable", "true"), ("address", "192.0.2.1")];
const SERVICES: [(&str, &str); 1] = [("svc_enable", "true")];

fn effective(what: &[(&str, &str)], given: &[(&str, &str)]) -> Result<Effective, String> {
    let always = [("vip_arp", "true"), ("vip_nodename", "n1")];
    let environment: BTreeMap<String, String> = always
        .iter()
        .chain(what)
        .chain(given)
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    load(&Sources { environment, ..Sources::default() }, &Machine::default())
        .map_err(|refusal| refusal.to_string())
}

fn session(what: &[(&str, &str)], given: &[(&str, &str)]) -> SessionSettings {
    let given = [&[("election_mode", "session")], given].concat();
    match effective(what, &given).unwrap().config.election_mode {
        ElectionMode::Session(settings) => settings,
        ElectionMode::Lease => panic!("not in mode session"),
    }
}

#[test]
fn session_is_the_mode_until_lease_is_asked_for() {
    let mode = |given: &[(&str, &str)]| effective(&CONTROL_PLANE, given).unwrap().config.election_mode;
    assert_eq!(mode(&[]), ElectionMode::Session(session(&CONTROL_PLANE, &[])));
    assert_eq!(mode(&[("election_mode", "lease")]), ElectionMode::Lease);
}

#[test]
fn defaults_are_those_of_the_page() {
    let settings = session(&CONTROL_PLANE, &[]);
    let interval = Duration::from_millis(50);
    assert_eq!(settings.peers, PeerMode::On { port: 7949, interval });
    assert_eq!((settings.namespace.as_str(), settings.timings.duration.as_secs()), ("kube-system", 15));
    assert_eq!(settings.control_plane_lifetime, Duration::from_secs(3));
    assert_eq!(settings.service_lifetime, Duration::from_secs(8));
    assert_eq!(settings.api_loss, ApiLoss::HoldIfPeersAgree);
    assert_eq!((settings.failback, settings.on_stop), (Failback::Never, OnStop::HandOver));
    assert_eq!(settings.move_pause, Duration::from_millis(500));
}

#[test]
fn two_agents_of_one_node_listen_on_two_ports() {
    let port = |what: &[(&str, &str)], given: &[(&str, &str)]| match session(what, given).peers {
        PeerMode::On { port, .. } => port,
        PeerMode::Off => panic!("heartbeats are off"),
    };
    let both = [&CONTROL_PLANE[..], &SERVICES[..]].concat();
    assert_eq!(port(&CONTROL_PLANE, &[]), 7949);
    assert_eq!(port(&both, &[]), 7949);
    assert_eq!(port(&SERVICES, &[]), 7950);
    assert_eq!(port(&SERVICES, &[("peers_port", "7949")]), 7949, "what is given is meant");
}

#[test]
fn every_policy_is_read() {
    let settings = session(
        &SERVICES,
        &[
            ("api_loss", "release"),
            ("failback", "10m"),
            ("move_pause", "5s"),
            ("on_stop", "stay"),
            ("peers_interval", "10ms"),
            ("vip_address_lifetime", "2"),
            ("svc_address_lifetime", "30"),
            ("svc_leasename", "edge/lock"),
        ],
    );
    assert_eq!(settings.api_loss, ApiLoss::Release);
    assert_eq!(settings.failback, Failback::After(Duration::from_secs(600)));
    assert_eq!(settings.move_pause, Duration::from_secs(5));
    assert_eq!(settings.on_stop, OnStop::Stay);
    assert_eq!(settings.peers, PeerMode::On { port: 7950, interval: Duration::from_millis(10) });
    assert_eq!(settings.control_plane_lifetime, Duration::from_secs(2));
    assert_eq!(settings.service_lifetime, Duration::from_secs(30));
    assert_eq!(settings.namespace, "edge", "that of the first election");
    assert_eq!(session(&SERVICES, &[("peers", "false")]).peers, PeerMode::Off);
    for at_once in ["0s", "at-once"] {
        let settings = session(&SERVICES, &[("failback", at_once)]);
        assert_eq!(settings.failback, Failback::After(Duration::ZERO), "{at_once}");
    }
}

#[test]
fn values_that_a_policy_does_not_take_are_refused_with_what_is_accepted() {
    for (name, value, says) in [
        ("election_mode", "etcd", "not built yet"),
        ("election_mode", "sessions", "give session or lease"),
        ("peers", "perhaps", "give true or false"),
        ("peers_port", "0", "give a whole number from 1 to 65535"),
        ("peers_interval", "9ms", "give a time from 10ms to 1s, such as 50ms"),
        ("peers_interval", "1001ms", "give a time from 10ms to 1s"),
        ("peers_interval", "50", "give a time from 10ms to 1s"),
        ("api_loss", "wait", "give hold-if-peers-agree, hold or release"),
        ("failback", "soon", "give never, at-once, or a time such as 10m"),
        ("move_pause", "10ms", "give a time from 100ms to 3600s"),
        ("on_stop", "leave", "give hand-over or stay"),
        ("vip_address_lifetime", "1", "give a whole number from 2"),
        ("svc_address_lifetime", "8s", "give a whole number from 2"),
        ("vip_leaseduration", "2", "is too short"),
    ] {
        let given = [("election_mode", "session"), (name, value)];
        let refusal = effective(&CONTROL_PLANE, &given).unwrap_err();
        assert!(
            refusal.contains(&format!("{name}={value}")) || refusal.contains(&format!("{value:?}")),
            "{refusal}"
        );
        assert!(refusal.contains(says), "{name}={value}: {refusal}");
    }
}

#[test]
fn in_mode_lease_settings_of_sessions_are_worth_a_notice() {
    let given = [
        ("election_mode", "lease"),
        ("peers_port", "7000"),
        ("on_stop", "stay"),
        ("peers_interval", "0.05s"),
    ];
    let warnings = effective(&CONTROL_PLANE, &given).unwrap().warnings;
    let told: Vec<(&str, Weight)> =
        warnings.iter().map(|warning| (warning.key.as_str(), warning.weight)).collect();
    assert_eq!(told, [("peers_port", Weight::Notice), ("on_stop", Weight::Notice)], "50 ms is the default");
}

#[test]
fn a_mistyped_name_is_recognised() {
    let warnings = effective(&CONTROL_PLANE, &[("peers_intreval", "10ms"), ("vip_address_livetime", "3")]);
    let texts: Vec<String> = warnings.unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains("Did you mean peers_interval?"), "{texts:?}");
    assert!(texts[1].contains("Did you mean vip_address_lifetime?"), "{texts:?}");
}
