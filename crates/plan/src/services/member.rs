//! One Service of ours that asks for addresses which can be used: everything about it that does not depend on others.
//! What is needed of each Service later is taken here in one visit: with thousands of them the time of a plan is that of
//! fetching them from memory.

use std::net::IpAddr;

use vip_model::service::{Endpoint, EndpointCount, Service, ServiceName, ServicePort, TrafficPolicy};
use vip_model::verdict::Reason;

use super::election::{Ballot, ballot};
use super::endpoint::{self, Backing, backing};
use super::ground::Ground;
use super::notes::Notes;
use super::request::{Source, request};
use super::write::Word;

/// A Service of ours.
pub(super) struct Member<'a> {
    pub(super) name: &'a ServiceName,
    pub(super) service: &'a Service,
    /// `metadata.creationTimestamp`.
    pub(super) created: &'a str,
    pub(super) ports: &'a [ServicePort],
    pub(super) notes: Notes<'a>,
    /// What it says already of how it is served.
    pub(super) word: Word,
    /// Never empty.
    pub(super) addrs: Vec<IpAddr>,
    pub(super) source: Source,
    /// `spec.externalTrafficPolicy`.
    pub(super) traffic: TrafficPolicy,
    /// Which of its addresses its status shows: those were served before.
    shown: Shown,
    /// The election that it takes part in by itself.
    pub(super) ballot: Ballot,
    pub(super) backing: Backing,
    pub(super) count: EndpointCount,
    /// Its endpoints of its families; none as well while they are unknown.
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
        let notes = Notes::of(service);
        let ballot = ballot(ground, name, (service.traffic, &notes))?;
        let request = request(service, &notes)?;
        let endpoints = endpoints.map(|endpoints| endpoint::of_families(endpoints, &service.families));
        let backing = match service.traffic {
            TrafficPolicy::Cluster if notes.serves_without_endpoints() => Backing::Here,
            traffic => backing(traffic, endpoints, &ground.world.config.node),
        };
        let is_shown = |addr: &IpAddr| service.ingress.iter().any(|ingress| ingress.ip == Some(*addr));
        let shown = request.addrs.iter().filter(|addr| is_shown(addr)).count();
        Ok(Self {
            name,
            service,
            created: &service.created,
            ports: &service.ports,
            word: Word::of(ground, service, (&notes, &request.addrs)),
            notes,
            shown: match shown {
                0 => Shown::None,
                count if count == request.addrs.len() => Shown::All,
                _ => Shown::Some,
            },
            addrs: request.addrs,
            source: request.source,
            traffic: service.traffic,
            ballot,
            backing,
            count: endpoint::count(endpoints.unwrap_or_default(), &ground.world.config.node),
            endpoints: endpoints.unwrap_or_default(),
        })
    }

    /// Whether its status shows an address.
    pub(super) fn shows(&self, addr: IpAddr) -> bool {
        match self.shown {
            Shown::None => false,
            Shown::Some => self.service.ingress.iter().any(|ingress| ingress.ip == Some(addr)),
            Shown::All => true,
        }
    }
}

/// How much of what a Service asks for its status shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    None,
    Some,
    All,
}
