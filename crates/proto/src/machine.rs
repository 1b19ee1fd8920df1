//! The one shape of every machine: four verbs.

use vip_model::Instant;

/// A value that is fed and polled. It touches nothing: whoever drives it carries its outputs into the world and
/// brings back what happened.
///
/// It is a trait only so that one rig can record, replay, fuzz and property-test every machine. What holds for all:
/// no panic on any sequence of inputs; `poll` ends within a bound; `want` twice equals `want` once; the same inputs
/// give the same outputs.
pub trait Machine {
    /// The whole desired set.
    type Want;
    /// One thing that happened.
    type Input;
    /// One thing to be done.
    type Output;

    /// Says what is wanted, as a whole; the machine finds the difference to what it already does.
    fn want(&mut self, now: Instant, want: Self::Want);
    /// Tells one thing that happened.
    fn handle(&mut self, now: Instant, input: Self::Input);
    /// The next thing to be done; called until `None`.
    fn poll(&mut self, now: Instant) -> Option<Self::Output>;
    /// When `poll` wants to be called again; earlier or later is safe.
    fn deadline(&self) -> Option<Instant>;
}
