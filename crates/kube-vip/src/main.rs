//! The binary `kube-vip`: command line, settings, and the loop that carries the node between kernel and cluster.

mod run;
mod settings;

fn main() {}
