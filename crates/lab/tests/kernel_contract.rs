//! The simulator's kernel against the real one. Random batches and single stories are carried out by both, the real
//! one through the gateway in a network namespace of each test's own; after each step both must have given the same
//! outcomes and show the same addresses. What the simulator believes about Linux is a fact as long as this passes.
//! Needs root (or `unshare -Urn`) and the command `ip`; without the right each test says SKIPPED.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test file: its helpers are tests too

#[path = "kernel_contract/pair.rs"]
mod pair;
#[path = "kernel_contract/random.rs"]
mod random;
#[path = "kernel_contract/story.rs"]
mod story;
