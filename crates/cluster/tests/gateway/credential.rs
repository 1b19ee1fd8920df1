//! Credentials: which are chosen, that new ones are read, that 401 and 403 at the start pass.

use std::time::{Duration, Instant};

use serde_json::json;
use vip_cluster::ServiceAddress;
use vip_lab::api::{Identity, Login, Server};
use vip_model::store::{Answer, Ask, Expect, FailureClass, Purpose};

use crate::rig::{LONG, Rig, address, failed, lock, present, write};

/// Who asked, by the server's counters.
fn users(server: &Server) -> Vec<String> {
    let mut users: Vec<String> = server
        .counts()
        .keys()
        .filter(|call| call.resource == "leases")
        .map(|call| call.user.clone())
        .collect();
    users.dedup();
    users
}

fn masters(name: &str) -> Identity {
    Identity::new(name, &["system:masters"])
}

#[tokio::test]
async fn credentials_are_chosen_in_upstreams_order() {
    let mut rig = Rig::new(1);
    let url = rig.url(1);
    let token = rig.credentials().token(&masters("pod"));
    rig.write("sa/token", &format!("{token}\n"));
    rig.write("sa/ca.crt", rig.credentials().authority_pem());
    rig.settings.service = Some(ServiceAddress { host: address(1).to_string(), port: rig.port });
    let steps = [
        ("pod", None),
        ("home", Some("home/.kube/config")),
        ("super", Some("kubernetes/super-admin.conf")),
        ("admin", Some("kubernetes/admin.conf")),
        ("named", Some("named.conf")),
    ];
    rig.settings.kubeconfig = rig.path("named.conf");
    for (user, file) in steps {
        if let Some(file) = file {
            rig.write_kubeconfig(file, Login::Certificate(&masters(user)), &url);
        }
        rig.server.reset_counts();
        let mut ear = rig.start();
        ear.read_at_last(&lock()).await;
        assert_eq!(users(&rig.server), [user]);
    }
}

#[tokio::test]
async fn a_kubeconfig_setting_that_is_the_default_does_not_come_before_admin_conf() {
    let mut rig = Rig::with_admin(1);
    rig.write_kubeconfig("home/.kube/config", Login::Certificate(&masters("home")), &rig.url(1));
    rig.settings.kubeconfig = rig.path("home/.kube/config");
    let mut ear = rig.start();
    ear.read_at_last(&lock()).await;
    assert_eq!(users(&rig.server), ["kubernetes-admin"]);
}

#[tokio::test]
async fn super_admin_stands_in_for_an_admin_that_has_no_rights_yet() {
    let rig = Rig::new(1);
    // As kubeadm ≥ 1.29 leaves it: admin.conf without a binding, super-admin.conf in system:masters.
    let admin = Identity::new("kubernetes-admin", &["kubeadm:cluster-admins"]);
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Certificate(&admin), &rig.url(1));
    rig.write_kubeconfig(
        "kubernetes/super-admin.conf",
        Login::Certificate(&masters("kubernetes-super-admin")),
        &rig.url(1),
    );
    let mut ear = rig.start();
    let (answer, took) = ear
        .ask_timed(Ask::WriteLease(write(&lock(), Expect::Absent, Purpose::Take)), Duration::from_secs(1))
        .await;
    present(answer);
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(users(&rig.server).contains(&"kubernetes-super-admin".to_owned()));
}

#[tokio::test]
async fn a_rotated_token_is_read_again() {
    let mut rig = Rig::new(1);
    rig.settings.service = Some(ServiceAddress { host: address(1).to_string(), port: rig.port });
    let first = rig.credentials().token(&masters("first"));
    rig.write("sa/token", &first);
    rig.write("sa/ca.crt", rig.credentials().authority_pem());
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    ear.read_at_last(&lock()).await;
    let second = rig.credentials().token(&masters("second"));
    rig.write("sa/token", &second);
    rig.credentials().revoke(&first);
    rig.server.reset_counts();
    let (answer, took) = ear.ask_timed(Ask::ReadLease(lock()), Duration::from_secs(1)).await;
    assert!(matches!(answer, Answer::Lease(_)), "{answer:?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(users(&rig.server).contains(&"second".to_owned()));
}

#[tokio::test]
async fn unauthorized_and_forbidden_at_the_start_pass_without_a_restart() {
    let rig = Rig::new(1);
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Token("not-known-yet"), &rig.url(1));
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    let failure = failed(ear.read(&lock()).await);
    assert_eq!(failure.class, FailureClass::Unauthorized, "{}", failure.text);
    assert!(!failure.text.contains("not-known-yet"), "a secret in {:?}", failure.text);
    // Then the token is good, but the binding is missing.
    let token = rig.credentials().token(&Identity::new("late", &["late"]));
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Token(&token), &rig.url(1));
    let failure = failed(ear.read(&lock()).await);
    assert_eq!(failure.class, FailureClass::Forbidden, "{}", failure.text);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ear.sight(&lock(), Duration::from_millis(10)).await, None);
    // Then everything is there.
    rig.server
        .store()
        .apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "late"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "Group", "name": "late", "apiGroup": "rbac.authorization.k8s.io"}],
        }))
        .unwrap();
    let start = Instant::now();
    assert!(ear.sight(&lock(), LONG).await.is_some());
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
    assert!(matches!(ear.read(&lock()).await, Answer::Lease(_)));
}

#[tokio::test]
async fn files_that_come_later_are_found_and_broken_ones_are_waited_for() {
    let rig = Rig::new(1);
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    let failure = failed(ear.read(&lock()).await);
    assert_eq!(failure.class, FailureClass::Unreachable);
    assert!(failure.text.contains("admin.conf"), "{}", failure.text);
    rig.write("kubernetes/admin.conf", "clusters: [{name: a, secret: hush");
    let failure = failed(ear.read(&lock()).await);
    assert_eq!(failure.class, FailureClass::Tls, "{}", failure.text);
    assert!(failure.text.contains("admin.conf") && !failure.text.contains("hush"), "{}", failure.text);
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Certificate(&Identity::admin()), &rig.url(1));
    assert!(ear.sight(&lock(), LONG).await.is_some());
    // A file that breaks later does not take away what works.
    rig.write("kubernetes/admin.conf", "half");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert!(matches!(ear.read(&lock()).await, Answer::Lease(_)));
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_a_tls_failure() {
    let rig = Rig::new(1);
    let stranger = Rig::new(0);
    let text =
        stranger.credentials().kubeconfig(Login::Certificate(&Identity::admin()), &rig.url(1)).unwrap();
    rig.write("kubernetes/admin.conf", &text);
    let mut ear = rig.start();
    let failure = failed(ear.read(&lock()).await);
    assert_eq!(failure.class, FailureClass::Tls, "{}", failure.text);
    assert_eq!(rig.count(1), 0);
}

#[tokio::test]
async fn a_plain_server_needs_no_certificate_authority() {
    let rig = Rig::new(0);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let lease = json!({
        "metadata": {"name": "plndr-cp-lock", "resourceVersion": "7"}, "spec": {"holderIdentity": "n7"},
    });
    let app = axum::Router::new().route(
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/plndr-cp-lock",
        axum::routing::get(move || async move { axum::Json(lease) }),
    );
    tokio::spawn(async move { axum::serve(listener, app).await });
    rig.write(
        "kubernetes/admin.conf",
        &format!(
            "clusters: [{{name: c, cluster: {{server: '{url}'}}}}]\ncontexts: [{{name: x, context: {{cluster: c}}}}]\n\
             current-context: x\n"
        ),
    );
    let mut ear = rig.start();
    let (_, record) = present(ear.read(&lock()).await);
    assert_eq!(record.holder.as_deref(), Some("n7"));
}
