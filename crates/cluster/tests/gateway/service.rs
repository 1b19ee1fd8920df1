//! Services, what stands behind them and the pools in view; what is written to Services; Events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vip_cluster::ClusterEvent;
use vip_lab::api::{Effect, Fault, Identity, Kind, Login, Verb, Whose};
use vip_model::Known;
use vip_model::config::EndpointSource;
use vip_model::service::{Condition, EndpointState, Ingress, ServiceKind, ServiceName};
use vip_model::store::{
    Answer, Ask, EventPost, EventWeight, Expect, FailureClass, Purpose, ServiceStatusWrite, ServiceWatch,
    ServiceWrite, Snapshot, Version, Watches,
};

use crate::rig::{Ear, LONG, Rig, failed, lock, present, write};

fn service(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": {"theirs": "1"}},
        "spec": {"type": kind, "ports": [{"port": 80}], "selector": {"app": name}},
    })
}

fn slice(name: &str, service: &str, family: &str, endpoints: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family, "endpoints": endpoints, "ports": [{"port": 80, "name": "", "protocol": "TCP"}],
    })
}

fn watches(source: EndpointSource) -> Watches {
    Watches {
        services: Some(ServiceWatch { namespace: None, endpoints: source }),
        pools: Some(("kube-system".to_owned(), "kubevip".to_owned())),
        nodes: true,
        ..Watches::default()
    }
}

fn name(name: &str) -> ServiceName {
    ServiceName::new("default", name)
}

/// The first snapshot, from now on, of which `pick` takes something.
async fn snapshot<T>(ear: &mut Ear, pick: impl Fn(&Snapshot) -> Option<T>) -> T {
    let found = ear
        .wait(LONG, |event| match event {
            ClusterEvent::Snapshot(snapshot) => pick(snapshot),
            _ => None,
        })
        .await;
    found.expect("such a snapshot is told")
}

/// Addresses and states of a Service's endpoints, as soon as they are `count`.
async fn endpoints(ear: &mut Ear, service: &str, count: usize) -> Vec<(String, EndpointState)> {
    snapshot(ear, |snapshot| {
        let endpoints = snapshot.endpoints.get()?.get(&name(service)).map_or(&[][..], Vec::as_slice);
        let all = endpoints.iter().map(|endpoint| (endpoint.addr.to_string(), endpoint.state));
        (endpoints.len() == count).then(|| all.collect())
    })
    .await
}

fn stored(rig: &Rig, name: &str) -> Arc<Value> {
    rig.server.store().get(Kind::named("services").expect("a kind"), "default", name).expect("it exists")
}

fn version(rig: &Rig, name: &str) -> Version {
    Version(stored(rig, name)["metadata"]["resourceVersion"].as_str().expect("a version").to_owned())
}

fn count(rig: &Rig, verb: Verb, resource: &str) -> u64 {
    let counts = rig.server.counts();
    counts.iter().filter(|(call, _)| call.verb == verb && call.resource == resource).map(|(_, n)| n).sum()
}

#[tokio::test]
async fn domains_become_known_one_by_one_and_an_absent_config_map_is_no_pools() {
    let rig = Rig::with_admin(1);
    rig.server.store().apply(&service("web", "LoadBalancer")).unwrap();
    let mut ear = rig.start();
    ear.cluster.watch(watches(EndpointSource::Slices));
    let whole = snapshot(&mut ear, |snapshot| {
        let Snapshot { nodes, services, endpoints, pools, .. } = snapshot;
        let known = nodes.is_known() && services.is_known() && endpoints.is_known() && pools.is_known();
        known.then(|| snapshot.clone())
    })
    .await;
    assert_eq!(whole.services.get().unwrap()[&name("web")].kind, ServiceKind::LoadBalancer);
    assert_eq!(whole.pools, Known::Known(Arc::default()));
    let pools = |data: Value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kubevip", "namespace": "kube-system"}, "data": data,
        })
    };
    rig.server.store().apply(&pools(json!({"cidr-global": "10.0.0.0/28"}))).unwrap();
    let cidr = snapshot(&mut ear, |snapshot| snapshot.pools.get()?.get("cidr-global").cloned()).await;
    assert_eq!(cidr, "10.0.0.0/28");
    rig.server.store().delete(Kind::named("configmaps").unwrap(), "kube-system", "kubevip");
    snapshot(&mut ear, |snapshot| snapshot.pools.get()?.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_service_is_seen_when_it_comes_changes_its_type_and_goes() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    ear.cluster.watch(watches(EndpointSource::Slices));
    snapshot(&mut ear, |snapshot| snapshot.services.get()?.is_empty().then_some(())).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    for (kind, wanted) in [("LoadBalancer", ServiceKind::LoadBalancer), ("ClusterIP", ServiceKind::Other)] {
        rig.server.store().apply(&service("web", kind)).unwrap();
        let start = Instant::now();
        snapshot(&mut ear, |snapshot| {
            (snapshot.services.get()?.get(&name("web"))?.kind == wanted).then_some(())
        })
        .await;
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    }
    rig.server.store().delete(Kind::named("services").unwrap(), "default", "web");
    snapshot(&mut ear, |snapshot| snapshot.services.get()?.is_empty().then_some(())).await;
}

#[tokio::test]
async fn only_the_wanted_namespace_is_watched() {
    let rig = Rig::with_admin(1);
    let mut elsewhere = service("other", "LoadBalancer");
    elsewhere["metadata"]["namespace"] = json!("kube-public");
    rig.server.store().apply(&elsewhere).unwrap();
    rig.server.store().apply(&service("web", "LoadBalancer")).unwrap();
    let mut ear = rig.start();
    let mut wanted = watches(EndpointSource::Slices);
    wanted.services.as_mut().unwrap().namespace = Some("default".to_owned());
    ear.cluster.watch(wanted.clone());
    let names = |snapshot: &Snapshot| Some(snapshot.services.get()?.keys().cloned().collect::<Vec<_>>());
    assert_eq!(snapshot(&mut ear, names).await, [name("web")]);
    // All of them from now on: the domain is never unknown in between.
    wanted.services.as_mut().unwrap().namespace = None;
    ear.cluster.watch(wanted);
    let unknown = |snapshot: &Snapshot| (!snapshot.services.is_known()).then_some(());
    let both = snapshot(&mut ear, |snapshot| {
        assert_eq!(unknown(snapshot), None);
        names(snapshot).filter(|names| names.len() == 2)
    })
    .await;
    assert_eq!(both, [name("web"), ServiceName::new("kube-public", "other")]);
}

#[tokio::test]
async fn all_slices_of_a_service_are_merged_and_follow_every_change() {
    use EndpointState::{NotReady, Ready, ServingTerminating};
    let rig = Rig::with_admin(1);
    let store = rig.server.store();
    let ready = |ip: &str| json!({"addresses": [ip], "conditions": {"ready": true}, "nodeName": "n1"});
    store.apply(&slice("web-1", "web", "IPv4", &json!([ready("10.1.0.2"), ready("10.1.0.1")]))).unwrap();
    store.apply(&slice("web-2", "web", "IPv6", &json!([ready("fd00::1")]))).unwrap();
    store.apply(&slice("web-3", "web", "FQDN", &json!([ready("web.example")]))).unwrap();
    let mut ear = rig.start();
    ear.cluster.watch(watches(EndpointSource::Slices));
    let row = |ip: &str, state| (ip.to_owned(), state);
    let both = [row("10.1.0.1", Ready), row("10.1.0.2", Ready), row("fd00::1", Ready)];
    assert_eq!(endpoints(&mut ear, "web", 3).await, both);
    tokio::time::sleep(Duration::from_millis(100)).await;

    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    let more = json!([
        {"addresses": ["10.1.0.3"], "conditions": leaving, "nodeName": "n2"},
        {"addresses": ["10.1.0.4"], "conditions": {"ready": false}},
        ready("10.1.0.1"),
    ]);
    store.apply(&slice("web-4", "web", "IPv4", &more)).unwrap();
    let five = [
        row("10.1.0.1", Ready),
        row("10.1.0.2", Ready),
        row("10.1.0.3", ServingTerminating),
        row("10.1.0.4", NotReady),
        row("fd00::1", Ready),
    ];
    assert_eq!(endpoints(&mut ear, "web", 5).await, five, "an endpoint of two slices counts once");

    // A slice that goes takes its endpoints with it; one that changes hands as well.
    store.delete(Kind::named("endpointslices").unwrap(), "default", "web-1");
    assert_eq!(endpoints(&mut ear, "web", 4).await[0], row("10.1.0.1", Ready));
    store.apply(&slice("web-2", "api", "IPv6", &json!([ready("fd00::1")]))).unwrap();
    assert_eq!(endpoints(&mut ear, "api", 1).await, [row("fd00::1", Ready)]);
    assert_eq!(endpoints(&mut ear, "web", 3).await.len(), 3);
    let mut orphan = slice("web-2", "api", "IPv6", &json!([ready("fd00::1")]));
    orphan["metadata"]["labels"] = json!({});
    store.apply(&orphan).unwrap();
    endpoints(&mut ear, "api", 0).await;
}

#[tokio::test]
async fn what_is_known_of_the_services_is_dated_by_services_and_by_no_slice() {
    let rig = Rig::with_admin(1);
    let store = rig.server.store();
    let slice = |ip: &str| slice("web-1", "web", "IPv4", &json!([{"addresses": [ip]}]));
    let stored = |kind: &str, name: &str| {
        let object = store.get(Kind::named(kind).expect("a kind"), "default", name).expect("it exists");
        Version(object["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()).revision()
    };
    store.apply(&service("web", "LoadBalancer")).unwrap();
    store.apply(&slice("10.1.0.1")).unwrap();
    let mut ear = rig.start();
    ear.cluster.watch(watches(EndpointSource::Slices));
    let seen =
        |snapshot: &Snapshot| Some((snapshot.services_at.revision()?, snapshot.services.get()?.clone()));
    let listed = snapshot(&mut ear, |snapshot| seen(snapshot).map(|(at, _)| at)).await;
    assert!(Some(listed) >= stored("services", "web"), "a list tells everything up to its own version");
    endpoints(&mut ear, "web", 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;

    // A slice of a later version says nothing about Services, which its watch may have overtaken.
    store.apply(&slice("10.1.0.2")).unwrap();
    let slice_at = stored("endpointslices", "web-1").expect("a number");
    assert!(slice_at > listed);
    let at = snapshot(&mut ear, |snapshot| {
        let found = &snapshot.endpoints.get()?.get(&name("web"))?[0];
        (found.addr.to_string() == "10.1.0.2").then(|| snapshot.services_at.revision())
    });
    assert_eq!(at.await, Some(listed), "dated by a slice");

    // A Service of a later version does, and so does its end, which has a version of its own.
    store.apply(&service("web", "ClusterIP")).unwrap();
    let changed = stored("services", "web");
    assert!(changed > Some(slice_at));
    snapshot(&mut ear, |snapshot| (snapshot.services_at.revision() == changed).then_some(())).await;
    store.delete(Kind::named("endpointslices").unwrap(), "default", "web-1");
    let at = snapshot(&mut ear, |snapshot| {
        snapshot.endpoints.get()?.is_empty().then(|| snapshot.services_at.revision())
    });
    assert_eq!(at.await, changed, "dated by the end of a slice");
    store.delete(Kind::named("services").unwrap(), "default", "web");
    let gone =
        snapshot(&mut ear, |snapshot| seen(snapshot).filter(|(_, all)| all.is_empty()).map(|(at, _)| at));
    assert!(Some(gone.await) > changed, "dated by the last change before the end");
}

#[tokio::test]
async fn endpoints_objects_are_read_when_they_are_wanted_instead() {
    let rig = Rig::with_admin(1);
    let object = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web", "namespace": "default"},
        "subsets": [{
            "addresses": [{"ip": "10.1.0.1", "nodeName": "n1"}], "notReadyAddresses": [{"ip": "10.1.0.2"}],
            "ports": [{"port": 80}],
        }],
    });
    rig.server.store().apply(&object).unwrap();
    rig.server.store().apply(&slice("web-1", "web", "IPv4", &json!([{"addresses": ["10.1.0.9"]}]))).unwrap();
    let mut ear = rig.start();
    ear.cluster.watch(watches(EndpointSource::Endpoints));
    let wanted =
        [("10.1.0.1".to_owned(), EndpointState::Ready), ("10.1.0.2".to_owned(), EndpointState::NotReady)];
    assert_eq!(endpoints(&mut ear, "web", 2).await, wanted);
    assert_eq!(count(&rig, Verb::Watch, "endpointslices"), 0);
    // The other way of reading takes over without a gap.
    ear.cluster.watch(watches(EndpointSource::Slices));
    let wanted = [("10.1.0.9".to_owned(), EndpointState::Ready)];
    assert_eq!(endpoints(&mut ear, "web", 1).await, wanted);
}

const READER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: vip}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [list, get, watch, update, create]}
- {apiGroups: [''], resources: [services, nodes], verbs: [list, get, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: vip}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: vip}
subjects: [{kind: User, name: vip, apiGroup: rbac.authorization.k8s.io}]
";

/// With a user that may read Services and Nodes and elect, and nothing else.
fn reader() -> Rig {
    let rig = Rig::new(1);
    let who = Identity::new("vip", &[]);
    rig.write_kubeconfig("kubernetes/admin.conf", Login::Certificate(&who), &rig.url(1));
    rig.server.store().apply_yaml(READER).expect("the store takes it");
    rig.server.store().apply(&service("web", "LoadBalancer")).expect("the store takes it");
    rig
}

fn missing(events: &[ClusterEvent]) -> Vec<(&'static str, &'static str)> {
    let mut missing: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            ClusterEvent::MissingRight { verb, resource } => Some((*verb, *resource)),
            _ => None,
        })
        .collect();
    missing.sort_unstable();
    missing
}

#[tokio::test]
async fn a_domain_without_rights_stays_unknown_and_the_others_do_not_mind() {
    let rig = reader();
    let mut ear = rig.start();
    ear.cluster.watch(watches(EndpointSource::Slices));
    snapshot(&mut ear, |snapshot| (snapshot.services.is_known() && snapshot.nodes.is_known()).then_some(()))
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.server.store().apply(&service("more", "LoadBalancer")).unwrap();
    let last = snapshot(&mut ear, |snapshot| {
        snapshot.services.get()?.contains_key(&name("more")).then(|| snapshot.clone())
    })
    .await;
    assert!(!last.endpoints.is_known() && !last.pools.is_known());
    let events = ear.rest();
    // The roster of API servers asks for slices, too, and falls back to Endpoints.
    let slices = "endpointslices.discovery.k8s.io";
    assert_eq!(missing(&events), [("get", "endpoints"), ("list", "configmaps"), ("list", slices)]);
    let trouble = events.iter().any(|event| matches!(event, ClusterEvent::Trouble(_)));
    assert!(!trouble, "an election does not need them");
    let tries = count(&rig, Verb::List, "endpointslices") + count(&rig, Verb::List, "configmaps");
    assert!(tries <= 4, "{tries} tries in a second");
}

#[tokio::test]
async fn rights_to_write_that_are_missing_are_told_once_and_every_question_is_answered() {
    let rig = reader();
    let mut ear = rig.start();
    for _ in 0..3 {
        for ask in [
            Ask::WriteService(annotate(&rig, "web", Some("n1"))),
            Ask::WriteServiceStatus(status(&rig, "web", "10.0.0.5")),
            Ask::PostEvent(post("web")),
        ] {
            assert_eq!(failed(ear.ask(ask).await).class, FailureClass::Forbidden);
        }
    }
    let wanted = [("create", "events"), ("update", "services"), ("update", "services/status")];
    let writes = |(verb, _): &(&str, &str)| ["create", "update"].contains(verb);
    assert_eq!(missing(&ear.rest()).into_iter().filter(writes).collect::<Vec<_>>(), wanted);
}

fn annotate(rig: &Rig, service: &str, host: Option<&str>) -> ServiceWrite {
    ServiceWrite {
        service: name(service),
        expect: version(rig, service),
        annotations: BTreeMap::from([("kube-vip.io/vipHost".to_owned(), host.map(str::to_owned))]),
        labels: BTreeMap::new(),
        spec_ip: None,
    }
}

fn status(rig: &Rig, service: &str, ip: &str) -> ServiceStatusWrite {
    let condition = Condition {
        status: "True".to_owned(),
        reason: "Announced".to_owned(),
        message: "n1 answers".to_owned(),
    };
    ServiceStatusWrite {
        service: name(service),
        expect: version(rig, service),
        ingress: vec![Ingress {
            ip: Some(ip.parse().expect("an address")),
            hostname: None,
            mode: Some("VIP".to_owned()),
            ports: vec![],
        }],
        conditions: BTreeMap::from([("kube-vip.io/Ready".to_owned(), Some(condition))]),
    }
}

fn post(service: &str) -> EventPost {
    EventPost {
        service: name(service),
        uid: "u-1".to_owned(),
        weight: EventWeight::Warning,
        reason: "NoAddress".to_owned(),
        message: "é".repeat(900),
        count: 1,
    }
}

#[tokio::test]
async fn a_service_is_annotated_with_what_upstreams_role_allows() {
    let rig = Rig::with_admin(1);
    rig.server.store().apply(&service("web", "LoadBalancer")).unwrap();
    let mut ear = rig.start();
    let mut first = annotate(&rig, "web", Some("n1"));
    first.spec_ip = Some("10.0.0.5".to_owned());
    assert_eq!(ear.ask(Ask::WriteService(first)).await, Answer::Done);
    let now = stored(&rig, "web");
    assert_eq!(now["metadata"]["annotations"], json!({"theirs": "1", "kube-vip.io/vipHost": "n1"}));
    assert_eq!(now["spec"]["loadBalancerIP"], "10.0.0.5");
    assert_eq!(now["spec"]["selector"], json!({"app": "web"}));
    let before = version(&rig, "web");
    assert_eq!(ear.ask(Ask::WriteService(annotate(&rig, "web", Some("n1")))).await, Answer::Done);
    assert_eq!(version(&rig, "web"), before, "what is so is not written again");
    assert_eq!(ear.ask(Ask::WriteService(annotate(&rig, "web", None))).await, Answer::Done);
    assert_eq!(stored(&rig, "web")["metadata"]["annotations"], json!({"theirs": "1"}));
    assert_eq!(count(&rig, Verb::Patch, "services"), 0);
    assert_eq!(count(&rig, Verb::Update, "services"), 2);
}

#[tokio::test]
async fn a_status_is_replaced_and_what_others_wrote_there_stays() {
    let rig = Rig::with_admin(1);
    let mut object = service("web", "LoadBalancer");
    let foreign = json!({
        "type": "Foreign", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2020-01-01T00:00:00Z",
    });
    object["status"] = json!({"loadBalancer": {}, "conditions": [foreign]});
    rig.server.store().apply(&object).unwrap();
    let mut ear = rig.start();
    assert_eq!(ear.ask(Ask::WriteServiceStatus(status(&rig, "web", "fd00::5"))).await, Answer::Done);
    let now = stored(&rig, "web");
    assert_eq!(now["status"]["loadBalancer"]["ingress"], json!([{"ip": "fd00::5", "ipMode": "VIP"}]));
    assert_eq!(now["status"]["conditions"][0], foreign);
    assert_eq!(now["status"]["conditions"][1]["reason"], "Announced");
    assert_eq!(now["metadata"]["annotations"]["theirs"], "1");
    let since = now["status"]["conditions"][1]["lastTransitionTime"].clone();
    assert!(since.as_str().is_some_and(|since| since.len() == 20 && since.ends_with('Z')), "{since}");

    let before = version(&rig, "web");
    assert_eq!(ear.ask(Ask::WriteServiceStatus(status(&rig, "web", "fd00::5"))).await, Answer::Done);
    assert_eq!(version(&rig, "web"), before, "what is so is not written again");
}

#[tokio::test]
async fn a_version_that_is_gone_and_a_service_that_is_gone_are_conflicts() {
    let rig = Rig::with_admin(1);
    rig.server.store().apply(&service("web", "LoadBalancer")).unwrap();
    let mut ear = rig.start();
    let late = status(&rig, "web", "10.0.0.5");
    let late_too = annotate(&rig, "web", Some("n1"));
    let mut changed = service("web", "LoadBalancer");
    changed["metadata"]["annotations"] = json!({"theirs": "2"});
    rig.server.store().apply(&changed).unwrap();
    let before = version(&rig, "web");
    assert_eq!(ear.ask(Ask::WriteServiceStatus(late.clone())).await, Answer::Conflict);
    assert_eq!(ear.ask(Ask::WriteService(late_too.clone())).await, Answer::Conflict);
    assert_eq!(version(&rig, "web"), before);
    rig.server.store().delete(Kind::named("services").unwrap(), "default", "web");
    assert_eq!(ear.ask(Ask::WriteServiceStatus(late)).await, Answer::Conflict);
    assert_eq!(ear.ask(Ask::WriteService(late_too)).await, Answer::Conflict);
    assert_eq!(count(&rig, Verb::Update, "services") + count(&rig, Verb::Update, "services/status"), 0);
}

#[tokio::test]
async fn a_write_that_was_done_and_never_answered_is_done() {
    let rig = Rig::with_admin(2);
    rig.server.store().apply(&service("web", "LoadBalancer")).unwrap();
    rig.seed_servers(&[1, 2]);
    let mut ear = rig.start();
    ear.read_at_last(&lock()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    rig.turn(1, |knobs| knobs.faults = vec![Fault::on(Verb::Update, "services/status", Effect::HangAfter)]);
    let answer = ear.ask(Ask::WriteServiceStatus(status(&rig, "web", "10.0.0.5"))).await;
    assert_eq!(answer, Answer::Done);
    assert_eq!(stored(&rig, "web")["status"]["loadBalancer"]["ingress"][0]["ip"], "10.0.0.5");
}

#[tokio::test]
async fn an_event_says_who_what_and_when() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    assert_eq!(ear.ask(Ask::PostEvent(post("web"))).await, Answer::Done);
    let events = rig.server.store().list(Kind::named("events").unwrap());
    assert_eq!(events.len(), 1);
    let event = &events[0];
    let hex =
        event["metadata"]["name"].as_str().unwrap().strip_prefix("web.").expect("begins with its Service");
    assert!(hex.len() == 16 && u64::from_str_radix(hex, 16).is_ok(), "{hex}");
    assert_eq!(event["metadata"]["namespace"], "default");
    let about =
        json!({"apiVersion": "v1", "kind": "Service", "namespace": "default", "name": "web", "uid": "u-1"});
    assert_eq!(event["involvedObject"], about);
    assert_eq!(event["source"], json!({"component": "kube-vip", "host": "n1"}));
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("NoAddress")));
    assert_eq!((&event["count"], &event["firstTimestamp"]), (&json!(1), &event["lastTimestamp"]));
    assert_eq!(event["message"].as_str().unwrap().len(), 1024, "cut between characters");
}

#[tokio::test]
async fn an_event_that_is_told_again_is_brought_up_to_date_and_another_one_stands_beside_it() {
    let rig = Rig::with_admin(1);
    let mut ear = rig.start();
    let kind = Kind::named("events").unwrap();
    let told = |rig: &Rig| -> Vec<i64> {
        let mut all: Vec<_> =
            rig.server.store().list(kind).iter().filter_map(|event| event["count"].as_i64()).collect();
        all.sort_unstable();
        all
    };
    let again = |count| EventPost { count, ..post("web") };
    for count in [1, 2, 7] {
        assert_eq!(ear.ask(Ask::PostEvent(again(count))).await, Answer::Done);
        assert_eq!(told(&rig), [i64::from(count)]);
    }
    // The next life of the agent does not know how often it was.
    assert_eq!(ear.ask(Ask::PostEvent(again(1))).await, Answer::Done);
    assert_eq!(told(&rig), [7]);
    let others = [
        EventPost { uid: "u-2".to_owned(), ..post("web") },
        EventPost { reason: "Moved".to_owned(), ..post("web") },
        EventPost { message: "another".to_owned(), ..post("web") },
        EventPost { weight: EventWeight::Normal, ..post("web") },
        post("db"),
    ];
    for other in others {
        assert_eq!(ear.ask(Ask::PostEvent(other)).await, Answer::Done);
    }
    assert_eq!(told(&rig), [1, 1, 1, 1, 1, 7]);
    // The API has forgotten them.
    for event in rig.server.store().list(kind) {
        rig.server.store().delete(kind, "default", event["metadata"]["name"].as_str().unwrap());
    }
    assert_eq!(ear.ask(Ask::PostEvent(again(8))).await, Answer::Done);
    assert_eq!(told(&rig), [8]);
}

#[tokio::test]
async fn writes_that_hang_delay_no_renewal_and_events_delay_no_status() {
    let rig = Rig::with_admin(1);
    rig.server.store().apply(&service("web", "LoadBalancer")).unwrap();
    rig.server.store().apply(&service("slow", "LoadBalancer")).unwrap();
    let mut ear = rig.start();
    let (mut last, _) = present(ear.write(write(&lock(), Expect::Absent, Purpose::Take)).await);
    rig.server.turn(Whose::All, |knobs| {
        knobs.faults = vec![
            Fault::on(Verb::Create, "events", Effect::Hang),
            Fault::on(Verb::Update, "services", Effect::Hang),
        ];
    });
    for _ in 0..100 {
        ear.ask_only(Ask::PostEvent(post("web")), LONG);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let ask = Ask::WriteServiceStatus(status(&rig, "web", "10.0.0.5"));
    let (answer, took) = ear.ask_timed(ask, LONG).await;
    assert_eq!(answer, Answer::Done);
    assert!(took < Duration::from_millis(300), "a status behind 100 Events took {took:?}");

    for _ in 0..100 {
        ear.ask_only(Ask::WriteService(annotate(&rig, "slow", Some("n1"))), LONG);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..5 {
        let renew = write(&lock(), Expect::Version(last.clone()), Purpose::Renew);
        let (answer, took) = ear.ask_timed(Ask::WriteLease(renew), LONG).await;
        last = present(answer).0;
        assert!(took < Duration::from_millis(200), "a renewal behind 100 writes took {took:?}");
    }
    let sent = count(&rig, Verb::Get, "services");
    assert!(sent <= 52, "{sent} writes began, 50 may be in flight");
}
