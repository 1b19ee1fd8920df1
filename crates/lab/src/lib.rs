//! The lab: network namespaces as nodes, a small Kubernetes API server, the real binary on every node, faults,
//! measurements, scenarios.

pub mod api;
pub mod bench;
pub mod report;
pub mod scenario;
