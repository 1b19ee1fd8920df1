//! Every reason on the way from a Service to its verdict, in words, by the same steps that the plan takes. Asked for one
//! Service at a time; fed with the world and the plan that was made from it.

use std::fmt::Write as _;

use vip_model::explanation::{Finding, Outcome, Stage};
use vip_model::members::{ElectionState, Role};
use vip_model::plan::{NodePlan, ServicePlan, Standing};
use vip_model::service::{EndpointCount, Service, ServiceName, TrafficPolicy};
use vip_model::verdict::{Reason, Subject, Verdict};
use vip_model::{LeaseName, ScopedAddr};

use super::brief::{Brief, briefs};
use super::endpoint::Backing;
use super::ground::Ground;
use super::group::Groups;
use super::member::Member;
use super::notes::Notes;
use super::request::{Source, request};
use super::select::select;
use super::{Listed, admit};

/// The findings about a Service that was seen.
pub(crate) fn explain(
    ground: &Ground<'_>,
    (listed, name, service): (&Listed, &ServiceName, &Service),
    plan: &NodePlan,
) -> Vec<Finding> {
    if let Err(reason) = select(ground.services, name, service) {
        return vec![stops(Stage::Selection, &reason)];
    }
    let class = service.class.as_deref().map_or("no class".to_owned(), |class| format!("class {class}"));
    let mut found = vec![passes(Stage::Selection, format!("a load balancer with {class}: it is ours"))];
    let verdict = plan.verdicts.get(&Subject::Service(name.clone()));
    let (_, members) = admit(ground, listed);
    let groups = Groups::new(ground, &members);
    let Some(at) = members.iter().position(|member| member.name == name) else {
        found.push(unusable(service, verdict));
        return found;
    };
    let member = &members[at];
    found.push(addresses(member));
    found.push(endpoints(member));
    if let Some((_, reason)) = groups.dropped.iter().find(|(dropped, _)| *dropped == at) {
        found.push(stops(Stage::Sharing, reason));
        return found;
    }
    let briefs = briefs(ground, &members, &groups);
    if let Some(brief) = briefs.iter().find(|brief| brief.group.contains(&at)) {
        found.push(sharing(&members, brief, at));
        found.push(election(ground, brief, plan));
    }
    found.extend(kernel(ground, member, plan));
    found.push(writing(service, plan.services.get(name)));
    found
}

fn passes(stage: Stage, text: String) -> Finding {
    Finding { stage, outcome: Outcome::Passes, text }
}

fn waits(stage: Stage, text: String) -> Finding {
    Finding { stage, outcome: Outcome::Waits, text }
}

fn stops(stage: Stage, reason: &Reason) -> Finding {
    Finding { stage, outcome: Outcome::Stops, text: reason.to_string() }
}

/// What keeps a Service from taking part at all: its addresses, or its annotation about a Lease. What the allocator says
/// of one without an address stands in its verdict.
fn unusable(service: &Service, verdict: Option<&Verdict>) -> Finding {
    let reason = match (request(service, &Notes::of(service)), verdict) {
        (Err(Reason::NoAddress) | Ok(_), Some(Verdict::Skip(reason))) => reason.clone(),
        (Err(reason), _) => reason,
        (Ok(_), _) => Reason::NoAddress,
    };
    let stage =
        if request(service, &Notes::of(service)).is_ok() { Stage::Election } else { Stage::Addresses };
    stops(stage, &reason)
}

fn addresses(member: &Member<'_>) -> Finding {
    let texts: Vec<_> = member.addrs.iter().map(ToString::to_string).collect();
    let place = match member.source {
        Source::Annotation => "annotation kube-vip.io/loadbalancerIPs",
        Source::Spec => "spec.loadBalancerIP",
        Source::Status => "status.loadBalancer",
    };
    passes(Stage::Addresses, format!("{} from {place}", texts.join(", ")))
}

fn endpoints(member: &Member<'_>) -> Finding {
    let EndpointCount { all, taking, here } = member.count;
    let policy = match member.traffic {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    };
    let count = format!("{taking} of {all} endpoints take traffic, {here} on this node; policy {policy}");
    match (member.backing, member.backing.obstacle()) {
        (Backing::Unknown, _) => waits(Stage::Endpoints, Reason::EndpointsUnknown.to_string()),
        (_, Some(reason)) => {
            Finding { text: format!("{count}: {reason}"), ..stops(Stage::Endpoints, &reason) }
        }
        (_, None) => passes(Stage::Endpoints, count),
    }
}

fn sharing(members: &[Member<'_>], brief: &Brief<'_>, at: usize) -> Finding {
    let others = brief.group.iter().filter(|other| **other != at);
    let others: Vec<_> = others.map(|other| members[*other].name.to_string()).collect();
    let text = match others.as_slice() {
        [] => "no other Service moves with it".to_owned(),
        _ => format!("moves with {}", others.join(", ")),
    };
    passes(Stage::Sharing, text)
}

fn election(ground: &Ground<'_>, brief: &Brief<'_>, plan: &NodePlan) -> Finding {
    let Some(lease) = brief.lease else {
        return waits(Stage::Election, "no election decides about it".to_owned());
    };
    let state = brief.authority;
    let mut text = held_by(ground, lease, state);
    if let Some(why) = ground.cluster.excluded {
        let _ = write!(text, "; {}", Reason::NodeExcluded(why.to_owned()));
    } else if let Some(want) = plan.elections.get(lease) {
        let _ = match want.standing {
            Standing::Contend if want.rank == 0 => write!(text, "; this node stands for it"),
            Standing::Contend => write!(text, "; this node stands for it, {} come first", want.rank),
            Standing::Reluctant => write!(text, "; this node would rather not"),
            Standing::Leave | Standing::HandOver => write!(text, "; this node does not stand for it"),
        };
    }
    if let Some(trouble) = &state.trouble {
        let _ = write!(text, "; the API: {}", trouble.text);
    }
    let outcome = match (state.role, &state.holder) {
        (Role::Holder { .. }, _) => Outcome::Passes,
        (_, Some(_)) => Outcome::Stops,
        (_, None) => Outcome::Waits,
    };
    Finding { stage: Stage::Election, outcome, text }
}

fn held_by(ground: &Ground<'_>, lease: &LeaseName, state: &ElectionState) -> String {
    match (state.role, &state.holder) {
        (Role::Holder { .. }, _) => format!("{lease}: this node holds it"),
        (_, Some(holder)) if *holder == ground.world.config.node.as_str() => {
            format!("{lease}: {}", crate::vip::why_not_holder(&ground.world, state))
        }
        (_, Some(holder)) => format!("{lease}: {holder} holds it"),
        (_, None) => format!("{lease}: nobody holds it, as far as was seen"),
    }
}

/// One finding for each address: where it is on this node, and what is done about it.
fn kernel(ground: &Ground<'_>, member: &Member<'_>, plan: &NodePlan) -> Vec<Finding> {
    let Some(actual) = ground.world.actual.get() else {
        return vec![waits(Stage::Kernel, Reason::KernelUnknown.to_string())];
    };
    let of = |addr: &std::net::IpAddr| {
        let shown = actual.addresses.iter().find(|address| address.addr() == *addr);
        let planned = plan.addresses.set.keys().find(|at| at.addr == *addr);
        let name =
            |at: &ScopedAddr| actual.links.get(&at.link).map_or("a link that is gone", |link| &link.name);
        let is_claimed = plan.claims.keys().any(|at| at.addr == *addr);
        match (shown, planned) {
            (Some(_), Some(at)) if is_claimed => {
                passes(Stage::Kernel, format!("{addr} is on {} and announced", name(at)))
            }
            (Some(_), Some(at)) => waits(Stage::Kernel, format!("{addr} is on {}, not announced", name(at))),
            (None, Some(at)) => waits(Stage::Kernel, format!("{addr} is to be installed on {}", name(at))),
            (Some(_), None) => {
                let text = format!("{addr} is on this node and not this agent's to answer for");
                Finding { stage: Stage::Kernel, outcome: Outcome::Stops, text }
            }
            (None, None) => {
                let text = format!("{addr} is not on this node");
                Finding { stage: Stage::Kernel, outcome: Outcome::Stops, text }
            }
        }
    };
    member.addrs.iter().map(of).collect()
}

/// What this node still has to write, and what the conditions say by now.
fn writing(service: &Service, planned: Option<&ServicePlan>) -> Finding {
    let mut due = Vec::new();
    if let Some(planned) = planned {
        due.extend(planned.annotations.keys().map(|key| format!("annotation {key}")));
        due.extend(planned.labels.keys().map(|key| format!("label {key}")));
        due.extend(planned.conditions.keys().map(|key| format!("condition {key}")));
        due.extend(planned.ingress.iter().map(|_| "status.loadBalancer".to_owned()));
        due.extend(planned.spec_ip.iter().map(|_| "spec.loadBalancerIP".to_owned()));
    }
    let say = |(key, condition): (&String, &vip_model::service::Condition)| {
        format!("{key} is {} ({}: {})", condition.status, condition.reason, condition.message)
    };
    let said: Vec<_> = service.conditions.iter().map(say).collect();
    let said = if said.is_empty() { "it has no conditions of ours".to_owned() } else { said.join("; ") };
    if due.is_empty() {
        return passes(Stage::Writing, format!("nothing is to be written from here; {said}"));
    }
    waits(Stage::Writing, format!("to be written from here: {}; {said}", due.join(", ")))
}
