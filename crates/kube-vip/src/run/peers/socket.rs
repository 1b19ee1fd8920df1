//! The UDP socket of heartbeats: one for both families, marked as network control, with room for a storm.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBufForce, RxqOvfl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt};
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
    /// Where it came from, IPv4 as IPv4; none when the kernel names a family that this socket does not have.
    pub(super) from: Option<SocketAddr>,
    /// How many the kernel has dropped so far because this socket was full; it counts round.
    pub(super) overflow: u32,
}

/// Datagrams that are read at once: one call for all answers of a jury.
const BATCH: usize = 16;

/// What one call reads.
pub(super) struct Batch {
    buffers: Vec<[u8; BUFFER]>,
    received: Vec<Received>,
}

impl Batch {
    /// Room for a batch, and nothing in it.
    pub(super) fn new() -> Self {
        Self { buffers: vec![[0; BUFFER]; BATCH], received: Vec::with_capacity(BATCH) }
    }

    /// What was read last.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], &Received)> {
        self.received
            .iter()
            .zip(&self.buffers)
            .map(|(received, buffer)| (&buffer[..received.length.min(BUFFER)], received))
    }
}

/// How much of what waited was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    Whole,
    Partly,
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

    /// Reads what waits, as much as the batch takes. Gives whether that was everything. Never waits itself.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<Drained> {
        batch.received.clear();
        let size = batch.buffers.len();
        // The kernel writes into the headers how much of them it used, so that they serve once.
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(size, Some(nix::cmsg_space!(u32)));
        let mut parts: Vec<_> = batch.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = match recvmmsg(self.socket.as_raw_fd(), &mut headers, parts.iter_mut(), flags, None) {
            Ok(messages) => messages,
            Err(Errno::EAGAIN) => return Ok(Drained::Whole),
            Err(errno) => return Err(errno.into()),
        };
        for message in messages {
            let overflow = message.cmsgs()?.find_map(|part| match part {
                ControlMessageOwned::RxqOvfl(count) => Some(count),
                _ => None,
            });
            let from = message.address.as_ref().and_then(plain);
            let overflow = overflow.unwrap_or(0);
            batch.received.push(Received { length: message.bytes, from, overflow });
        }
        Ok(if batch.received.len() < size { Drained::Whole } else { Drained::Partly })
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

    /// The first datagram that arrives, where it came from, and the counter of those that were dropped.
    fn wait(socket: &PeerSocket) -> (Vec<u8>, SocketAddr, u32) {
        let mut batch = Batch::new();
        for _ in 0..500 {
            socket.receive(&mut batch).unwrap();
            if let Some((bytes, received)) = batch.datagrams().next() {
                return (bytes.to_vec(), received.from.unwrap(), received.overflow);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("nothing arrived");
    }

    #[test]
    fn one_socket_hears_and_answers_both_families() {
        let [one, other] = [(); 2].map(|()| PeerSocket::open(0).unwrap());
        for local in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            one.send(b"question", (local, other.port().unwrap()).into()).unwrap();
            let (bytes, from, _) = wait(&other);
            assert_eq!(bytes, b"question");
            assert_eq!(from, (local, one.port().unwrap()).into(), "not in other clothes");
            other.send(b"answer", from).unwrap();
            let (bytes, from, _) = wait(&one);
            assert_eq!((&bytes[..], from.ip()), (&b"answer"[..], local));
        }
    }

    #[test]
    fn a_datagram_that_is_too_long_is_seen_to_be_too_long() {
        let [one, other] = [(); 2].map(|()| PeerSocket::open(0).unwrap());
        one.send(&[7; 3000], (Ipv4Addr::LOCALHOST, other.port().unwrap()).into()).unwrap();
        assert_eq!(wait(&other).0.len(), LONGEST + 1);
    }

    #[test]
    fn more_than_a_batch_is_read_in_several_and_in_order() {
        let [one, other] = [(); 2].map(|()| PeerSocket::open(0).unwrap());
        let to: SocketAddr = (Ipv4Addr::LOCALHOST, other.port().unwrap()).into();
        let all: Vec<u8> = (0..=BATCH as u8 + 2).collect();
        let datagram = |number: &u8| vec![*number; usize::from(*number) + 1];
        for number in &all {
            one.send(&datagram(number), to).unwrap();
        }
        let mut batch = Batch::new();
        assert_eq!(other.receive(&mut batch).unwrap(), Drained::Partly);
        let mut heard: Vec<Vec<u8>> = batch.datagrams().map(|(bytes, _)| bytes.to_vec()).collect();
        assert_eq!(heard.len(), BATCH);
        assert_eq!(other.receive(&mut batch).unwrap(), Drained::Whole);
        heard.extend(batch.datagrams().map(|(bytes, _)| bytes.to_vec()));
        assert_eq!(heard, all.iter().map(datagram).collect::<Vec<_>>());
        assert_eq!(other.receive(&mut batch).unwrap(), Drained::Whole);
        assert_eq!(batch.datagrams().count(), 0, "nothing is left of the batch before");
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
        let (mut batch, mut heard) = (Batch::new(), 0);
        loop {
            let drained = other.receive(&mut batch).unwrap();
            heard += batch.datagrams().count() as u64;
            if drained == Drained::Whole {
                break;
            }
        }
        assert!(heard < 20_000, "the socket took them all");
        one.send(b"x", to).unwrap();
        assert_eq!(u64::from(wait(&other).2), 20_000 - heard);
    }
}
