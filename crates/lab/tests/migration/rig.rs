//! The stage of the migration scenarios: a bench whose nodes run one of two kinds of contender each, the elector (which
//! elects with client-go and treats the VIP as the Go program does) or this project's binary, all over the lab's API
//! server. Scenarios start and stop contenders; detectors see who answers for the VIP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use vip_lab::api::{Identity, Login};
use vip_lab::bench::{Detector, Lab, Mac, Networks, Program, Shape, Span, Spawn, Stamp, boot, net};
use vip_lab::scenario::agent::{self, Manifest};
use vip_lab::scenario::control_plane::{ControlPlane, PORT};
use vip_lab::scenario::table::{Gate, Mode};

use crate::history::{self, History, LEASE, Record};

/// Where the elector finds its kubeconfig.
const KUBECONFIG: &str = "/etc/kubernetes/elector.conf";
/// How long the slowest take-over may take: 5 s of lease, and the elector looks every 1 to 2.2 s.
pub(crate) const LIMIT: Duration = Duration::from_secs(12);

/// What runs on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// client-go's election around `ip address`.
    Elector,
    /// This project's binary in mode `lease`.
    Ours,
    /// The same in mode `session`, its default.
    OursInSession,
}

/// What was seen of the VIP in a window, the worse of both families.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The longest time in which two nodes answered.
    pub(crate) overlap: Duration,
    /// The longest time in which nobody answered.
    pub(crate) silence: Duration,
}

/// The bench with its contenders.
pub(crate) struct Rig {
    // Dropped in this order: programs before the nodes that they run in.
    running: BTreeMap<u8, (Kind, Program)>,
    detectors: [Detector; 2],
    plane: ControlPlane,
    lab: Lab,
    elector: PathBuf,
    binary: PathBuf,
    /// The version of the store when the Lease was last deleted by hand: its history begins anew.
    deleted: u64,
}

impl Rig {
    /// Raises a bench without contenders.
    pub(crate) fn raise(nodes: u8, elector: &Path) -> Result<Self> {
        let logs = std::env::temp_dir().join(format!("lab-migration-{}", boot::launcher()));
        let lab = Lab::raise(&Shape { nodes, networks: Networks::One, logs })?;
        let plane = ControlPlane::start(&lab)?;
        let credentials = plane.server().credentials();
        for node in lab.nodes() {
            let url = format!("https://127.0.0.1:{PORT}");
            let local = credentials.kubeconfig(Login::Certificate(&Identity::admin()), &url)?;
            node.write(KUBECONFIG, &local)?;
            node.write("/etc/kubernetes/admin.conf", &plane.admin_conf()?)?;
        }
        let [v4, v6] = net::vips();
        let detectors = [lab.detect(v4)?, lab.detect(v6)?];
        let (elector, binary) = (elector.to_owned(), agent::binary()?);
        Ok(Self { running: BTreeMap::new(), detectors, plane, lab, elector, binary, deleted: 0 })
    }

    /// The bench.
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Starts a contender on a node where none runs. Gives the moment.
    pub(crate) fn start(&mut self, number: u8, kind: Kind) -> Result<Stamp> {
        let node = self.lab.node(number)?;
        let spawn = match kind {
            Kind::Elector => self.elector(node.name()),
            Kind::Ours | Kind::OursInSession => {
                let mode = if kind == Kind::Ours { Mode::Lease } else { Mode::Session };
                let manifest = Manifest::parse(agent::MANIFEST)?.with(mode.variables());
                manifest.spawn(node.name(), Gate::Off, &self.binary, self.lab.logs())
            }
        };
        let program = node.start(&spawn)?;
        let started = program.started();
        ensure!(self.running.insert(number, (kind, program)).is_none(), "something runs on n{number}");
        Ok(started)
    }

    fn elector(&self, name: &str) -> Spawn {
        let [v4, v6] = net::vips();
        let on_start = format!(
            "ip addr replace {v4}/32 dev eth0 preferred_lft 0; ip addr replace {v6}/128 dev eth0 preferred_lft 0 nodad"
        );
        let on_stop = format!("ip addr del {v4}/32 dev eth0; ip addr del {v6}/128 dev eth0; true");
        let lease = format!("{}/{}", LEASE.0, LEASE.1);
        let timings = ["--duration", "5", "--renew", "3", "--retry", "1"];
        let given = ["--kubeconfig", KUBECONFIG, "--lease", &lease, "--id", name];
        let commands = ["--on-start", &on_start, "--on-stop", &on_stop];
        Spawn {
            name: format!("elector on {name}"),
            program: self.elector.clone(),
            args: [&given[..], &timings, &commands].concat().into_iter().map(Into::into).collect(),
            env: Vec::new(),
            log: self.lab.logs().join(format!("{name}-elector.log")),
        }
    }

    /// SIGTERM; it must end well within its promise. Gives the moments of the signal and of the end.
    pub(crate) fn terminate(&mut self, number: u8) -> Result<Span> {
        let (kind, mut program) = self.running.remove(&number).context("nothing runs there")?;
        let at = Stamp::now();
        program.signal(Signal::SIGTERM)?;
        let code = program.wait(Duration::from_secs(3))?;
        ensure!(code == 0, "{kind:?} on n{number} ended with code {code} after SIGTERM");
        Ok(Span::new(at, Stamp::now()))
    }

    /// SIGKILL. Gives the moment.
    pub(crate) fn kill(&mut self, number: u8) -> Result<Stamp> {
        let (_, mut program) = self.running.remove(&number).context("nothing runs there")?;
        let at = Stamp::now();
        program.signal(Signal::SIGKILL)?;
        program.wait(Duration::from_secs(3))?;
        Ok(at)
    }

    /// What runs on a node.
    pub(crate) fn kind(&self, number: u8) -> Option<Kind> {
        self.running.get(&number).map(|(kind, _)| *kind)
    }

    /// Nodes on which something runs.
    pub(crate) fn nodes(&self) -> Vec<u8> {
        self.running.keys().copied().collect()
    }

    /// The Lease now.
    pub(crate) fn lease(&self) -> Option<Record> {
        Record::now(self.plane.server().store())
    }

    /// Deletes the Lease, as an operator would.
    pub(crate) fn delete_lease(&mut self) {
        let store = self.plane.server().store();
        store.delete(history::leases(), LEASE.0, LEASE.1);
        self.deleted = store.version();
    }

    /// The node that the Lease names.
    pub(crate) fn holder(&self) -> Option<u8> {
        self.lease()?.holder.strip_prefix('n')?.parse().ok()
    }

    /// Waits until a running node that `wanted` accepts holds the Lease and answers in both families; gives the node and
    /// the first answer after `since` in the slower family.
    pub(crate) fn wait_holder(&mut self, since: Stamp, wanted: impl Fn(u8) -> bool) -> Result<(u8, Stamp)> {
        let begin = Instant::now();
        loop {
            self.check_running()?;
            if let Some(holder) = self.holder().filter(|&node| self.kind(node).is_some() && wanted(node))
                && let Some(at) = self.answers_since(holder, since)
            {
                return Ok((holder, at));
            }
            if begin.elapsed() > LIMIT {
                bail!("no take-over after {LIMIT:?}; the Lease is {:?}; {}", self.lease(), self.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// When a node first answered after `since`, once it has done so in both families and still does.
    fn answers_since(&self, number: u8, since: Stamp) -> Option<Stamp> {
        let mac = Mac::of(net::NODES + number);
        let fresh = Stamp::now().before(Duration::from_millis(50));
        let spans = self.detectors.each_ref().map(|detector| {
            let window = Span::new(since, Stamp::now());
            detector.sightings().answerers(window).get(&mac).filter(|span| span.until >= fresh).copied()
        });
        Some(spans[0]?.from.max(spans[1]?.from))
    }

    /// Lets time pass, and fails when a contender ends by itself in it.
    pub(crate) fn pass(&mut self, time: Duration) -> Result<()> {
        std::thread::sleep(time);
        self.check_running()
    }

    fn check_running(&mut self) -> Result<()> {
        for (number, (kind, program)) in &mut self.running {
            if let Some(code) = program.ended()? {
                bail!("{kind:?} on n{number} ended by itself with code {code}");
            }
        }
        Ok(())
    }

    /// What clients could see from `from` until `until`.
    pub(crate) fn seen(&self, from: Stamp, until: Stamp) -> Seen {
        let mut worst = Seen::default();
        for detector in &self.detectors {
            let (sightings, window) = (detector.sightings(), Span::new(from, until));
            let mut run = 0;
            // The answer to the newest question may still be on its way.
            for question in sightings.questions.iter().filter(|question| window.holds(question.sent)) {
                run = if question.answers.is_empty() { run + 1 } else { 0 };
                worst.silence = worst.silence.max(sightings.period * run);
            }
            worst.overlap = worst.overlap.max(sightings.overlap(window).longest);
        }
        worst
    }

    /// The addresses of a node as its kernel shows them.
    pub(crate) fn addresses(&self, number: u8) -> Result<String> {
        let mut ip = std::process::Command::new("ip");
        Ok(self.lab.node(number)?.place()?.run(ip.args(["address", "show", "dev", "eth0"]))?)
    }

    /// What `kube-vip status` says on a node.
    pub(crate) fn status(&self, number: u8) -> Result<String> {
        let node = self.lab.node(number)?;
        let log = self.lab.logs().join(format!("{}-status.txt", node.name()));
        let spawn = Spawn {
            name: "kube-vip status".to_owned(),
            program: self.binary.clone(),
            args: vec!["status".into()],
            env: Vec::new(),
            log: log.clone(),
        };
        let code = node.start(&spawn)?.wait(Duration::from_secs(3))?;
        let said = std::fs::read_to_string(log)?;
        ensure!(code == 0, "`kube-vip status` ended with code {code}: {said}");
        Ok(said)
    }

    /// The checks that every scenario ends with: the Lease's history keeps client-go's rules, no elector complained, and
    /// nobody asked the API server for what it doesn't do. Gives the history.
    pub(crate) fn finish(&mut self) -> Result<History> {
        self.check_running()?;
        let history = History::after(self.deleted, self.plane.server().store());
        ensure!(history.broken.is_empty(), "the Lease:\n{}\n{history}", history.broken.join("\n"));
        let complaints = self.complaints()?;
        ensure!(complaints.is_empty(), "electors complain:\n{}", complaints.join("\n"));
        let missing = self.plane.server().not_implemented();
        ensure!(missing.is_empty(), "asked for what the API server doesn't do: {}", missing.join(", "));
        Ok(history)
    }

    /// Errors that electors logged. To lose a race is none: the API server then refuses the later of two writes.
    fn complaints(&self) -> Result<Vec<String>> {
        let (mut found, mut races) = (Vec::new(), 0);
        for node in self.lab.nodes() {
            let file = self.lab.logs().join(format!("{}-elector.log", node.name()));
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            ensure!(
                text.contains("attempting to acquire leader lease"),
                "{}: no elector's log",
                file.display()
            );
            for line in text.lines().filter(|line| is_error(line)) {
                if line.contains("the object has been modified") || line.contains("already exists") {
                    races += 1;
                } else if line.ends_with(": terminated signal received") {
                    // It was told to stop while it asked.
                } else {
                    found.push(format!("{}: {line}", node.name()));
                }
            }
        }
        println!("  electors complained {} times and lost {races} races", found.len());
        Ok(found)
    }

    fn logs(&self) -> String {
        format!("the logs are in {}", self.lab.logs().display())
    }

    /// All went well: the logs can go.
    pub(crate) fn drop_logs(&self) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.lab.logs())?)
    }
}

/// Is it an error as klog writes it (`E1121 05:37:07.766220 …`)?
fn is_error(line: &str) -> bool {
    let mut signs = line.chars();
    matches!(signs.next(), Some('E' | 'F')) && signs.next().is_some_and(|sign| sign.is_ascii_digit())
}
