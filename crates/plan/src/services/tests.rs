//! The Services' part of the plan, one rule per test.

mod address;
mod clerk;
mod dropped;
mod election;
mod endpoint;
mod explain;
mod group;
mod laws;
mod malformed;
mod scene;
mod select;
mod trail;
mod unknown;
mod write;
