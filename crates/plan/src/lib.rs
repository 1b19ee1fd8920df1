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

use vip_model::plan::{Completeness, NodePlan};

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
