//! Receiving with the kernel's time stamp, and waiting for it with less than a millisecond's grain. Used by every
//! instrument of the bench.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SetSockOpt, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use super::{Error, Result, Stamp};

/// Room for the control messages that we ask for.
const CONTROL: usize = 256;

/// Waits until one of the sockets has something to read, at most `limit`; gives the positions of those that have.
pub(super) fn wait<Fd: AsFd>(sockets: &[Fd], limit: Duration) -> Vec<usize> {
    let mut asked: Vec<PollFd> =
        sockets.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    // An interrupted wait is a short wait; the caller looks at the clock anyway.
    let _ = ppoll(&mut asked, Some(TimeSpec::from_duration(limit)), None);
    let stirs = |(at, fd): (usize, &PollFd)| fd.revents().is_some_and(|seen| !seen.is_empty()).then_some(at);
    asked.iter().enumerate().filter_map(stirs).collect()
}

/// Asks the kernel to stamp what this socket receives.
pub(super) fn stamp_arrivals<Fd: AsFd>(socket: &Fd) -> Result<()> {
    set(socket, sockopt::ReceiveTimestampns, &true, "receive time stamps")
}

/// Sets one socket option.
pub(super) fn set<Fd: AsFd, O: SetSockOpt>(socket: &Fd, option: O, value: &O::Val, what: &str) -> Result<()> {
    setsockopt(socket, option, value).map_err(Error::system(format!("setting {what}")))
}

/// Takes one packet of a non-blocking socket: its length in `buffer`, and when the kernel got it.
pub(super) fn take<Fd: AsFd>(socket: &Fd, buffer: &mut [u8]) -> Option<(usize, Stamp)> {
    let mut control = [0_u8; CONTROL];
    let mut parts = [IoSliceMut::new(buffer)];
    let fd = socket.as_fd().as_raw_fd();
    let got = recvmsg::<()>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT).ok()?;
    let stamp = got.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(Stamp::from_timespec(time)),
        _ => None,
    });
    Some((got.bytes, stamp.unwrap_or_else(Stamp::now)))
}
