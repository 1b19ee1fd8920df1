//! One API server with endpoints on loopback addresses, files as a node has them, and a gateway that talks to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use vip_cluster::{ApiSettings, Cluster, ClusterEvent, LocalApi};
use vip_lab::api::{Credentials, Endpoint, Identity, Kind, Knobs, Login, Server, Whose};
use vip_model::store::{
    Acquired, Answer, Ask, Expect, Failure, LeaseRecord, LeaseSeen, LeaseWrite, Purpose, Question, Sight,
    Version, Watches,
};
use vip_model::{LeaseName, NodeName, QuestionId};

/// Long enough for anything that should work.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// An API server and the files of one node.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) port: u16,
    pub(crate) files: TempDir,
    pub(crate) settings: ApiSettings,
}

/// The address of endpoint `n<number>`.
pub(crate) fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, number).into()
}

/// What a gateway is told of the files in `root`.
pub(crate) fn settings(root: &Path, port: u16) -> ApiSettings {
    ApiSettings {
        kubeconfig: root.join("kubernetes/admin.conf"),
        kubernetes_dir: root.join("kubernetes"),
        home: Some(root.join("home")),
        service_account: root.join("sa"),
        service: None,
        server: None,
        local: LocalApi::NotOurs,
        port,
        node: NodeName::new("n1"),
        vips: BTreeSet::new(),
        traits: BTreeSet::new(),
    }
}

impl Rig {
    /// With endpoints `n1` (127.0.0.1) … `n<count>`, all on one port, and no files yet.
    pub(crate) fn new(count: u8) -> Self {
        let server = Server::new().expect("the rig is set up");
        let mut port = 0;
        for number in 1..=count {
            let listener = TcpListener::bind((address(number), port)).expect("the rig is set up");
            port = listener.local_addr().expect("the rig is set up").port();
            let addresses = vec![address(number)];
            let endpoint = Endpoint { name: format!("n{number}"), listener, addresses, rebind: None };
            server.serve(endpoint).expect("the rig is set up");
        }
        let files = TempDir::new().expect("the rig is set up");
        let root = files.path().to_owned();
        for folder in ["kubernetes", "sa", "home/.kube"] {
            std::fs::create_dir_all(root.join(folder)).expect("the rig is set up");
        }
        let settings = settings(&root, port);
        Self { server, port, files, settings }
    }

    /// With an `admin.conf` that names `n1`.
    pub(crate) fn with_admin(count: u8) -> Self {
        let rig = Self::new(count);
        rig.write_kubeconfig("kubernetes/admin.conf", Login::Certificate(&Identity::admin()), &rig.url(1));
        rig
    }

    pub(crate) fn url(&self, number: u8) -> String {
        format!("https://{}:{}", address(number), self.port)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Writes a file as a rename, as kubeadm and kubelets do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).expect("the rig is set up");
        std::fs::rename(new, self.path(name)).expect("the rig is set up");
    }

    pub(crate) fn write_kubeconfig(&self, name: &str, login: Login<'_>, url: &str) {
        let text = self.credentials().kubeconfig(login, url).expect("the rig is set up");
        self.write(name, &text);
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        self.server.credentials()
    }

    pub(crate) fn turn(&self, number: u8, turn: impl FnOnce(&mut Knobs)) {
        assert!(self.server.turn(Whose::Endpoint(&format!("n{number}")), turn));
    }

    /// Tells everybody where the API servers are.
    pub(crate) fn seed_servers(&self, numbers: &[u8]) {
        let servers: Vec<IpAddr> = numbers.iter().map(|number| address(*number)).collect();
        self.server
            .store()
            .seed_kubernetes_service("10.96.0.1".parse().expect("the rig is set up"), &servers, self.port)
            .expect("the rig is set up");
    }

    /// How many requests endpoint `n<number>` understood.
    pub(crate) fn count(&self, number: u8) -> u64 {
        let name = format!("n{number}");
        self.server.counts().iter().filter(|(call, _)| call.endpoint == name).map(|(_, count)| count).sum()
    }

    pub(crate) fn stored(&self, lease: &LeaseName) -> Option<Arc<Value>> {
        self.server.store().get(
            Kind::named("leases").expect("the rig is set up"),
            lease.namespace(),
            lease.name(),
        )
    }

    /// Starts a gateway.
    pub(crate) fn start(&self) -> Ear {
        Ear::of(self.settings.clone())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.server.not_implemented(), Vec::<String>::new());
        }
    }
}

/// A gateway and what it said.
pub(crate) struct Ear {
    pub(crate) cluster: Cluster,
    events: mpsc::UnboundedReceiver<ClusterEvent>,
    kept: Vec<ClusterEvent>,
    next: AtomicU64,
}

impl Ear {
    /// Starts a gateway.
    pub(crate) fn of(settings: ApiSettings) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let sink = Arc::new(move |event| drop(sender.send(event)));
        let cluster = Cluster::start(settings, sink);
        Self { cluster, events, kept: Vec::new(), next: AtomicU64::new(1) }
    }

    /// Asks and does not wait.
    pub(crate) fn ask_only(&self, ask: Ask, patience: Duration) -> QuestionId {
        let id = QuestionId(self.next.fetch_add(1, Ordering::Relaxed));
        self.cluster.ask(Question { id, timeout: patience, ask });
        id
    }

    /// Asks and waits for the answer; also how long it took.
    pub(crate) async fn ask_timed(&mut self, ask: Ask, patience: Duration) -> (Answer, Duration) {
        let start = Instant::now();
        let id = self.ask_only(ask, patience);
        let answer = self
            .wait(patience + Duration::from_secs(2), |event| match event {
                ClusterEvent::Answer(of, answer) if *of == id => Some(answer.clone()),
                _ => None,
            })
            .await
            .expect("every question is answered");
        (answer, start.elapsed())
    }

    /// Asks with time enough.
    pub(crate) async fn ask(&mut self, ask: Ask) -> Answer {
        self.ask_timed(ask, LONG).await.0
    }

    pub(crate) async fn read(&mut self, lease: &LeaseName) -> Answer {
        self.ask(Ask::ReadLease(lease.clone())).await
    }

    pub(crate) async fn write(&mut self, write: LeaseWrite) -> Answer {
        self.ask(Ask::WriteLease(write)).await
    }

    /// Reads until it works.
    pub(crate) async fn read_at_last(&mut self, lease: &LeaseName) {
        for _ in 0..100 {
            if matches!(self.read(lease).await, Answer::Lease(_)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the API never answered");
    }

    pub(crate) fn watch(&self, leases: &[&LeaseName]) {
        let leases = leases.iter().map(|lease| (*lease).clone()).collect();
        self.cluster.watch(Watches { leases, ..Watches::default() });
    }

    /// The first event, old or new, that `pick` takes. It is taken out; the others stay.
    pub(crate) async fn wait<T>(
        &mut self,
        patience: Duration,
        pick: impl Fn(&ClusterEvent) -> Option<T>,
    ) -> Option<T> {
        if let Some(at) = self.kept.iter().position(|event| pick(event).is_some()) {
            return pick(&self.kept.remove(at));
        }
        let search = async {
            while let Some(event) = self.events.recv().await {
                match pick(&event) {
                    Some(found) => return Some(found),
                    None => self.kept.push(event),
                }
            }
            None
        };
        timeout(patience, search).await.ok().flatten()
    }

    /// The next sight of a Lease.
    pub(crate) async fn sight(&mut self, lease: &LeaseName, patience: Duration) -> Option<Sight> {
        self.wait(patience, |event| match event {
            ClusterEvent::Lease(LeaseSeen { lease: of, sight }) if of == lease => Some(sight.clone()),
            _ => None,
        })
        .await
    }

    /// Everything that was said and not yet taken.
    pub(crate) fn rest(&mut self) -> Vec<ClusterEvent> {
        while let Ok(event) = self.events.try_recv() {
            self.kept.push(event);
        }
        std::mem::take(&mut self.kept)
    }
}

/// The Lease of most tests.
pub(crate) fn lock() -> LeaseName {
    LeaseName::new("kube-system", "plndr-cp-lock")
}

/// A write by `n1`, 15 s, no annotations.
pub(crate) fn write(lease: &LeaseName, expect: Expect, purpose: Purpose) -> LeaseWrite {
    LeaseWrite {
        lease: lease.clone(),
        expect,
        purpose,
        holder: Some(NodeName::new("n1")),
        duration: Duration::from_secs(15),
        acquired: Acquired::Now,
        transitions: 0,
        annotations: BTreeMap::new(),
    }
}

/// What an answer shows.
#[track_caller]
pub(crate) fn present(answer: Answer) -> (Version, LeaseRecord) {
    match answer {
        Answer::Lease(LeaseSeen { sight: Sight::Present { version, record }, .. }) => (version, record),
        other => panic!("no Lease: {other:?}"),
    }
}

/// Why an answer is none.
#[track_caller]
pub(crate) fn failed(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

/// Who holds, by a sight.
pub(crate) fn holder(sight: &Sight) -> Option<&str> {
    match sight {
        Sight::Present { record, .. } => record.holder.as_deref(),
        Sight::Absent(_) => None,
    }
}
