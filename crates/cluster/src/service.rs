//! Services between JSON and the model: what is read of one, and how what the node wants is written into one without
//! touching what others wrote. Fed by the watch and by questions.

mod read;
mod write;

use vip_model::service::ServiceName;

pub(crate) use self::read::ServiceShape;
pub(crate) use self::write::{compose, compose_status, seconds, version};

/// The collection of a namespace, or of all.
pub(crate) fn collection(namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || "/api/v1/services".to_owned(),
        |namespace| format!("/api/v1/namespaces/{namespace}/services"),
    )
}

/// One Service.
pub(crate) fn path(service: &ServiceName) -> String {
    format!("{}/{}", collection(Some(service.namespace())), service.name())
}

#[cfg(test)]
mod tests;
