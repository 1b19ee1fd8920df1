//! What should be: pure functions from the world to a plan, and from a plan and what is to the steps in between.
//! No clock: every instant in a plan was published by a machine.

mod control_plane;
pub mod diff;
pub mod ipam;
mod label;
mod place;
mod services;
mod session;
mod shown;
mod vip;
mod world;

use vip_model::explanation::Finding;
use vip_model::plan::{Completeness, NodePlan};
use vip_model::service::ServiceName;
use vip_model::verdict::{Subject, Verdict};

pub use place::link_addresses;
pub use world::{KernelWork, Life, World};

/// The plan of this node, from everything that is known.
pub fn plan(world: &World<'_>) -> NodePlan {
    let mut plan = NodePlan::default();
    match &world.config.control_plane {
        Some(control_plane) => control_plane::plan(world, control_plane, &mut plan),
        // Nothing is wanted, and that is the whole truth.
        None => plan.addresses.completeness = Completeness::Complete,
    }
    if let Some(services) = &world.config.services {
        services::plan(world, services, &mut plan);
        ipam::plan(world, services, &mut plan);
    }
    if let vip_model::config::ElectionMode::Session(settings) = &world.config.election_mode {
        session::plan(world, settings, &mut plan);
    }
    plan
}

/// Every finding about a Service on the way to its verdict, and the verdict; none when no such Service was seen.
pub fn explain(world: &World<'_>, name: &ServiceName) -> Option<(Vec<Finding>, Verdict)> {
    let services = world.config.services.as_ref()?;
    let plan = plan(world);
    let findings = services::explain(world, services, (name, &plan))?;
    let verdict = plan.verdicts.get(&Subject::Service(name.clone()))?.clone();
    Some((findings, verdict))
}
