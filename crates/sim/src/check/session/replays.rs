//! `replays` in the mode `session`: a heartbeat reaches an agent once. What was recorded and is sent again, or arrives twice,
//! ends at the door, before anything is queued for it.

use std::collections::BTreeSet;

use vip_agent::Input;
use vip_model::Instant;
use vip_model::session::SessionId;

use crate::check::{Check, Verdict};
use crate::setup::Setup;
use crate::world::{Fact, World};

pub(in crate::check) struct Replays {
    /// What each process has heard in this life, by the session that said it.
    heard: Vec<BTreeSet<(SessionId, Instant)>>,
}

impl Replays {
    pub(in crate::check) fn new(setup: &Setup) -> Self {
        Self { heard: vec![BTreeSet::new(); setup.nodes() * setup.agents.len()] }
    }
}

impl Check for Replays {
    fn name(&self) -> &'static str {
        "replays"
    }

    fn see(&mut self, fact: &Fact<'_>, world: &World) -> Verdict {
        match fact {
            Fact::Born(id) => self.heard[*id].clear(),
            Fact::Input(id, Input::Peer(heard)) => {
                let datagram = &heard.datagram;
                if !self.heard[*id].insert((datagram.session, datagram.sequence)) {
                    let node = &world.processes[*id].config.node;
                    return Err(format!(
                        "{node} hears number {:?} of session {} of {} twice",
                        datagram.sequence, datagram.session, datagram.from
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
