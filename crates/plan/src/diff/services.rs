//! Services: the writes that make what the cluster says of them what the plan says. Only what differs, one write per
//! object, metadata before status: the status follows when the watch shows the metadata.

use std::collections::{BTreeMap, BTreeSet};

use vip_model::plan::{NodePlan, ServicePlan};
use vip_model::service::{Service, ServiceName};
use vip_model::store::{Ask, ServiceStatusWrite, ServiceWrite, Snapshot};

/// The writes that are due, those of the oldest Service first. Nothing for Services that the plan does not name, that
/// have another life than the planned one, or that have a write in flight.
pub fn services(plan: &NodePlan, snapshot: &Snapshot, in_flight: &BTreeSet<ServiceName>) -> Vec<Ask> {
    let Some(found) = snapshot.services.get() else { return Vec::new() };
    let mut due: Vec<(&str, &ServiceName, Ask)> = Vec::new();
    for (name, planned) in plan.services.iter().filter(|(_, planned)| wants_any(planned)) {
        let Some(service) = found.get(name).filter(|service| service.uid == planned.uid) else { continue };
        if in_flight.contains(name) {
            continue;
        }
        let write = metadata(name, planned, service).or_else(|| status(name, planned, service));
        due.extend(write.map(|ask| (&*service.created, name, ask)));
    }
    due.sort_by(|(one, a, _), (other, b, _)| (one, a).cmp(&(other, b)));
    due.into_iter().map(|(_, _, ask)| ask).collect()
}

/// Whether anything at all is to be written. Of most Services nothing is, and then they need not be looked up.
fn wants_any(planned: &ServicePlan) -> bool {
    let has_metadata =
        !planned.annotations.is_empty() || !planned.labels.is_empty() || planned.spec_ip.is_some();
    has_metadata || planned.ingress.is_some() || !planned.conditions.is_empty()
}

fn metadata(name: &ServiceName, planned: &ServicePlan, service: &Service) -> Option<Ask> {
    let annotations = differing(&planned.annotations, &service.annotations);
    let labels = differing(&planned.labels, &service.labels);
    let spec_ip =
        planned.spec_ip.as_ref().filter(|planned| service.spec_ip.as_ref() != Some(planned)).cloned();
    if annotations.is_empty() && labels.is_empty() && spec_ip.is_none() {
        return None;
    }
    let (service, expect) = (name.clone(), service.version.clone());
    Some(Ask::WriteService(ServiceWrite { service, expect, annotations, labels, spec_ip }))
}

fn status(name: &ServiceName, planned: &ServicePlan, service: &Service) -> Option<Ask> {
    let conditions = differing(&planned.conditions, &service.conditions);
    let ingress = planned.ingress.as_ref().filter(|planned| **planned != service.ingress);
    if conditions.is_empty() && ingress.is_none() {
        return None;
    }
    let ingress = ingress.unwrap_or(&service.ingress).clone();
    let (service, expect) = (name.clone(), service.version.clone());
    Some(Ask::WriteServiceStatus(ServiceStatusWrite { service, expect, ingress, conditions }))
}

/// The entries that are not as planned; `None` plans an absence.
fn differing<T: Clone + PartialEq>(
    planned: &BTreeMap<String, Option<T>>,
    found: &BTreeMap<String, T>,
) -> BTreeMap<String, Option<T>> {
    let differs = |(key, planned): &(&String, &Option<T>)| found.get(*key) != planned.as_ref();
    planned.iter().filter(differs).map(|(key, planned)| (key.clone(), planned.clone())).collect()
}

#[cfg(test)]
mod tests;
