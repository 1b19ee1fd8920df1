//! The stage of all scenarios: bench, API servers and one agent per node. `act` does one thing to it, `restore` brings it
//! back to health, whatever was done. Made by `demo`, `suite` and `console`; played on by `play`.

mod flood;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::agent::Manifest;
use super::contender::{self, Contender};
use super::control_plane::{ControlPlane, PORT};
use super::screen::Screen;
use super::table::{Action, Deed, Flooded, Gate, Health, Setup, Variables};
use crate::bench::{Lab, Networks, Node, Prober, Program, Shape, Spawn, Stamp, net};

/// Nodes of a stage that does not say otherwise.
pub const NODES: u8 = 3;
/// An agent that got SIGTERM must be gone after this (3 s with a dead API, and a reserve for a busy machine).
const STOP_LIMIT: Duration = Duration::from_secs(6);
/// After a repair the VIP must be back after this.
const REPAIR_LIMIT: Duration = Duration::from_secs(20);
/// Sessions need a jury, and a restarted juror listens for a second before it vouches.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
/// A command of an operator is over after this.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// UDP port of heartbeats.
pub const BEATS: u16 = 7949;
/// Agents without heartbeats: members never hear each other.
pub const WITHOUT_HEARTBEATS: Variables = &[("peers", "false")];

/// Bench, API servers and agents.
#[derive(Debug)]
pub struct Stage {
    // Dropped in this order: agents before the nodes that they run in.
    agents: Vec<Option<Program>>,
    /// Which agents were told to end since their start; any other end is a crash.
    told: Vec<bool>,
    plane: ControlPlane,
    lab: Lab,
    contender: Contender,
    binary: PathBuf,
    setup: Setup,
    /// Whether some agents were started with another setup.
    mixed: bool,
    /// How long fresh agents are left alone.
    settling: Duration,
    filtered: bool,
    /// The node that an operator drained.
    drained: Option<u8>,
    /// What floods a node.
    flood: Option<flood::Flooding>,
    screen: Screen,
}

impl Stage {
    /// Builds everything for agents of this manifest, but starts none yet.
    pub fn set(manifest: Manifest, logs: &Path) -> Result<Self> {
        let shape = Shape { nodes: NODES, networks: Networks::One, logs: logs.to_owned() };
        Self::set_for(Contender::KubeVip(manifest), &shape)
    }

    /// The same for other contenders, on a bench of this shape.
    pub fn set_for(contender: Contender, shape: &Shape) -> Result<Self> {
        let binary = contender.binary()?;
        let lab = Lab::raise(shape)?;
        let plane = ControlPlane::start(&lab)?;
        let screen = Screen::with_copy(&shape.logs);
        let agents = lab.nodes().iter().map(|_| None).collect();
        let told = vec![false; lab.nodes().len()];
        let stage = Self {
            agents,
            told,
            plane,
            lab,
            contender,
            binary,
            setup: Setup::default(),
            mixed: false,
            settling: Duration::ZERO,
            filtered: false,
            drained: None,
            flood: None,
            screen,
        };
        for node in stage.lab.nodes() {
            stage.furnish(node)?;
        }
        Ok(stage)
    }

    /// The bench.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The API servers.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Where to write to.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// The agent of a node, if it was started.
    pub fn agent(&self, number: u8) -> Option<&Program> {
        self.agents.get(usize::from(number).wrapping_sub(1)).and_then(Option::as_ref)
    }

    /// The numbers of its nodes.
    pub fn numbers(&self) -> impl Iterator<Item = u8> + use<> {
        (1..).take(self.agents.len())
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// From now on fresh agents are left alone for so long before a run begins.
    pub fn settle_for(&mut self, time: Duration) {
        self.settling = time;
    }

    /// Writes the files that kubeadm leaves on a control-plane node.
    fn furnish(&self, node: &Node) -> Result<()> {
        node.write("/etc/kubernetes/admin.conf", &self.plane.admin_conf()?)?;
        node.write("/etc/kubernetes/pki/ca.crt", self.plane.authority())?;
        Ok(())
    }

    /// Does one thing; `victim` is the node that it hits. Gives the moment right before.
    pub fn act(&mut self, action: Action, victim: u8) -> Result<Stamp> {
        let name = format!("n{victim}");
        let now = Stamp::now();
        match action {
            Action::Signal(signal) => {
                self.running(victim)?.signal(signal)?;
                self.told[usize::from(victim) - 1] |= matches!(signal, Signal::SIGTERM | Signal::SIGKILL);
            }
            Action::Ended(limit) => self.expect_end(victim, limit)?,
            Action::StartVictim => self.start(victim)?,
            Action::StopAll => self.stop_all()?,
            Action::StartAll => self.start_all()?,
            Action::Restart(number) => self.restart(number, &[])?,
            Action::RestartWith(number, set) => self.restart(number, set)?,
            Action::RestartVictim => self.restart(victim, &[])?,
            Action::PowerOff => return self.power_off(victim),
            Action::PowerOffOther => return self.power_off(another_than(victim)),
            Action::PullCable => {
                let at = self.lab.node(victim)?.pull_cable(self.lab.switch())?;
                self.plane.set(self.lab.node(victim)?, Health::Alone);
                return Ok(at);
            }
            Action::Cut => {
                let at = self.lab.node(victim)?.cut(self.lab.switch())?;
                self.plane.set(self.lab.node(victim)?, Health::Alone);
                return Ok(at);
            }
            Action::Uncut => {
                self.plane.set(self.lab.node(victim)?, Health::Serving);
                return Ok(self.lab.node(victim)?.heal(self.lab.switch())?);
            }
            Action::CutFromClients => {
                return Ok(self.lab.node(victim)?.cut_from_clients(self.lab.switch())?);
            }
            Action::CutFromNodes => {
                let at = self.lab.node(victim)?.cut_from_nodes(self.lab.switch())?;
                self.plane.set(self.lab.node(victim)?, Health::Alone);
                return Ok(at);
            }
            Action::BlockBeatsOfVictim => {
                self.filtered = true;
                self.lab.switch().drop_udp_of(&name, BEATS)?;
            }
            Action::BlockBeats => {
                self.filtered = true;
                self.lab.switch().drop_udp(BEATS)?;
            }
            Action::Unfilter => self.unfilter()?,
            Action::Api(health) => self.plane.set_all(health),
            Action::VictimApi(health) => self.plane.set(self.lab.node(victim)?, health),
            Action::CutFromApi => {
                self.filtered = true;
                self.lab.switch().drop_tcp(&name, PORT)?;
                let at = Stamp::now();
                self.plane.cut(self.lab.node(victim)?);
                return Ok(at);
            }
            Action::RemoveVip => self.remove_vips(victim)?,
            Action::ProlongVip6 => self.prolong_vip6(victim)?,
            Action::Flood(Flooded::Victim, length) => self.flood(victim, length)?,
            Action::Flood(Flooded::Another, length) => self.flood(another_than(victim), length)?,
            Action::FloodEnds => self.end_flood()?,
            Action::Operate(deed) => self.operate(deed, victim)?,
        }
        Ok(now)
    }

    fn remove_vips(&self, victim: u8) -> Result<()> {
        for vip in net::vips() {
            self.lab.node(victim)?.remove_address(vip)?;
        }
        Ok(())
    }

    fn prolong_vip6(&self, victim: u8) -> Result<()> {
        for vip in net::vips().into_iter().filter(std::net::IpAddr::is_ipv6) {
            self.lab.node(victim)?.prolong_address(vip, 6)?;
        }
        Ok(())
    }

    /// An operator's command against the victim, carried out on another node.
    fn operate(&mut self, deed: Deed, victim: u8) -> Result<()> {
        let name = format!("n{victim}");
        match deed {
            Deed::Drain => {
                self.drained = Some(victim);
                self.command(another_than(victim), &["drain", &name])
            }
            Deed::HandOver => self.command(another_than(victim), &["handover", "control-plane"]),
            Deed::Drill(kind) => {
                let from = another_than(victim);
                self.command(from, &["drill", "control-plane", "--kind", kind.as_str(), "-o", "json"])?;
                check_drill(&self.lab.logs().join(format!("n{from}-drill.log")), &name)
            }
        }
    }

    /// Runs the binary under test on a node, as the administrator, until it ends well.
    fn command(&self, number: u8, words: &[&str]) -> Result<()> {
        let node = self.lab.node(number)?;
        let spoken = words.join(" ");
        let log = self.lab.logs().join(format!("n{number}-{}.log", words[0]));
        let words = words.iter().chain(&["--kubeconfig", "/etc/kubernetes/admin.conf"]);
        let (args, env) = (words.map(Into::into).collect(), Vec::new());
        let name = format!("kube-vip {spoken} on n{number}");
        let spawn = Spawn { name, program: self.binary.clone(), args, env, log };
        let code = node.start(&spawn)?.wait(COMMAND_LIMIT)?;
        if code != 0 {
            bail!("`kube-vip {spoken}` on n{number} ended with code {code}; see its log");
        }
        Ok(())
    }

    fn undrain(&mut self) -> Result<()> {
        let Some(drained) = self.drained.take() else { return Ok(()) };
        self.command(another_than(drained), &["undrain", &format!("n{drained}")])
    }

    /// The running agent of a node.
    fn running(&self, number: u8) -> Result<&Program> {
        self.agent(number).with_context(|| format!("no agent runs on n{number}"))
    }

    fn power_off(&mut self, number: u8) -> Result<Stamp> {
        let at = self.lab.power_off(number)?;
        self.plane.power_off(self.lab.node(number)?);
        self.agents[usize::from(number) - 1] = None;
        Ok(at)
    }

    fn start(&mut self, number: u8) -> Result<()> {
        self.start_as(number, self.setup)
    }

    fn start_as(&mut self, number: u8, setup: Setup) -> Result<()> {
        // One that was killed may still be dying, with its ports and sockets in its hands.
        self.agents[usize::from(number) - 1] = None;
        let node = self.lab.node(number)?;
        let spawn = self.contender.spawn(node, setup, (&self.binary, self.lab.logs()))?;
        self.agents[usize::from(number) - 1] = Some(node.start(&spawn)?);
        self.told[usize::from(number) - 1] = false;
        Ok(())
    }

    /// Ends an agent in good order and starts it, with other variables if there are some.
    fn restart(&mut self, number: u8, set: Variables) -> Result<()> {
        self.stop(&[number])?;
        if set.is_empty() {
            return self.start(number);
        }
        self.mixed = true;
        self.start_as(number, Setup { set, ..self.setup })
    }

    fn unfilter(&mut self) -> Result<()> {
        if self.filtered {
            self.lab.switch().clear_filters()?;
            self.filtered = false;
        }
        Ok(())
    }

    /// Starts the agents that don't run, on all nodes that have power.
    pub fn start_all(&mut self) -> Result<()> {
        for number in self.numbers() {
            let slot = &mut self.agents[usize::from(number) - 1];
            let gone =
                slot.as_mut().map_or(Ok(true), |program| program.ended().map(|code| code.is_some()))?;
            if gone && self.lab.node(number)?.powered() {
                self.start(number)?;
            }
        }
        Ok(())
    }

    fn stop_all(&mut self) -> Result<()> {
        let all: Vec<u8> = self.numbers().collect();
        self.stop(&all)
    }

    /// Ends the agents of these nodes in good order; an error if one doesn't obey or says that something went wrong.
    fn stop(&mut self, numbers: &[u8]) -> Result<()> {
        let mut told = Vec::new();
        for &number in numbers {
            let Some(mut program) = self.agents[usize::from(number) - 1].take() else { continue };
            if program.ended()?.is_none() {
                program.signal(Signal::SIGTERM)?;
                told.push((number, program));
            }
        }
        for (number, mut program) in told {
            let code = program.wait(STOP_LIMIT)?;
            if code != 0 {
                bail!("the agent of n{number} ended with code {code} after SIGTERM; see its log");
            }
        }
        Ok(())
    }

    /// The agent of a node ends within `limit`, and says that all went well.
    fn expect_end(&mut self, number: u8, limit: Duration) -> Result<()> {
        let slot = self.agents[usize::from(number) - 1].as_mut();
        let code = slot.with_context(|| format!("no agent ran on n{number}"))?.wait(limit)?;
        if code != 0 {
            bail!("the agent of n{number} ended with code {code}; see its log");
        }
        Ok(())
    }

    /// Brings everything back to health: power, cables, filters, API servers, agents with the wanted setup; then waits
    /// until the VIP answers in both families and has done so for half a second, and all members know each other.
    pub fn restore(&mut self, setup: Setup) -> Result<()> {
        self.repair()?;
        self.undrain()?;
        // An agent yields for its health gate at most once a minute: with the gate every run begins with fresh agents.
        let anew = self.setup != setup || self.mixed || setup.gate == Gate::On;
        if anew || self.contender.begins_anew() {
            self.stop_all()?;
            (self.setup, self.mixed) = (setup, false);
        }
        if self.contender.begins_anew() {
            contender::forget_neighbours(self.lab.client())?;
        }
        self.start_all()?;
        self.wait_steady()?;
        self.wait_settled()?;
        std::thread::sleep(self.settling);
        Ok(())
    }

    fn wait_settled(&mut self) -> Result<()> {
        let is_deaf = self.setup.set == WITHOUT_HEARTBEATS;
        if is_deaf || matches!(self.contender, Contender::Keepalived(_)) {
            return Ok(());
        }
        let begin = Instant::now();
        loop {
            let nodes: Vec<&Node> = self.lab.nodes().iter().collect();
            match contender::ensure_settled(&nodes) {
                Ok(()) => return Ok(()),
                Err(why) if begin.elapsed() > SETTLE_LIMIT => {
                    self.check_agents()?;
                    return Err(why.context(format!("sessions do not settle within {SETTLE_LIMIT:?}")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn wait_steady(&mut self) -> Result<()> {
        let probers = net::vips().map(|vip| self.lab.probe(vip));
        for prober in probers {
            let prober = prober?;
            if !steady(&prober) {
                // A dead agent is the better explanation.
                self.check_agents()?;
                let vip = prober.vip();
                bail!(
                    "{vip} does not answer {REPAIR_LIMIT:?} after everything was repaired; see the logs in {}",
                    self.lab.logs().display()
                );
            }
        }
        Ok(())
    }

    fn repair(&mut self) -> Result<()> {
        self.flood = None;
        self.unfilter()?;
        self.plane.set_all(Health::Serving);
        for number in self.numbers() {
            if !self.lab.node(number)?.powered() {
                self.lab.power_on(number)?;
                let node = self.lab.node(number)?;
                self.furnish(node)?;
                self.plane.power_on(node)?;
            }
            let node = self.lab.node(number)?;
            self.plane.set(node, Health::Serving);
            node.plug_cable(self.lab.switch())?;
            node.heal(self.lab.switch())?;
            if let Some(program) = self.agent(number) {
                // Only a stopped one notices; a dead one is started again.
                let _ = program.signal(Signal::SIGCONT);
            }
        }
        Ok(())
    }

    /// Which node answers now for the VIP.
    pub fn holder(&self, prober: &Prober) -> Option<u8> {
        let fresh = Stamp::now().before(Duration::from_millis(200));
        prober.last_answer().filter(|answer| answer.at >= fresh).map(|answer| answer.node)
    }

    /// No agent has ended but those that were told to.
    pub fn check_agents(&mut self) -> Result<()> {
        for (number, (agent, told)) in (1..).zip(self.agents.iter_mut().zip(&self.told)) {
            let ended = agent.as_mut().map_or(Ok(None), Program::ended)?;
            if let (Some(code), false) = (ended, told) {
                bail!("the agent of n{number} ended by itself with code {code}; see its log");
            }
        }
        Ok(())
    }

    /// What clients asked for and the API server doesn't do; must stay empty.
    pub fn check_api(&self) -> Result<()> {
        let missing = self.plane.server().not_implemented();
        if missing.is_empty() {
            return Ok(());
        }
        bail!("the lab's API server was asked for what it doesn't do: {}", missing.join(", "))
    }
}

/// Another node.
const fn another_than(victim: u8) -> u8 {
    if victim == 1 { 2 } else { 1 }
}

/// Does this VIP answer without a pause for half a second, at last?
fn steady(prober: &Prober) -> bool {
    let begin = Instant::now();
    let (mut since, mut last) = (None, None);
    while begin.elapsed() < REPAIR_LIMIT {
        std::thread::sleep(Duration::from_millis(10));
        let seen = prober.last_answer();
        let fresh = seen.is_some_and(|answer| Stamp::now().since(answer.at) < Duration::from_millis(50));
        let node = seen.map(|answer| answer.node);
        if !fresh || node != last {
            (since, last) = (Some(Instant::now()), node);
        } else if since.is_some_and(|since: Instant| since.elapsed() > Duration::from_millis(500)) {
            return true;
        }
    }
    false
}

/// Whether a drill's report says that another node than `victim` has the VIP, by the looks of both others.
fn check_drill(log: &std::path::Path, victim: &str) -> Result<()> {
    let text = std::fs::read_to_string(log).with_context(|| format!("the log {}", log.display()))?;
    // One log for all runs: the last report counts.
    let all = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
    let report =
        all.last().and_then(Result::ok).with_context(|| format!("`kube-vip drill` said no JSON: {text}"))?;
    let observers = report["observers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let moved =
        |seen: &serde_json::Value| seen["owner_after"] != victim && seen["owner_after"] == report["after"];
    if report["before"] != victim || observers.len() != 2 || !observers.iter().all(moved) {
        bail!("`kube-vip drill` of {victim} reports {report}");
    }
    Ok(())
}
