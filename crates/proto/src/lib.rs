//! How wires speak: codecs and machines, one module per protocol. Machines are fed and polled; they own no clock, no
//! socket and no random source.

pub mod gate;
pub mod lease;

mod machine;

pub use machine::Machine;
