//! The stage of the Services scenarios: three nodes with agents that serve Services, the lab's API server as cluster,
//! detectors that see who answers for an address.

use std::io::Write as _;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vip_lab::api::{Identity, Kind, Login};
use vip_lab::bench::{Detector, Lab, Program, Shape, Span, Stamp, boot};
use vip_lab::scenario::agent::{self, Manifest};
use vip_lab::scenario::control_plane::{ControlPlane, PORT};
use vip_lab::scenario::table::Gate;

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
    plane: ControlPlane,
    lab: Lab,
}

/// Runs the test `name` in a lab of its own: outside it starts itself again, inside it plays `scenario`.
pub(crate) fn play(name: &str, scenario: fn(&mut Rig) -> Result<()>) {
    if boot::inside().is_some() {
        let mut rig = Rig::raise(name).unwrap();
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
    fn raise(name: &str) -> Result<Self> {
        let logs = std::env::temp_dir().join(format!("lab-services-{name}-{}", boot::launcher()));
        let lab = Lab::raise(&Shape { nodes: NODES, logs })?;
        let plane = ControlPlane::start(&lab)?;
        // As a DaemonSet finds its API server: at an address that no agent of this test manages.
        let credentials = plane.server().credentials();
        let url = format!("https://127.0.0.1:{PORT}");
        for node in lab.nodes() {
            let local = credentials.kubeconfig(Login::Certificate(&Identity::admin()), &url)?;
            node.write("/etc/kubernetes/admin.conf", &local)?;
        }
        Ok(Self { agents: (0..NODES).map(|_| None).collect(), plane, lab })
    }

    /// Starts an agent for Services alone on every node, with these further settings.
    pub(crate) fn start_all(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        let mut manifest = Manifest::parse(agent::MANIFEST)?;
        for (name, value) in [("cp_enable", "false"), ("svc_enable", "true"), ("address", "")] {
            manifest.set(name, value);
        }
        for (name, value) in settings {
            manifest.set(name, value);
        }
        let binary = agent::binary()?;
        for number in 1..=NODES {
            let node = self.lab.node(number)?;
            let spawn = manifest.spawn(node.name(), Gate::Off, &binary, self.lab.logs());
            self.agents[usize::from(number) - 1] = Some(node.start(&spawn)?);
        }
        Ok(())
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
        let begin = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            ensure!(
                begin.elapsed() < LIMIT,
                "{what}: not within {LIMIT:?}; logs in {}",
                self.lab.logs().display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The pods behind a Service: address and the number of its node. Gives the moment.
    pub(crate) fn endpoints(&self, service: &str, pods: &[(&str, u8)]) -> Result<Stamp> {
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|(addr, node)| {
                let conditions = json!({"ready": true, "serving": true, "terminating": false});
                json!({"addresses": [addr], "conditions": conditions, "nodeName": format!("n{node}")})
            })
            .collect();
        let at = Stamp::now();
        self.plane.server().store().apply(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{service}-1"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": service},
            },
            "endpoints": endpoints, "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        }))?;
        Ok(at)
    }

    /// Creates a Service of type LoadBalancer with this address. Gives the moment.
    pub(crate) fn create(&self, name: &str, addr: &str, more: Value) -> Result<Stamp> {
        let mut spec = json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        let at = Stamp::now();
        self.plane.server().store().apply(&json!({
            "apiVersion": "v1", "kind": "Service", "spec": spec,
            "metadata": {
                "name": name, "namespace": "default",
                "annotations": {"kube-vip.io/loadbalancerIPs": addr},
            },
        }))?;
        Ok(at)
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
