//! kube-vip
fn main() {}
