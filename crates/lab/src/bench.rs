//! Topology, nodes, faults and measurements.
