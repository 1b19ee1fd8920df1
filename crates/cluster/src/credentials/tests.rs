use std::collections::BTreeSet;

use tempfile::TempDir;

use super::*;
use crate::settings::{LocalApi, ServiceAddress};

fn settings(root: &TempDir) -> ApiSettings {
    for folder in ["kubernetes", "sa", "home/.kube"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    ApiSettings {
        kubeconfig: root.path().join("kubernetes/admin.conf"),
        kubernetes_dir: root.path().join("kubernetes"),
        home: Some(root.path().join("home")),
        service_account: root.path().join("sa"),
        service: Some(ServiceAddress { host: "10.96.0.1".to_owned(), port: 443 }),
        server: None,
        local: LocalApi::HostAlias,
        port: 6443,
        node: vip_model::NodeName::new("n1"),
        vips: BTreeSet::new(),
        traits: BTreeSet::new(),
    }
}

fn write(root: &TempDir, name: &str, text: &str) {
    std::fs::write(root.path().join(name), text).unwrap();
}

/// A kubeconfig with these lines in its cluster and its user.
fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts:\n- name: x\n  context: {{cluster: c, user: u}}\n\
         clusters:\n- name: c\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n"
    )
}

fn load_text(text: &str) -> Result<Credentials, Error> {
    let root = TempDir::new().unwrap();
    let settings = settings(&root);
    write(&root, "kubernetes/admin.conf", text);
    load(&settings, &find(&settings)?.chosen)
}

fn authorization(credentials: &Credentials) -> Option<&str> {
    credentials.authorization.as_ref().map(|value| value.to_str().unwrap())
}

#[test]
fn without_any_file_the_error_names_all_that_were_looked_at() {
    let root = TempDir::new().unwrap();
    let Err(error) = find(&settings(&root)) else { panic!("found something") };
    let text = error.to_string();
    for name in ["kubernetes/admin.conf", "super-admin.conf", "home/.kube/config", "sa/token"] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
}

#[test]
fn a_token_without_the_services_address_is_no_source() {
    let root = TempDir::new().unwrap();
    let mut settings = settings(&root);
    write(&root, "sa/token", "t");
    assert_eq!(find(&settings).unwrap().chosen, Source::ServiceAccount);
    settings.service = None;
    assert!(find(&settings).is_err());
}

#[test]
fn logins_become_headers_that_are_not_printed() {
    let server = "server: 'http://h:1'";
    let token = load_text(&kubeconfig(server, "token: abc")).unwrap();
    assert_eq!(authorization(&token), Some("Bearer abc"));
    assert!(!format!("{:?}", token.authorization).contains("abc"));
    let basic = load_text(&kubeconfig(server, "username: a, password: b")).unwrap();
    assert_eq!(authorization(&basic), Some("Basic YTpi"));
    let none = load_text(&kubeconfig(server, "")).unwrap();
    assert_eq!(authorization(&none), None);
    assert!(none.tls.is_none(), "a plain server needs no TLS");
}

#[test]
fn files_are_found_beside_the_kubeconfig_and_their_change_is_seen() {
    let root = TempDir::new().unwrap();
    let settings = settings(&root);
    write(&root, "kubernetes/admin.conf", &kubeconfig("server: 'http://h:1'", "tokenFile: token"));
    write(&root, "kubernetes/token", "one\n");
    let source = find(&settings).unwrap().chosen;
    let credentials = load(&settings, &source).unwrap();
    assert_eq!(authorization(&credentials), Some("Bearer one"));
    assert!(!credentials.files.have_changed());
    write(&root, "new", "two");
    std::fs::rename(root.path().join("new"), root.path().join("kubernetes/token")).unwrap();
    assert!(credentials.files.have_changed());
    assert_eq!(authorization(&load(&settings, &source).unwrap()), Some("Bearer two"));
    std::fs::remove_file(root.path().join("kubernetes/token")).unwrap();
    assert!(matches!(load(&settings, &source), Err(Error::Unreadable { .. })));
}

#[test]
fn kubernetes_addr_replaces_the_server_but_not_the_name_that_is_vouched_for() {
    let root = TempDir::new().unwrap();
    let mut settings = settings(&root);
    settings.server = Some("http://10.0.0.9:6443".to_owned());
    write(&root, "kubernetes/admin.conf", &kubeconfig("server: 'https://vip.example:6443'", "token: t"));
    let credentials = load(&settings, &find(&settings).unwrap().chosen).unwrap();
    assert_eq!(credentials.written.host, "10.0.0.9");
    assert_eq!(credentials.vouched.host, "vip.example");
}

#[test]
fn what_cannot_be_used_is_refused_with_the_file_and_what_to_do_and_no_secret() {
    let server = "server: 'https://h:1'";
    let rows = [
        ("hush: [".to_owned(), "is no kubeconfig"),
        ("kind: Config".to_owned(), "no current-context"),
        ("current-context: y\ncontexts: []".to_owned(), "\"y\" is not among its contexts"),
        (kubeconfig("", "token: hush"), "no server"),
        (kubeconfig(server, "exec: {command: hush}"), "credential plugin"),
        (kubeconfig(server, "client-certificate-data: aHVzaA=="), "give both"),
        (kubeconfig("server: 'https://h:1', certificate-authority-data: 'hush!'", ""), "no base64"),
        (kubeconfig("server: 'https://h:1', certificate-authority-data: aHVzaA==", ""), "no PEM"),
        (kubeconfig("server: 'ftp://h'", "token: hush"), "https://host:port"),
    ];
    for (text, expected) in rows {
        let Err(error) = load_text(&text) else { panic!("accepted: {text}") };
        let said = error.to_string();
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
        assert!(said.contains("admin.conf"), "{said}");
        assert!(!said.contains("hush"), "a secret in {said:?}");
    }
}

#[test]
fn who_vouches_is_said_by_the_kubeconfig() {
    let made = rcgen::generate_simple_self_signed(vec!["h".to_owned()]).unwrap();
    let data = base64::engine::general_purpose::STANDARD.encode(made.cert.pem());
    let cluster = format!("server: 'https://h:1', certificate-authority-data: {data}, tls-server-name: sni");
    let checked = load_text(&kubeconfig(&cluster, "")).unwrap();
    assert_eq!(checked.authority, AuthorityKind::Cluster);
    assert_eq!(checked.tls_server_name.as_deref(), Some("sni"));
    let skipped =
        load_text(&kubeconfig("server: 'https://h:1', insecure-skip-tls-verify: true", "")).unwrap();
    assert_eq!(skipped.authority, AuthorityKind::Nobody);
}
