//! Which API server is asked: this node's first, the others when it is dead or silent, never a VIP.

use std::time::Duration;

use vip_cluster::LocalApi;
use vip_lab::api::{Effect, Endpoint, Fault, Identity, Login, Reach, Verb, Whose};
use vip_model::store::{Answer, Ask, Expect, Purpose};

use crate::rig::{LONG, Rig, address, lock, present, write};

/// A gateway that has learned of `n1` (its own) and `n2`.
async fn two_servers() -> (Rig, crate::rig::Ear) {
    let rig = Rig::with_admin(2);
    rig.seed_servers(&[1, 2]);
    let mut ear = rig.start();
    ear.read_at_last(&lock()).await;
    // The servers are read right at the start; a question more is behind that.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.count(2), 0, "the own server is preferred");
    (rig, ear)
}

#[tokio::test]
async fn a_dead_server_costs_next_to_nothing_when_others_are_known() {
    let (rig, mut ear) = two_servers().await;
    rig.turn(1, |knobs| knobs.reach = Reach::Down);
    let (answer, took) = ear.ask_timed(Ask::ReadLease(lock()), LONG).await;
    assert!(matches!(answer, Answer::Lease(_)), "{answer:?}");
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert!(rig.count(2) > 0);
}

#[tokio::test]
async fn a_hanging_server_costs_one_hedge_and_then_nothing() {
    let (rig, mut ear) = two_servers().await;
    rig.turn(1, |knobs| knobs.reach = Reach::Frozen);
    let (answer, took) = ear.ask_timed(Ask::ReadLease(lock()), Duration::from_secs(1)).await;
    assert!(matches!(answer, Answer::Lease(_)), "{answer:?}");
    assert!((Duration::from_millis(400)..Duration::from_millis(700)).contains(&took), "{took:?}");
    let (answer, took) = ear.ask_timed(Ask::ReadLease(lock()), Duration::from_secs(1)).await;
    assert!(matches!(answer, Answer::Lease(_)), "{answer:?}");
    assert!(took < Duration::from_millis(100), "the hanging server was asked again: {took:?}");
}

#[tokio::test]
async fn a_server_that_answers_5xx_is_passed_over() {
    let (rig, mut ear) = two_servers().await;
    rig.turn(1, |knobs| {
        knobs.faults = vec![Fault::all(Effect::Fail(vip_lab::api::Failure::etcd_timeout()))];
    });
    let (answer, took) = ear.ask_timed(Ask::ReadLease(lock()), LONG).await;
    assert!(matches!(answer, Answer::Lease(_)), "{answer:?}");
    assert!(took < Duration::from_millis(200), "{took:?}");
}

#[tokio::test]
async fn the_own_server_is_preferred_again_after_it_is_back() {
    let (rig, mut ear) = two_servers().await;
    rig.turn(1, |knobs| knobs.reach = Reach::Down);
    ear.read_at_last(&lock()).await;
    rig.turn(1, |knobs| knobs.reach = Reach::Open);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let (first, second) = (rig.count(1), rig.count(2));
    assert!(matches!(ear.read(&lock()).await, Answer::Lease(_)));
    assert_eq!((rig.count(1), rig.count(2)), (first + 1, second));
}

#[tokio::test]
async fn a_write_that_was_done_twice_is_no_conflict_with_itself() {
    let (rig, mut ear) = two_servers().await;
    // n1 writes and never says so; the hedge then meets its own write at n2.
    rig.turn(1, |knobs| {
        knobs.faults = vec![
            Fault::on(Verb::Create, "leases", Effect::HangAfter),
            Fault::on(Verb::Update, "leases", Effect::HangAfter),
        ];
    });
    let take = write(&lock(), Expect::Absent, Purpose::Take);
    let (answer, took) = ear.ask_timed(Ask::WriteLease(take), Duration::from_secs(2)).await;
    let (version, record) = present(answer);
    assert_eq!(record.holder.as_deref(), Some("n1"));
    assert!(took < Duration::from_millis(1_000), "{took:?}");
    assert_eq!(rig.stored(&lock()).unwrap()["metadata"]["resourceVersion"], version.0.as_str());
}

#[tokio::test]
async fn a_conflict_with_somebody_else_stays_one_after_a_hedge() {
    let (rig, mut ear) = two_servers().await;
    let (version, _) = present(ear.write(write(&lock(), Expect::Absent, Purpose::Take)).await);
    let mut theirs = (*rig.stored(&lock()).unwrap()).clone();
    theirs["spec"]["holderIdentity"] = "n9".into();
    rig.server.store().apply(&theirs).unwrap();
    rig.turn(1, |knobs| knobs.faults = vec![Fault::on(Verb::Update, "leases", Effect::Hang)]);
    let renew = write(&lock(), Expect::Version(version), Purpose::Renew);
    assert_eq!(ear.ask_timed(Ask::WriteLease(renew), Duration::from_secs(2)).await.0, Answer::Conflict);
}

#[tokio::test]
async fn a_kubeconfig_that_names_our_vip_leads_to_this_nodes_server() {
    let mut rig = Rig::new(2);
    // 127.0.0.2 stands for the VIP: a server answers there, and must not be asked.
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Certificate(&Identity::admin()), &rig.url(2));
    rig.settings.local = LocalApi::HostAlias;
    rig.settings.vips.insert(address(2));
    rig.seed_servers(&[1, 2]);
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    let (_, record) = present(ear.write(write(&lock(), Expect::Absent, Purpose::Take)).await);
    assert_eq!(record.holder.as_deref(), Some("n1"));
    assert!(ear.sight(&lock(), LONG).await.is_some());
    rig.turn(1, |knobs| knobs.reach = Reach::Down);
    let (answer, _) = ear.ask_timed(Ask::ReadLease(lock()), Duration::from_millis(500)).await;
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    assert_eq!(rig.count(2), 0, "the VIP was dialled");
}

#[tokio::test]
async fn a_name_that_stands_for_our_vip_is_not_dialled_either() {
    let mut rig = Rig::new(1);
    // `localhost` stands for 127.0.0.1 (or ::1, where nobody listens), which is said to be a VIP here.
    let url = format!("https://localhost:{}", rig.port);
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Certificate(&Identity::admin()), &url);
    rig.settings.vips.insert(address(1));
    rig.settings.vips.insert("::1".parse().unwrap());
    let mut ear = rig.start();
    let (answer, _) = ear.ask_timed(Ask::ReadLease(lock()), Duration::from_millis(500)).await;
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    assert_eq!(rig.count(1), 0);
}

#[tokio::test]
async fn kubernetes_addr_replaces_the_kubeconfigs_server() {
    let mut rig = Rig::with_admin(2);
    rig.settings.server = Some(rig.url(2));
    let mut ear = rig.start();
    ear.read_at_last(&lock()).await;
    assert!(rig.count(2) > 0);
    assert_eq!(rig.count(1), 0);
}

#[tokio::test]
async fn cp_detect_finds_the_addresses_in_the_certificate() {
    let mut rig = Rig::new(0);
    // The certificate on 127.0.0.1 names 127.0.0.3 too; both are this node's server.
    let own = std::net::TcpListener::bind((address(1), 0)).unwrap();
    rig.port = own.local_addr().unwrap().port();
    let other = std::net::TcpListener::bind((address(3), rig.port)).unwrap();
    for (name, listener) in [("n1", own), ("n3", other)] {
        let addresses = vec![address(1), address(3)];
        rig.server.serve(Endpoint { name: name.into(), listener, addresses, rebind: None }).unwrap();
    }
    rig.write_kubeconfig(
        "kubernetes/admin.conf",
        Login::Certificate(&Identity::admin()),
        "https://127.0.0.9:1",
    );
    rig.settings.local = LocalApi::Certificate;
    rig.settings.port = rig.port;
    let mut ear = rig.start();
    ear.read_at_last(&lock()).await;
    assert_eq!(rig.count(3), 0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    rig.turn(1, |knobs| knobs.reach = Reach::Down);
    ear.read_at_last(&lock()).await;
    assert!(rig.count(3) > 0, "the certificate's address was not tried");
}

#[tokio::test]
async fn the_agent_waits_for_an_api_that_is_not_there_yet() {
    let rig = Rig::with_admin(1);
    rig.server.turn(Whose::All, |knobs| knobs.reach = Reach::Refused);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut ear = rig.start();
    ear.watch(&[&lock()]);
    assert!(ear.sight(&lock(), Duration::from_millis(700)).await.is_none());
    rig.server.turn(Whose::All, |knobs| knobs.reach = Reach::Open);
    let start = std::time::Instant::now();
    assert!(ear.sight(&lock(), LONG).await.is_some());
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
}
