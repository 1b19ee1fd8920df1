//! A netlink socket that asks and is answered: dumps and changes, fed by `dump` and `apply` (routing) and by `filter`
//! (netfilter).
//!
//! The kernel works on a request inside `send(2)` and queues the answers before that call returns, so asking
//! without a runtime costs no waiting. What a change became is told by the acknowledgement with its number.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};
use socket2::SockRef;

use crate::Error;
use crate::wire::{Attributes, Message, Messages, Request, read_u32};

/// How long one answer may take. The kernel answers inside the system call; this is only there so that a lost
/// answer cannot stop the thread for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Room for one datagram of a dump: the kernel fills at most 32 KiB (`netlink_dump` in `net/netlink/af_netlink.c`).
const DATAGRAM: usize = 64 * 1024;
/// `NLMSGERR_ATTR_MSG` of `linux/netlink.h`: the kernel's own words.
const ERROR_TEXT: u16 = 1;

const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const DUMP_FLAGS: u16 = libc::NLM_F_DUMP as u16;
// linux/netlink.h
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;

/// Why the kernel refused a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Positive errno.
    pub(crate) errno: i32,
    /// The kernel's own words, when it had any.
    pub(crate) words: Option<String>,
}

/// What to list.
pub(crate) struct Query<'a> {
    /// In words, for errors.
    pub(crate) what: &'static str,
    /// The request (`RTM_GET…`).
    pub(crate) kind: u16,
    /// Its fixed part; a filter where the kernel takes one.
    pub(crate) fixed: &'a [u8],
    /// One attribute, when there is one.
    pub(crate) attribute: Option<(u16, &'a [u8])>,
}

/// What became of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// All of one moment.
    Whole,
    /// The tables changed meanwhile (`NLM_F_DUMP_INTR`): not to be used.
    Torn,
}

/// The socket.
pub(crate) struct NetlinkSocket {
    socket: Socket,
    seq: u32,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    /// Opens one for links, addresses and routes in the network namespace of the calling thread.
    pub(crate) fn open_route() -> Result<Self, Error> {
        Self::open(NETLINK_ROUTE).map_err(|source| Error::Open {
            what: "the netlink socket for changes",
            needs: "a kernel with rtnetlink (NETLINK_ROUTE)",
            source,
        })
    }

    /// Opens one for the packet filter in the network namespace of the calling thread.
    pub(crate) fn open_netfilter() -> io::Result<Self> {
        Self::open(NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> io::Result<Self> {
        Ok(Self { socket: open_socket(protocol)?, seq: 0, buffer: vec![0; DATAGRAM] })
    }

    /// Lists everything that the query asks for, calling `each` with every body.
    pub(crate) fn list(&mut self, query: &Query<'_>, each: impl FnMut(&[u8])) -> io::Result<Listing> {
        let mut request = Request::new(query.kind, DUMP_FLAGS, query.fixed);
        if let Some((kind, value)) = query.attribute {
            request = request.with(kind, value);
        }
        self.ask(request, each)
    }

    /// Sends a question (a dump, or a request that wants to be acknowledged) and calls `each` with the body of every
    /// answer.
    pub(crate) fn ask(&mut self, request: Request, mut each: impl FnMut(&[u8])) -> io::Result<Listing> {
        let seq = self.next_seq();
        self.send(&request.finish(seq))?;
        let mut listing = Listing::Whole;
        loop {
            let length = self.receive()?;
            for message in Messages(&self.buffer[..length]).filter(|message| message.seq == seq) {
                if message.flags & NLM_F_DUMP_INTR != 0 {
                    listing = Listing::Torn;
                }
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => return finished(message).map(|()| listing),
                    _ => each(message.body),
                }
            }
        }
    }

    /// Sends all requests in one datagram and waits for each one's acknowledgement, in the order of the requests.
    /// The requests must ask for one (`NLM_F_ACK`), and be so few that their answers fit into the receive buffer.
    pub(crate) fn change(&mut self, requests: Vec<Request>) -> Vec<Result<(), Refusal>> {
        let (first, count) = (self.seq.wrapping_add(1), requests.len());
        let mut datagram = Vec::new();
        for request in requests {
            let seq = self.next_seq();
            datagram.extend(request.finish(seq));
        }
        let mut answers = BTreeMap::new();
        let failure = self.send(&datagram).and_then(|()| self.collect(first, count, &mut answers)).err();
        let unanswered = Refusal {
            errno: failure.as_ref().and_then(io::Error::raw_os_error).unwrap_or(libc::EIO),
            words: Some("the kernel did not say what became of it".to_owned()),
        };
        (0..count).map(|at| answers.remove(&at).unwrap_or_else(|| Err(unanswered.clone()))).collect()
    }

    /// Sends a whole nfnetlink batch, of which one message asks for an acknowledgement. The kernel carries out all of
    /// it or nothing, and does so inside the system call: everything that it has to say is there afterwards.
    ///
    /// An acknowledgement alone means nothing, because the kernel also sends it for a batch that it rolls back
    /// (`nfnetlink_rcv_batch` in `net/netfilter/nfnetlink.c`). So all answers are read, and the first refusal counts.
    pub(crate) fn transact(&mut self, batch: &[u8]) -> Result<(), Refusal> {
        let failed = |error: io::Error| Refusal {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
            words: Some("the batch could not be handed to the kernel".to_owned()),
        };
        self.answers().map_err(failed)?; // what an earlier batch may have left
        self.make_room(batch.len());
        self.send(batch).map_err(failed)?;
        let mut answers = self.answers().map_err(failed)?.into_iter();
        let Some(first) = answers.next() else {
            return Err(failed(io::Error::from_raw_os_error(libc::EIO)));
        };
        answers.fold(first, Result::and)
    }

    /// All acknowledgements and refusals that wait on the socket.
    fn answers(&mut self) -> io::Result<Vec<Result<(), Refusal>>> {
        let mut answers = Vec::new();
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let messages = Messages(&self.buffer[..length]);
                    answers.extend(messages.filter(|message| message.kind == NLMSG_ERROR).map(acknowledged));
                }
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return Ok(answers),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the send buffer hold a datagram of this many bytes; 208 KiB is what the kernel gives by default.
    fn make_room(&self, bytes: usize) {
        // The kernel doubles the value and keeps a little for itself. If neither call helps, `send` will say so.
        if setsockopt(&self.socket, sockopt::SndBufForce, &bytes).is_err() {
            setsockopt(&self.socket, sockopt::SndBuf, &bytes).ok();
        }
    }

    fn collect(
        &mut self,
        first: u32,
        count: usize,
        answers: &mut BTreeMap<usize, Result<(), Refusal>>,
    ) -> io::Result<()> {
        while answers.len() < count {
            let length = self.receive()?;
            for message in Messages(&self.buffer[..length]).filter(|message| message.kind == NLMSG_ERROR) {
                let at = message.seq.wrapping_sub(first) as usize;
                if at < count {
                    answers.insert(at, acknowledged(message));
                }
            }
        }
        Ok(())
    }

    fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<usize> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
                other => return Ok(other?),
            }
        }
    }
}

fn open_socket(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
    // Niceties that older kernels lack (4.3, 4.12, 4.20): shorter acknowledgements, words, filters in dumps. The
    // dumps are filtered here once more, so nothing depends on them.
    socket.set_cap_ack(true).ok();
    socket.set_ext_ack(true).ok();
    socket.set_netlink_get_strict_chk(true).ok();
    Ok(socket)
}

/// `struct nlmsgerr` begins with the negative errno, also in the `NLMSG_DONE` of a dump.
fn errno_of(message: Message<'_>) -> i32 {
    read_u32(message.body, 0).map_or(0, |error| error.cast_signed().wrapping_neg())
}

fn finished(message: Message<'_>) -> io::Result<()> {
    match errno_of(message) {
        errno if errno > 0 => Err(io::Error::from_raw_os_error(errno)),
        _ => Ok(()),
    }
}

fn acknowledged(message: Message<'_>) -> Result<(), Refusal> {
    let errno = errno_of(message);
    if errno == 0 {
        return Ok(());
    }
    // struct nlmsgerr: the errno, then the header of our request, then, unless capped, its body, then attributes.
    let capped = message.flags & NLM_F_CAPPED != 0;
    let request = if capped { 16 } else { read_u32(message.body, 4).unwrap_or(16) as usize };
    let words = message.body.get(4 + request.next_multiple_of(4)..).and_then(|attributes| {
        let (_, text) = Attributes(attributes).find(|(kind, _)| *kind == ERROR_TEXT)?;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    });
    Err(Refusal { errno, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: i32, flags: u16, tail: &[u8]) -> Vec<u8> {
        let mut body = (-errno).to_ne_bytes().to_vec();
        body.extend(16u32.to_ne_bytes());
        body.extend([0; 12]);
        body.extend(tail);
        let mut bytes = Request::new(NLMSG_ERROR, 0, &body).finish(3);
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let text = b"ipv6: IPv6 is disabled on this device\0";
        let mut tail = (4 + text.len() as u16).to_ne_bytes().to_vec();
        tail.extend(ERROR_TEXT.to_ne_bytes());
        tail.extend(text);
        let bytes = error(libc::EACCES, NLM_F_CAPPED | 0x200, &tail);
        let message = Messages(&bytes).next().unwrap();
        let words = Some("ipv6: IPv6 is disabled on this device".to_owned());
        assert_eq!(acknowledged(message), Err(Refusal { errno: libc::EACCES, words }));
        let bytes = error(0, 0, &[]);
        assert_eq!(acknowledged(Messages(&bytes).next().unwrap()), Ok(()));
        let bytes = error(libc::ENODEV, 0, &[7]);
        assert_eq!(
            acknowledged(Messages(&bytes).next().unwrap()),
            Err(Refusal { errno: libc::ENODEV, words: None })
        );
    }
}
