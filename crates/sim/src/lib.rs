//! The world in a box: real agents on fake kernels, a fake API and a fake wire, with faults from a seed and checkers
//! that object. What is simulated and what is not stands in `docs/simulation.md`.
//!
//! Nothing here reads a clock or a random source of the machine: a seed is enough to see a run again.

pub mod budget;
pub mod check;
pub mod client;
pub mod clock;
pub mod deed;
pub mod fault;
pub mod generate;
pub mod kernel;
mod look;
pub mod mutation;
pub mod peers;
pub mod process;
mod queue;
pub mod run;
pub mod scenario;
pub mod setup;
mod spread;
pub mod store;
pub mod trace;
pub mod wire;
pub mod world;

pub use check::{NAMES as CHECKERS, settle_time};
pub use clock::{Clock, Drift, Moment};
pub use deed::{Act, Deed, NotADeed};
pub use fault::{Fault, NotAFault, Place, What};
pub use generate::{episode, generate};
pub use look::{Look, Who};
pub use mutation::Mutation;
pub use run::{Case, Outcome, Promises};
pub use scenario::{NotAScenario, parse};
pub use setup::{
    AgentSetup, Endpoints, GateSetup, MemorySetup, ModeSetup, Probing, Secondaries, SessionSetup, Setup,
    v4_vip, v6_vip,
};
pub use spread::Spread;
pub use trace::Lines;
pub use world::Objection;
