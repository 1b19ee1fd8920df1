//! `api_budget` in the mode `session`: in quiet times an agent asks once per retry period, at most once a second, and
//! nothing but to renew its session, whatever the number of groups; in doubt at most 2.5 times a second; nothing is
//! polled.

use std::collections::VecDeque;
use std::time::Duration;

use vip_model::drill::DRILL;
use vip_model::session::SessionId;
use vip_model::store::{Ask, Purpose};

use crate::check::{Check, Verdict, settled_at};
use crate::clock::Moment;
use crate::process::ProcessId;
use crate::setup::Setup;
use crate::world::{Fact, World};

/// Over so much time the rate in trouble is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// Questions about the own session in that time: 2.5 a second, and what a window that begins with a burst adds.
const IN_TROUBLE: usize = 28;
/// All questions of one agent within one second, whatever goes wrong.
const ALL: usize = 40;

pub(in crate::check) struct ApiBudget {
    retry: Duration,
    seen: Vec<Seen>,
}

#[derive(Clone, Default)]
struct Seen {
    renewals: VecDeque<Moment>,
    /// The session that was renewed last.
    session: Option<SessionId>,
    all: VecDeque<Moment>,
    quiet: u32,
}

/// Takes note of a moment and says how many of them lie within `window`.
fn within(moments: &mut VecDeque<Moment>, now: Moment, window: Duration) -> usize {
    moments.push_back(now);
    while moments.front().is_some_and(|first| now.since(*first) > window) {
        moments.pop_front();
    }
    moments.len()
}

impl ApiBudget {
    pub(in crate::check) fn new(setup: &Setup) -> Self {
        let retry = setup.timings.retry_period;
        Self { retry, seen: vec![Seen::default(); setup.nodes() * setup.agents.len()] }
    }

    fn ask(&mut self, id: ProcessId, ask: &Ask, world: &World) -> Verdict {
        let seen = &mut self.seen[id];
        let process = &world.processes[id];
        let node = &process.config.node;
        let all = within(&mut seen.all, world.now, Duration::from_secs(1));
        if all > ALL {
            return Err(format!("{node} asks {all} questions within one second"));
        }
        let is_renewal = matches!(ask, Ask::WriteSession(write) if write.purpose == Purpose::Renew)
            || is_lease_renewal(ask);
        if let Ask::WriteSession(write) = ask
            && write.purpose == Purpose::Renew
            && seen.session.replace(write.record.id) != Some(write.record.id)
        {
            // A new one, because the former has ended: it is published now, however often that one was renewed.
            seen.renewals.clear();
        }
        if is_renewal {
            let count = within(&mut seen.renewals, world.now, WINDOW);
            if count > IN_TROUBLE && !process.config.election_mode.is_lease() {
                return Err(format!("{node} asks {count} times within {WINDOW:?} to renew its session"));
            }
        }
        if world.now > settled_at(world) {
            seen.quiet += 1;
            if !is_renewal {
                return Err(format!("{node} asks in quiet times: {ask:?}"));
            }
        }
        Ok(())
    }

    fn end(&self, world: &World) -> Verdict {
        let span = world.now.since(settled_at(world)).as_secs_f64();
        // A clock that runs 1 % fast, and one that falls into the window at either end.
        let rate = (1.0 / self.retry.as_secs_f64()).min(1.0);
        let allowed = 2.0 + 1.02 * span * rate;
        for (id, seen) in self.seen.iter().enumerate() {
            if f64::from(seen.quiet) > allowed {
                let node = &world.processes[id].config.node;
                return Err(format!(
                    "{node} asked {} questions in {span:.1} s of quiet, {allowed:.0} are enough",
                    seen.quiet
                ));
            }
        }
        Ok(())
    }
}

fn is_lease_renewal(ask: &Ask) -> bool {
    // The answer to a drill is no renewal.
    matches!(ask, Ask::WriteLease(write)
        if write.purpose == Purpose::Renew && !write.annotations.contains_key(DRILL))
}

impl Check for ApiBudget {
    fn name(&self) -> &'static str {
        "api_budget"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            // An agent that begins again does not know how often its former life asked.
            Fact::Born(id) => {
                self.seen[*id].renewals.clear();
                Ok(())
            }
            Fact::Asked(id, ask) => self.ask(*id, ask, world),
            Fact::End => self.end(world),
            _ => Ok(()),
        }
    }
}
