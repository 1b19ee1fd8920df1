//! The stage of the Services scenarios: three nodes with agents that serve Services, an API server (the lab's own unless
//! a test brings another), pods, proxies, and instruments that see who answers for an address and who serves behind it.
//! What can be done to it stands in `act`, what can be seen in `look`, what a client sees in `client`.

#[path = "act.rs"]
pub(crate) mod act;
#[path = "client.rs"]
pub(crate) mod client;
#[path = "cluster.rs"]
pub(crate) mod cluster;
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
use tokio::sync::watch;
use vip_lab::bench::{
    Detector, Lab, Metronome, Networks, Pod, Prober, Program, Responder, Shape, Span, Stamp, boot, pod,
};
use vip_lab::scenario::agent::{self, Manifest};
use vip_lab::scenario::control_plane::ControlPlane;
use vip_lab::scenario::proxy::{self, Objects};
use vip_lab::scenario::service::{self, Backend, Family, PORT, Standing};
use vip_lab::scenario::table::Mode;

use cluster::{Cluster, Small};

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
    /// What proxies follow, where there are proxies.
    objects: Option<watch::Receiver<Objects>>,
    cluster: Box<dyn Cluster>,
    lab: Lab,
    /// What the agents are started with.
    manifest: Manifest,
}

/// A processor that stood still for longer than this makes a run say nothing: leases ran out while nobody could renew.
const DISTURBED: Duration = Duration::from_millis(100);
/// What a run that failed says when it was disturbed.
const SAYS_NOTHING: &str = "the run says nothing";
/// How often such a run is repeated; the last one counts as it is.
const REPEATS: usize = 3;

/// What is done on the stage, and judged.
pub(crate) type Scenario = fn(&mut Rig) -> Result<()>;

/// Runs the test `name` in a lab of its own: outside it starts itself again, inside it plays `scenario`.
pub(crate) fn play(name: &str, scenario: Scenario) {
    play_with((Proxies::Running, Networks::One), name, scenario);
}

/// The same without pods and proxies: what is asked there are the nodes' own kernels, by ARP and NDP.
pub(crate) fn play_bare(name: &str, scenario: Scenario) {
    play_with((Proxies::Absent, Networks::One), name, scenario);
}

/// The same on nodes with two networks.
pub(crate) fn play_on_two_networks(name: &str, scenario: Scenario) {
    play_with((Proxies::Absent, Networks::Two), name, scenario);
}

/// Whether nodes lead requests for Services to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proxies {
    Running,
    Absent,
}

/// What a bench of a test is like.
type Scene = (Proxies, Networks);

fn play_with(scene: Scene, name: &str, scenario: Scenario) {
    if boot::inside().is_some() {
        play_inside(scene, name, scenario);
        return;
    }
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for repeats_left in (0..=REPEATS).rev() {
        let done = Command::new(LAB)
            .arg("__boot")
            .arg(std::env::current_exe().unwrap())
            .args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        if err.contains("was refused") || err.contains("install the Debian package") {
            // Past the capture of the test runner: a skipped scenario must be seen.
            std::io::stderr().write_all(format!("SKIPPED {name}: {err}\n").as_bytes()).unwrap();
            return;
        }
        println!("{out}");
        if done.status.success() {
            return;
        }
        let again = err.contains(SAYS_NOTHING) && repeats_left > 0;
        assert!(again, "{err}");
        println!("{name} was disturbed and is repeated: {err}");
    }
}

fn play_inside(scene: Scene, name: &str, scenario: Scenario) {
    let mut rig = Rig::raise(name, scene).unwrap();
    if let Err(why) = judged(&mut rig, scenario) {
        panic!("{name}: {why:#}\nthe logs are in {}", rig.lab.logs().display());
    }
    std::fs::remove_dir_all(rig.lab.logs()).unwrap();
}

/// Plays a scenario on a stage that others share, again after `clear` when a failed run says nothing.
pub(crate) fn undisturbed(
    rig: &mut Rig,
    scenario: Scenario,
    clear: impl Fn(&mut Rig) -> Result<()>,
) -> Result<()> {
    for _ in 0..REPEATS {
        match judged(rig, scenario) {
            Err(why) if format!("{why:#}").contains(SAYS_NOTHING) => println!("  repeated: {why:#}"),
            judged => return judged,
        }
        clear(rig)?;
    }
    judged(rig, scenario)
}

/// Plays a scenario; a failure says so when the machine itself stood still meanwhile.
fn judged(rig: &mut Rig, scenario: Scenario) -> Result<()> {
    let (metronome, begin) = (Metronome::start()?, Stamp::now());
    scenario(rig).and_then(|()| rig.finish()).map_err(|why| {
        let stall = metronome.longest_stall(Span::new(begin, Stamp::now()));
        if stall <= DISTURBED {
            return why;
        }
        let stood = format!("a processor of this machine stood still for {} ms", stall.as_millis());
        why.context(format!("{stood}: {SAYS_NOTHING}"))
    })
}

impl Rig {
    fn raise(name: &str, (proxies, networks): Scene) -> Result<Self> {
        let logs = std::env::temp_dir().join(format!("lab-services-{name}-{}", boot::launcher()));
        let lab = Lab::raise(&Shape { nodes: NODES, networks, logs })?;
        let cluster = Small::start(&lab)?;
        Self::over(lab, Box::new(cluster), proxies)
    }

    /// The stage over a cluster that runs already.
    pub(crate) fn over(lab: Lab, cluster: Box<dyn Cluster>, proxies: Proxies) -> Result<Self> {
        let objects = if proxies == Proxies::Running { Some(cluster.objects()?) } else { None };
        let manifest = Manifest::parse(agent::MANIFEST)?.with(Mode::Lease.variables());
        let agents = (0..NODES).map(|_| None).collect();
        let rig = Self { agents, pods: BTreeMap::new(), objects, cluster, lab, manifest };
        (1..=NODES).try_for_each(|number| rig.furnish(number))?;
        Ok(rig)
    }

    /// The bench.
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// What a node has before an agent runs on it: its way to the API server, to pods, and a proxy.
    fn furnish(&self, number: u8) -> Result<()> {
        let node = self.lab.node(number)?;
        self.cluster.furnish(node)?;
        let Some(objects) = &self.objects else { return Ok(()) };
        pod::furnish(&self.lab, node)?;
        proxy::start(node, objects)
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> &dyn Cluster {
        &*self.cluster
    }

    /// The lab's own API server, whose faults can be turned on.
    pub(crate) fn plane(&self) -> Result<&ControlPlane> {
        self.cluster.plane().context("this scenario needs the faults of the lab's own API server")
    }

    /// Starts an agent for Services alone on every node, with these further settings.
    pub(crate) fn start_all(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        let alone = [("cp_enable", "false"), ("svc_enable", "true"), ("address", "")];
        let all: Vec<_> = alone.iter().chain(settings).copied().collect();
        self.configure(&all)?;
        self.start_missing()
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        // What cannot be read now is not there yet; what waits for it says so in the end.
        self.cluster.get(resource, namespace, name).ok().flatten()
    }

    /// Waits until a Lease in `kube-system` names a holder.
    pub(crate) fn wait_for_leader(&self, lease: &str) -> Result<u8> {
        self.wait(&format!("a holder of {lease}"), |rig| rig.holder(&format!("kube-system/{lease}")))
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
            self.cluster.apply(&service::slice(service, family, backends))?;
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
        self.cluster.apply(&service::slice(service, Family::V4, &backends?))?;
        Ok(at)
    }

    /// Creates a Service of type LoadBalancer with these addresses, separated by commas. Gives the moment.
    pub(crate) fn create(&self, name: &str, addresses: &str, more: Value) -> Result<Stamp> {
        let object = object(name, addresses, more)?;
        let at = Stamp::now();
        self.cluster.apply(&object)?;
        Ok(at)
    }

    /// Writes the addresses into the status of a Service, as an agent does.
    pub(crate) fn set_status(&self, name: &str, addresses: &[&str]) -> Result<()> {
        let mut service = self.get("services", "default", name).context("the Service is there")?;
        let ingress: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        service["status"] = json!({"loadBalancer": {"ingress": ingress}});
        self.cluster.apply(&service)?;
        Ok(())
    }

    /// Lays a merge patch over a Service. Gives the moment.
    pub(crate) fn change(&self, name: &str, patch: &Value) -> Result<Stamp> {
        let at = Stamp::now();
        self.cluster.merge("services", "default", name, patch)?;
        Ok(at)
    }

    /// Waits until the status, the Lease and the kernels agree on one node for all these addresses of a Service.
    pub(crate) fn wait_agreed(&self, name: &str, lease: &str, addresses: &[&str]) -> Result<u8> {
        self.wait(&format!("one holder of {name} in status, Lease and kernels"), |rig| {
            let holder = rig.holder(&format!("default/{lease}"))?;
            let agreed = addresses.iter().all(|address| {
                rig.status_host(name, address) == Some(holder)
                    && (1..=NODES).all(|number| {
                        rig.has_address(number, address).is_ok_and(|has| has == (number == holder))
                    })
            });
            agreed.then_some(holder)
        })
    }

    /// The node that a Service's status names for an address.
    fn status_host(&self, name: &str, address: &str) -> Option<u8> {
        let service = self.get("services", "default", name)?;
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array()?;
        let named = ingress.iter().any(|entry| entry["ip"] == address && entry["ipMode"] == "VIP");
        let host = service["metadata"]["annotations"]["kube-vip.io/vipHost"].as_str()?;
        named.then(|| host.strip_prefix('n')?.parse().ok()).flatten()
    }

    /// Deletes a Service.
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        self.cluster.delete("services", "default", name)
    }

    /// Watches who answers for an address.
    pub(crate) fn watch(&self, addr: &str) -> Result<Detector> {
        Ok(self.lab.detect(addr.parse()?)?)
    }

    /// Probes a Service at one of its addresses, as its client does.
    pub(crate) fn probe(&self, addr: &str) -> Result<Prober> {
        Ok(self.lab.probe_service(SocketAddr::new(addr.parse()?, PORT))?)
    }

    /// Asks a Service over TCP who answers.
    pub(crate) fn ask(&self, addr: &str) -> Result<Responder> {
        let target = SocketAddr::new(addr.parse()?, PORT);
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
            let number = rig.status_host(name, addr)?;
            rig.has_address(number, addr).ok()?.then_some(number)
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

    /// What must hold at the end of every scenario: no agent has ended by itself, and the cluster is content.
    pub(crate) fn finish(&mut self) -> Result<()> {
        for (number, agent) in (1..).zip(&mut self.agents) {
            let ended = agent.as_mut().map_or(Ok(None), Program::ended)?;
            // 0 is the answer to SIGTERM, 137 that to SIGKILL.
            ensure!(matches!(ended, None | Some(0 | 137)), "the agent of n{number} ended with {ended:?}");
        }
        self.cluster.check(&self.lab)
    }
}

/// A Service of type LoadBalancer with these addresses, separated by commas; `more` is laid over its spec.
pub(crate) fn object(name: &str, addresses: &str, more: Value) -> Result<Value> {
    let parsed: Result<Vec<IpAddr>, _> = addresses.split(',').map(str::parse).collect();
    Ok(service::service(name, &parsed?, more))
}

/// Longest silence and overlap from `since` on, for so long.
pub(crate) fn gap(watch: &Detector, since: Stamp, time: Duration) -> (Duration, Duration) {
    std::thread::sleep(time);
    let (sightings, window) = (watch.sightings(), Span::new(since, Stamp::now()));
    (sightings.silence(window), sightings.overlap(window).longest)
}
