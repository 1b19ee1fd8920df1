//! The stage of the Services scenarios: three nodes with agents that serve Services, the lab's API server as cluster,
//! detectors that see who answers for an address. What can be done to it stands in `act`, what can be seen in `look`.

#[path = "act.rs"]
mod act;
#[path = "draft.rs"]
pub(crate) mod draft;
#[path = "look.rs"]
mod look;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vip_lab::api::{Identity, Kind, Login};
use vip_lab::bench::{Detector, Lab, Pod, Prober, Program, Responder, Shape, Span, Stamp, boot, pod};
use vip_lab::scenario::agent::{self, Manifest};
use vip_lab::scenario::control_plane::{ControlPlane, PORT};
use vip_lab::scenario::service::{self, Backend, Family, Standing};
use vip_lab::scenario::{proxy, service::PORT as SERVICE_PORT};

const LAB: &str = env!("CARGO_BIN_EXE_lab");
/// Two labs at once would disturb each other's figures.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// Number of nodes.
const NODES: u8 = 3;
/// How long anything that should happen at once may take before the scenario gives up.
const LIMIT: Duration = Duration::from_secs(8);

/// The bench with its agents.
pub(crate) struct Rig {
    // Dropped in this order: programs before the nodes that they run in.
    agents: Vec<Option<Program>>,
    pods: BTreeMap<Responder, Pod>,
    plane: ControlPlane,
    lab: Lab,
    /// What the agents are started with.
    manifest: Manifest,
}

/// Runs the test `name` in a lab of its own: outside it starts itself again, inside it plays `scenario`.
pub(crate) fn play(name: &str, scenario: fn(&mut Rig) -> Result<()>) {
    play_with(Proxies::Running, name, scenario);
}

/// The same without pods and proxies: what is asked there are the nodes' own kernels, by ARP and NDP.
pub(crate) fn play_bare(name: &str, scenario: fn(&mut Rig) -> Result<()>) {
    play_with(Proxies::Absent, name, scenario);
}

/// Whether nodes lead requests for Services to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxies {
    Running,
    Absent,
}

fn play_with(proxies: Proxies, name: &str, scenario: fn(&mut Rig) -> Result<()>) {
    if boot::inside().is_some() {
        let mut rig = Rig::raise(name, proxies).unwrap();
        if let Err(why) = scenario(&mut rig).and_then(|()| rig.finish()) {
            panic!("{name}: {why:#}\nthe logs are in {}", rig.lab.logs().display());
        }
        std::fs::remove_dir_all(rig.lab.logs()).unwrap();
        return;
    }
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let done = Command::new(LAB)
        .arg("__boot")
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if err.contains("was refused") || err.contains("install the Debian package") {
        // Past the capture of the test runner: a skipped scenario must be seen.
        std::io::stderr().write_all(format!("SKIPPED {name}: {err}\n").as_bytes()).unwrap();
        return;
    }
    assert!(done.status.success(), "{out}\n{err}");
    println!("{out}");
}

impl Rig {
    fn raise(name: &str, proxies: Proxies) -> Result<Self> {
        let logs = std::env::temp_dir().join(format!("lab-services-{name}-{}", boot::launcher()));
        let lab = Lab::raise(&Shape { nodes: NODES, logs })?;
        let plane = ControlPlane::start(&lab)?;
        let manifest = Manifest::parse(agent::MANIFEST)?;
        let agents = (0..NODES).map(|_| None).collect();
        let rig = Self { agents, pods: BTreeMap::new(), plane, lab, manifest };
        for number in 1..=NODES {
            rig.furnish(number)?;
        }
        if proxies == Proxies::Absent {
            return Ok(rig);
        }
        let objects = proxy::follow(rig.plane.server())?;
        for node in rig.lab.nodes() {
            pod::furnish(&rig.lab, node)?;
            proxy::start(node, &objects)?;
        }
        Ok(rig)
    }

    /// The bench.
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// As a DaemonSet finds its API server: at an address that no agent of this test manages.
    fn furnish(&self, number: u8) -> Result<()> {
        let credentials = self.plane.server().credentials();
        let url = format!("https://127.0.0.1:{PORT}");
        let local = credentials.kubeconfig(Login::Certificate(&Identity::admin()), &url)?;
        Ok(self.lab.node(number)?.write("/etc/kubernetes/admin.conf", &local)?)
    }

    /// Starts an agent for Services alone on every node, with these further settings.
    pub(crate) fn start_all(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        let alone = [("cp_enable", "false"), ("svc_enable", "true"), ("address", "")];
        let all: Vec<_> = alone.iter().chain(settings).copied().collect();
        self.configure(&all)?;
        self.start_missing()
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let kind = Kind::named(resource)?;
        self.plane.server().store().get(kind, namespace, name).map(|found| (*found).clone())
    }

    /// Waits until a Lease in `kube-system` names a holder.
    pub(crate) fn wait_for_leader(&self, lease: &str) -> Result<u8> {
        self.wait(&format!("a holder of {lease}"), |rig| {
            let found = rig.get("leases", "kube-system", lease)?;
            found["spec"]["holderIdentity"].as_str()?.strip_prefix('n')?.parse().ok()
        })
    }

    fn wait<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> Result<T> {
        self.within(LIMIT, what, look)
    }

    /// Starts a pod, if it does not run yet; gives its endpoints in both families.
    pub(crate) fn pod(&mut self, node: u8, number: u8) -> Result<[Backend; 2]> {
        let who = Responder { node, pod: number };
        if !self.pods.contains_key(&who) {
            self.pods.insert(who, Pod::start(self.lab.node(node)?, number)?);
        }
        let backend = |address| Backend { address, node, standing: Standing::Ready };
        Ok(self.pods[&who].addresses().map(backend))
    }

    /// Kills a pod.
    pub(crate) fn kill_pod(&mut self, node: u8, number: u8) {
        self.pods.remove(&Responder { node, pod: number });
    }

    /// Pods behind a Service by their nodes and numbers, in both families; they are started where they don't run.
    /// Gives the moment.
    pub(crate) fn deploy(&mut self, service: &str, pods: &[(u8, u8)]) -> Result<Stamp> {
        let mut backends = Vec::new();
        for (node, number) in pods {
            backends.extend(self.pod(*node, *number)?);
        }
        self.backends(service, &backends)
    }

    /// The endpoints behind a Service in both families. Gives the moment.
    pub(crate) fn backends(&self, service: &str, backends: &[Backend]) -> Result<Stamp> {
        let at = Stamp::now();
        for family in [Family::V4, Family::V6] {
            self.plane.server().store().apply(&service::slice(service, family, backends))?;
        }
        Ok(at)
    }

    /// Endpoints behind a Service that nothing serves: IPv4 address and the number of its node. Gives the moment.
    pub(crate) fn endpoints(&self, service: &str, pods: &[(&str, u8)]) -> Result<Stamp> {
        let backends: Result<Vec<_>> = pods
            .iter()
            .map(|(address, node)| {
                Ok(Backend { address: address.parse()?, node: *node, standing: Standing::Ready })
            })
            .collect();
        let at = Stamp::now();
        self.plane.server().store().apply(&service::slice(service, Family::V4, &backends?))?;
        Ok(at)
    }

    /// Creates a Service of type LoadBalancer with these addresses, separated by commas. Gives the moment.
    pub(crate) fn create(&self, name: &str, addresses: &str, more: Value) -> Result<Stamp> {
        let parsed: Result<Vec<IpAddr>, _> = addresses.split(',').map(str::parse).collect();
        let object = service::service(name, &parsed?, more);
        let at = Stamp::now();
        self.plane.server().store().apply(&object)?;
        Ok(at)
    }

    /// Writes the addresses into the status of a Service, as an agent does.
    pub(crate) fn set_status(&self, name: &str, addresses: &[&str]) -> Result<()> {
        let mut service = self.get("services", "default", name).context("the Service is there")?;
        let ingress: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        service["status"] = json!({"loadBalancer": {"ingress": ingress}});
        self.plane.server().store().apply(&service)?;
        Ok(())
    }

    /// Deletes a Service.
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        let kind = Kind::named("services").context("the lab serves Services")?;
        self.plane.server().store().delete(kind, "default", name);
        Ok(())
    }

    /// Watches who answers for an address.
    pub(crate) fn watch(&self, addr: &str) -> Result<Detector> {
        Ok(self.lab.detect(addr.parse()?)?)
    }

    /// Probes a Service at one of its addresses, as its client does.
    pub(crate) fn probe(&self, addr: &str) -> Result<Prober> {
        Ok(self.lab.probe_service(SocketAddr::new(addr.parse()?, SERVICE_PORT))?)
    }

    /// Asks a Service over TCP who answers.
    pub(crate) fn ask(&self, addr: &str) -> Result<Responder> {
        let target = SocketAddr::new(addr.parse()?, SERVICE_PORT);
        Ok(pod::ask(self.lab.client(), target, Duration::from_secs(1))?)
    }

    /// From `since` to the first answer.
    pub(crate) fn first_answer(&self, watch: &Detector, since: Stamp, within: Duration) -> Result<Duration> {
        let begin = Instant::now();
        loop {
            let answers = watch.sightings().questions.into_iter().flat_map(|question| question.answers);
            if let Some(at) = answers.map(|(_, at)| at).filter(|at| *at >= since).min() {
                return Ok(Span::new(since, at).length());
            }
            if begin.elapsed() > within {
                bail!("no answer within {within:?}; logs in {}", self.lab.logs().display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the Service's status shows the address and names its host, and the host's kernel has it.
    pub(crate) fn wait_status(&self, name: &str, addr: &str) -> Result<u8> {
        self.wait(&format!("status of {name}"), |rig| {
            let service = rig.get("services", "default", name)?;
            let ingress = service["status"]["loadBalancer"]["ingress"].as_array()?.first()?.clone();
            let host = service["metadata"]["annotations"]["kube-vip.io/vipHost"].as_str()?;
            let number = host.strip_prefix('n')?.parse().ok()?;
            (ingress["ip"] == addr && ingress["ipMode"] == "VIP" && rig.has_address(number, addr).ok()?)
                .then_some(number)
        })
    }

    /// Whether a node's kernel has an address.
    pub(crate) fn has_address(&self, number: u8, addr: &str) -> Result<bool> {
        let mut ip = Command::new("ip");
        let shown = self.lab.node(number)?.place()?.run(ip.args(["address", "show", "dev", "eth0"]))?;
        Ok(shown.contains(&format!("{addr}/")))
    }

    /// Waits until no node has an address.
    pub(crate) fn wait_gone(&self, addr: &str, within: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            let mut left = Vec::new();
            for number in 1..=NODES {
                if self.has_address(number, addr)? {
                    left.push(number);
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            ensure!(begin.elapsed() < within, "{addr} is still on {left:?} after {within:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to the agent of a node. Gives the moment.
    pub(crate) fn signal(&self, number: u8, signal: Signal) -> Result<Stamp> {
        let at = Stamp::now();
        self.agents[usize::from(number) - 1].as_ref().context("no agent runs there")?.signal(signal)?;
        Ok(at)
    }

    fn finish(&mut self) -> Result<()> {
        let missing = self.plane.server().not_implemented();
        ensure!(missing.is_empty(), "asked for what the API server doesn't do: {}", missing.join(", "));
        Ok(())
    }
}

/// Longest silence and overlap from `since` on, for so long.
pub(crate) fn gap(watch: &Detector, since: Stamp, time: Duration) -> (Duration, Duration) {
    std::thread::sleep(time);
    let (sightings, window) = (watch.sightings(), Span::new(since, Stamp::now()));
    let (mut run, mut worst) = (0, 0);
    for question in sightings.questions.iter().filter(|question| window.holds(question.sent)) {
        run = if question.answers.is_empty() { run + 1 } else { 0 };
        worst = worst.max(run);
    }
    (sightings.period * worst, sightings.overlap(window).longest)
}
