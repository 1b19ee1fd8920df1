//! The Services' part of the plan, one rule per test.

mod address;
mod election;
mod endpoint;
mod group;
mod laws;
mod scene;
mod select;
mod unknown;
mod write;
