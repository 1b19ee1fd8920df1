//! A real kube-apiserver over a real etcd in the router's namespace, where every node reaches it, through a relay, at one
//! address that no agent manages. Fed with the bench and the two programs; gives the rig a kubeconfig whose ServiceAccount
//! has no other rights than `kube-vip manifest rbac` gives it, and reads objects back as administrator.

#[path = "relay.rs"]
pub(crate) mod relay;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, write};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use vip_lab::api::{Credentials, Identity, Login};
use vip_lab::bench::{Lab, Node, Place, net};
use vip_lab::scenario::table::Variables;

use crate::client::{Client, Question, read};
use relay::Relay;

/// How long the two may take to start on a busy machine.
const START: Duration = Duration::from_secs(120);
/// The router's namespace is the lab's own, so the usual ports are free: that of agents leads to the relay, the other one
/// to the server.
const PORT: u16 = 6443;
const SERVER: u16 = 6444;
/// Ports of the first member of etcd, for clients and for members; each further one has those that follow by ten.
const ETCD: u16 = 2379;
const PEER: u16 = 2380;
/// Namespace and name of the agents' ServiceAccount.
const ACCOUNT: (&str, &str) = ("kube-system", "kube-vip");

/// The two real programs.
pub(crate) struct Judges {
    apiserver: PathBuf,
    etcd: PathBuf,
}

impl Judges {
    /// From the folder that `KUBEBUILDER_ASSETS` names, else from `build/judges`; only when both are there.
    pub(crate) fn find() -> Option<Self> {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/judges");
        let named = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        named.into_iter().chain([built]).find_map(|folder| {
            let judges = Self { apiserver: folder.join("kube-apiserver"), etcd: folder.join("etcd") };
            (judges.apiserver.is_file() && judges.etcd.is_file()).then_some(judges)
        })
    }
}

/// A child that does not outlive its owner. When the test itself is killed, the kernel ends the lab's PID namespace.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The members of etcd, and what starts one again.
struct Store {
    members: Vec<Option<Killed>>,
    binary: PathBuf,
    logs: PathBuf,
}

/// What became of the agents' rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// They have had them all the time.
    Kept,
    Taken,
    GivenBack,
}

/// The running cluster.
pub(crate) struct Cluster {
    // Dropped in this order: the server before its store before its folder.
    apiserver: Killed,
    store: Store,
    relay: Relay,
    folder: tempfile::TempDir,
    place: Place,
    client: Arc<Client>,
    kubeconfig: String,
    /// What gives the agents their rights, each with the path of its collection.
    bindings: Vec<(String, Value)>,
    rights: Mutex<Rights>,
}

impl Cluster {
    /// Starts both, waits until the server is ready, and gives it the nodes of the bench and the agents' rights.
    pub(crate) fn start(lab: &Lab, judges: &Judges, agent: &Path) -> Result<Self> {
        Self::start_with((1, &[]), lab, judges, agent)
    }

    /// The same with so many members of etcd, and the rights that agents with these variables need.
    pub(crate) fn start_with(
        (members, set): (u16, Variables),
        lab: &Lab,
        judges: &Judges,
        agent: &Path,
    ) -> Result<Self> {
        let credentials = Credentials::new()?;
        let account = Identity::service_account(ACCOUNT.0, ACCOUNT.1);
        let users = [("admin", Identity::admin()), ("agent", account)];
        let tokens: BTreeMap<_, _> =
            users.iter().map(|(name, identity)| (*name, credentials.token(identity))).collect();
        let mut lines = String::new();
        for (name, Identity { user, groups }) in &users {
            writeln!(lines, "{},{user},uid-{name},\"{}\"", tokens[name], groups.join(","))?;
        }
        let place = lab.router().clone();
        let at = |port| SocketAddr::from((net::v4(net::ROUTER), port));
        let (address, server) = (at(PORT), at(SERVER));
        let folder = tempfile::tempdir()?;
        write_files(&credentials, address.ip(), folder.path(), &lines)?;
        let mut store =
            Store { members: Vec::new(), binary: judges.etcd.clone(), logs: lab.logs().to_owned() };
        for member in 0..members {
            let etcd = place.within(|| start_etcd(&store, (member, members), folder.path()))??;
            store.members.push(Some(etcd));
        }
        let servers = urls(ETCD, members).join(",");
        let apiserver =
            place.within(|| start_apiserver(&judges.apiserver, &servers, folder.path(), lab.logs()))??;
        let kubeconfig =
            credentials.kubeconfig(Login::Token(&tokens["agent"]), &format!("https://{address}"))?;
        let client = Arc::new(Client::with_tokens(server, &credentials, tokens));
        let relay = Relay::start(&place, address, server)?;
        let (bindings, rights) = (Vec::new(), Mutex::new(Rights::Kept));
        let mut cluster =
            Self { apiserver, store, relay, folder, place, client, kubeconfig, bindings, rights };
        cluster.ready()?;
        cluster.bindings = cluster.seed(lab, agent, set)?;
        Ok(cluster)
    }

    /// Stops the server where it stands, or lets it go on.
    pub(crate) fn signal_server(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.apiserver.0.id())?);
        kill(pid, signal).with_context(|| format!("sending {signal} to the real API server"))
    }

    /// Stops all members of etcd where they stand, or lets them go on.
    pub(crate) fn signal_store(&self, signal: Signal) -> Result<()> {
        self.store.members.iter().flatten().try_for_each(|member| {
            let pid = Pid::from_raw(i32::try_from(member.0.id())?);
            kill(pid, signal).with_context(|| format!("sending {signal} to etcd"))
        })
    }

    /// The path between the agents and the server.
    pub(crate) fn relay(&self) -> &Relay {
        &self.relay
    }

    /// The member of etcd that leads, as it says itself.
    pub(crate) fn leader(&self) -> Result<usize> {
        for member in 0..self.store.members.len() {
            let address = SocketAddr::from(([127, 0, 0, 1], port(ETCD, u16::try_from(member)?)));
            let page = self.place.within(|| metrics(address))?.unwrap_or_default();
            if page.lines().any(|line| line == "etcd_server_is_leader 1") {
                return Ok(member);
            }
        }
        bail!("no member of etcd says that it leads")
    }

    /// Kills a member of etcd.
    pub(crate) fn kill_member(&mut self, member: usize) {
        self.store.members[member] = None;
    }

    /// Starts the members of etcd that don't run, with what they kept.
    pub(crate) fn start_members(&mut self) -> Result<()> {
        let members = u16::try_from(self.store.members.len())?;
        for member in 0..members {
            if self.store.members[usize::from(member)].is_none() {
                let place = self.place.clone();
                let etcd =
                    place.within(|| start_etcd(&self.store, (member, members), self.folder.path()))??;
                self.store.members[usize::from(member)] = Some(etcd);
            }
        }
        Ok(())
    }

    /// The namespace in which both run, and a client of the server; the client works there.
    pub(crate) fn client(&self) -> (Place, Arc<Client>) {
        (self.place.clone(), Arc::clone(&self.client))
    }

    /// The agents' kubeconfig.
    pub(crate) fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// The administrator asks: code and text of the answer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Result<(u16, String)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let patch = method == "PATCH";
        let content_type = if patch { "application/merge-patch+json" } else { "application/json" };
        let question = Question { who: "admin", method, path, content_type, body };
        let answer = self.place.within(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|err| err.to_string())?;
            runtime.block_on(async { read(self.client.ask(&question).await?).await })
        })?;
        answer.map_err(anyhow::Error::msg)
    }

    /// An object, if it is there.
    pub(crate) fn get(&self, path: &str) -> Result<Option<Value>> {
        match self.ask("GET", path, &Value::Null)? {
            (200, text) => Ok(Some(serde_json::from_str(&text)?)),
            (404, _) => Ok(None),
            (code, text) => bail!("GET {path}: {code} {text}"),
        }
    }

    /// Creates an object in the collection at this path.
    pub(crate) fn create(&self, path: &str, object: &Value) -> Result<()> {
        let (code, text) = self.ask("POST", path, object)?;
        ensure!(code == 201, "POST {path}: {code} {text}");
        Ok(())
    }

    /// Waits until the server is ready, and then until it has made its own namespaces.
    fn ready(&mut self) -> Result<()> {
        let began = Instant::now();
        for path in ["/readyz", "/api/v1/namespaces/kube-system"] {
            while !matches!(self.ask("GET", path, &Value::Null), Ok((200, _))) {
                let ended = self.apiserver.0.try_wait()?;
                ensure!(ended.is_none(), "the real API server ended: {ended:?}; see its log");
                ensure!(began.elapsed() < START, "the real API server is not ready after {START:?}");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(())
    }

    /// What a kubelet says of its node: that it is ready, and at which addresses.
    fn run_kubelet(&self, node: &Node) -> Result<()> {
        let path = format!("/api/v1/nodes/{}/status", node.name());
        let addresses: Vec<Value> = node
            .addresses()
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .collect();
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
        let status = json!({"status": {"addresses": addresses, "conditions": [ready]}});
        let (code, text) = self.ask("PATCH", &path, &status)?;
        ensure!(code == 200, "PATCH {path}: {code} {text}");
        Ok(())
    }

    /// One Node per node, and the agents' rights as the binary itself prints them.
    /// Takes all their rights from the agents, as whoever deletes the bindings does.
    pub(crate) fn revoke(&self) -> Result<()> {
        *self.rights.lock().unwrap() = Rights::Taken;
        for (collection, binding) in &self.bindings {
            let path = format!("{collection}/{}", binding["metadata"]["name"].as_str().unwrap_or_default());
            let (code, text) = self.ask("DELETE", &path, &Value::Null)?;
            ensure!(code == 200, "DELETE {path}: {code} {text}");
        }
        Ok(())
    }

    /// Gives them back, if they were taken.
    pub(crate) fn grant(&self) -> Result<()> {
        let mut rights = self.rights.lock().unwrap();
        if *rights == Rights::Taken {
            *rights = Rights::GivenBack;
            self.bindings.iter().try_for_each(|(collection, binding)| self.create(collection, binding))?;
        }
        Ok(())
    }

    /// Whether the agents have had their rights so far.
    pub(crate) fn rights(&self) -> Rights {
        *self.rights.lock().unwrap()
    }

    /// Gives back what gives the agents their rights.
    fn seed(&self, lab: &Lab, agent: &Path, set: Variables) -> Result<Vec<(String, Value)>> {
        for node in lab.nodes() {
            let labels = json!({
                "kubernetes.io/hostname": node.name(), "node-role.kubernetes.io/control-plane": "",
            });
            let metadata = json!({"name": node.name(), "labels": labels});
            let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
            self.create("/api/v1/nodes", &object)?;
            self.run_kubelet(node)?;
        }
        // Without other settings the rights are those for all that an agent can do.
        let printed = Command::new(agent)
            .args(["manifest", "rbac"])
            .env("svc_ipam", "true")
            .envs(set.iter().copied())
            .output()?;
        ensure!(printed.status.success(), "`kube-vip manifest rbac` ended with {}", printed.status);
        let text = String::from_utf8(printed.stdout)?;
        let mut bindings = Vec::new();
        for document in text.split("---\n").filter(|document| !document.trim().is_empty()) {
            let object: Value = serde_saphyr::from_str(document).context("`manifest rbac` prints YAML")?;
            let collection = rbac_path(&object)?;
            self.create(&collection, &object)?;
            if object["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding")) {
                bindings.push((collection, object));
            }
        }
        Ok(bindings)
    }
}

/// The rights that `kube-vip manifest rbac` gives were enough: no agent was refused anything, but for lines that name
/// one of `known`.
pub(crate) fn check_rights(lab: &Lab, known: &[&str]) -> Result<()> {
    for node in lab.nodes() {
        let file = lab.logs().join(format!("{}-kube-vip.log", node.name()));
        let text = std::fs::read_to_string(&file)?;
        ensure!(!text.is_empty(), "{}: the agent logged nothing", file.display());
        let said = ["a right is missing", "class=forbidden", "403 Forbidden"];
        let refused = text.lines().find(|line| {
            said.iter().any(|said| line.contains(said)) && !known.iter().any(|known| line.contains(known))
        });
        ensure!(refused.is_none(), "{}: {}", file.display(), refused.unwrap_or_default());
    }
    Ok(())
}

/// Where objects of this kind are created.
fn rbac_path(object: &Value) -> Result<String> {
    const GROUP: &str = "/apis/rbac.authorization.k8s.io/v1";
    let namespaced = |root: &str, resource: &str| {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        format!("{root}/namespaces/{namespace}/{resource}")
    };
    match object["kind"].as_str() {
        Some("ServiceAccount") => Ok(namespaced("/api/v1", "serviceaccounts")),
        Some("ClusterRole") => Ok(format!("{GROUP}/clusterroles")),
        Some("ClusterRoleBinding") => Ok(format!("{GROUP}/clusterrolebindings")),
        Some("Role") => Ok(namespaced(GROUP, "roles")),
        Some("RoleBinding") => Ok(namespaced(GROUP, "rolebindings")),
        _ => bail!("`manifest rbac` prints a kind that this test does not create: {object}"),
    }
}

fn write_files(credentials: &Credentials, address: IpAddr, folder: &Path, tokens: &str) -> Result<()> {
    let pair = credentials.serving(&[address])?;
    for (name, text) in [
        ("ca.crt", credentials.authority_pem()),
        ("tls.crt", &pair.certificate),
        ("tls.key", &pair.key),
        ("tokens.csv", tokens),
    ] {
        write(folder.join(name), text)?;
    }
    Ok(())
}

fn spawn(command: &mut Command, log: &Path) -> Result<Killed> {
    let out = File::create(log)?;
    let err = out.try_clone()?;
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
    Ok(Killed(child.with_context(|| format!("{command:?} does not start"))?))
}

const fn port(first: u16, member: u16) -> u16 {
    first + 10 * member
}

fn urls(first: u16, members: u16) -> Vec<String> {
    (0..members).map(|member| format!("http://127.0.0.1:{}", port(first, member))).collect()
}

fn start_etcd(store: &Store, (member, members): (u16, u16), folder: &Path) -> Result<Killed> {
    let name = format!("etcd-{member}");
    let (own, peer) = (&urls(ETCD, members)[usize::from(member)], &urls(PEER, members)[usize::from(member)]);
    let peers = urls(PEER, members).into_iter().enumerate();
    let cluster: Vec<String> = peers.map(|(number, url)| format!("etcd-{number}={url}")).collect();
    let mut command = Command::new(&store.binary);
    command
        .args(["--name", &name])
        .arg("--data-dir")
        .arg(folder.join(&name))
        .args(["--listen-client-urls", own, "--advertise-client-urls", own])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", &cluster.join(","), "--unsafe-no-fsync"]);
    spawn(&mut command, &store.logs.join(format!("{name}.log")))
}

/// The page of metrics that a member of etcd serves beside its clients' requests.
fn metrics(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn start_apiserver(binary: &Path, stores: &str, folder: &Path, logs: &Path) -> Result<Killed> {
    let mut command = Command::new(binary);
    for (flag, name) in [
        ("--client-ca-file", "ca.crt"),
        ("--tls-cert-file", "tls.crt"),
        ("--tls-private-key-file", "tls.key"),
        ("--token-auth-file", "tokens.csv"),
        // The public half is read from the certificate.
        ("--service-account-key-file", "tls.crt"),
        ("--service-account-signing-key-file", "tls.key"),
    ] {
        command.arg(flag).arg(folder.join(name));
    }
    let own = net::v4(net::ROUTER).to_string();
    command
        .args(["--etcd-servers", stores, "--bind-address", &own, "--secure-port", &SERVER.to_string()])
        .args(["--advertise-address", &own, "--endpoint-reconciler-type", "none"])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .args(["--service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112", "--authorization-mode", "RBAC"])
        // No controller makes the ServiceAccounts that pods would need.
        .args(["--disable-admission-plugins", "ServiceAccount"]);
    spawn(&mut command, &logs.join("kube-apiserver.log"))
}
