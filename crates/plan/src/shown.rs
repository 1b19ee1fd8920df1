//! The addresses that the kernel shows, to be found by address: thousands of them are looked up in one plan.

use std::net::IpAddr;

use vip_model::kernel::{Actual, Address};

/// All addresses of the kernel's picture, sorted.
pub(crate) struct Shown<'a>(Vec<(IpAddr, &'a Address)>);

impl<'a> Shown<'a> {
    pub(crate) fn new(actual: &'a Actual) -> Self {
        let mut all: Vec<_> = actual.addresses.iter().map(|address| (address.addr(), address)).collect();
        all.sort_by_key(|(addr, _)| *addr);
        Self(all)
    }

    /// Where this address is, in the kernel's order.
    pub(crate) fn at(&self, addr: IpAddr) -> &[(IpAddr, &'a Address)] {
        let rest = &self.0[self.0.partition_point(|(other, _)| *other < addr)..];
        let end = rest.iter().position(|(other, _)| *other != addr).unwrap_or(rest.len());
        &rest[..end]
    }
}
