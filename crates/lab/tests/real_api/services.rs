//! The real API server as the cluster of Services scenarios: objects are written by requests of an administrator, and
//! what proxies follow comes from two watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::sync::watch;
use vip_lab::api::Scope;
use vip_lab::bench::{Lab, Networks, Node, Shape, boot};
use vip_lab::scenario::agent;
use vip_lab::scenario::control_plane::ControlPlane;
use vip_lab::scenario::proxy::Objects;

use crate::client::Client;
use crate::cluster::relay::Path;
use crate::cluster::{Cluster, Judges, Rights, check_rights};
use crate::rig::cluster::{self as scene, Contact, Power, Trouble, kind};
use crate::rig::{self, Proxies, Rig, Scenario};

/// Not `admin.conf`: a kubeconfig that is named is dialled as written.
const KUBECONFIG: &str = "/etc/kubernetes/agent.conf";
/// After a watch that could not be opened.
const RETRY: Duration = Duration::from_millis(100);

/// The real API server.
pub(crate) struct Real(pub(crate) Cluster);

/// The path of a collection, in a namespace where the kind has one.
fn collection(resource: &str, namespace: &str) -> Result<String> {
    let row = kind(resource)?;
    let root = if row.group.is_empty() {
        format!("/api/{}", row.version)
    } else {
        format!("/apis/{}/{}", row.group, row.version)
    };
    Ok(match row.scope {
        Scope::Namespaced if !namespace.is_empty() => format!("{root}/namespaces/{namespace}/{resource}"),
        _ => format!("{root}/{resource}"),
    })
}

fn path(resource: &str, namespace: &str, name: &str) -> Result<String> {
    Ok(format!("{}/{name}", collection(resource, namespace)?))
}

impl Real {
    /// Asks, and fails unless the answer is one of success.
    fn done(&self, method: &str, path: &str, body: &Value) -> Result<String> {
        let (code, text) = self.0.ask(method, path, body)?;
        ensure!((200..300).contains(&code), "{method} {path}: {code} {text}");
        Ok(text)
    }
}

impl scene::Cluster for Real {
    fn furnish(&self, node: &Node) -> Result<()> {
        Ok(node.write(KUBECONFIG, self.0.kubeconfig())?)
    }

    fn settings(&self) -> Vec<(&'static str, &'static str)> {
        vec![("k8s_config_file", KUBECONFIG)]
    }

    fn apply(&self, object: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, word) = (text(&object["apiVersion"]), text(&object["kind"]));
        let row = vip_lab::api::Kind::of_object(&version, &word).context("a kind that the lab knows")?;
        let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
        let (all, one) = (collection(row.resource, &namespace)?, path(row.resource, &namespace, &name)?);
        // Without a resourceVersion it replaces what is there, whatever its version.
        let (code, text) = self.0.ask("PUT", &one, object)?;
        match code {
            404 => self.0.create(&all, object),
            200 | 201 => Ok(()),
            _ => bail!("PUT {one}: {code} {text}"),
        }
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        self.0.get(&path(resource, namespace, name)?)
    }

    fn list(&self, resource: &str) -> Result<Vec<Value>> {
        let text = self.done("GET", &collection(resource, "")?, &Value::Null)?;
        let mut list: Value = serde_json::from_str(&text)?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Its server stands beyond the network, which is all that there is to cut.
    fn contact(&self, _: &Node, _: Contact) {}

    fn trouble(&self, trouble: Trouble) -> Result<()> {
        let (path, stopped) = match trouble {
            Trouble::None => (Path::Open, [Signal::SIGCONT; 2]),
            Trouble::Slow(time) => (Path::Slow(time), [Signal::SIGCONT; 2]),
            Trouble::Hangs => (Path::Held, [Signal::SIGCONT; 2]),
            Trouble::Away => (Path::Refused, [Signal::SIGCONT; 2]),
            Trouble::Stopped => (Path::Open, [Signal::SIGSTOP, Signal::SIGCONT]),
            Trouble::StoreStopped => (Path::Open, [Signal::SIGCONT, Signal::SIGSTOP]),
            Trouble::NoRights => return self.0.revoke(),
        };
        self.0.relay().set(path);
        self.0.signal_server(stopped[0])?;
        self.0.signal_store(stopped[1])?;
        self.0.grant()
    }

    /// Nothing of the API is on the nodes.
    fn power(&self, _: &Node, _: Power) -> Result<()> {
        Ok(())
    }

    fn names(&self, resource: &str, namespace: &str) -> Result<Vec<String>> {
        let text = self.done("GET", &collection(resource, namespace)?, &Value::Null)?;
        let list: Value = serde_json::from_str(&text)?;
        let items = list["items"].as_array().into_iter().flatten();
        Ok(items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    fn merge(&self, resource: &str, namespace: &str, name: &str, patch: &Value) -> Result<()> {
        self.done("PATCH", &path(resource, namespace, name)?, patch).map(drop)
    }

    fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<()> {
        let path = path(resource, namespace, name)?;
        let (code, text) = self.0.ask("DELETE", &path, &Value::Null)?;
        ensure!(code == 404 || (200..300).contains(&code), "DELETE {path}: {code} {text}");
        Ok(())
    }

    fn objects(&self) -> Result<watch::Receiver<Objects>> {
        let (place, client) = self.0.client();
        let (sender, receiver) = watch::channel(Objects::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            place.move_in()?;
            runtime.block_on(follow(&client, &sender));
            Ok::<(), vip_lab::bench::Error>(())
        };
        std::thread::Builder::new().name("services".to_owned()).spawn(run)?;
        Ok(receiver)
    }

    fn check(&self, lab: &Lab) -> Result<()> {
        // Refusals are what the agents were shown when their rights were taken.
        if self.0.rights() == Rights::Kept { check_rights(lab, &[]) } else { Ok(()) }
    }

    fn plane(&self) -> Option<&ControlPlane> {
        None
    }
}

/// Publishes what two watches say, until nobody follows.
async fn follow(client: &Client, sender: &watch::Sender<Objects>) {
    while !sender.is_closed() {
        if let Err(why) = follow_once(client, sender).await {
            eprintln!("lab: the proxies' watch: {why}");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Until one of the watches ends.
async fn follow_once(client: &Client, sender: &watch::Sender<Objects>) -> Result<(), String> {
    let (mut services, mut slices) =
        (Mirror::open(client, "services").await?, Mirror::open(client, "endpointslices").await?);
    loop {
        tokio::select! {
            heard = services.hear() => heard?,
            heard = slices.hear() => heard?,
        }
        sender.send_replace(Objects { services: services.all(), slices: slices.all() });
    }
}

/// All objects of a kind, kept by a watch; one that names no version begins with what there is.
struct Mirror {
    body: Incoming,
    /// What of the next line has come.
    begun: Vec<u8>,
    objects: BTreeMap<(String, String), Arc<Value>>,
}

impl Mirror {
    async fn open(client: &Client, resource: &str) -> Result<Self, String> {
        let path = collection(resource, "").map_err(|why| why.to_string())?;
        let body = client.open(&format!("{path}?watch=1")).await?.into_body();
        Ok(Self { body, begun: Vec::new(), objects: BTreeMap::new() })
    }

    /// Waits until the watch says something, and keeps it. Nothing is lost when the wait is given up.
    async fn hear(&mut self) -> Result<(), String> {
        let Some(frame) = self.body.frame().await else { return Err("a watch has ended".to_owned()) };
        let frame = frame.map_err(|why| format!("a watch broke off: {why}"))?;
        self.begun.extend(frame.data_ref().into_iter().flatten());
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).map_err(|why| format!("no event: {why}"))?;
            self.keep(&event)?;
        }
        Ok(())
    }

    fn keep(&mut self, event: &Value) -> Result<(), String> {
        let object = &event["object"];
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (text("namespace"), text("name"));
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => drop(self.objects.insert(key, Arc::new(object.clone()))),
            Some("DELETED") => drop(self.objects.remove(&key)),
            _ => return Err(format!("a watch says {event}")),
        }
        Ok(())
    }

    fn all(&self) -> Vec<Arc<Value>> {
        self.objects.values().cloned().collect()
    }
}

/// The stage over the real API server.
fn raise(judges: &Judges, proxies: Proxies) -> Result<Rig> {
    let logs = std::env::temp_dir().join(format!("lab-real-api-services-{}", boot::launcher()));
    let lab = Lab::raise(&Shape { nodes: 3, networks: Networks::One, logs })?;
    let logs = || format!("starting the real API server; the logs are in {}", lab.logs().display());
    let cluster = Cluster::start(&lab, judges, &agent::binary()?).with_context(logs)?;
    Rig::over(lab, Box::new(Real(cluster)), proxies)
}

/// All these scenarios, also when one fails, each on a stage without anything of the one before.
#[allow(dead_code)] // each test file that shares it plays on its own stage
pub(crate) fn play_all(judges: &Judges, scenarios: &[(&str, Scenario)]) {
    play_with(Proxies::Running, judges, scenarios);
}

/// The same without pods and proxies.
#[allow(dead_code)] // each test file that shares it plays on its own stage
pub(crate) fn play_bare(judges: &Judges, scenarios: &[(&str, Scenario)]) {
    play_with(Proxies::Absent, judges, scenarios);
}

fn play_with(proxies: Proxies, judges: &Judges, scenarios: &[(&str, Scenario)]) {
    let mut rig = raise(judges, proxies).unwrap();
    let own = rig.everything().unwrap();
    let mut failed = BTreeSet::new();
    for (name, scenario) in scenarios {
        let begin = Instant::now();
        println!("{name}");
        if let Err(why) = rig::undisturbed(&mut rig, *scenario, |rig| rig.clear(&own)) {
            failed.insert(format!("{name}: {why:#}"));
        }
        if let Err(why) = rig.clear(&own) {
            failed.insert(format!("{name}: clearing the stage: {why:#}"));
            break; // the next one would begin with what this one left
        }
        println!("  {} s", begin.elapsed().as_secs());
    }
    let failed: Vec<String> = failed.into_iter().collect();
    assert!(failed.is_empty(), "{}\nthe logs are in {}", failed.join("\n"), rig.lab().logs().display());
    std::fs::remove_dir_all(rig.lab().logs()).unwrap();
}
