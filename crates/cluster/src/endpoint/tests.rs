use std::path::PathBuf;

use super::*;

fn settings(local: LocalApi) -> ApiSettings {
    ApiSettings {
        kubeconfig: PathBuf::from("/k/admin.conf"),
        kubernetes_dir: PathBuf::from("/k"),
        home: None,
        service_account: PathBuf::from("/sa"),
        service: None,
        server: None,
        local,
        port: 6443,
        node: vip_model::NodeName::new("n1"),
        vips: BTreeSet::new(),
        traits: BTreeSet::new(),
    }
}

fn texts(settings: &ApiSettings, origin: Origin, server: &str) -> Vec<String> {
    let written = ServerUrl::parse("server", server).unwrap();
    candidates(settings, origin, &written, &Learned::default()).iter().map(ToString::to_string).collect()
}

#[test]
fn server_addresses_are_read_as_client_go_reads_them() {
    let parse = |text: &str| {
        let url = ServerUrl::parse("server", text).unwrap();
        (url.scheme, url.host, url.port, url.base)
    };
    let row = |scheme, host: &str, port, base: &str| (scheme, host.to_owned(), port, base.to_owned());
    assert_eq!(parse("https://10.0.0.1:6443"), row(Scheme::Https, "10.0.0.1", 6443, ""));
    assert_eq!(parse("https://api.example"), row(Scheme::Https, "api.example", 443, ""));
    assert_eq!(parse("http://[fd00::1]:8080/"), row(Scheme::Http, "fd00::1", 8080, ""));
    assert_eq!(parse("https://h:1/k8s/clusters/c1"), row(Scheme::Https, "h", 1, "/k8s/clusters/c1"));
    assert_eq!(parse("10.0.0.1:6443"), row(Scheme::Https, "10.0.0.1", 6443, ""));
    assert_eq!(parse("fd00::1"), row(Scheme::Https, "fd00::1", 443, ""));
    for wrong in ["", "https://", "ftp://a", "a b", "https://h:70000"] {
        assert!(ServerUrl::parse("server", wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn admin_conf_of_a_control_plane_goes_to_this_nodes_server_first() {
    assert_eq!(
        texts(&settings(LocalApi::HostAlias), Origin::Admin, "https://10.0.0.5:6443"),
        ["127.0.0.1:6443", "[::1]:6443", "kubernetes:6443", "10.0.0.5:6443"]
    );
}

#[test]
fn a_vip_that_we_manage_is_never_dialled() {
    let mut settings = settings(LocalApi::HostAlias);
    settings.vips.insert("10.0.0.5".parse().unwrap());
    for origin in [Origin::Explicit, Origin::Admin, Origin::Home, Origin::ServiceAccount] {
        let dials = texts(&settings, origin, "https://10.0.0.5:6443");
        assert!(dials.contains(&"127.0.0.1:6443".to_owned()), "{origin:?}: {dials:?}");
        assert!(!dials.contains(&"10.0.0.5:6443".to_owned()), "{origin:?}: {dials:?}");
    }
    settings.server = Some("10.0.0.5:6443".to_owned());
    assert!(!texts(&settings, Origin::Explicit, "10.0.0.5:6443").contains(&"10.0.0.5:6443".to_owned()));
}

#[test]
fn without_a_control_plane_the_server_is_as_it_is_written() {
    assert_eq!(
        texts(&settings(LocalApi::NotOurs), Origin::Admin, "https://10.0.0.5:6443"),
        ["10.0.0.5:6443"]
    );
    assert_eq!(
        texts(&settings(LocalApi::NotOurs), Origin::ServiceAccount, "https://10.96.0.1"),
        ["10.96.0.1:443"]
    );
}

#[test]
fn a_kubeconfig_that_the_user_named_is_followed_before_this_node() {
    assert_eq!(
        texts(&settings(LocalApi::HostAlias), Origin::Explicit, "https://lb.example:6443"),
        ["lb.example:6443", "127.0.0.1:6443", "[::1]:6443"]
    );
}

#[test]
fn kubernetes_addr_comes_first() {
    let mut settings = settings(LocalApi::HostAlias);
    settings.server = Some("10.9.9.9:6443".to_owned());
    assert_eq!(texts(&settings, Origin::Admin, "10.9.9.9:6443")[0], "10.9.9.9:6443");
}

#[test]
fn learned_servers_come_last_and_cp_detect_joins_the_local_ones() {
    let settings = settings(LocalApi::Certificate);
    let written = ServerUrl::parse("server", "https://10.0.0.5:6443").unwrap();
    let learned = Learned {
        local: vec!["10.0.0.11".parse().unwrap()],
        servers: ["10.0.0.11:6443", "10.0.0.12:6443"].iter().map(|text| text.parse().unwrap()).collect(),
    };
    let dials: Vec<_> =
        candidates(&settings, Origin::Admin, &written, &learned).iter().map(ToString::to_string).collect();
    assert_eq!(dials, ["127.0.0.1:6443", "[::1]:6443", "10.0.0.11:6443", "10.0.0.5:6443", "10.0.0.12:6443"]);
}

#[test]
fn only_the_clusters_own_authority_makes_kubernetes_a_proof() {
    let written = ServerUrl::parse("server", "https://vip.example:6443").unwrap();
    let dial = Dial::new("127.0.0.1", 6443);
    assert_eq!(
        names(&written, None, AuthorityKind::Cluster, &dial),
        ["vip.example", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1"]
    );
    assert_eq!(names(&written, None, AuthorityKind::System, &dial), ["vip.example"]);
    assert_eq!(names(&written, Some("sni.example"), AuthorityKind::Cluster, &dial), ["sni.example"]);
}
