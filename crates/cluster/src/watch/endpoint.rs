//! Endpoints in view: of each Service the endpoints of all its slices, merged; or of its Endpoints object.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use vip_model::config::EndpointSource;
use vip_model::service::{Endpoint, ServiceName};
use vip_model::store::Version;

use crate::follow::{Collection, PAGE, Recovery};
use crate::gateway::Gateway;
use crate::slice::{self, NodeNames, Piece, PieceShape};
use crate::snapshots;

/// What stands behind the Services of a namespace, or of all.
pub(crate) struct EndpointWatch<S> {
    gateway: Arc<Gateway>,
    source: EndpointSource,
    namespace: Option<String>,
    nodes: NodeNames,
    pieces: Pieces,
    shape: PhantomData<fn() -> S>,
}

impl<S> EndpointWatch<S> {
    pub(crate) fn new(gateway: Arc<Gateway>, source: EndpointSource, namespace: Option<String>) -> Self {
        let (nodes, pieces) = (NodeNames::default(), Pieces::default());
        Self { gateway, source, namespace, nodes, pieces, shape: PhantomData }
    }

    /// Tells what a Service has now.
    fn tell(&self, service: ServiceName) {
        let endpoints = self.pieces.of(&service);
        let endpoints = (!endpoints.is_empty()).then_some(endpoints);
        self.gateway.snapshots.change(|snapshot| snapshots::set(&mut snapshot.endpoints, service, endpoints));
    }

    /// Tells what the Services have that a piece belonged to and belongs to.
    fn tell_moved(&self, before: Option<ServiceName>, after: Option<ServiceName>) {
        if before != after
            && let Some(before) = before
        {
            self.tell(before);
        }
        if let Some(after) = after {
            self.tell(after);
        }
    }
}

/// The pieces that were seen, by Service.
#[derive(Default)]
struct Pieces {
    /// Few each: by the object's name, in a list, because thousands of small maps are large.
    services: BTreeMap<ServiceName, Vec<(String, Vec<Endpoint>)>>,
    /// To which Service an object belongs: a slice can change hands.
    owners: BTreeMap<(String, String), ServiceName>,
}

impl Pieces {
    /// Takes note of a piece. Gives back the Service to which it belonged before.
    fn put(&mut self, piece: Piece) -> Option<ServiceName> {
        let before = self.remove(&piece.object);
        if let Some(service) = piece.service {
            let pieces = self.services.entry(service.clone()).or_default();
            pieces.reserve_exact(1);
            pieces.push((piece.object.1.clone(), piece.endpoints));
            self.owners.insert(piece.object, service);
        }
        before
    }

    /// Forgets a piece. Gives back the Service to which it belonged.
    fn remove(&mut self, object: &(String, String)) -> Option<ServiceName> {
        let service = self.owners.remove(object)?;
        if let Some(pieces) = self.services.get_mut(&service) {
            pieces.retain(|(name, _)| *name != object.1);
            if pieces.is_empty() {
                self.services.remove(&service);
            }
        }
        Some(service)
    }

    /// The endpoints of a Service.
    fn of(&self, service: &ServiceName) -> Vec<Endpoint> {
        let pieces = self.services.get(service).map_or(&[][..], Vec::as_slice);
        slice::merge(pieces.iter().flat_map(|(_, endpoints)| endpoints).cloned().collect())
    }

    /// The endpoints of all Services that have any.
    fn all(&self) -> BTreeMap<ServiceName, Vec<Endpoint>> {
        let services = self.services.keys().map(|service| (service.clone(), self.of(service)));
        services.filter(|(_, endpoints)| !endpoints.is_empty()).collect()
    }
}

impl<S: PieceShape + DeserializeOwned + Send> Collection for EndpointWatch<S> {
    type Item = S;

    fn resource(&self) -> &'static str {
        match self.source {
            EndpointSource::Slices => "endpointslices.discovery.k8s.io",
            EndpointSource::Endpoints => "endpoints",
        }
    }

    fn object(&self) -> String {
        self.namespace.clone().unwrap_or_default()
    }

    fn query(&self) -> String {
        let namespace =
            self.namespace.as_ref().map_or_else(String::new, |name| format!("/namespaces/{name}"));
        match self.source {
            EndpointSource::Slices => {
                let label = slice::SERVICE.replace('/', "%2F");
                format!("/apis/discovery.k8s.io/v1{namespace}/endpointslices?labelSelector={label}&")
            }
            EndpointSource::Endpoints => format!("/api/v1{namespace}/endpoints?"),
        }
    }

    fn page(&self) -> u32 {
        PAGE
    }

    fn starts(&mut self) {
        self.pieces = Pieces::default();
    }

    fn found(&mut self, items: Vec<S>) {
        for item in items {
            self.pieces.put(item.convert(&mut self.nodes));
        }
    }

    fn listed(&mut self, _version: &Version) {
        let all = self.pieces.all();
        self.gateway.snapshots.replace(|snapshot| snapshots::put(&mut snapshot.endpoints, all));
    }

    fn changed(&mut self, item: S) {
        let piece = item.convert(&mut self.nodes);
        let after = piece.service.clone();
        let before = self.pieces.put(piece);
        self.tell_moved(before, after);
    }

    fn deleted(&mut self, item: S) {
        let piece = item.convert(&mut self.nodes);
        let before = self.pieces.remove(&piece.object);
        self.tell_moved(before, None);
    }

    fn recovery(&self) -> Recovery {
        Recovery::Resume
    }
}
