//! The few system calls that no safe crate offers: real-time priority and a bound packet socket. The only unsafe
//! module of the lab.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Gives the calling thread real-time priority (`SCHED_FIFO`); refused without `CAP_SYS_NICE` in the first user
/// namespace.
pub(super) fn real_time(priority: i32) -> io::Result<()> {
    let wish = libc::sched_param { sched_priority: priority };
    // SAFETY: `wish` outlives the call; pid 0 is the calling thread.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const wish) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A non-blocking `AF_PACKET` socket for whole Ethernet frames of one type on one link.
///
/// It is made with protocol 0 and gets the type by `bind`, so that nothing of other links is queued before.
pub(super) fn packet_socket(link: u32, ethertype: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain call; the answer is checked.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was just opened and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: sockaddr_ll is plain old data, for which all zero is a valid value.
    let mut name: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    name.sll_family = libc::AF_PACKET as libc::sa_family_t;
    name.sll_protocol = ethertype.to_be();
    name.sll_ifindex = libc::c_int::try_from(link).map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `name` is a valid sockaddr_ll of `length` bytes and outlives the call.
    let answer = unsafe { libc::bind(raw, (&raw const name).cast(), length) };
    if answer == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}
