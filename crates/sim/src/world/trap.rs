//! Traps: a process that is killed or stopped exactly between a decision and what it does about it.

use super::World;
use crate::process::{Life, ProcessId, Trap};

impl World {
    /// The trap that an output of this kind springs.
    pub(super) fn trapped(&mut self, id: ProcessId, kill: Trap, pause: Trap) -> Option<Trap> {
        let trap = self.processes[id].trap.filter(|trap| *trap == kill || *trap == pause);
        if trap.is_some() {
            self.processes[id].trap = None;
        }
        trap
    }

    /// One more output was carried out: a trap that counts them may spring.
    pub(super) fn count_output(&mut self, id: ProcessId) {
        let trap = &mut self.processes[id].trap;
        if let Some(Trap::KillAfter(left) | Trap::PauseAfter(left)) = trap {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let sprung = trap.take();
                self.spring(id, sprung);
            }
        }
    }

    pub(super) fn spring(&mut self, id: ProcessId, trap: Option<Trap>) {
        match trap {
            None => {}
            Some(Trap::KillAtBatch | Trap::KillAtAsk | Trap::KillAfter(_)) => self.end(id),
            Some(Trap::PauseAtBatch | Trap::PauseAtAsk | Trap::PauseAfter(_)) => {
                self.processes[id].life = Life::Paused;
                self.excuse(self.processes[id].node);
            }
        }
        if trap.is_some() {
            let name = self.processes[id].life;
            self.trace.note(self.now, Some(id), || format!("trapped between decision and act: {name:?}"));
        }
    }
}
