//! Raw frames: ARP and NDP in, whatever the machines made out (`AF_PACKET`, `SOCK_DGRAM`: the kernel writes and
//! strips the link-layer header, so Ethernet and IP over `InfiniBand` need the same code).
//!
//! Frames go out on one socket in the caller's thread; it is bound to nothing, receives nothing and never waits.
//! Frames come in on two sockets per link, one bound to ARP, one to IPv6 with a filter for neighbour solicitations
//! and advertisements, so that ordinary traffic is never looked at; a thread sleeps on all of them. A socket that
//! fails is closed alone and made again after the next dump, which is due because a link changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::{Domain, SockFilter, Socket, Type};
use vip_model::kernel::{ETHERTYPE_ARP, ETHERTYPE_IPV6, FrameIn, FrameOut};
use vip_model::{LinkAddr, LinkIndex};

use crate::gateway::{Accepted, KernelEvent, Sink};
use crate::{Error, boot_now, sys};

/// Longest payload that is looked at; ARP has 28 or 56 bytes, a neighbour advertisement rarely more than 100.
const LONGEST: usize = 2048;
/// Frames read from one socket before the others get their turn.
const BURST: u32 = 64;
const WAKE: u64 = 0;

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took it.
    Done,
    /// Its `not_after` had passed: not sent.
    TooLate,
    /// The kernel refused it, with this positive errno; `EAGAIN` and `ENOBUFS` mean a full queue.
    Failed(i32),
}

/// What went over one link since the start, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFrames {
    /// Sent.
    pub sent: u64,
    /// Not sent because their time had passed.
    pub late: u64,
    /// Refused by the kernel.
    pub send_errors: u64,
    /// Received and taken by the sink.
    pub received: u64,
    /// Received and refused by the sink.
    pub refused: u64,
    /// Failures of receiving sockets; each is made again when a link changes.
    pub receive_errors: u64,
}

/// The door for frames: the sending socket and the order to the receiving thread.
pub(crate) struct Frames {
    sender: Socket,
    shared: Arc<Shared>,
}

/// What the callers and the receiving thread share.
pub(crate) struct Shared {
    wake: EventFd,
    stop: AtomicBool,
    wanted: Mutex<BTreeSet<LinkIndex>>,
    counters: Mutex<BTreeMap<LinkIndex, LinkFrames>>,
}

impl Frames {
    /// Opens the sockets in the network namespace of the calling thread, and makes the loop for the thread.
    pub(crate) fn open(sink: Sink) -> Result<(Self, impl FnOnce() + Send + 'static), Error> {
        let failed = |source| Error::Open { what: "a raw socket", needs: "the capability NET_RAW", source };
        let sender = raw_socket().map_err(failed)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let shared = Arc::new(Shared {
            wake: wake.map_err(|error| failed(error.into()))?,
            stop: AtomicBool::new(false),
            wanted: Mutex::default(),
            counters: Mutex::default(),
        });
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| failed(error.into()))?;
        let woken = EpollEvent::new(EpollFlags::EPOLLIN, WAKE);
        epoll.add(&shared.wake, woken).map_err(|error| failed(error.into()))?;
        let listener = Listener { sink, epoll, shared: shared.clone(), ears: BTreeMap::new() };
        Ok((Self { sender, shared }, move || listener.run()))
    }

    /// Sends a frame now, or says why not. Never waits.
    pub(crate) fn send(&self, frame: &FrameOut) -> Sent {
        let to = sys::link_address(frame.link, frame.ethertype, frame.to.as_bytes());
        let sent = if boot_now() > frame.not_after {
            Sent::TooLate
        } else {
            match self.sender.send_to(&frame.payload, &to) {
                Ok(_) => Sent::Done,
                Err(error) => Sent::Failed(error.raw_os_error().unwrap_or(libc::EIO)),
            }
        };
        self.shared.count(frame.link, |counters| match sent {
            Sent::Done => counters.sent += 1,
            Sent::TooLate => counters.late += 1,
            Sent::Failed(_) => counters.send_errors += 1,
        });
        sent
    }

    /// The whole set of links on which frames are wanted.
    pub(crate) fn listen(&self, links: BTreeSet<LinkIndex>) {
        *lock(&self.shared.wanted) = links;
        self.shared.wake();
    }

    pub(crate) fn counters(&self) -> BTreeMap<LinkIndex, LinkFrames> {
        lock(&self.shared.counters).clone()
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Ends the receiving thread.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
    }
}

impl Shared {
    /// Makes the thread look after its sockets again.
    pub(crate) fn wake(&self) {
        // It fails only when the counter is full, and then the thread is about to wake anyway.
        self.wake.write(1).ok();
    }

    fn count(&self, link: LinkIndex, add: impl FnOnce(&mut LinkFrames)) {
        add(lock(&self.counters).entry(link).or_default());
    }
}

/// The receiving thread.
struct Listener {
    sink: Sink,
    epoll: Epoll,
    shared: Arc<Shared>,
    ears: BTreeMap<Ear, Socket>,
}

/// One receiving socket: a link and an ethertype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ear {
    link: LinkIndex,
    ethertype: u16,
}

impl Ear {
    fn token(self) -> u64 {
        u64::from(self.link.0) << 16 | u64::from(self.ethertype)
    }

    fn of(token: u64) -> Self {
        Self { link: LinkIndex((token >> 16) as u32), ethertype: token as u16 }
    }
}

impl Listener {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); 16];
        while !self.shared.stop.load(Ordering::Acquire) {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(error) => unreachable!("epoll_wait on a valid descriptor and buffer: {error}"),
            };
            // Sockets first: one that failed is closed before the order to look after them is read.
            for event in events[..count].iter().filter(|event| event.data() != WAKE) {
                self.hear(Ear::of(event.data()));
            }
            if events[..count].iter().any(|event| event.data() == WAKE) {
                self.shared.wake.read().ok();
                self.look_after();
            }
        }
    }

    /// Closes what is not wanted any more, opens what is missing; what cannot be opened waits for the next change.
    fn look_after(&mut self) {
        let wanted = lock(&self.shared.wanted).clone();
        self.ears.retain(|ear, _| wanted.contains(&ear.link));
        let ethertypes = [ETHERTYPE_ARP, ETHERTYPE_IPV6];
        for ear in wanted.iter().flat_map(|&link| ethertypes.map(|ethertype| Ear { link, ethertype })) {
            if self.ears.contains_key(&ear) {
                continue;
            }
            match self.open(ear) {
                Ok(socket) => drop(self.ears.insert(ear, socket)),
                Err(_) => self.shared.count(ear.link, |counters| counters.receive_errors += 1),
            }
        }
    }

    fn open(&self, ear: Ear) -> io::Result<Socket> {
        let socket = raw_socket()?;
        if ear.ethertype == ETHERTYPE_IPV6 {
            socket.attach_filter(&neighbour_filter())?;
        }
        // Absent before Linux 4.20; `hear` looks at the packet type as well.
        sys::ignore_outgoing(&socket).ok();
        socket.bind(&sys::link_address(ear.link, ear.ethertype, &[]))?;
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, ear.token()))?;
        Ok(socket)
    }

    fn hear(&mut self, ear: Ear) {
        let Some(socket) = self.ears.get(&ear) else { return };
        let mut buffer = [0; LONGEST];
        for _ in 0..BURST {
            match sys::receive(socket, &mut buffer) {
                Ok((_, from)) if from.kind == libc::PACKET_OUTGOING => {}
                Ok((length, from)) => {
                    let payload = buffer[..length].to_vec();
                    let from = LinkAddr::from_bytes(&from.addr).ok();
                    let frame = FrameIn { link: ear.link, from, ethertype: ear.ethertype, payload };
                    let accepted = (self.sink)(KernelEvent::Frame(frame));
                    self.shared.count(ear.link, |counters| match accepted {
                        Accepted::Yes => counters.received += 1,
                        Accepted::No => counters.refused += 1,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.ears.remove(&ear);
                    self.shared.count(ear.link, |counters| counters.receive_errors += 1);
                    return;
                }
            }
        }
    }
}

/// A raw socket with protocol 0: nothing is queued on it until it is bound.
fn raw_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// IPv6 whose next header (byte 6) is `ICMPv6` and whose type (byte 40) is 135 or 136, RFC 4861 §4.3 and §4.4.
fn neighbour_filter() -> [SockFilter; 7] {
    let op = SockFilter::new;
    [
        op(LOAD_BYTE, 0, 0, 6),
        op(EQUAL, 0, 4, libc::IPPROTO_ICMPV6 as u32),
        op(LOAD_BYTE, 0, 0, 40),
        op(EQUAL, 1, 0, 135),
        op(EQUAL, 0, 1, 136),
        op(RETURN, 0, 0, u32::MAX),
        op(RETURN, 0, 0, 0),
    ]
}

/// Counters and sets stay true even when a thread panicked between two of their changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
