//! The small Kubernetes API server of the lab.
