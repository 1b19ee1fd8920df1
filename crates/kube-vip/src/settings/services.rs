//! Services of type `LoadBalancer`: which of them are ours, where their addresses go, how holders are elected, what is
//! written back, and the address management. Read only when Services are wanted (`svc_enable`).

use vip_model::LeaseName;
use vip_model::config::{
    ClassRule, EndpointSource, InterfaceChoice, Ipam, LeaseTimings, OnDemand, ServiceElection, ServiceLabels,
    ServiceSecurity, ServiceUpdates, Services, UnsetClass,
};

use super::refusal::Refusal;
use super::source::Values;
use super::{Machine, Warning, election, key, link, parse, subnet};

/// The Lease of the agent that gives addresses to Services.
const IPAM_LEASE: &str = "kubevip-ipam";

/// Builds the Services' part of the configuration.
pub(super) fn build(
    values: &Values,
    machine: &Machine,
    warnings: &mut Vec<Warning>,
) -> Result<Services, Refusal> {
    let on = |key| values.boolean(key);
    let timings = election::timings(values)?;
    let (prefix_v4, prefix_v6) = subnet::for_services(values, warnings)?;
    Ok(Services {
        namespace: values
            .set(key::SERVICES_NAMESPACE)
            .map(|_| object_name(values, key::SERVICES_NAMESPACE))
            .transpose()?,
        class: class(values)?,
        interface: interface(values)?,
        link_down: link::down(values)?,
        prefix_v4,
        prefix_v6,
        election: service_election(values, machine, timings)?,
        on_demand: if on(key::ON_DEMAND)? { OnDemand::On(timings) } else { OnDemand::Off },
        endpoints: if on(key::ENDPOINTS)? { EndpointSource::Endpoints } else { EndpointSource::Slices },
        updates: if on(key::NO_SERVICE_UPDATES)? { ServiceUpdates::Off } else { ServiceUpdates::On },
        security: if on(key::SERVICE_SECURITY)? { ServiceSecurity::On } else { ServiceSecurity::Off },
        node_labels: if on(key::NODE_LABEL)? { ServiceLabels::On } else { ServiceLabels::Off },
        ipam: if on(key::IPAM)? { Some(ipam(values, machine, timings)?) } else { None },
    })
}

/// Legacy handling takes Services without a class unless told otherwise; modern handling takes exactly the name, and
/// those without a class only when the name is empty (upstream §6.2).
fn class(values: &Values) -> Result<ClassRule, Refusal> {
    let name = values.text(key::CLASS_NAME).to_owned();
    let (legacy, only) = (values.boolean(key::CLASS_LEGACY)?, values.boolean(key::CLASS_ONLY)?);
    let takes_unset = if legacy { !only } else { name.is_empty() };
    Ok(ClassRule { name, unset: if takes_unset { UnsetClass::Ours } else { UnsetClass::NotOurs } })
}

/// `auto` is said for Services alone: it does not fall back on the control plane's link.
fn interface(values: &Values) -> Result<InterfaceChoice, Refusal> {
    let own = values.set(key::SERVICES_INTERFACE).is_some();
    link::choice(values, if own { key::SERVICES_INTERFACE } else { key::INTERFACE })
}

fn service_election(
    values: &Values,
    machine: &Machine,
    timings: LeaseTimings,
) -> Result<ServiceElection, Refusal> {
    if values.boolean(key::SERVICES_ELECTION)? {
        return Ok(ServiceElection::PerService(timings));
    }
    let lease = election::lease(values, machine, key::SERVICES_LEASE)?;
    Ok(ServiceElection::Global(election::without_annotations(lease, timings)))
}

fn ipam(values: &Values, machine: &Machine, timings: LeaseTimings) -> Result<Ipam, Refusal> {
    let common = election::lease(values, machine, key::LEASE_NAME)?;
    Ok(Ipam {
        namespace: object_name(values, key::IPAM_NAMESPACE)?,
        config_map: object_name(values, key::IPAM_CONFIG_MAP)?,
        election: election::without_annotations(LeaseName::new(common.namespace(), IPAM_LEASE), timings),
    })
}

fn object_name(values: &Values, key: &str) -> Result<String, Refusal> {
    let name = values.text(key);
    if parse::is_object_name(name) {
        return Ok(name.to_owned());
    }
    Err(values.refuse(key, "give the name of a Kubernetes object: lower-case letters, digits, '-' and '.'"))
}

#[cfg(test)]
mod tests;
