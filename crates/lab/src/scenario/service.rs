//! Services of type LoadBalancer and their `EndpointSlices` as a user's Deployment would make them, with pods of the
//! bench behind them, and how long a new one takes to be reached. Scenarios, the demo and the bench create their
//! objects with it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::bench::{Detector, Lab, Prober, Stamp, pod};

/// The port of every Service here, UDP and TCP.
pub const PORT: u16 = 80;

/// Whether an endpoint takes new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Ready,
    /// It was told to stop and still serves.
    Leaving,
}

/// One endpoint as an `EndpointSlice` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The pod's address.
    pub address: IpAddr,
    /// The number of its node.
    pub node: u8,
    /// Whether it takes new requests.
    pub standing: Standing,
}

/// A Service in `default` that asks for these addresses, its families in their order. `more` is laid over the spec.
pub fn service(name: &str, addresses: &[IpAddr], more: Value) -> Value {
    let family = |address: &IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut families: Vec<&str> = addresses.iter().map(family).collect();
    families.dedup();
    let wanted: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let mut spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "ipFamilies": families,
        "ipFamilyPolicy": if families.len() == 1 { "SingleStack" } else { "RequireDualStack" },
        "ports": [
            {"name": "udp", "port": PORT, "protocol": "UDP", "targetPort": pod::PORT},
            {"name": "tcp", "port": PORT, "protocol": "TCP", "targetPort": pod::PORT},
        ],
    });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({
        "apiVersion": "v1", "kind": "Service", "spec": spec,
        "metadata": {
            "name": name, "namespace": "default",
            "annotations": {"kube-vip.io/loadbalancerIPs": wanted.join(",")},
        },
    })
}

/// The `EndpointSlice` of a Service in `default` for one family: those of `backends` that belong to it.
pub fn slice(service: &str, family: Family, backends: &[Backend]) -> Value {
    let of_family = |backend: &&Backend| backend.address.is_ipv4() == (family == Family::V4);
    let endpoints: Vec<Value> = backends.iter().filter(of_family).map(endpoint).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "addressType": if family == Family::V4 { "IPv4" } else { "IPv6" },
        "metadata": {
            "name": slice_name(service, family), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": endpoints,
        "ports": [
            {"name": "udp", "port": pod::PORT, "protocol": "UDP"},
            {"name": "tcp", "port": pod::PORT, "protocol": "TCP"},
        ],
    })
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The name of the slice that `slice` makes.
pub fn slice_name(service: &str, family: Family) -> String {
    format!("{service}-{}", if family == Family::V4 { 1 } else { 2 })
}

fn endpoint(backend: &Backend) -> Value {
    let (ready, leaving) = (backend.standing == Standing::Ready, backend.standing == Standing::Leaving);
    json!({
        "addresses": [backend.address], "nodeName": format!("n{}", backend.node),
        "conditions": {"ready": ready, "serving": true, "terminating": leaving},
    })
}

/// How long a client waited for a new Service at one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstAnswers {
    /// Until a node answered for its address (ARP or NDP, asked every 5 ms).
    pub address: Duration,
    /// Until a pod behind it answered a datagram (sent every 2 ms, by a client that had asked in vain before).
    pub pod: Duration,
}

/// Creates a Service by `create`, which gives the moment, and waits for its first answers at each of `addresses`.
///
/// Instruments begin before it is created, so the client's neighbour cache knows that nobody is there.
pub fn first_answers(
    lab: &Lab,
    addresses: &[IpAddr],
    limit: Duration,
    create: impl FnOnce() -> Result<Stamp>,
) -> Result<Vec<FirstAnswers>> {
    let instruments: Vec<(Detector, Prober)> = addresses
        .iter()
        .map(|address| Ok((lab.detect(*address)?, lab.probe_service(SocketAddr::new(*address, PORT))?)))
        .collect::<Result<_>>()?;
    let created = create()?;
    let begin = Instant::now();
    loop {
        let seen: Vec<_> = instruments.iter().map(|pair| first_answer(pair, created)).collect();
        if let Some(all) = seen.iter().copied().map(FirstAnswers::of).collect() {
            return Ok(all);
        }
        ensure!(
            begin.elapsed() < limit,
            "not within {limit:?}; first answers of a node and of a pod at {addresses:?} so far: {seen:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl FirstAnswers {
    fn of((address, pod): (Option<Duration>, Option<Duration>)) -> Option<Self> {
        Some(Self { address: address?, pod: pod? })
    }
}

/// From `created` to the first answer of a node, and of a pod.
fn first_answer(
    (detector, prober): &(Detector, Prober),
    created: Stamp,
) -> (Option<Duration>, Option<Duration>) {
    let seen = detector.sightings();
    let answers = seen.questions.iter().flat_map(|question| &question.answers);
    let named = answers.map(|(_, at)| *at).filter(|at| *at >= created).min();
    let served = prober.trace().answer_after(created).filter(|answer| answer.pod != 0);
    (named.map(|at| at.since(created)), served.map(|answer| answer.at.since(created)))
}
