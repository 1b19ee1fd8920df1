//! `verdicts`: when a world is calm, every agent has a verdict on every Service that it can see, and its reason is true.

use vip_model::service::ServiceName;
use vip_model::verdict::{Reason, Subject, Verdict as Decision};

use super::calm::Calm;
use super::served::{Planted, holder_of, running};
use super::{Check, Verdict};
use crate::process::{Life, Process};
use crate::setup::node_name;
use crate::world::{Duty, Fact, Ought, Part, World};

#[derive(Default)]
pub(super) struct Verdicts {
    calm: Calm,
}

fn judge(world: &World) -> Verdict {
    let Some((agent, services)) = world.setup.services() else { return Ok(()) };
    let ought = world.ought();
    let planted = Planted::of(world);
    let runs = |it: &&Process| it.number == agent && it.life == Life::Running;
    for process in world.processes.iter().filter(runs) {
        let Some(own) = &process.agent else { continue };
        for (name, duty) in &ought.duties {
            if services.namespace.as_ref().is_some_and(|only| *only != name.namespace()) {
                continue;
            }
            let node = &process.config.node;
            let Some(decision) = own.plan().verdicts.get(&Subject::Service(name.clone())) else {
                return Err(format!("{node} has no verdict on {name}"));
            };
            let is_planted = matches!(duty, Duty::Part(part) if planted.is_in(part.group, &ought));
            if !is_planted && !is_true((name, duty), decision, (process.node, &ought), world) {
                return Err(format!("{node} says {decision:?} of {name}; true is {duty:?}"));
            }
        }
        let shown = process.view.services.len();
        let of_type = |decision: &&Decision| **decision != Decision::Skip(Reason::NotALoadBalancer);
        let subjects =
            own.plan().verdicts.iter().filter(|(subject, _)| matches!(subject, Subject::Service(_)));
        let due = subjects.map(|(_, decision)| decision).filter(of_type).count();
        if shown != due {
            return Err(format!("{} shows {shown} Services, it has verdicts on {due}", process.config.node));
        }
    }
    Ok(())
}

fn is_true(
    (name, duty): (&ServiceName, &Duty),
    decision: &Decision,
    (node, ought): (usize, &Ought),
    world: &World,
) -> bool {
    let Decision::Skip(reason) = decision else {
        let Duty::Part(part) = duty else { return false };
        return is_served_by(node, (part, ought), world);
    };
    match duty {
        Duty::NotOurs => matches!(
            reason,
            Reason::NotALoadBalancer
                | Reason::Deleting
                | Reason::Ignored
                | Reason::OtherClass(_)
                | Reason::OtherNamespace(_)
        ),
        Duty::NoAddress => {
            matches!(reason, Reason::NoAddress | Reason::PoolExhausted(_) | Reason::Invalid(_))
        }
        Duty::Impossible => matches!(reason, Reason::Invalid(_) | Reason::NotSupported(_)),
        Duty::Clash => matches!(reason, Reason::PortClash(_) | Reason::Invalid(_)),
        Duty::Part(part) => {
            !is_served_by(node, (part, ought), world) && explains(name, reason, (part, node, ought), world)
        }
    }
}

fn is_served_by(node: usize, (part, ought): (&Part, &Ought), world: &World) -> bool {
    holder_of(&ought.groups[part.group], world) == Some(node)
        && part.nodes & running(world) & (1 << node) != 0
}

/// Whether a reason is why a node does not serve a Service.
fn explains(
    name: &ServiceName,
    reason: &Reason,
    (part, node, ought): (&Part, usize, &Ought),
    world: &World,
) -> bool {
    let group = &ought.groups[part.group];
    let holder = world.store.holder(&group.lease);
    let facts = world.store.objects.nodes.now();
    match reason {
        Reason::HeldBy(other) => holder == Some(other.as_str()) && *other != node_name(node).as_str(),
        // A node that was drained says that, and not that somebody else may come.
        Reason::LeaseFree => holder.is_none() && facts[&node_name(node)].excluded.is_none(),
        Reason::NoEndpoint => part.nodes == 0,
        Reason::NoLocalEndpoint => part.nodes & (1 << node) == 0,
        Reason::NodeExcluded(_) => facts[&node_name(node)].excluded.is_some(),
        Reason::SharedWith(other) => other != name && group.services.contains(other),
        Reason::LinkMissing(_) => part.nodes == 0,
        _ => false,
    }
}

impl Check for Verdicts {
    fn name(&self) -> &'static str {
        "verdicts"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Turn(..) | Fact::End if self.calm.is(world) => judge(world),
            _ => Ok(()),
        }
    }
}
