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
    pub(crate) fn at(&self, addr: IpAddr) -> impl Iterator<Item = &'a Address> + '_ {
        let first = self.0.partition_point(|(other, _)| *other < addr);
        self.0[first..].iter().take_while(move |(other, _)| *other == addr).map(|(_, address)| *address)
    }
}
