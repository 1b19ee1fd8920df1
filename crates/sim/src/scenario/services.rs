//! Words about Services in a scenario.

use vip_model::config::{ServiceLabels, ServiceSecurity, UnsetClass};

use crate::clock::Moment;
use crate::deed::{Act, Deed, Edit, Key, Pod, PodPlace, service};
use crate::setup::{
    AgentSetup, CommonLease, EventRights, ServicesElection, ServicesSetup, Setup, Switch, Writes,
    service_address, v4_vip,
};

/// The agents of every node, by what they do.
pub(super) fn agents(words: &[&str]) -> Result<Vec<AgentSetup>, String> {
    let one = |word: &&str| {
        let mut agent = AgentSetup::control_plane(word, vec![v4_vip(0, 32)]);
        match *word {
            "control-plane" => {}
            "all" => agent.services = Some(ServicesSetup::plain()),
            "services" => {
                agent.vips.clear();
                agent.services = Some(ServicesSetup::plain());
            }
            other => return Err(format!("{other:?} is none of control-plane, services, all")),
        }
        Ok(agent)
    };
    words.iter().map(one).collect()
}

/// One word about how agents look after Services.
pub(super) fn set(setup: &mut Setup, key: &str, value: &str) -> Result<(), String> {
    let agent = setup.agents.iter_mut().find_map(|agent| agent.services.as_mut());
    let services = agent.ok_or("unknown word, or no agent looks after Services")?;
    match key {
        "per-service" => services.election = ServicesElection::PerService,
        "one-lease" => services.election = ServicesElection::Global(CommonLease::ControlPlane),
        "on-demand" => services.on_demand = Switch::On,
        "ipam" => services.ipam = Switch::On,
        "namespace" => services.namespace = Some(value.to_owned()),
        "class-only" => services.unset = UnsetClass::NotOurs,
        "label-services" => services.node_labels = ServiceLabels::On,
        "security" => services.security = ServiceSecurity::On,
        "no-updates" => services.updates = Writes::Off,
        "no-events" => services.events = EventRights::Missing,
        _ => return Err("unknown word".to_owned()),
    }
    Ok(())
}

/// So many Services at 5 s, each with an address and a pod on every node.
pub(super) fn many(count: &str, nodes: usize) -> Result<Vec<Deed>, String> {
    let count: u16 = count.parse().map_err(|_| "no number".to_owned())?;
    let pod = |node| Pod { place: PodPlace::Node(node), state: vip_model::service::EndpointState::Ready };
    let of = |number| {
        let name = service(&format!("s{number:03}"));
        let address = service_address(number).to_string();
        let pods = Act::Pods(name.clone(), (0..nodes).map(pod).collect());
        let apply = Act::Apply(name, vec![Edit::new(Key::Addresses, address)]);
        [pods, apply].map(|act| Deed { at: Moment::from_millis(5000), act })
    };
    Ok((0..count).flat_map(of).collect())
}
