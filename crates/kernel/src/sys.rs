//! The only unsafe code of the program: link-layer socket addresses, which no library offers with 20-byte addresses,
//! and one socket option. Everything else goes through safe wrappers of `nix`, `socket2` and `netlink-sys`.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use socket2::{SockAddr, SockAddrStorage, Socket};
use vip_model::LinkIndex;

/// `sizeof(struct sockaddr_storage)`.
const STORAGE: usize = size_of::<SockAddrStorage>();
/// Where `sll_addr` begins in `struct sockaddr_ll`. The struct declares 8 bytes of it; the kernel takes and gives as
/// many as the link has (`packet_snd`, `packet_recvmsg` in `net/packet/af_packet.c`).
const ADDRESS: usize = 12;
/// `sizeof(struct sockaddr_ll)`, the least that the kernel accepts.
const LEAST: usize = size_of::<libc::sockaddr_ll>();

/// Where a frame came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkSource {
    /// The link that received it.
    pub(crate) link: LinkIndex,
    /// `sll_pkttype`: `PACKET_HOST`, `PACKET_BROADCAST`, `PACKET_OUTGOING` …
    pub(crate) kind: u8,
    /// Link-layer source, as many bytes as the link has.
    pub(crate) addr: Vec<u8>,
}

/// A `struct sockaddr_ll`: a link, an ethertype and, for sending, a link-layer destination of up to 32 bytes.
pub(crate) fn link_address(link: LinkIndex, ethertype: u16, to: &[u8]) -> SockAddr {
    let to = &to[..to.len().min(32)];
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: an array of STORAGE bytes has the size of the storage and no alignment, and any byte is valid in both.
    let bytes: &mut [u8; STORAGE] = unsafe { storage.view_as() };
    bytes[0..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&ethertype.to_be_bytes());
    bytes[4..8].copy_from_slice(&link.0.to_ne_bytes());
    bytes[11] = to.len() as u8;
    bytes[ADDRESS..ADDRESS + to.len()].copy_from_slice(to);
    let length = LEAST.max(ADDRESS + to.len());
    // SAFETY: the storage is initialised in full, its first bytes are a sockaddr_ll of the family that they name, and
    // `length` is within it.
    unsafe { SockAddr::new(storage, length as libc::socklen_t) }
}

fn link_source(from: SockAddr) -> LinkSource {
    let length = from.len() as usize;
    let mut storage = from.as_storage();
    // SAFETY: as above; the storage was zeroed before the kernel wrote into it, so all of it is initialised.
    let bytes: &[u8; STORAGE] = unsafe { storage.view_as() };
    let index = bytes[4..8].try_into().expect("four bytes");
    let end = (ADDRESS + usize::from(bytes[11])).min(length).clamp(ADDRESS, STORAGE);
    LinkSource {
        link: LinkIndex(u32::from_ne_bytes(index)),
        kind: bytes[10],
        addr: bytes[ADDRESS..end].to_vec(),
    }
}

/// Receives one frame into `buffer`; what does not fit is cut off. Gives its length and where it came from.
pub(crate) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, LinkSource)> {
    // SAFETY: u8 and MaybeUninit<u8> have the same layout, and `recv_from` only writes initialised bytes into it.
    let uninit: &mut [MaybeUninit<u8>] =
        unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), buffer.len()) };
    let (length, from) = socket.recv_from(uninit)?;
    Ok((length, link_source(from)))
}

/// `PACKET_IGNORE_OUTGOING` (`packet(7)`, Linux ≥ 4.20): frames that this host sends do not wake the socket.
pub(crate) fn ignore_outgoing(socket: &Socket) -> io::Result<()> {
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23; // linux/if_packet.h
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the length of the call; the option takes an int, and its size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_addresses_of_any_length_go_in_and_come_out() {
        for (octets, length) in [(vec![], LEAST), (vec![2, 0, 0, 0, 0, 1], LEAST), (vec![7; 20], 32)] {
            let address = link_address(LinkIndex(9), 0x0806, &octets);
            assert_eq!(address.len() as usize, length);
            assert_eq!(i32::from(address.family()), libc::AF_PACKET);
            let source = LinkSource { link: LinkIndex(9), kind: 0, addr: octets };
            assert_eq!(link_source(address), source);
        }
    }
}
