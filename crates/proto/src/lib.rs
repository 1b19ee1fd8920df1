//! How wires speak: codecs and machines, one module per protocol. Machines are fed and polled; they own no clock, no
//! socket and no random source.

pub mod announce;
pub mod arp;
pub mod gate;
pub mod lease;
pub mod ndp;
pub mod peers;
pub mod session;

mod machine;
mod rest;
#[cfg(any(test, feature = "rig"))]
pub mod rig;

pub use machine::Machine;
pub use rest::Rest;
