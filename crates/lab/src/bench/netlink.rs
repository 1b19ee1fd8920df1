//! One netlink request at a time, answered by the kernel's acknowledgement: the switch's port faults and the proxy's
//! flushes of connection tracking, which must not wait for a program to start. Callers bring type and body.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, sendmsg, socket,
};

const NLM_F_REQUEST_ACK: u16 = 0x01 | 0x04;
const NLMSG_ERROR: u16 = 2;

/// A netlink socket of the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open(protocol: SockProtocol) -> nix::Result<Self> {
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map(Self)
    }

    /// Sends one message and waits for the kernel's acknowledgement (netlink(7): `nlmsgerr` with 0).
    pub(crate) fn request(&self, kind: u16, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::new();
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        let fd = self.0.as_raw_fd();
        sendmsg(fd, &[IoSlice::new(&message)], &[], MsgFlags::empty(), Some(&NetlinkAddr::new(0, 0)))?;
        let mut answer = [0_u8; 1024];
        recvmsg::<()>(fd, &mut [IoSliceMut::new(&mut answer)], None, MsgFlags::empty())?;
        let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if u16::from_ne_bytes([answer[4], answer[5]]) == NLMSG_ERROR && code == 0 {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(-code))
    }
}
