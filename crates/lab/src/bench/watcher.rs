//! Watches the kernel of one place for addresses that come and go, with the time of each: the moment from which an
//! announcement is due. A thread with a netlink socket; `events()` gives what was seen so far.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket as open_socket,
};

use super::place::Place;
use super::{Error, Result, Stamp, socket};

/// `RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// An address came (or was refreshed) or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEvent {
    /// When we learned it.
    pub at: Stamp,
    /// Which address.
    pub address: IpAddr,
    /// Is it there now?
    pub present: bool,
}

/// A running watcher of one place.
#[derive(Debug)]
pub struct AddressWatch {
    seen: Arc<Mutex<Vec<AddressEvent>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AddressWatch {
    /// Starts to watch `place`.
    pub fn start(place: &Place) -> Result<Self> {
        let socket = place.within(subscribe)??;
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (theirs, ending) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name(format!("addresses of {}", place.name()))
            .spawn(move || watch(&socket, &theirs, &ending))
            .map_err(Error::system("starting an address watcher"))?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What was seen so far.
    pub fn events(&self) -> Vec<AddressEvent> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When `address` first came at or after `since`.
    pub fn came(&self, address: IpAddr, since: Stamp) -> Option<Stamp> {
        let fits = |event: &&AddressEvent| event.present && event.address == address && event.at >= since;
        self.events().iter().find(fits).map(|event| event.at)
    }
}

impl Drop for AddressWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn subscribe() -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = open_socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
        .map_err(Error::system("opening a netlink socket"))?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, ADDRESS_GROUPS))
        .map_err(Error::system("subscribing to address changes"))?;
    Ok(fd)
}

fn watch(link: &OwnedFd, seen: &Mutex<Vec<AddressEvent>>, stop: &AtomicBool) {
    let _ = super::sys::real_time(super::echo::PRIORITY);
    let mut buffer = vec![0_u8; 8192];
    while !stop.load(Ordering::Relaxed) {
        socket::wait(&[link], Duration::from_millis(50));
        while let Some((length, _)) = socket::take(link, &mut buffer) {
            let at = Stamp::now();
            let events = read(&buffer[..length.min(buffer.len())]);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.extend(events.into_iter().map(|(address, present)| AddressEvent { at, address, present }));
        }
    }
}

/// Reads netlink messages: header of 16 bytes, `ifaddrmsg` of 8, attributes (rtnetlink(7)).
fn read(mut bytes: &[u8]) -> Vec<(IpAddr, bool)> {
    let mut events = Vec::new();
    while bytes.len() >= 16 {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 24) else { break };
        if kind == RTM_NEWADDR || kind == RTM_DELADDR {
            events.extend(address(&message[24..]).map(|address| (address, kind == RTM_NEWADDR)));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    events
}

/// `IFA_LOCAL` when there is one (IPv4), else `IFA_ADDRESS`.
fn address(mut attributes: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        let value = attributes.get(4..length)?;
        if kind == IFA_LOCAL || (kind == IFA_ADDRESS && found.is_none()) {
            found = <[u8; 4]>::try_from(value)
                .map(|raw| Ipv4Addr::from(raw).into())
                .or_else(|_| <[u8; 16]>::try_from(value).map(|raw| Ipv6Addr::from(raw).into()))
                .ok()
                .or(found);
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_message_is_read_and_a_cut_one_is_not() {
        let mut message: Vec<u8> = Vec::new();
        message.extend(32_u32.to_ne_bytes());
        message.extend(RTM_DELADDR.to_ne_bytes());
        message.extend([0; 10]);
        message.extend([2, 32, 0, 0, 1, 0, 0, 0]);
        message.extend(8_u16.to_ne_bytes());
        message.extend(IFA_LOCAL.to_ne_bytes());
        message.extend([10, 77, 0, 200]);
        assert_eq!(read(&message), [(IpAddr::from([10, 77, 0, 200]), false)]);
        assert_eq!(read(&message[..30]), []);
    }
}
