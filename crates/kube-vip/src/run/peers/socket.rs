//! The UDP socket of heartbeats: one for both families, marked as network control, with room for a storm.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBufForce, RxqOvfl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use socket2::{Domain, Socket, Type};
use vip_proto::peers::LONGEST;

/// Bytes that may wait in the socket, with the kernel's own overhead of some 700 for each datagram: at 50,000 a second
/// what comes in 50 ms.
const RECEIVE_BUFFER: usize = 2 << 20;

/// Differentiated-services code point CS6, "network control" (RFC 4594 §3.2), in the place of the traffic class.
const NETWORK_CONTROL: u32 = 48 << 2;

/// `TC_PRIO_INTERACTIVE`, the highest that needs no right; it goes to the first band, as control traffic does.
const PRIORITY: u32 = 6;

/// One byte more than the longest heartbeat, so that a longer one is seen to be longer.
pub(super) const BUFFER: usize = LONGEST + 1;

/// An open socket.
pub(super) struct PeerSocket {
    socket: UdpSocket,
    family: Reach,
}

/// Which families the socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Both; IPv4 in IPv6 clothes.
    Both,
    /// IPv4 alone: the kernel has no IPv6.
    V4,
}

/// A datagram that arrived.
#[derive(Debug)]
pub(super) struct Received {
    /// Its length.
    pub(super) length: usize,
    /// Where it came from, IPv4 as IPv4.
    pub(super) from: SocketAddr,
    /// How many the kernel has dropped so far because this socket was full; it counts round.
    pub(super) overflow: u32,
}

impl PeerSocket {
    /// Opens a socket on `port` of all addresses; 0 is any port.
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let (socket, family) = match Socket::new(Domain::IPV6, Type::DGRAM, None) {
            Ok(socket) => (socket, Reach::Both),
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                (Socket::new(Domain::IPV4, Type::DGRAM, None)?, Reach::V4)
            }
            Err(error) => return Err(error),
        };
        let address: IpAddr = match family {
            Reach::Both => {
                // A sysctl (net.ipv6.bindv6only) must not decide whether IPv4 is heard.
                socket.set_only_v6(false)?;
                socket.set_tclass_v6(NETWORK_CONTROL)?;
                Ipv6Addr::UNSPECIFIED.into()
            }
            Reach::V4 => Ipv4Addr::UNSPECIFIED.into(),
        };
        // For IPv4 in IPv6 clothes, too. It sets a priority as well, so it comes first.
        socket.set_tos_v4(NETWORK_CONTROL)?;
        socket.set_priority(PRIORITY)?;
        if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
            // Without NET_ADMIN the kernel gives as much as it gives everybody.
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        setsockopt(&socket, RxqOvfl, &1)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(address, port).into())?;
        Ok(Self { socket: socket.into(), family })
    }

    /// The port on which it listens.
    pub(super) fn port(&self) -> io::Result<u16> {
        self.socket.local_addr().map(|address| address.port())
    }

    /// The next datagram that waits, if any does. Never waits itself.
    pub(super) fn receive(&self, buffer: &mut [u8; BUFFER]) -> io::Result<Option<Received>> {
        let mut control = nix::cmsg_space!(u32);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags);
        let message = match message {
            Ok(message) => message,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let overflow = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::RxqOvfl(count) => Some(count),
            _ => None,
        });
        let from = message.address.as_ref().and_then(plain).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(Received { length: message.bytes, from, overflow: overflow.unwrap_or(0) }))
    }

    /// Sends a datagram now, or says why not. Never waits.
    pub(super) fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = match (self.family, to) {
            (Reach::Both, SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            (Reach::Both, SocketAddr::V6(_)) | (Reach::V4, _) => to,
        };
        self.socket.send_to(bytes, to).map(|_| ())
    }
}

impl AsFd for PeerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The address with its port; an IPv4 address in IPv6 clothes as what it is, a link-local one with its link.
fn plain(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some((v4.ip(), v4.port()).into());
    }
    let v6 = storage.as_sockaddr_in6()?;
    let address = std::net::SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id());
    Some(match address.ip().to_ipv4_mapped() {
        Some(v4) => (v4, address.port()).into(),
        None => address.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(socket: &PeerSocket, buffer: &mut [u8; BUFFER]) -> Received {
        for _ in 0..500 {
            if let Some(received) = socket.receive(buffer).unwrap() {
                return received;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("nothing arrived");
    }

    #[test]
    fn one_socket_hears_and_answers_both_families() {
        let [one, other] = [(); 2].map(|()| PeerSocket::open(0).unwrap());
        let mut buffer = [0; BUFFER];
        for local in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            one.send(b"question", (local, other.port().unwrap()).into()).unwrap();
            let heard = wait(&other, &mut buffer);
            assert_eq!(&buffer[..heard.length], b"question");
            assert_eq!(heard.from, (local, one.port().unwrap()).into(), "not in other clothes");
            other.send(b"answer", heard.from).unwrap();
            let heard = wait(&one, &mut buffer);
            assert_eq!((&buffer[..heard.length], heard.from.ip()), (&b"answer"[..], local));
        }
    }

    #[test]
    fn a_datagram_that_is_too_long_is_seen_to_be_too_long() {
        let [one, other] = [(); 2].map(|()| PeerSocket::open(0).unwrap());
        one.send(&[7; 3000], (Ipv4Addr::LOCALHOST, other.port().unwrap()).into()).unwrap();
        assert_eq!(wait(&other, &mut [0; BUFFER]).length, LONGEST + 1);
    }

    #[test]
    fn heartbeats_are_marked_as_network_control_in_both_families() {
        use nix::sys::socket::{getsockopt, sockopt};
        let socket = PeerSocket::open(0).unwrap();
        assert_eq!(getsockopt(&socket, sockopt::Ipv4Tos), Ok(0xc0));
        assert_eq!(getsockopt(&socket, sockopt::Ipv6TClass), Ok(0xc0));
        assert_eq!(getsockopt(&socket, sockopt::Priority), Ok(6));
        assert!(getsockopt(&socket, sockopt::RcvBuf).unwrap() >= 200_000);
    }

    #[test]
    fn what_the_kernel_drops_is_counted() {
        let [one, other] = [(); 2].map(|()| PeerSocket::open(0).unwrap());
        let to: SocketAddr = (Ipv4Addr::LOCALHOST, other.port().unwrap()).into();
        for _ in 0..20_000 {
            one.send(&[0; 600], to).unwrap();
        }
        let mut buffer = [0; BUFFER];
        let mut heard = 0;
        while other.receive(&mut buffer).unwrap().is_some() {
            heard += 1;
        }
        assert!(heard < 20_000, "the socket took them all");
        one.send(b"x", to).unwrap();
        assert_eq!(u64::from(wait(&other, &mut buffer).overflow), 20_000 - heard);
    }
}
