//! The loop: takes inputs out of the inbox and heartbeats from the door, feeds them to the node, carries out what the node
//! says, publishes its view, sleeps until the next deadline, input or heartbeat. It never waits for anything else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use vip_agent::{Agent, Input, Output};
use vip_model::Instant;
use vip_model::explanation::Explanation;
use vip_model::peers::PeerHeard;
use vip_model::service::ServiceName;
use vip_model::view::View;
use vip_proto::Machine;

use crate::board::{Board, boot_now};

/// How long a stop may take. The node needs one write of the Lease for it; when the API is dead it gives up by
/// itself before this, and the kernel forgets the addresses in any case.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(3);

/// The shortest sleep between two turns that no input asked for: a deadline that stays in the past, which would be
/// a defect of the node, must not burn a core.
const SHORTEST_SLEEP: Duration = Duration::from_micros(500);

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The node said that everything is in order.
    InOrder,
    /// It did not, within `STOP_WITHIN`.
    GaveUp,
}

/// A machine that the loop can drive: it publishes a view.
pub(crate) trait Node: Machine<Input = Input, Output = Output> {
    /// The picture after the last turn.
    fn view(&mut self) -> Arc<View>;

    /// Why it serves a Service, or not; none when it never saw it.
    fn explain(&self, service: &ServiceName) -> Option<Explanation>;
}

impl Node for Agent {
    fn view(&mut self) -> Arc<View> {
        Agent::view(self)
    }

    fn explain(&self, service: &ServiceName) -> Option<Explanation> {
        Agent::explain(self, service)
    }
}

/// What is around the node.
pub(crate) trait Surroundings {
    /// Carries out what the node says. Must not block.
    fn carry(&mut self, output: Output);

    /// Sleeps until something is in the inbox, heartbeats were heard or `deadline` is reached; `None` is no deadline.
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()>;

    /// Takes out what was heard during the last `wait`.
    fn take_heard(&mut self) -> Vec<PeerHeard>;
}

/// Drives `node` until it stops.
pub(crate) fn drive(mut node: impl Node, board: &Board, around: &mut impl Surroundings) -> io::Result<Ended> {
    let mut stop_by: Option<Instant> = None;
    loop {
        let began = boot_now();
        board.pulse.begin(began);
        // Heartbeats come last: what they say is judged by what is known of the store and of the kernel.
        let heard = around.take_heard().into_iter().map(|heard| Input::Peer(Box::new(heard)));
        for input in board.inbox.take().into_iter().chain(heard) {
            if input == Input::Stop {
                stop_by.get_or_insert(began + STOP_WITHIN);
            }
            node.handle(boot_now(), input);
        }
        while let Some(output) = node.poll(boot_now()) {
            if output == Output::Exit {
                board.publish(node.view());
                return Ok(Ended::InOrder);
            }
            around.carry(output);
        }
        board.publish(node.view());
        for inquiry in board.inbox.take_inquiries() {
            // Who no longer waits does not want to know.
            let _ = inquiry.answer.send(node.explain(&inquiry.service));
        }
        let ended = boot_now();
        board.turns.observe(ended.since(began));
        if stop_by.is_some_and(|by| ended >= by) {
            return Ok(Ended::GaveUp);
        }
        let due = earlier(node.deadline(), stop_by);
        board.pulse.end(due);
        around.wait(due.map(|at| at.max(ended + SHORTEST_SLEEP)))?;
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
