//! One Service of ours that asks for addresses which can be used: everything about it that does not depend on others.

use std::net::IpAddr;

use vip_model::service::{Endpoint, Service, ServiceName};
use vip_model::verdict::Reason;

use super::election::{Ballot, ballot};
use super::endpoint::{Backing, backing};
use super::ground::Ground;
use super::request::{Source, request};

/// A Service of ours.
pub(super) struct Member<'a> {
    pub(super) name: &'a ServiceName,
    pub(super) service: &'a Service,
    /// Never empty.
    pub(super) addrs: Vec<IpAddr>,
    pub(super) source: Source,
    /// The election that it takes part in by itself.
    pub(super) ballot: Ballot,
    pub(super) backing: Backing,
    /// Its endpoints; none as well while they are unknown.
    pub(super) endpoints: &'a [Endpoint],
}

impl<'a> Member<'a> {
    /// `Err` says what in the Service can't be used. `endpoints` is none while they are unknown.
    pub(super) fn new(
        ground: &Ground<'_>,
        name: &'a ServiceName,
        service: &'a Service,
        endpoints: Option<&'a [Endpoint]>,
    ) -> Result<Self, Reason> {
        let ballot = ballot(ground, name, service)?;
        let request = request(service)?;
        Ok(Self {
            name,
            service,
            addrs: request.addrs,
            source: request.source,
            ballot,
            backing: backing(service, endpoints, &ground.world.config.node),
            endpoints: endpoints.unwrap_or_default(),
        })
    }

    /// Whether its status shows an address: then it was served before.
    pub(super) fn shows(&self, addr: IpAddr) -> bool {
        self.service.ingress.iter().any(|ingress| ingress.ip == Some(addr))
    }
}
