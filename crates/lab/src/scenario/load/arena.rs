//! Where Services are measured: three nodes with agents for Services alone, each beside an endpoint of the lab's API
//! server, and Services that ask for addresses of a network behind no router.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::api::{Identity, Kind, Login, Store, Verb};
use crate::bench::program::Usage;
use crate::bench::{Lab, Node, Program, Shape, Stamp, net};
use crate::scenario::agent::{self, Manifest};
use crate::scenario::control_plane::{ControlPlane, PORT};
use crate::scenario::screen::Screen;
use crate::scenario::service::{self, Backend, Family, Standing};
use crate::scenario::table::{Gate, Mode};

const NODES: u8 = 3;
/// An agent must be gone after this, also one that lets go of thousands of Leases.
const STOP_LIMIT: Duration = Duration::from_secs(6);
/// What lives in the store because of Services.
const KINDS: [&str; 4] = ["services", "endpointslices", "leases", "events"];

/// How the holders of Services are elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// One Lease for all of them.
    Global,
    /// A Lease for each.
    PerService,
}

/// Bench, API servers and agents.
pub(super) struct Arena {
    // Dropped in this order: agents before the nodes that they run in.
    agents: Vec<Program>,
    plane: ControlPlane,
    lab: Lab,
    binary: PathBuf,
    screen: Screen,
}

impl Arena {
    /// Builds everything; no agent runs yet.
    pub(super) fn raise(logs: &Path) -> Result<Self> {
        let binary = agent::binary()?;
        let lab = Lab::raise(&Shape {
            nodes: NODES,
            networks: crate::bench::Networks::One,
            logs: logs.to_owned(),
        })?;
        let plane = ControlPlane::start(&lab)?;
        let arena = Self { agents: Vec::new(), plane, lab, binary, screen: Screen::with_copy(logs) };
        for node in arena.lab.nodes() {
            arena.furnish(node)?;
        }
        Ok(arena)
    }

    /// The way to the API server that a DaemonSet has: an address that no agent here manages.
    fn furnish(&self, node: &Node) -> Result<()> {
        let credentials = self.plane.server().credentials();
        let url = format!("https://127.0.0.1:{PORT}");
        let config = credentials.kubeconfig(Login::Certificate(&Identity::admin()), &url)?;
        Ok(node.write("/etc/kubernetes/admin.conf", &config)?)
    }

    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(super) fn screen(&self) -> &Screen {
        &self.screen
    }

    pub(super) fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    pub(super) fn store(&self) -> &Store {
        self.plane.server().store()
    }

    /// The agent of the node with this place in the row.
    pub(super) fn agent(&self, index: usize) -> Result<&Program> {
        self.agents.get(index).with_context(|| format!("no agent runs on n{}", index + 1))
    }

    /// Starts agents on the first nodes, with leases of 15/10/2 s, and waits until they are ready. Gives the moment
    /// before the first of them was started.
    pub(super) fn start(&mut self, nodes: usize, election: Election) -> Result<Stamp> {
        let mut manifest = Manifest::parse(agent::MANIFEST)?.with(Mode::Lease.variables());
        let per_service = if election == Election::PerService { "true" } else { "false" };
        let settings = [
            ("cp_enable", "false"),
            ("svc_enable", "true"),
            ("address", ""),
            ("svc_election", per_service),
            ("vip_leaseduration", "15"),
            ("vip_renewdeadline", "10"),
            ("vip_retryperiod", "2"),
        ];
        for (name, value) in settings {
            manifest.set(name, value);
        }
        let at = Stamp::now();
        for node in &self.lab.nodes()[..nodes] {
            let spawn = manifest.spawn(node.name(), Gate::Off, &self.binary, self.lab.logs());
            self.agents.push(node.start(&spawn)?);
        }
        Ok(at)
    }

    /// Ends all agents in good order, and takes away everything that was made since the arena was raised.
    pub(super) fn clear(&mut self) -> Result<()> {
        for agent in &self.agents {
            agent.signal(Signal::SIGTERM)?;
        }
        for mut agent in self.agents.drain(..) {
            let code = agent.wait(STOP_LIMIT)?;
            ensure!(code == 0, "{} ended with code {code} after SIGTERM; see its log", agent.name());
        }
        for resource in KINDS {
            let kind = kind(resource)?;
            for object in self.store().list(kind) {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
                let (namespace, name) = (text("namespace"), text("name"));
                if name != "kubernetes" {
                    self.store().delete(kind, &namespace, &name);
                }
            }
        }
        Ok(())
    }

    /// Waits for something in the store or in the kernels.
    pub(super) fn wait(&self, what: &str, limit: Duration, look: impl Fn() -> Result<bool>) -> Result<Stamp> {
        self.wait_patiently(what, limit, Duration::from_millis(5), look)
    }

    /// [`Self::wait`] for what is dear to look at: a pause of `grain` between two looks.
    pub(super) fn wait_patiently(
        &self,
        what: &str,
        limit: Duration,
        grain: Duration,
        look: impl Fn() -> Result<bool>,
    ) -> Result<Stamp> {
        let begin = Instant::now();
        while !look()? {
            if begin.elapsed() > limit {
                bail!(
                    "{what} did not happen within {limit:?}; the logs are in {}",
                    self.lab.logs().display()
                );
            }
            std::thread::sleep(grain);
        }
        Ok(Stamp::now())
    }

    /// Waits until all agents have listed the Services, seen their Leases and are quiet.
    pub(super) fn settle(&self) -> Result<()> {
        let probe = self.create(u16::MAX, &json!({}))?;
        self.wait("a Service that is served", Duration::from_secs(20), || {
            Ok(self.is_served(&name(u16::MAX)))
        })?;
        let _ = probe;
        self.store().delete(kind("services")?, "default", &name(u16::MAX));
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    /// Creates a Service that asks for `net::service(number)`; its endpoints are there before it. Gives the moment.
    pub(super) fn create(&self, number: u16, more: &Value) -> Result<Stamp> {
        self.store().apply(&endpoints(number))?;
        let service = service::service(&name(number), &[net::service(number).into()], more.clone());
        let at = Stamp::now();
        self.store().apply(&service)?;
        Ok(at)
    }

    /// Whether the status of a Service shows an address and names a host.
    pub(super) fn is_served(&self, name: &str) -> bool {
        let Some(found) = Kind::named("services").and_then(|kind| self.store().get(kind, "default", name))
        else {
            return false;
        };
        found["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()
            && found["metadata"]["annotations"]["kube-vip.io/vipHost"].is_string()
    }

    /// How many Services say that they are served.
    pub(super) fn served(&self) -> Result<usize> {
        let all = self.store().list(kind("services")?);
        Ok(all.iter().filter(|it| it["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()).count())
    }

    /// What agents ask for in `span`, each second, by verb.
    pub(super) fn requests(&self, span: Duration) -> BTreeMap<Verb, f64> {
        let server = self.plane.server();
        server.reset_counts();
        std::thread::sleep(span);
        let mut rates = BTreeMap::new();
        for (call, count) in server.counts() {
            *rates.entry(call.verb).or_insert(0.0) += count as f64 / span.as_secs_f64();
        }
        rates
    }

    /// What all agents use in `span`: of a core each, the largest share, and the largest memory at its end.
    pub(super) fn usage(&self, span: Duration) -> Result<(f64, u64)> {
        let look = || self.agents.iter().map(Program::usage).collect::<Result<Vec<Usage>, _>>();
        let before = look()?;
        std::thread::sleep(span);
        let after = look()?;
        let share = |(before, after): (&Usage, &Usage)| {
            after.cpu.saturating_sub(before.cpu).as_secs_f64() / span.as_secs_f64()
        };
        let most = before.iter().zip(&after).map(share).fold(0.0, f64::max);
        Ok((most, after.iter().map(|usage| usage.rss).max().unwrap_or(0)))
    }
}

pub(super) fn kind(resource: &str) -> Result<&'static Kind> {
    Kind::named(resource).with_context(|| format!("{resource} is no resource of the lab"))
}

/// The name of the Service with this number.
pub(super) fn name(number: u16) -> String {
    format!("web-{number}")
}

/// Three endpoints, one on each node; nothing serves behind them.
fn endpoints(number: u16) -> Value {
    let [high, low] = number.to_be_bytes();
    let backends = [1, 2, 3].map(|node| Backend {
        address: Ipv4Addr::new(10, 240 + node, high, low).into(),
        node,
        standing: Standing::Ready,
    });
    service::slice(&name(number), Family::V4, &backends)
}
