//! The addresses that are looked after: the control plane's from the beginning, those of Services from the moment when
//! somebody asks for them or an agent installs them.

use std::net::IpAddr;

use ipnet::IpNet;
use vip_model::VipNet;
use vip_model::plan::Presence;
use vip_model::{LinkIndex, ScopedAddr};

use super::{Voice, World};
use crate::process::ProcessId;
use crate::setup::Setup;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The control plane of its agent.
    ControlPlane,
    /// Services.
    Services,
}

/// An address that is looked after.
#[derive(Clone, Copy, Debug)]
pub struct Vip {
    /// The agent of a node that it belongs to.
    pub agent: usize,
    /// The address.
    pub net: VipNet,
    /// What it is for.
    pub purpose: Purpose,
}

impl Vip {
    /// The address without its prefix length.
    pub fn addr(&self) -> IpAddr {
        self.net.addr()
    }
}

/// The addresses of the control planes, which are there from the beginning.
pub(super) fn of_control_planes(setup: &Setup) -> Vec<Vip> {
    let vip = |(agent, net)| Vip { agent, net, purpose: Purpose::ControlPlane };
    setup.vips().into_iter().map(vip).collect()
}

impl World {
    /// The number of an address that is looked after.
    pub fn number_of(&self, addr: IpAddr) -> Option<usize> {
        self.numbers.get(&addr).copied()
    }

    /// Looks after an address of Services from now on.
    pub(super) fn look_after(&mut self, addr: IpAddr) {
        let Some((agent, _)) = self.setup.services() else { return };
        if self.numbers.contains_key(&addr) {
            return;
        }
        let net = VipNet(IpNet::from(addr));
        self.numbers.insert(addr, self.vips.len());
        self.vips.push(Vip { agent, net, purpose: Purpose::Services });
        self.answering.push(0);
        self.owning.push(0);
        self.voices.push(Voice::NotYet);
        self.wire.client.push(None);
        self.wire.stations.push(None);
        self.eyes.push(crate::client::Eye::default());
        for node in 0..self.nodes.len() {
            self.look_who_answers(node);
        }
    }

    /// Whether an agent wants an address to be there and not only to stay.
    pub(super) fn installs(&self, id: ProcessId, link: LinkIndex, addr: IpAddr) -> bool {
        let agent = self.processes[id].agent.as_ref();
        let planned = agent.and_then(|agent| agent.plan().addresses.set.get(&ScopedAddr { addr, link }));
        planned.is_some_and(|planned| matches!(planned.presence, Presence::Install { .. }))
    }
}
