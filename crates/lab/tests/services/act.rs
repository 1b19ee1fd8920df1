//! What a scenario does to the stage: agents that start, end and die, nodes without power, objects that are written and
//! deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vip_lab::api::{Knobs, Store, Whose};
use vip_lab::bench::{Program, Stamp};
use vip_lab::scenario::agent::{self, Manifest};
use vip_lab::scenario::table::{Gate, Mode};

use super::cluster::Power;
use super::draft::Draft;
use super::{NODES, Rig};

/// An agent that got SIGTERM must be gone after this.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(1);

/// And after this whatever the API does. Three agents that release hundreds of Leases at once keep a real API server on
/// two processors busy for most of a second; where a stage is only cleared for the next scenario, that is no failure.
const END_LIMIT: Duration = Duration::from_secs(3);

impl Rig {
    /// Says what agents are started with from now on: the lab's manifest with these settings instead of its own.
    pub(crate) fn configure(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        self.manifest = Manifest::parse(agent::MANIFEST)?.with(Mode::Lease.variables());
        for (name, value) in self.cluster.settings().iter().chain(settings) {
            self.manifest.set(name, value);
        }
        Ok(())
    }

    /// Takes a setting out of what agents are started with.
    pub(crate) fn unset(&mut self, setting: &str) {
        self.manifest.unset(setting);
    }

    /// Starts an agent on every node where none runs.
    pub(crate) fn start_missing(&mut self) -> Result<()> {
        for number in 1..=NODES {
            if self.agents[usize::from(number) - 1].is_none() {
                self.start(number)?;
            }
        }
        Ok(())
    }

    /// Starts the agent of a node as it was configured last.
    pub(crate) fn start(&mut self, number: u8) -> Result<()> {
        let node = self.lab.node(number)?;
        let spawn = self.manifest.spawn(node.name(), Gate::Off, &agent::binary()?, self.lab.logs());
        self.agents[usize::from(number) - 1] = Some(node.start(&spawn)?);
        Ok(())
    }

    /// Ends an agent in good order. Gives the moment of the signal.
    pub(crate) fn stop(&mut self, number: u8) -> Result<Stamp> {
        let mut program = self.take(number)?;
        let at = Stamp::now();
        program.signal(Signal::SIGTERM)?;
        well_ended(&mut program, number, STOP_LIMIT)?;
        Ok(at)
    }

    /// Ends all agents in good order, all at once. Gives the moment of the first signal.
    pub(crate) fn stop_all(&mut self) -> Result<Stamp> {
        self.stop_all_within(STOP_LIMIT)
    }

    fn stop_all_within(&mut self, limit: Duration) -> Result<Stamp> {
        let at = Stamp::now();
        let mut told = Vec::new();
        for number in 1..=NODES {
            if let Ok(program) = self.take(number) {
                program.signal(Signal::SIGTERM)?;
                told.push((number, program));
            }
        }
        told.iter_mut().try_for_each(|(number, program)| well_ended(program, *number, limit))?;
        let took = Stamp::now().since(at);
        ensure!(took <= limit, "the agents ended within {took:?} after SIGTERM");
        Ok(at)
    }

    /// SIGKILL. Gives the moment.
    pub(crate) fn kill(&mut self, number: u8) -> Result<Stamp> {
        let mut program = self.take(number)?;
        let at = Stamp::now();
        program.signal(Signal::SIGKILL)?;
        program.wait(STOP_LIMIT)?;
        Ok(at)
    }

    fn take(&mut self, number: u8) -> Result<Program> {
        self.agents[usize::from(number) - 1].take().with_context(|| format!("no agent runs on n{number}"))
    }

    /// The node loses its power, and its agent and API server with it. Gives the moment.
    pub(crate) fn power_off(&mut self, number: u8) -> Result<Stamp> {
        let at = self.lab.power_off(number)?;
        self.cluster.power(self.lab.node(number)?, Power::Off)?;
        self.agents[usize::from(number) - 1] = None;
        self.pods.retain(|who, _| who.node != number);
        Ok(at)
    }

    /// The node is back with nothing left of its former life, and its agent starts. Gives the moment of that.
    pub(crate) fn power_on(&mut self, number: u8) -> Result<Stamp> {
        self.lab.power_on(number)?;
        self.cluster.power(self.lab.node(number)?, Power::On)?;
        self.furnish(number)?;
        let at = Stamp::now();
        self.start(number)?;
        Ok(at)
    }

    /// All that scenarios make in `default`, as resource and name.
    pub(crate) fn everything(&self) -> Result<BTreeSet<(&'static str, String)>> {
        let mut found = BTreeSet::new();
        for resource in ["services", "endpointslices", "leases"] {
            let names = self.cluster.names(resource, "default")?;
            found.extend(names.into_iter().map(|name| (resource, name)));
        }
        Ok(found)
    }

    /// Ends all agents and pods, and deletes everything but this.
    pub(crate) fn clear(&mut self, but: &BTreeSet<(&'static str, String)>) -> Result<()> {
        self.stop_all_within(END_LIMIT)?;
        self.pods.clear();
        for (resource, name) in self.everything()?.difference(but) {
            self.cluster.delete(resource, "default", name)?;
        }
        Ok(())
    }

    /// The store behind all API servers of the lab's own.
    pub(crate) fn store(&self) -> &Store {
        self.plane().expect("only scenarios over the lab's own API server look into it").server().store()
    }

    /// Turns the knobs of all API servers.
    pub(crate) fn weather(&self, turn: impl FnOnce(&mut Knobs)) -> Result<()> {
        self.plane()?.server().turn(Whose::All, turn);
        Ok(())
    }

    /// Creates a namespace.
    pub(crate) fn namespace(&self, name: &str) -> Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.cluster.apply(&object)
    }

    /// Creates a Service, or replaces what a user says in it. Gives the moment.
    pub(crate) fn write(&self, draft: &Draft) -> Result<Stamp> {
        let at = Stamp::now();
        self.cluster.apply(&draft.object())?;
        Ok(at)
    }

    /// Puts a ready pod on each of these nodes. Gives the moment.
    pub(crate) fn back(&self, draft: &Draft, nodes: &[u8]) -> Result<Stamp> {
        let at = Stamp::now();
        for slice in draft.slices(nodes) {
            self.cluster.apply(&slice)?;
        }
        Ok(at)
    }

    /// Deletes a Service's `EndpointSlice` objects. Gives the moment.
    pub(crate) fn unback(&self, draft: &Draft) -> Stamp {
        let at = Stamp::now();
        for slice in draft.slices(&[]) {
            let name = slice["metadata"]["name"].as_str().unwrap_or_default();
            self.cluster.delete("endpointslices", &draft.namespace, name).unwrap();
        }
        at
    }

    /// Deletes a Service. Gives the moment.
    pub(crate) fn remove(&self, draft: &Draft) -> Stamp {
        let at = Stamp::now();
        self.cluster.delete("services", &draft.namespace, &draft.name).unwrap();
        at
    }

    /// Changes an object as somebody would who reads it, edits it and writes it back.
    pub(crate) fn edit(
        &self,
        (resource, namespace, name): (&str, &str, &str),
        edit: impl FnOnce(&mut Value),
    ) -> Result<Stamp> {
        let found = self.cluster.get(resource, namespace, name)?;
        let mut object = found.with_context(|| format!("no {resource} {namespace}/{name}"))?;
        edit(&mut object);
        // Whatever else was written meanwhile gives way.
        drop(object["metadata"].as_object_mut().and_then(|fields| fields.shift_remove("resourceVersion")));
        let at = Stamp::now();
        self.cluster.apply(&object)?;
        Ok(at)
    }
}

fn well_ended(program: &mut Program, number: u8, limit: Duration) -> Result<()> {
    let code = program.wait(limit)?;
    ensure!(code == 0, "the agent of n{number} ended with code {code} after SIGTERM; see its log");
    Ok(())
}
