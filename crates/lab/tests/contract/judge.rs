//! The real kube-apiserver over a real etcd, on loopback ports and in a folder of their own, for as long as the value
//! lives. The store is given a past before the API server starts, and loses it by compaction, so that ancient versions
//! are really expired.

use crate::client::{Client, Tokens};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use vip_lab::api::{Credentials, Identity};

/// How long the two may take to start on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Versions that etcd has before the API server starts, and the one up to which they are compacted.
const PAST: (u32, u32) = (60, 50);

pub(crate) struct Binaries {
    apiserver: PathBuf,
    etcd: PathBuf,
}

/// The two programs, when both are there.
pub(crate) fn binaries() -> Option<Binaries> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/judges");
    let named = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    named.into_iter().chain([built]).find_map(|folder| {
        let binaries = Binaries { apiserver: folder.join("kube-apiserver"), etcd: folder.join("etcd") };
        (binaries.apiserver.is_file() && binaries.etcd.is_file()).then_some(binaries)
    })
}

/// A child that does not outlive its owner, also when a test panics.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Judge {
    pub(crate) address: SocketAddr,
    // Dropped in this order: the server before its store before its folder.
    apiserver: Killed,
    _etcd: Killed,
    folder: tempfile::TempDir,
}

impl Judge {
    pub(crate) async fn start(
        binaries: &Binaries,
        credentials: &Credentials,
        users: &BTreeMap<&'static str, Identity>,
        tokens: &Tokens,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let at = |name: &str| folder.path().join(name);
        let pair = credentials.serving(&[[127, 0, 0, 1].into()]).expect("a certificate can be made");
        let mut lines = String::new();
        for (name, identity) in users {
            let groups = identity.groups.join(",");
            writeln!(lines, "{},{},uid-{name},\"{groups}\"", tokens[name], identity.user)
                .expect("a String grows");
        }
        for (name, text) in [
            ("ca.crt", credentials.authority_pem()),
            ("tls.crt", &pair.certificate),
            ("tls.key", &pair.key),
            ("tokens.csv", &lines),
        ] {
            write(at(name), text).expect("the temporary folder can be written");
        }
        let [client, peer, secure] = free_ports();
        let etcd = start_etcd(&binaries.etcd, folder.path(), client, peer);
        let store = SocketAddr::from(([127, 0, 0, 1], client));
        make_a_past(store).await;
        let apiserver = start_apiserver(&binaries.apiserver, folder.path(), client, secure);
        let address = SocketAddr::from(([127, 0, 0, 1], secure));
        Self { address, apiserver, _etcd: etcd, folder }
    }

    /// Waits until the server is ready, and then until it has made its own roles and namespaces.
    pub(crate) async fn ready(&mut self, client: &Client) {
        let began = Instant::now();
        for path in
            ["/readyz", "/api/v1/namespaces/default", "/apis/networking.k8s.io/v1/servicecidrs/kubernetes"]
        {
            loop {
                if matches!(client.get(path).await, Ok((200, _))) {
                    break;
                }
                let is_dead = !matches!(self.apiserver.0.try_wait(), Ok(None));
                if is_dead || began.elapsed() > START {
                    let log = std::fs::read_to_string(self.folder.path().join("kube-apiserver.log"));
                    panic!("the real API server is not ready: {}", log.unwrap_or_default());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free"));
    held.map(|listener| listener.local_addr().expect("a bound listener has an address").port())
}

fn spawn(command: &mut Command, log: &Path) -> Killed {
    let out = File::create(log).expect("a log can be made");
    let err = out.try_clone().expect("a file can be shared");
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
    Killed(child.unwrap_or_else(|err| panic!("{command:?} does not start: {err}")))
}

/// A program that the kernel kills when this test's thread is gone, also when nobody was left to clean up.
fn mortal(binary: &Path) -> Command {
    const SETPRIV: &str = "setpriv";
    let knows = Command::new(SETPRIV).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !knows.is_ok_and(|status| status.success()) {
        return Command::new(binary);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
    command
}

fn start_etcd(binary: &Path, folder: &Path, client: u16, peer: u16) -> Killed {
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    let mut command = mortal(binary);
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"]);
    spawn(&mut command, &folder.join("etcd.log"))
}

fn start_apiserver(binary: &Path, folder: &Path, etcd: u16, secure: u16) -> Killed {
    let mut command = mortal(binary);
    let mut file = |flag: &str, name: &str| {
        command.arg(flag).arg(folder.join(name));
    };
    file("--client-ca-file", "ca.crt");
    file("--tls-cert-file", "tls.crt");
    file("--tls-private-key-file", "tls.key");
    file("--token-auth-file", "tokens.csv");
    // The public half is read from the certificate.
    file("--service-account-key-file", "tls.crt");
    file("--service-account-signing-key-file", "tls.key");
    command
        .args(["--etcd-servers", &format!("http://127.0.0.1:{etcd}")])
        .args(["--bind-address", "127.0.0.1", "--secure-port", &secure.to_string()])
        // A documentation address: the server refuses loopback here, and a namespace may have nothing else.
        .args(["--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none"])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .args(["--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC"])
        // No controller makes the ServiceAccounts that pods would need.
        .args(["--disable-admission-plugins", "ServiceAccount"]);
    spawn(&mut command, &folder.join("kube-apiserver.log"))
}

/// Writes and compacts, over etcd's JSON gateway.
async fn make_a_past(store: SocketAddr) {
    let began = Instant::now();
    while !matches!(post(store, "/v3/kv/put", r#"{"key":"cGFzdA==","value":"MA=="}"#).await, Ok(200)) {
        assert!(began.elapsed() < START, "etcd does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (versions, compacted) = PAST;
    for _ in 0..versions {
        let put = post(store, "/v3/kv/put", r#"{"key":"cGFzdA==","value":"MQ=="}"#).await;
        assert_eq!(put, Ok(200), "etcd takes a value");
    }
    let body = format!(r#"{{"revision":"{compacted}"}}"#);
    assert_eq!(post(store, "/v3/kv/compaction", &body).await, Ok(200), "etcd compacts");
}

async fn post(address: SocketAddr, path: &str, body: &str) -> Result<u16, String> {
    let text = |err: &dyn std::fmt::Display| err.to_string();
    let stream = TcpStream::connect(address).await.map_err(|err| text(&err))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|err| text(&err))?;
    tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", address.to_string())
        .body(Full::new(Bytes::from(body.to_owned())))
        .map_err(|err| text(&err))?;
    let response = sender.send_request(request).await.map_err(|err| text(&err))?;
    let code = response.status().as_u16();
    response.into_body().collect().await.map_err(|err| text(&err))?;
    Ok(code)
}
