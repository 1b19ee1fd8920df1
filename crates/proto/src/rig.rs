//! One rig for every machine: it feeds a script of wants, inputs and passing time, and checks the laws of
//! [`Machine`]. Built for tests, fuzzing and other crates' tests only (feature `rig`). A script comes from a seed or from
//! a fuzzer's bytes; a broken law panics with its sentence.

use std::fmt::Debug;
use std::time::Duration;

use vip_model::Instant;

use crate::Machine;

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<W, I> {
    /// The wanted set.
    Want(W),
    /// Something happens.
    Input(I),
    /// Time passes.
    Wait(Duration),
}

/// A script for a machine.
pub type Script<M> = Vec<Step<<M as Machine>::Want, <M as Machine>::Input>>;

/// What a machine gave back, and when.
pub type Recording<M> = Vec<(Instant, <M as Machine>::Output)>;

/// What a rig accepts before it calls a machine endless.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Outputs in one turn.
    pub outputs_per_turn: usize,
    /// Turns during one `Wait`, one per deadline.
    pub turns_per_wait: usize,
}

/// When the driver comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    /// At each deadline.
    Punctual,
    /// At each deadline and shortly before, when there is nothing to do yet.
    Eager,
    /// Only when the `Wait` is over.
    Late,
}

/// How a `want` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    Once,
    Twice,
}

/// Plays a script from the instant `from` with a driver that is there at each deadline.
///
/// # Panics
/// When a bound is broken.
pub fn play<M>(machine: &mut M, from: Instant, script: &Script<M>, bounds: Bounds) -> Recording<M>
where
    M: Machine,
    M::Want: Clone,
    M::Input: Clone,
{
    Run { machine, now: from, bounds, out: Vec::new() }.script(script, Driver::Punctual, Telling::Once)
}

/// Checks all laws with fresh machines from `make`:
///
/// * no sequence of inputs panics, and a turn ends within the bound;
/// * the same inputs give the same outputs;
/// * `want` twice equals `want` once;
/// * `deadline` is exact: before it there is nothing to do, after it the next one lies in the future;
/// * a late driver is safe.
///
/// # Panics
/// When a law is broken.
pub fn check_laws<M>(make: impl Fn() -> M, from: Instant, script: &Script<M>, bounds: Bounds)
where
    M: Machine,
    M::Want: Clone,
    M::Input: Clone,
    M::Output: PartialEq + Debug,
{
    let run = |driver, telling| {
        let machine = &mut make();
        Run { machine, now: from, bounds, out: Vec::new() }.script(script, driver, telling)
    };
    let once = run(Driver::Punctual, Telling::Once);
    assert_eq!(run(Driver::Punctual, Telling::Once), once, "the same inputs give the same outputs");
    assert_eq!(run(Driver::Punctual, Telling::Twice), once, "want twice equals want once");
    assert_eq!(run(Driver::Eager, Telling::Once), once, "before the deadline there is nothing to do");
    run(Driver::Late, Telling::Once);
}

struct Run<'a, M: Machine> {
    machine: &'a mut M,
    now: Instant,
    bounds: Bounds,
    out: Recording<M>,
}

impl<M> Run<'_, M>
where
    M: Machine,
    M::Want: Clone,
    M::Input: Clone,
{
    fn script(mut self, script: &Script<M>, driver: Driver, telling: Telling) -> Recording<M> {
        for step in script {
            match step {
                Step::Want(want) => {
                    if telling == Telling::Twice {
                        self.machine.want(self.now, want.clone());
                    }
                    self.machine.want(self.now, want.clone());
                    self.turn();
                }
                Step::Input(input) => {
                    self.machine.handle(self.now, input.clone());
                    self.turn();
                }
                Step::Wait(span) => self.wait(self.now + *span, driver),
            }
        }
        self.out
    }

    /// Polls until `None`.
    fn turn(&mut self) {
        for _ in 0..=self.bounds.outputs_per_turn {
            let Some(output) = self.machine.poll(self.now) else { return };
            self.out.push((self.now, output));
        }
        panic!("poll does not end within {} outputs at {}", self.bounds.outputs_per_turn, self.now);
    }

    fn wait(&mut self, end: Instant, driver: Driver) {
        self.turn();
        let mut turns = 0;
        while driver != Driver::Late
            && let Some(due) = self.machine.deadline().filter(|&due| due <= end)
        {
            assert!(due > self.now, "after a turn at {} the deadline {due} has passed already", self.now);
            if driver == Driver::Eager {
                self.now = Instant::from_nanos(due.as_nanos() - 1).max(self.now);
                assert!(self.machine.poll(self.now).is_none(), "an output at {}, before {due}", self.now);
            }
            self.now = due;
            self.turn();
            turns += 1;
            assert!(turns <= self.bounds.turns_per_wait, "more than {turns} turns until {end}");
        }
        self.now = end;
        self.turn();
    }
}
