//! `restart_same_plan`: at the end of a quiet world, a new agent on each node that is given nothing but the kernel, the
//! Leases and the snapshot reaches the same decisions, and removes nothing on its way there.

use std::time::Duration;

use vip_agent::{Agent, Input, Output};
use vip_model::Instant;
use vip_model::kernel::{BatchId, Change, Outcome, Report};
use vip_model::store::{Answer, Ask, Watches};
use vip_model::verdict::{Reason, Verdict as Decision};
use vip_model::view::{ServiceView, View};
use vip_proto::Machine;

use super::{Check, Verdict, settled_at};
use crate::kernel::FakeKernel;
use crate::process::{Life, Process};
use crate::store::Store;
use crate::world::{Fact, World};

pub(super) struct RestartSamePlan;

/// How long a new agent gets, on its clock. Its own conflict probe takes a moment.
const PATIENCE: Duration = Duration::from_millis(500);

/// A world of one new agent where everything works at once.
struct Shadow<'a> {
    world: &'a World,
    process: &'a Process,
    kernel: FakeKernel,
    store: Store,
    agent: Agent,
    now: Instant,
    batch: BatchId,
    watches: Watches,
    /// What it writes about Services: nothing of it is needed.
    writes: Vec<String>,
}

impl<'a> Shadow<'a> {
    fn new(world: &'a World, process: &'a Process) -> Option<Self> {
        let node = &world.nodes[process.node];
        let now = node.clock.read(world.now);
        let mut shadow = Self {
            world,
            process,
            kernel: node.kernel.clone()?,
            store: world.store.clone(),
            agent: Agent::new(now, 42, process.config.clone()),
            now,
            batch: BatchId(0),
            watches: Watches::default(),
            writes: Vec::new(),
        };
        shadow.dump();
        let namespace = process.config.services.as_ref().and_then(|services| services.namespace.as_deref());
        shadow.agent.handle(shadow.now, Input::Snapshot(shadow.store.snapshot(namespace)));
        Some(shadow)
    }

    /// It is shown every Lease that it begins to watch.
    fn watch(&mut self, watches: Watches) {
        let former = std::mem::replace(&mut self.watches, watches);
        for lease in self.watches.leases.difference(&former.leases) {
            let seen = self.store.list(self.process.node, lease, self.world.now);
            self.agent.handle(self.now, Input::Lease(seen));
        }
    }

    fn dump(&mut self) {
        let moment = self.world.nodes[self.process.node].clock.moment_of(self.now);
        let actual = self.kernel.dump(moment, self.now, self.batch);
        self.agent.handle(self.now, Input::Actual(actual));
    }

    fn apply(&mut self, changes: &[Change], batch: BatchId) -> Verdict {
        let clock = self.world.nodes[self.process.node].clock;
        let moment = clock.moment_of(self.now);
        for change in changes {
            match change {
                Change::DelAddress { net, .. } => return Err(format!("it removes {net}")),
                Change::SetFilter { .. } => {}
                Change::SetAddress(set) => {
                    self.kernel.set(moment, &clock, set, Duration::ZERO);
                }
            }
        }
        self.batch = batch;
        let outcomes = changes.iter().map(|_| Outcome::Done).collect();
        self.agent.handle(self.now, Input::Report(Report { batch, outcomes }));
        self.dump();
        Ok(())
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::ReadLease(lease) => Answer::Lease(self.store.read(self.process.node, lease, self.world.now)),
            Ask::WriteLease(write) => self.store.write(write, self.world.now, self.now),
            Ask::LabelNode { node, labels } => self.store.label(self.world.now, node, labels),
            Ask::WriteService(write) => {
                self.writes.push(format!("it writes {}", write.service));
                Answer::Done
            }
            Ask::WriteServiceStatus(write) => {
                self.writes.push(format!("it writes the status of {}", write.service));
                Answer::Done
            }
            Ask::PostEvent(post) => {
                self.writes.push(format!("it tells {} of {}", post.reason, post.service));
                Answer::Done
            }
            Ask::ReadSession(_) | Ask::WriteSession(_) => Answer::Conflict,
        }
    }

    fn drain(&mut self) -> Verdict {
        for _ in 0..200 + 20 * self.world.store.objects.services.now().len() {
            match self.agent.poll(self.now) {
                None => return Ok(()),
                Some(Output::Kernel(batch)) => self.apply(&batch.changes, batch.id)?,
                Some(Output::Ask(question)) => {
                    let answer = self.answer(&question.ask);
                    self.agent.handle(self.now, Input::Answer(question.id, answer));
                }
                Some(Output::Watch(watches)) => self.watch(watches),
                Some(_) => {}
            }
        }
        Err("its turn does not end".to_owned())
    }

    fn run(&mut self) -> Verdict {
        let end = self.now + PATIENCE;
        self.drain()?;
        while let Some(deadline) = self.agent.deadline().filter(|deadline| *deadline < end) {
            self.now = deadline.max(self.now + Duration::from_millis(1));
            self.drain()?;
        }
        self.writes.first().map_or(Ok(()), |write| Err(write.clone()))
    }
}

/// What a view decides, without what may differ.
fn decisions(view: &View) -> Vec<(String, &Decision, Option<&str>)> {
    let vips = view.verdicts.iter().map(|it| (it.vip.to_string(), &it.verdict, it.holder.as_deref()));
    let of = |it: &ServiceView| format!("{} {:?}", it.service, it.addrs);
    let services = view.services.iter().map(|it| (of(it), &it.verdict, it.holder.as_deref()));
    vips.chain(services).collect()
}

/// Whether somebody else answers for a VIP. That the Lease was new is remembered by the process alone, and the new agent
/// has no network on which somebody else could answer.
fn is_in_conflict(process: &Process) -> bool {
    let is_conflict = |verdict: &Decision| {
        matches!(verdict, Decision::Skip(Reason::Conflict(_) | Reason::StillAnswered(_)))
    };
    process.view.verdicts.iter().any(|vip| is_conflict(&vip.verdict))
        || process.view.services.iter().any(|service| is_conflict(&service.verdict))
}

fn judge(process: &Process, world: &World) -> Verdict {
    if is_in_conflict(process) {
        return Ok(());
    }
    let Some(mut shadow) = Shadow::new(world, process) else { return Ok(()) };
    let name = &process.config.node;
    shadow.run().map_err(|why| format!("a new agent on {name}: {why}"))?;
    let (old, new) = (&process.view, shadow.agent.view());
    if decisions(old) != decisions(&new) {
        return Err(format!(
            "a new agent on {name} decides {:?}, the old one {:?}",
            decisions(&new),
            decisions(old)
        ));
    }
    Ok(())
}

impl Check for RestartSamePlan {
    fn name(&self) -> &'static str {
        "restart_same_plan"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        if !matches!(fact, Fact::End) || world.now <= settled_at(world) {
            return Ok(());
        }
        world
            .processes
            .iter()
            .filter(|process| process.life == Life::Running)
            .try_for_each(|p| judge(p, world))
    }
}
