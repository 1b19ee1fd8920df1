//! The echo on every node and in every pod: answers the prober's datagrams from the very address that was probed, with
//! the numbers of node and pod in it, so that a client learns *who* answered. On a node it is a thread of the node's
//! init and dies with the node; in a pod the pod's thread.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, bind,
    recvmsg, sendmsg, socket, sockopt,
};

use super::net::ECHO_PORT;
use super::socket::{set, wait};
use super::{Error, Result, sys};

/// First bytes of a question.
pub const ASK: [u8; 4] = *b"lab?";
/// First bytes of an answer.
pub const ANSWER: [u8; 4] = *b"lab!";
/// Length of both: mark, sequence number (big endian, 8 bytes), node number, pod number, padding.
pub const LENGTH: usize = 16;
/// Real-time priority of echo, prober and detector.
pub(super) const PRIORITY: i32 = 50;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Responder {
    /// The number of the node.
    pub node: u8,
    /// The number of the pod on that node; 0 is the node itself.
    pub pod: u8,
}

/// A question with its sequence number.
pub fn ask(sequence: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(&ASK);
    bytes[4..12].copy_from_slice(&sequence.to_be_bytes());
    bytes
}

/// The sequence number of an answer and who gave it; `None` if it is none.
pub fn read_answer(bytes: &[u8]) -> Option<(u64, Responder)> {
    let (mark, rest) = bytes.split_first_chunk::<4>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let [node, pod] = *rest.first_chunk::<2>()?;
    (*mark == ANSWER).then_some((u64::from_be_bytes(*sequence), Responder { node, pod }))
}

/// The two sockets of an echo.
#[derive(Debug)]
pub(super) struct Echo {
    who: Responder,
    sockets: [OwnedFd; 2],
}

impl Echo {
    /// Opens both sockets in the calling thread's network namespace.
    pub(super) fn bind(who: Responder) -> Result<Self> {
        let v4 = open((Ipv4Addr::UNSPECIFIED, ECHO_PORT).into())?;
        set(&v4, sockopt::Ipv4PacketInfo, &true, "IP_PKTINFO")?;
        let v6 = open((Ipv6Addr::UNSPECIFIED, ECHO_PORT).into())?;
        set(&v6, sockopt::Ipv6RecvPacketInfo, &true, "IPV6_RECVPKTINFO")?;
        Ok(Self { who, sockets: [v4, v6] })
    }

    /// Who answers.
    pub(super) fn who(&self) -> Responder {
        self.who
    }

    /// Its sockets, to wait for.
    pub(super) fn sockets(&self) -> &[OwnedFd; 2] {
        &self.sockets
    }

    /// Answers everything that has come.
    pub(super) fn answer(&self) {
        for socket in &self.sockets {
            while answer_one(socket, self.who).is_some() {}
        }
    }

    /// Answers for ever.
    pub(super) fn serve(&self) -> ! {
        let _ = sys::real_time(PRIORITY); // refused in a user namespace; the lab says so once
        loop {
            wait(&self.sockets, Duration::from_secs(1));
            self.answer();
        }
    }
}

fn open(at: SocketAddr) -> Result<OwnedFd> {
    let (family, what) =
        if at.is_ipv4() { (AddressFamily::Inet, "IPv4") } else { (AddressFamily::Inet6, "IPv6") };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Datagram, flags, None)
        .map_err(Error::system(format!("opening the {what} echo")))?;
    if at.is_ipv6() {
        set(&fd, sockopt::Ipv6V6Only, &true, "IPV6_V6ONLY")?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))
        .map_err(Error::system(format!("binding the {what} echo")))?;
    Ok(fd)
}

/// Takes one question and answers it; `None` when there is none.
fn answer_one(socket: &OwnedFd, who: Responder) -> Option<()> {
    let mut buffer = [0_u8; LENGTH];
    let mut control = [0_u8; 256];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let fd = socket.as_raw_fd();
    let got = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT).ok()?;
    let (from, probed) = (got.address?, got.cmsgs().ok()?.find(is_packet_address));
    if got.bytes != LENGTH || !buffer.starts_with(&ASK) {
        return Some(());
    }
    buffer[..4].copy_from_slice(&ANSWER);
    (buffer[12], buffer[13]) = (who.node, who.pod);
    let parts = [IoSlice::new(&buffer)];
    // Lost when it can't be sent, as any answer may be.
    let _ = match probed {
        Some(ControlMessageOwned::Ipv4PacketInfo(seen)) => {
            let zero = libc::in_addr { s_addr: 0 };
            let source = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: seen.ipi_addr, ipi_addr: zero };
            sendmsg(fd, &parts, &[ControlMessage::Ipv4PacketInfo(&source)], MsgFlags::empty(), Some(&from))
        }
        Some(ControlMessageOwned::Ipv6PacketInfo(seen)) => {
            let source = libc::in6_pktinfo { ipi6_addr: seen.ipi6_addr, ipi6_ifindex: 0 };
            sendmsg(fd, &parts, &[ControlMessage::Ipv6PacketInfo(&source)], MsgFlags::empty(), Some(&from))
        }
        _ => Ok(0),
    };
    Some(())
}

fn is_packet_address(message: &ControlMessageOwned) -> bool {
    matches!(message, ControlMessageOwned::Ipv4PacketInfo(_) | ControlMessageOwned::Ipv6PacketInfo(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_sequence_node_and_pod() {
        let mut bytes = ask(0x0102_0304_0506_0708);
        assert_eq!(read_answer(&bytes), None, "a question is no answer");
        bytes[..4].copy_from_slice(&ANSWER);
        (bytes[12], bytes[13]) = (3, 7);
        assert_eq!(read_answer(&bytes), Some((0x0102_0304_0506_0708, Responder { node: 3, pod: 7 })));
        assert_eq!(read_answer(&bytes[..12]), None, "too short");
    }
}
