//! The faults of the small API server, seen from a client: every knob does what its documentation says, and undoing it
//! heals what it says it heals.

#[path = "contract/client.rs"]
mod client;

use client::{Client, Question, read};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use vip_lab::api::{
    Call, Effect, Endpoint, Failure, Fault, Health, Identity, Kind, Knobs, Login, Reach, Rebind, Server,
    Verb, Watches, Whose,
};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

/// Longer than any answer on a busy machine takes, shorter than patience.
const SILENCE: Duration = Duration::from_millis(400);

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(5);

const N1: Whose<'static> = Whose::Endpoint("n1");

/// A server with the endpoints n1 and n2, and a client of each.
struct Bench {
    server: Server,
    n1: Client,
    n2: Client,
    address: SocketAddr,
}

impl Bench {
    fn new() -> Self {
        let server = Server::new().expect("a server can be made");
        let users = BTreeMap::from([("admin", Identity::admin()), ("bob", Identity::new("bob", &[]))]);
        let open = |name: &str| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
            let address = listener.local_addr().expect("a bound listener has an address");
            let addresses = vec![address.ip()];
            server.serve(Endpoint { name: name.into(), listener, addresses, rebind: None }).expect("served");
            (Client::new(address, server.credentials(), &users), address)
        };
        let ((n1, address), (n2, _)) = (open("n1"), open("n2"));
        Self { server, n1, n2, address }
    }

    fn turn(&self, turn: impl FnOnce(&mut Knobs)) {
        assert!(self.server.turn(N1, turn), "n1 is an endpoint");
    }

    fn put_lease(&self, name: &str) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"holderIdentity": name},
        });
        self.server.store().apply(&lease).expect("a lease can be applied");
    }

    async fn watch(&self) -> Response<Incoming> {
        let path = format!("{LEASES}?watch=1&resourceVersion={}", self.server.store().version());
        self.n1.ask(&get(&path)).await.expect("a watch opens")
    }
}

fn get(path: &str) -> Question<'_> {
    ask("GET", path, String::new())
}

fn ask<'a>(method: &'a str, path: &'a str, body: String) -> Question<'a> {
    Question { who: "admin", method, path, content_type: "application/json", body }
}

/// The name in the next event, none at the end of the watch, an error when it is silent.
async fn next_name(watch: &mut Response<Incoming>, patience: Duration) -> Result<Option<String>, ()> {
    let Ok(frame) = tokio::time::timeout(patience, watch.body_mut().frame()).await else { return Err(()) };
    let Some(frame) = frame else { return Ok(None) };
    let line = frame.expect("the watch is whole").into_data().expect("watches have no trailers");
    let event: Value = serde_json::from_slice(&line).expect("an event is JSON");
    Ok(event["object"]["metadata"]["name"].as_str().map(str::to_owned))
}

async fn code(client: &Client, path: &str) -> Result<u16, String> {
    match tokio::time::timeout(SILENCE, client.get(path)).await {
        Ok(answer) => answer.map(|(code, _)| code),
        Err(_) => Err("silence".to_owned()),
    }
}

/// Waits for a knob to take effect on the accept loop.
async fn until_code(client: &Client, path: &str, wanted: u16) {
    let ends = tokio::time::Instant::now() + PATIENCE;
    while code(client, path).await != Ok(wanted) {
        assert!(tokio::time::Instant::now() < ends, "{path} never answers {wanted}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn latency_delays_answers_and_adds_up() {
    let bench = Bench::new();
    bench.turn(|knobs| knobs.latency = Duration::from_millis(60));
    bench.server.turn(Whose::All, |knobs| knobs.latency = Duration::from_millis(60));
    let began = std::time::Instant::now();
    assert_eq!(code(&bench.n1, LEASES).await, Ok(200));
    assert!(began.elapsed() >= Duration::from_millis(120), "both delays count: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_fault_hits_its_verb_its_resource_and_its_endpoint_only() {
    let bench = Bench::new();
    let fault = Fault::on(Verb::List, "leases", Effect::Fail(Failure::etcd_timeout()));
    bench.turn(|knobs| knobs.faults = vec![fault]);
    let (code_seen, text) = bench.n1.get(LEASES).await.expect("an answer");
    assert_eq!(code_seen, 500);
    assert!(text.contains("etcdserver: request timed out"), "{text}");
    assert_eq!(code(&bench.n1, "/api/v1/nodes").await, Ok(200), "another resource");
    assert_eq!(code(&bench.n1, &format!("{LEASES}/x")).await, Ok(404), "another verb");
    assert_eq!(code(&bench.n2, LEASES).await, Ok(200), "another endpoint");
    bench.turn(|knobs| *knobs = Knobs::default());
    assert_eq!(code(&bench.n1, LEASES).await, Ok(200), "healed");
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_write() {
    let bench = Bench::new();
    for (name, effect) in [("a", Effect::HangAfter), ("b", Effect::FailAfter(Failure::etcd_timeout()))] {
        bench.turn(|knobs| knobs.faults = vec![Fault::on(Verb::Create, "leases", effect)]);
        let body = json!({"metadata": {"name": name}}).to_string();
        let question = ask("POST", LEASES, body);
        let answer = tokio::time::timeout(SILENCE, bench.n1.ask(&question)).await;
        if let Ok(answer) = answer {
            assert_eq!(answer.expect("an answer").status().as_u16(), 500);
        }
        let leases = Kind::named("leases").expect("leases are in the table");
        assert!(bench.server.store().get(leases, "default", name).is_some(), "{name} was written");
    }
}

#[tokio::test]
async fn a_hanging_request_writes_nothing() {
    let bench = Bench::new();
    bench.turn(|knobs| knobs.faults = vec![Fault::all(Effect::Hang)]);
    let question = ask("POST", LEASES, json!({"metadata": {"name": "a"}}).to_string());
    assert!(tokio::time::timeout(SILENCE, bench.n1.ask(&question)).await.is_err(), "no answer");
    let leases = Kind::named("leases").expect("leases are in the table");
    assert!(bench.server.store().get(leases, "default", "a").is_none());
}

#[tokio::test]
async fn a_refused_endpoint_refuses_new_connections_and_keeps_open_ones() {
    let bench = Bench::new();
    let mut watch = bench.watch().await;
    bench.turn(|knobs| knobs.reach = Reach::Refused);
    let ends = tokio::time::Instant::now() + PATIENCE;
    loop {
        match tokio::net::TcpStream::connect(bench.address).await {
            Err(err) if err.kind() == std::io::ErrorKind::ConnectionRefused => break,
            _ => assert!(tokio::time::Instant::now() < ends, "the listener stays open"),
        }
    }
    bench.put_lease("a");
    assert_eq!(next_name(&mut watch, PATIENCE).await, Ok(Some("a".into())), "the open watch goes on");
    bench.turn(|knobs| knobs.reach = Reach::Open);
    until_code(&bench.n1, LEASES, 200).await;
}

#[tokio::test]
async fn a_dead_endpoint_closes_everything_and_comes_back_on_its_address() {
    let bench = Bench::new();
    let mut watch = bench.watch().await;
    bench.turn(|knobs| knobs.reach = Reach::Down);
    let ended = tokio::time::timeout(PATIENCE, watch.body_mut().frame()).await.expect("the end is seen");
    assert!(!matches!(ended, Some(Ok(_))), "no event, but the end");
    assert!(code(&bench.n1, LEASES).await.is_err(), "nobody listens");
    assert_eq!(code(&bench.n2, LEASES).await, Ok(200), "the other endpoint lives");
    bench.turn(|knobs| knobs.reach = Reach::Open);
    until_code(&bench.n1, LEASES, 200).await;
}

#[tokio::test]
async fn a_rebind_closure_opens_the_listener_again_and_a_stopped_server_is_gone() {
    let server = Server::new().expect("a server can be made");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("a bound listener has an address");
    let opened = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&opened);
    let rebind: Rebind = Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        std::net::TcpListener::bind(address)
    });
    let addresses = vec![address.ip()];
    let endpoint = Endpoint { name: "n1".into(), listener, addresses, rebind: Some(rebind) };
    server.serve(endpoint).expect("the endpoint can be served");
    let client = Client::new(address, server.credentials(), &BTreeMap::from([("admin", Identity::admin())]));
    assert_eq!(code(&client, LEASES).await, Ok(200));
    assert_eq!(opened.load(Ordering::SeqCst), 0, "the first listener was handed over");
    server.turn(Whose::All, |knobs| knobs.reach = Reach::Down);
    let ends = tokio::time::Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < ends, "the listener stays open");
    }
    server.turn(Whose::All, |knobs| knobs.reach = Reach::Open);
    until_code(&client, LEASES, 200).await;
    assert_eq!(opened.load(Ordering::SeqCst), 1);
    server.stop();
    let ends = tokio::time::Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < ends, "the listener stays open");
    }
    assert_eq!(server.not_implemented(), Vec::<String>::new());
}

#[tokio::test]
async fn a_frozen_endpoint_goes_on_where_it_stood() {
    let bench = Bench::new();
    let mut watch = bench.watch().await;
    bench.turn(|knobs| knobs.reach = Reach::Frozen);
    assert_eq!(code(&bench.n1, LEASES).await, Err("silence".into()), "connected, not answered");
    bench.put_lease("a");
    assert_eq!(next_name(&mut watch, SILENCE).await, Err(()), "the watch is silent");
    bench.turn(|knobs| knobs.reach = Reach::Open);
    assert_eq!(next_name(&mut watch, PATIENCE).await, Ok(Some("a".into())), "what was missed comes");
}

#[tokio::test]
async fn a_cut_connection_stays_dead_after_the_heal() {
    let bench = Bench::new();
    let mut watch = bench.watch().await;
    bench.turn(|knobs| knobs.reach = Reach::Cut);
    assert_eq!(code(&bench.n1, LEASES).await, Err("silence".into()), "new ones are not answered");
    bench.turn(|knobs| knobs.reach = Reach::Open);
    until_code(&bench.n1, LEASES, 200).await;
    bench.put_lease("a");
    assert_eq!(
        next_name(&mut watch, SILENCE).await,
        Err(()),
        "the old watch hears nothing, not even its end"
    );
}

#[tokio::test]
async fn watches_freeze_and_thaw_without_loss() {
    let bench = Bench::new();
    let mut watch = bench.watch().await;
    bench.turn(|knobs| knobs.watches = Watches::Frozen);
    bench.put_lease("a");
    assert_eq!(next_name(&mut watch, SILENCE).await, Err(()), "silence");
    assert_eq!(code(&bench.n1, LEASES).await, Ok(200), "requests are answered");
    bench.turn(|knobs| knobs.watches = Watches::Flowing);
    assert_eq!(next_name(&mut watch, PATIENCE).await, Ok(Some("a".into())));
}

#[tokio::test]
async fn dropped_watches_end_and_open_again() {
    let bench = Bench::new();
    let mut watch = bench.watch().await;
    bench.server.drop_watches(N1);
    assert_eq!(next_name(&mut watch, PATIENCE).await, Ok(None), "it ends in good order");
    let mut again = bench.watch().await;
    bench.put_lease("a");
    assert_eq!(next_name(&mut again, PATIENCE).await, Ok(Some("a".into())));
}

#[tokio::test]
async fn a_compacted_watch_gets_its_error_and_a_continued_list_is_gone() {
    let bench = Bench::new();
    bench.put_lease("a");
    bench.put_lease("b");
    let (_, page) = bench.n1.get(&format!("{LEASES}?limit=1")).await.expect("a page");
    let page: Value = serde_json::from_str(&page).expect("a list is JSON");
    let token = page["metadata"]["continue"].as_str().expect("there is more");
    let old = bench.server.store().version() - 1;
    bench.put_lease("c");
    bench.server.store().compact();
    assert_eq!(code(&bench.n1, &format!("{LEASES}?limit=1&continue={token}")).await, Ok(410));
    let (_, text) =
        bench.n1.get(&format!("{LEASES}?watch=1&resourceVersion={old}")).await.expect("a watch that ends");
    let event: Value = serde_json::from_str(&text).expect("one event");
    assert_eq!((&event["type"], &event["object"]["reason"]), (&json!("ERROR"), &json!("Expired")));
}

#[tokio::test]
async fn health_shows_what_the_knob_says() {
    let bench = Bench::new();
    bench.turn(|knobs| knobs.health = Health::EtcdRed);
    assert_eq!(code(&bench.n1, "/readyz").await, Ok(500));
    assert_eq!(
        code(&bench.n1, "/readyz?exclude=etcd").await,
        Ok(500),
        "etcd-readiness is a check of its own"
    );
    assert_eq!(code(&bench.n1, "/readyz?exclude=etcd&exclude=etcd-readiness").await, Ok(200));
    assert_eq!(code(&bench.n1, "/livez?exclude=etcd").await, Ok(200));
    assert_eq!(code(&bench.n2, "/readyz").await, Ok(200), "the other endpoint is green");
    bench.turn(|knobs| knobs.health = Health::Red);
    assert_eq!(code(&bench.n1, "/readyz?exclude=etcd&exclude=etcd-readiness").await, Ok(500));
}

#[tokio::test]
async fn a_dead_etcd_holds_requests_and_shows_red() {
    let bench = Bench::new();
    let mut watch = bench.watch().await;
    bench.turn(|knobs| *knobs = Knobs::dead_etcd());
    assert_eq!(code(&bench.n1, LEASES).await, Err("silence".into()), "for a minute");
    assert_eq!(code(&bench.n1, "/readyz").await, Ok(500), "health is answered, and red");
    assert_eq!(code(&bench.n1, "/livez?exclude=etcd").await, Ok(200));
    assert_eq!(code(&bench.n1, "/version").await, Ok(200));
    assert_eq!(next_name(&mut watch, SILENCE).await, Err(()), "the watch stays open");
    let soon = Effect::TimeOut(Duration::from_millis(20));
    bench.turn(|knobs| knobs.faults = vec![Fault::on(Verb::List, "leases", soon)]);
    assert_eq!(code(&bench.n1, LEASES).await, Ok(504));
}

#[tokio::test]
async fn requests_are_counted_by_endpoint_user_verb_and_resource() {
    let bench = Bench::new();
    bench.server.reset_counts();
    for _ in 0..3 {
        assert_eq!(code(&bench.n1, LEASES).await, Ok(200));
    }
    let bob = Question { who: "bob", ..get("/api/v1/nodes/x/status") };
    let (refused, _) = read(bench.n2.ask(&bob).await.expect("an answer")).await.expect("a text");
    assert_eq!(refused, 403);
    let call = |endpoint: &str, user: &str, verb, resource: &str| Call {
        endpoint: endpoint.into(),
        user: user.into(),
        verb,
        resource: resource.into(),
    };
    let wanted = BTreeMap::from([
        (call("n1", "kubernetes-admin", Verb::List, "leases"), 3),
        (call("n2", "bob", Verb::Get, "nodes/status"), 1),
    ]);
    assert_eq!(bench.server.counts(), wanted);
}

#[tokio::test]
async fn what_is_not_built_answers_501_and_is_recorded() {
    let bench = Bench::new();
    assert_eq!(bench.server.not_implemented(), Vec::<String>::new());
    assert_eq!(code(&bench.n1, "/apis/apps/v1/deployments").await, Ok(501));
    let missing = bench.server.not_implemented();
    assert!(matches!(missing.as_slice(), [one] if one.contains("deployments")), "{missing:?}");
}

#[tokio::test]
async fn a_revoked_token_is_unauthorized() {
    let bench = Bench::new();
    let credentials = bench.server.credentials();
    let token = credentials.service_account_token("kube-system", "kube-vip");
    let client = Client::with_tokens(bench.address, credentials, BTreeMap::from([("sa", token.clone())]));
    let question = Question { who: "sa", ..get(LEASES) };
    let (refused, text) = read(client.ask(&question).await.expect("an answer")).await.expect("a text");
    assert_eq!(refused, 403);
    assert!(text.contains("system:serviceaccount:kube-system:kube-vip"), "{text}");
    credentials.revoke(&token);
    assert_eq!(client.ask(&question).await.expect("an answer").status().as_u16(), 401);
}

#[tokio::test]
async fn seeds_are_objects_like_any_other() {
    let bench = Bench::new();
    let store = bench.server.store();
    let servers = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().expect("an address"));
    store.seed_kubernetes_service("10.96.0.1".parse().expect("an address"), &servers, 6443).expect("a seed");
    let (_, text) = bench.n1.get("/api/v1/namespaces/default/endpoints/kubernetes").await.expect("an answer");
    let endpoints: Value = serde_json::from_str(&text).expect("an object is JSON");
    assert_eq!(endpoints["subsets"][0]["addresses"], json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]));
    let yaml = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.1}]}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: kube-system}\n";
    store.apply_yaml(yaml).expect("two documents");
    let (_, text) = bench.n1.get("/api/v1/nodes/n1").await.expect("an answer");
    assert!(text.contains("10.0.0.1"), "the status is applied too: {text}");
    assert_eq!(code(&bench.n1, "/api/v1/namespaces/kube-system/configmaps/c").await, Ok(200));
    let unknown = store.apply(&json!({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "x"}}));
    assert!(unknown.is_err_and(|err| err.to_string().contains("Gadget")));
}

#[tokio::test]
async fn a_kubeconfig_names_the_server_and_the_user() {
    let bench = Bench::new();
    let credentials = bench.server.credentials();
    let url = format!("https://{}", bench.address);
    let by_token = credentials.kubeconfig(Login::Token("t0k3n"), &url).expect("a text");
    let config: Value = serde_saphyr::from_str(&by_token).expect("YAML");
    assert_eq!(config["clusters"][0]["cluster"]["server"], json!(url));
    assert_eq!(config["users"][0]["user"]["token"], json!("t0k3n"));
    let by_certificate =
        credentials.kubeconfig(Login::Certificate(&Identity::admin()), &url).expect("a text");
    let config: Value = serde_saphyr::from_str(&by_certificate).expect("YAML");
    assert!(config["users"][0]["user"]["client-key-data"].is_string());
}
