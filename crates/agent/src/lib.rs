//! The node: one machine made of machines. Whoever drives it (the program, the simulator) feeds `Input`s, carries out
//! `Output`s, and calls `poll` until it is dry and again at `deadline`.

mod agent;
mod port;

pub use agent::Agent;
pub use port::{Input, Output};
