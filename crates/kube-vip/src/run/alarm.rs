//! What the loop sleeps on: a timer on the boot-time clock, a bell that other threads ring, and a socket if one is open. Fed
//! with the next deadline of the node; gives back control at that deadline, at the first ring or when the socket can be read,
//! whichever comes first.
//!
//! A condition variable would wait on `CLOCK_MONOTONIC`, which stands still while the machine is suspended: after a
//! resume a fence would be served late by as much as was left of the wait. A timer descriptor on `CLOCK_BOOTTIME`
//! with an absolute time is due the moment the machine runs again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use vip_model::Instant;

/// A timer and a bell.
pub(crate) struct Alarm {
    timer: TimerFd,
    bell: EventFd,
    /// What the timer is set to. One wait at a time: the loop is the only one that waits.
    set_to: Mutex<Option<Instant>>,
}

/// What ended a wait; neither is the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    /// Somebody rang.
    pub(crate) by_bell: bool,
    /// The socket can be read, or has an error to tell.
    pub(crate) by_socket: bool,
}

impl Alarm {
    /// An alarm that is neither set nor rung.
    pub(crate) fn new() -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { timer, bell, set_to: Mutex::new(None) })
    }

    /// Ends the current `wait`, or else the next one. From any thread; never blocks.
    pub(crate) fn ring(&self) {
        // The only failure is a counter that is full, which means: rung often enough.
        let _ = self.bell.write(1);
    }

    /// Sleeps until `deadline`, until rung or until `socket` can be read; `None` is no such end. Tells what else than the
    /// deadline ended it.
    pub(crate) fn wait(
        &self,
        deadline: Option<Instant>,
        socket: Option<BorrowedFd<'_>>,
    ) -> io::Result<Woken> {
        self.set(deadline)?;
        // Where no socket is open the timer stands for it: it is watched anyway.
        let third = socket.unwrap_or(self.timer.as_fd());
        let mut watched =
            [self.bell.as_fd(), self.timer.as_fd(), third].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let woken = Woken {
            by_bell: watched[0].any() == Some(true),
            by_socket: socket.is_some() && watched[2].any() == Some(true),
        };
        // Silence the bell *before* the caller looks into the inbox: what is posted after that rings again. A timer that has
        // expired is due until it is set to something else, which is what a deadline in the past means.
        if woken.by_bell {
            let _ = self.bell.read();
        }
        Ok(woken)
    }

    /// Sets the timer. Most of what wakes the loop leaves its deadline as it was.
    fn set(&self, deadline: Option<Instant>) -> io::Result<()> {
        let mut set_to = self.set_to.lock().unwrap_or_else(PoisonError::into_inner);
        if *set_to == deadline {
            return Ok(());
        }
        match deadline {
            Some(at) => self.timer.set(expiration(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?,
            None => self.timer.unset()?,
        }
        *set_to = deadline;
        Ok(())
    }
}

fn expiration(at: Instant) -> Expiration {
    // An absolute time of zero would disarm the timer.
    let nanos = i64::try_from(at.as_nanos()).unwrap_or(i64::MAX).max(1);
    Expiration::OneShot(TimeSpec::nanoseconds(nanos))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::board::boot_now;

    #[test]
    fn a_wait_ends_at_its_deadline_and_at_most_a_few_milliseconds_late() {
        let alarm = Alarm::new().unwrap();
        let deadline = boot_now() + Duration::from_millis(20);
        alarm.wait(Some(deadline), None).unwrap();
        let late = boot_now().since(deadline);
        assert!(boot_now() >= deadline, "woke up early");
        assert!(late < Duration::from_millis(20), "woke up {late:?} late");
    }

    #[test]
    fn a_deadline_in_the_past_does_not_sleep() {
        let alarm = Alarm::new().unwrap();
        let before = boot_now();
        alarm.wait(Some(Instant::ZERO), None).unwrap();
        assert!(boot_now().since(before) < Duration::from_secs(1));
    }

    #[test]
    fn a_ring_before_the_wait_ends_that_wait_and_only_that_one() {
        let alarm = Alarm::new().unwrap();
        alarm.ring();
        alarm.ring();
        alarm.wait(None, None).unwrap();
        let before = boot_now();
        alarm.wait(Some(before + Duration::from_millis(15)), None).unwrap();
        assert!(boot_now().since(before) >= Duration::from_millis(15), "the second wait was not disturbed");
    }

    #[test]
    fn a_deadline_that_stays_the_same_is_kept_after_a_ring_and_is_due_for_good_when_it_has_passed() {
        let alarm = Alarm::new().unwrap();
        let deadline = boot_now() + Duration::from_millis(20);
        alarm.ring();
        alarm.wait(Some(deadline), None).unwrap();
        assert!(boot_now() < deadline, "the ring ended the wait");
        alarm.wait(Some(deadline), None).unwrap();
        assert!(boot_now() >= deadline, "woke up early");
        let before = boot_now();
        alarm.wait(Some(deadline), None).unwrap();
        assert!(boot_now().since(before) < Duration::from_secs(1), "it is still due");
        alarm.wait(Some(before + Duration::from_millis(40)), None).unwrap();
        assert!(boot_now().since(before) >= Duration::from_millis(40), "another one is waited for");
    }

    #[test]
    fn a_socket_that_can_be_read_ends_the_wait_and_is_told_apart_from_a_ring() {
        let alarm = Alarm::new().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let deadline = boot_now() + Duration::from_millis(15);
        let by = |by_bell, by_socket| Woken { by_bell, by_socket };
        assert_eq!(alarm.wait(Some(deadline), Some(socket.as_fd())).unwrap(), by(false, false));
        assert!(boot_now() >= deadline, "woke up early");
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        assert_eq!(alarm.wait(None, Some(socket.as_fd())).unwrap(), by(false, true));
        alarm.ring();
        assert_eq!(alarm.wait(None, Some(socket.as_fd())).unwrap(), by(true, true));
        alarm.ring();
        assert_eq!(alarm.wait(None, None).unwrap(), by(true, false), "who does not listen does not hear");
    }

    #[test]
    fn a_ring_from_another_thread_ends_an_endless_wait() {
        let alarm = Arc::new(Alarm::new().unwrap());
        let ringer = Arc::clone(&alarm);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            ringer.ring();
        });
        alarm.wait(None, None).unwrap();
        thread.join().unwrap();
    }
}
