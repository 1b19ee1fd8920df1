//! The sockets that hear that something changed. They carry no facts: any message means "look again".
//!
//! One is for links, addresses and routes, one for the packet filter, which is opened only when there is one.
//! What cannot concern a node is dropped inside the kernel by a small filter, so that a routing daemon with a million
//! routes or a busy bridge beside us costs nothing: routes other than default routes of the main table, and bridge
//! port notices. Of a change to nftables only its last message is heard ("there is a new generation"), because a
//! kube-proxy beside us may change thousands of rules at once. A full buffer (`ENOBUFS`) is a message like any other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::sys::socket::{MsgFlags, recv};
use socket2::{SockFilter, SockRef};

use crate::Error;

const ROUTE_GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
];
/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
const FILTER_GROUPS: [u32; 1] = [7];
/// `NFT_MSG_NEWGEN` of `linux/netfilter/nf_tables.h`, under `NFNL_SUBSYS_NFTABLES`.
const NEW_GENERATION: u16 = 10 << 8 | 15;
/// Reads before other work gets its turn; what is left wakes the thread again.
const READS: u32 = 4096;

// Operations of classic BPF (linux/filter.h): loads are big-endian, comparisons skip (if true, if false).
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// What was waiting on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    Nothing,
    /// At least one message.
    Change,
    /// Messages were lost.
    Overrun,
}

/// The socket.
pub(crate) struct Watch(Socket);

impl Watch {
    /// Opens the one for links, addresses and routes in the network namespace of the calling thread.
    pub(crate) fn open_route() -> Result<Self, Error> {
        subscribe(NETLINK_ROUTE, &ROUTE_GROUPS, &route_filter()).map(Self).map_err(|source| Error::Open {
            what: "the netlink socket for notifications",
            needs: "a kernel with rtnetlink (NETLINK_ROUTE)",
            source,
        })
    }

    /// Opens the one for the packet filter in the network namespace of the calling thread.
    pub(crate) fn open_netfilter() -> io::Result<Self> {
        subscribe(NETLINK_NETFILTER, &FILTER_GROUPS, &generation_filter()).map(Self)
    }

    /// Reads all that is there, without looking at it.
    pub(crate) fn drain(&self) -> io::Result<Heard> {
        let mut heard = Heard::Nothing;
        let mut start = [0; 16];
        for _ in 0..READS {
            match recv(self.0.as_raw_fd(), &mut start, MsgFlags::MSG_DONTWAIT) {
                Ok(_) if heard == Heard::Nothing => heard = Heard::Change,
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(nix::Error::ENOBUFS) => heard = Heard::Overrun,
                Err(nix::Error::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(heard)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn subscribe(protocol: isize, groups: &[u32], filter: &[SockFilter]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    // The filter comes first, so that nothing unfiltered is ever queued.
    SockRef::from(&socket).attach_filter(filter)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    Ok(socket)
}

/// Over `struct nlmsghdr` (type at 4) and what follows at 16: `ifinfomsg` (family at 0) or `rtmsg` (destination
/// length at 1, table at 4).
fn route_filter() -> [SockFilter; 13] {
    let kind = |kind: u16| u32::from(kind.to_be());
    let op = SockFilter::new;
    [
        op(LOAD_HALF, 0, 0, 4),
        op(EQUAL, 3, 0, kind(libc::RTM_NEWROUTE)),
        op(EQUAL, 2, 0, kind(libc::RTM_DELROUTE)),
        op(EQUAL, 5, 0, kind(libc::RTM_NEWLINK)),
        op(EQUAL, 4, 6, kind(libc::RTM_DELLINK)),
        op(LOAD_BYTE, 0, 0, 17), // a route
        op(EQUAL, 0, 5, 0),
        op(LOAD_BYTE, 0, 0, 20),
        op(EQUAL, 2, 3, u32::from(libc::RT_TABLE_MAIN)),
        op(LOAD_BYTE, 0, 0, 16), // a link
        op(EQUAL, 1, 0, libc::AF_BRIDGE as u32),
        op(RETURN, 0, 0, u32::MAX),
        op(RETURN, 0, 0, 0),
    ]
}

/// Over `struct nlmsghdr` (type at 4). The kernel sends this message by itself, at the end of every transaction.
fn generation_filter() -> [SockFilter; 4] {
    let op = SockFilter::new;
    [
        op(LOAD_HALF, 0, 0, 4),
        op(EQUAL, 0, 1, u32::from(NEW_GENERATION.to_be())),
        op(RETURN, 0, 0, u32::MAX),
        op(RETURN, 0, 0, 0),
    ]
}
