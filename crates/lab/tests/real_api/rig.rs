//! The stage of the scenarios over the real API server: three nodes with this project's binary and the lab's manifest,
//! detectors of both VIPs. Scenarios make faults through it; it gives back who answers and what clients could see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use vip_lab::bench::{Detector, Lab, Networks, Program, Shape, Span, Stamp, boot, net};
use vip_lab::scenario::agent::{self, Manifest};
use vip_lab::scenario::contender::ensure_settled;
use vip_lab::scenario::table::{Gate, Mode, Variables};

use crate::cluster::{Cluster, Judges, check_rights};

/// Number of nodes.
const NODES: u8 = 3;
/// Not `admin.conf`: a kubeconfig that is named is dialled as written.
const KUBECONFIG: &str = "/etc/kubernetes/agent.conf";
/// The Lease of the control plane's election.
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/plndr-cp-lock";
/// How long the slowest take-over may take before the scenario gives up.
const LIMIT: Duration = Duration::from_secs(12);
/// The answers to the newest questions may be on their way for so long.
const ON_ITS_WAY: Duration = Duration::from_millis(50);
/// A time after which everything that a start or a take-over sets off has happened.
pub(crate) const SETTLED: Duration = Duration::from_millis(1500);

/// What was seen of the VIPs in a window, the worse of both families.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The longest time in which nobody answered.
    pub(crate) silence: Duration,
    /// The longest time in which two nodes answered.
    pub(crate) overlap: Duration,
}

/// The bench with its agents.
pub(crate) struct Rig {
    // Dropped in this order: programs before the nodes that they run in.
    agents: BTreeMap<u8, Program>,
    detectors: [Detector; 2],
    cluster: Cluster,
    lab: Lab,
    binary: PathBuf,
    set: Variables,
}

impl Rig {
    /// Raises bench and cluster, without agents.
    pub(crate) fn raise(judges: &Judges) -> Result<Self> {
        Self::raise_with(1, &[], judges)
    }

    /// The same with so many members of etcd and these variables of agents.
    pub(crate) fn raise_with(members: u16, set: Variables, judges: &Judges) -> Result<Self> {
        let logs = std::env::temp_dir().join(format!("lab-real-api-{}", boot::launcher()));
        let lab = Lab::raise(&Shape { nodes: NODES, networks: Networks::One, logs })?;
        let binary = agent::binary()?;
        let logs = || format!("starting the real API server; the logs are in {}", lab.logs().display());
        let cluster = Cluster::start_with((members, set), &lab, judges, &binary).with_context(logs)?;
        for node in lab.nodes() {
            node.write(KUBECONFIG, cluster.kubeconfig())?;
        }
        let [v4, v6] = net::vips();
        let detectors = [lab.detect(v4)?, lab.detect(v6)?];
        Ok(Self { agents: BTreeMap::new(), detectors, cluster, lab, binary, set })
    }

    /// The folder of the logs.
    pub(crate) fn logs(&self) -> &Path {
        self.lab.logs()
    }

    /// The rights that the agents have were enough.
    pub(crate) fn check_rights(&self) -> Result<()> {
        check_rights(&self.lab, &[])
    }

    /// Starts the agent of a node where none runs.
    pub(crate) fn start(&mut self, number: u8) -> Result<()> {
        let mut manifest = Manifest::parse(agent::MANIFEST)?.with(Mode::Lease.variables());
        manifest.set("k8s_config_file", KUBECONFIG);
        for (name, value) in self.set {
            manifest.set(name, value);
        }
        let node = self.lab.node(number)?;
        let program = node.start(&manifest.spawn(node.name(), Gate::Off, &self.binary, self.lab.logs()))?;
        ensure!(self.agents.insert(number, program).is_none(), "an agent runs on n{number} already");
        Ok(())
    }

    /// Starts the agents that don't run, on nodes with power.
    pub(crate) fn start_missing(&mut self) -> Result<()> {
        let powered = self.lab.nodes().iter().filter(|node| node.powered());
        let missing: Vec<u8> = powered.map(vip_lab::bench::Node::number).collect();
        for number in missing {
            if !self.agents.contains_key(&number) {
                self.start(number)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, number: u8) -> Result<Program> {
        self.agents.remove(&number).with_context(|| format!("no agent runs on n{number}"))
    }

    /// SIGTERM; it must end by itself and well. Gives the moment.
    pub(crate) fn terminate(&mut self, number: u8) -> Result<Stamp> {
        let mut program = self.take(number)?;
        let at = Stamp::now();
        program.signal(Signal::SIGTERM)?;
        let code = program.wait(Duration::from_secs(3))?;
        ensure!(code == 0, "the agent of n{number} ended with code {code} after SIGTERM");
        Ok(at)
    }

    /// SIGKILL. Gives the moment.
    pub(crate) fn kill(&mut self, number: u8) -> Result<Stamp> {
        let mut program = self.take(number)?;
        let at = Stamp::now();
        program.signal(Signal::SIGKILL)?;
        program.wait(Duration::from_secs(3))?;
        Ok(at)
    }

    /// The node loses its power, and its agent with it. Gives the moment.
    pub(crate) fn power_off(&mut self, number: u8) -> Result<Stamp> {
        let mut program = self.take(number)?;
        let at = self.lab.power_off(number)?;
        program.wait(Duration::from_secs(3))?;
        Ok(at)
    }

    /// All nodes have power, and all members of etcd run.
    pub(crate) fn repair(&mut self) -> Result<()> {
        self.cluster.start_members()?;
        let dark: Vec<u8> = self
            .lab
            .nodes()
            .iter()
            .filter(|node| !node.powered())
            .map(vip_lab::bench::Node::number)
            .collect();
        for number in dark {
            self.lab.power_on(number)?;
            self.lab.node(number)?.write(KUBECONFIG, self.cluster.kubeconfig())?;
        }
        Ok(())
    }

    /// The cluster.
    pub(crate) const fn cluster(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// Waits until all agents know each other and the jury of the holder vouches.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            self.pass(Duration::from_millis(50))?;
            let nodes: Vec<_> = self.lab.nodes().iter().filter(|node| node.powered()).collect();
            match ensure_settled(&nodes) {
                Ok(()) => return Ok(()),
                Err(why) if begin.elapsed() > LIMIT => return Err(why),
                Err(_) => {}
            }
        }
    }

    /// A VIP is taken from a node by somebody's hand; 0 is the IPv4 one. Gives the moment.
    pub(crate) fn remove(&self, number: u8, family: usize) -> Result<Stamp> {
        Ok(self.lab.node(number)?.remove_address(net::vips()[family])?)
    }

    /// Lets time pass, and fails when an agent ends by itself in it.
    pub(crate) fn pass(&mut self, time: Duration) -> Result<()> {
        std::thread::sleep(time);
        for (number, program) in &mut self.agents {
            if let Some(code) = program.ended()? {
                bail!("the agent of n{number} ended by itself with code {code}");
            }
        }
        Ok(())
    }

    /// The one node that answers for both VIPs now, if it is the one that the Lease in the real API server names.
    fn holder_now(&self) -> Result<Option<u8>> {
        let window = Span::new(Stamp::now().before(ON_ITS_WAY), Stamp::now());
        let mut found = None;
        for detector in &self.detectors {
            let who: Vec<_> = detector.sightings().answerers(window).into_keys().collect();
            let [mac] = who[..] else { return Ok(None) };
            if found.is_some_and(|known| Some(known) != mac.node()) {
                return Ok(None);
            }
            found = mac.node();
        }
        let lease = self.cluster.get(LEASE)?.unwrap_or_default();
        let named = found.is_some_and(|node| lease["spec"]["holderIdentity"] == format!("n{node}"));
        Ok(found.filter(|_| named))
    }

    /// Waits until one node answers for both VIPs and the Lease names it.
    pub(crate) fn holder(&mut self) -> Result<u8> {
        let begin = Instant::now();
        loop {
            self.pass(Duration::from_millis(20))?;
            if let Some(node) = self.holder_now()? {
                return Ok(node);
            }
            if begin.elapsed() > LIMIT {
                bail!("no holder after {LIMIT:?}; the Lease is {:?}", self.cluster.get(LEASE)?);
            }
        }
    }

    /// What clients could see from `from` until now.
    pub(crate) fn seen(&self, from: Stamp) -> Seen {
        let window = Span::new(from, Stamp::now());
        std::thread::sleep(ON_ITS_WAY);
        let mut worst = Seen::default();
        for sightings in self.detectors.each_ref().map(Detector::sightings) {
            worst.silence = worst.silence.max(sightings.silence(window));
            worst.overlap = worst.overlap.max(sightings.overlap(window).longest);
        }
        worst
    }
}
