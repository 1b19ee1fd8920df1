//! What a scenario sees of the stage: who holds a Lease, which kernel has an address, what a Service says, who answers,
//! what the command line tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vip_lab::bench::{Span, Spawn, Stamp};
use vip_lab::scenario::agent;

use super::draft::Draft;
use super::{NODES, Rig};

/// How long an agent may take to read kernel, Leases, Services and endpoints.
const READY_LIMIT: Duration = Duration::from_secs(2);
/// How long the command line may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl Rig {
    /// Waits until `look` finds something.
    pub(crate) fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        look: impl Fn(&Self) -> Option<T>,
    ) -> Result<T> {
        let begin = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            ensure!(
                begin.elapsed() < limit,
                "{what}: not within {limit:?}; logs in {}",
                self.lab.logs().display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The node that a Lease (`namespace/name`) names.
    pub(crate) fn holder(&self, lease: &str) -> Option<u8> {
        let (namespace, name) = lease.split_once('/')?;
        let found = self.get("leases", namespace, name)?;
        found["spec"]["holderIdentity"].as_str()?.strip_prefix('n')?.parse().ok()
    }

    /// The addresses in a node's kernel; none without power.
    pub(crate) fn addresses(&self, number: u8) -> Result<BTreeSet<IpAddr>> {
        let node = self.lab.node(number)?;
        if !node.powered() {
            return Ok(BTreeSet::new());
        }
        let mut ip = Command::new("ip");
        let shown = node.place()?.run(ip.args(["-oneline", "address", "show", "dev", "eth0"]))?;
        let addr = |line: &str| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok();
        Ok(shown.lines().filter_map(addr).collect())
    }

    /// Which nodes have which address in their kernels.
    pub(crate) fn places(&self) -> Result<BTreeMap<IpAddr, BTreeSet<u8>>> {
        let mut places: BTreeMap<IpAddr, BTreeSet<u8>> = BTreeMap::new();
        for number in 1..=NODES {
            for addr in self.addresses(number)? {
                places.entry(addr).or_default().insert(number);
            }
        }
        Ok(places)
    }

    /// An object as it is.
    pub(crate) fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.get(resource, namespace, name)
    }

    /// A Service as it is.
    pub(crate) fn service(&self, draft: &Draft) -> Option<Value> {
        self.object("services", &draft.namespace, &draft.name)
    }

    /// A condition of a Service, by the word behind `kube-vip.io/`.
    pub(crate) fn condition(&self, draft: &Draft, word: &str) -> Option<Value> {
        let service = self.service(draft)?;
        let wanted = format!("kube-vip.io/{word}");
        let conditions = service["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == wanted.as_str()).cloned()
    }

    /// Whether there is an Event about a Service with this type and reason whose message has this in it.
    pub(crate) fn has_event(&self, draft: &Draft, (weight, reason): (&str, &str), text: &str) -> bool {
        self.cluster.list("events").unwrap().iter().any(|event| {
            event["involvedObject"]["name"] == draft.name.as_str()
                && event["involvedObject"]["namespace"] == draft.namespace.as_str()
                && event["type"] == weight
                && event["reason"] == reason
                && event["message"].as_str().is_some_and(|message| message.contains(text))
        })
    }

    /// Whether the status of a Service shows all that it asks for, in its order.
    pub(crate) fn shows(&self, draft: &Draft) -> bool {
        let Some(service) = self.service(draft) else { return false };
        let wanted = draft.addrs.iter().map(|addr| (Some(addr.to_string()), Some("VIP".to_owned())));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
        let shown = ingress.into_iter().flatten().map(|one| (text(&one["ip"]), text(&one["ipMode"])));
        wanted.eq(shown)
    }

    /// The node that serves a Service: its annotation names it, its status shows all addresses, and their places are
    /// this node's kernel and no other.
    pub(crate) fn server(&self, draft: &Draft) -> Option<u8> {
        let service = self.service(draft)?;
        let host = service["metadata"]["annotations"]["kube-vip.io/vipHost"].as_str()?;
        let number = host.strip_prefix('n')?.parse().ok()?;
        let places = self.places().ok()?;
        let is_here =
            |addr: &IpAddr| places.get(addr).is_some_and(|nodes| *nodes == BTreeSet::from([number]));
        (self.shows(draft) && draft.addrs.iter().all(is_here)).then_some(number)
    }

    /// Whether no kernel has an address of a Service.
    pub(crate) fn is_away(&self, draft: &Draft) -> bool {
        self.places().is_ok_and(|places| draft.addrs.iter().all(|addr| !places.contains_key(addr)))
    }

    /// Who answers for an address now, by number.
    pub(crate) fn answerers(&self, addr: IpAddr) -> Result<BTreeSet<u8>> {
        let watch = self.lab.detect(addr)?;
        let begin = Stamp::now();
        std::thread::sleep(Duration::from_millis(60));
        let seen = watch.sightings().answerers(Span::new(begin, Stamp::now()));
        Ok(seen.keys().filter_map(|mac| mac.node()).collect())
    }

    /// Waits until the agents on these nodes know everything that they were asked for.
    pub(crate) fn ready(&self, numbers: &[u8]) -> Result<()> {
        for number in numbers {
            self.within(READY_LIMIT, &format!("an agent on n{number} that is ready"), |rig| {
                let (code, said) = rig.command(*number, &["status", "-o", "json"]).ok()?;
                let view: Value = serde_json::from_str(&said).ok().filter(|_| code == 0)?;
                (view["readiness"] == "ready").then_some(())
            })?;
        }
        Ok(())
    }

    /// The labels of a Node that name addresses.
    pub(crate) fn own_labels(&self, number: u8) -> Result<BTreeMap<String, String>> {
        let node = self.cluster.get("nodes", "", &format!("n{number}"))?.context("no such Node")?;
        let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
        let ours = labels.filter(|(key, _)| key.contains("kube-vip.io/"));
        Ok(ours.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect())
    }

    /// The packet filter of a node's agent as `nft` lists it, with everything beside it; none when there is no such table.
    pub(crate) fn filter_table(&self, number: u8) -> Result<Option<String>> {
        let mut nft = Command::new("nft");
        let shown = self.lab.node(number)?.place()?.run(nft.args(["list", "ruleset"]))?;
        Ok(shown.contains("table inet kube_vip_").then_some(shown))
    }

    /// Runs the command line on a node: its exit code and what it said.
    pub(crate) fn command(&self, number: u8, arguments: &[&str]) -> Result<(u8, String)> {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let log = self.lab.logs().join(format!("command-{call}.log"));
        let spawn = Spawn {
            name: format!("kube-vip {}", arguments.join(" ")),
            program: agent::binary()?,
            args: arguments.iter().map(Into::into).collect(),
            env: Vec::new(),
            log: log.clone(),
        };
        let code = self.lab.node(number)?.start(&spawn)?.wait(ANSWER_LIMIT)?;
        let said = std::fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        Ok((code, said))
    }
}
