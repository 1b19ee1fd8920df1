//! One turn of an agent: it takes an input, is polled until it is dry, and what it says is carried out.

use std::sync::Arc;
use std::time::Duration;

use vip_agent::{Input, Output};
use vip_model::Instant;
use vip_proto::Machine;

use super::{Fact, World};
use crate::process::{ProcessId, Trap};
use crate::queue::{Event, Own};

/// More outputs than this in one turn is no turn.
const POLL_LIMIT: u32 = 1000;

/// In so many per cent of cases a loop takes more inputs before it lets its agent have a turn.
const LAZY_TURNS: u32 = 10;
/// How old a view may be.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl World {
    /// Gives an agent one input and lets it have its turn.
    pub(crate) fn input(&mut self, id: ProcessId, input: Input) {
        self.handle(id, input);
        if self.chance(LAZY_TURNS) {
            let delay = self.up_to(Duration::from_millis(1));
            let at = self.now + delay;
            if at < self.processes[id].wake {
                self.processes[id].wake = at;
                self.later(id, delay, Own::Wake);
            }
            return;
        }
        self.turn(id);
    }

    fn handle(&mut self, id: ProcessId, input: Input) {
        self.inputs += 1;
        let input = match self.mutation {
            Some(mutation) => mutation.input(input, &self.processes[id].config.node),
            None => input,
        };
        let now = self.agent_time(id, Some(&input));
        self.tell(&Fact::Input(id, &input));
        self.trace.input(self.now, id, &input);
        if let Some(agent) = &mut self.processes[id].agent {
            agent.handle(now, input);
        }
    }

    /// The time that an agent is told; a mutation may lie.
    pub(super) fn agent_time(&self, id: ProcessId, input: Option<&Input>) -> Instant {
        let local = self.local(id);
        match (self.mutation, input) {
            (Some(mutation), input) => mutation.time(local, input),
            (None, _) => local,
        }
    }

    /// Polls an agent until it is dry, carries out what it says and notes when it wants to be polled again.
    pub(super) fn turn(&mut self, id: ProcessId) {
        let generation = self.processes[id].generation;
        let now = self.agent_time(id, None);
        let mut polls = 0;
        while polls < POLL_LIMIT && self.processes[id].generation == generation {
            let Some(output) = self.processes[id].agent.as_mut().and_then(|agent| agent.poll(now)) else {
                break;
            };
            polls += 1;
            self.tell(&Fact::Output(id, &output));
            self.trace.output(self.now, id, &output);
            self.carry(id, output);
            self.count_output(id);
        }
        let process = &mut self.processes[id];
        let Some(agent) = process.agent.as_ref().filter(|_| process.generation == generation) else { return };
        let deadline = agent.deadline();
        if self.checkers.is_none() {
            return self.wake_at(id, deadline); // nobody looks
        }
        // A view is made when it is looked at: after turns that decided something else, and now and then.
        let decided = agent.plan().verdicts != process.verdicts;
        if decided {
            process.verdicts.clone_from(&agent.plan().verdicts);
        }
        if decided || self.now >= process.viewed + LOOK_AGAIN {
            self.look_at(id);
        }
        self.tell(&Fact::Turn(id, polls));
        self.wake_at(id, deadline);
    }

    pub(super) fn look_at(&mut self, id: ProcessId) {
        let process = &mut self.processes[id];
        let Some(agent) = &mut process.agent else { return };
        process.view = agent.view();
        process.viewed = self.now;
        let view = Arc::clone(&process.view);
        self.tell(&Fact::View(id, &view));
    }

    fn wake_at(&mut self, id: ProcessId, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        let at = self.nodes[self.processes[id].node].clock.moment_of(deadline).max(self.now);
        if at >= self.processes[id].wake {
            return;
        }
        let at = at + Duration::from_micros(20) + self.up_to(Duration::from_micros(500));
        self.processes[id].wake = at;
        let generation = self.processes[id].generation;
        self.queue.push(at, Event::Process { id, generation, own: Own::Wake });
    }

    fn carry(&mut self, id: ProcessId, output: Output) {
        match output {
            Output::Kernel(batch) => {
                let trapped = self.trapped(id, Trap::KillAtBatch, Trap::PauseAtBatch);
                self.batch_leaves(id, batch);
                self.spring(id, trapped);
            }
            Output::Frame(frame) => {
                let delay = self.up_to(Duration::from_micros(300));
                self.later(id, delay, Own::Frame(Box::new(frame)));
            }
            Output::Listen(links) => self.processes[id].listening = links,
            Output::Ask(question) => {
                let trapped = self.trapped(id, Trap::KillAtAsk, Trap::PauseAtAsk);
                self.question_leaves(id, question);
                self.spring(id, trapped);
            }
            Output::Watch(watches) => self.watches_change(id, watches),
            Output::Errand(errand) => self.run_errand(id, &errand),
            Output::Peer(sent) => self.peer_leaves(id, *sent),
            Output::Door(want) => self.door_wanted(id, want),
            Output::Remember(memory) => self.remember(id, memory),
            Output::Exit => self.end(id),
        }
    }
}
