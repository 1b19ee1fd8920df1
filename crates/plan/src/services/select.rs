//! Which Services are ours: type, life, namespace, class, the annotation that says no. Fed with every Service that is
//! seen; gives back why one is not ours. Nothing is ever planned for, or written to, one that is not.

use vip_model::config::{Services, UnsetClass};
use vip_model::service::{ObjectLife, Service, ServiceKind, ServiceName};
use vip_model::verdict::Reason;

/// Takes a Service away from us when it is exactly `true`.
const IGNORE: &str = "kube-vip.io/ignore";

/// `Err` says why a Service is not ours.
pub(crate) fn select(services: &Services, name: &ServiceName, service: &Service) -> Result<(), Reason> {
    if let Some(ours) = services.namespace.as_ref().filter(|ours| **ours != name.namespace()) {
        return Err(Reason::OtherNamespace(ours.clone()));
    }
    if service.kind != ServiceKind::LoadBalancer {
        return Err(Reason::NotALoadBalancer);
    }
    if service.life == ObjectLife::Deleting {
        return Err(Reason::Deleting);
    }
    let is_of_class = match &service.class {
        Some(class) => *class == services.class.name,
        None => services.class.unset == UnsetClass::Ours,
    };
    if !is_of_class {
        return Err(Reason::OtherClass(service.class.clone()));
    }
    if service.annotations.get(IGNORE).is_some_and(|value| value == "true") {
        return Err(Reason::Ignored);
    }
    Ok(())
}
