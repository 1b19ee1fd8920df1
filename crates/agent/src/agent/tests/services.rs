//! The node that serves Services.

use vip_model::config::{
    ClassRule, EndpointSource, OnDemand, PrefixRule, ServiceElection, ServiceLabels, ServiceSecurity,
    ServiceUpdates, Services, UnsetClass,
};
use vip_model::view::Readiness;

use super::*;

/// A configuration for Services alone, with an election each.
fn services_alone() -> Config {
    let timings = LeaseTimings::default();
    let services = Services {
        namespace: None,
        class: ClassRule { name: String::new(), unset: UnsetClass::Ours },
        interface: InterfaceChoice::Auto,
        link_down: LinkDown::Yield,
        prefix_v4: PrefixRule::Fixed(32),
        prefix_v6: PrefixRule::Fixed(128),
        election: ServiceElection::PerService(timings),
        on_demand: OnDemand::Off,
        endpoints: EndpointSource::Slices,
        updates: ServiceUpdates::On,
        security: ServiceSecurity::Off,
        node_labels: ServiceLabels::Off,
        ipam: None,
    };
    Config { control_plane: None, services: Some(services), ..config() }
}

#[test]
fn an_agent_for_services_is_ready_when_they_are_listed_also_when_there_is_none() {
    let mut desk = Desk::new();
    desk.agent.want(desk.now, services_alone());
    desk.drain();
    desk.run_for(500);
    assert_eq!(desk.agent.view().readiness, Readiness::Starting);
    desk.snapshot.services = Known::Known(Arc::default());
    desk.show();
    desk.run_for(50);
    assert_eq!(desk.agent.view().readiness, Readiness::Starting, "the endpoints are not listed");
    desk.snapshot.endpoints = Known::Known(Arc::default());
    desk.show();
    desk.run_for(50);
    assert_eq!(desk.agent.view().readiness, Readiness::Ready);
}
